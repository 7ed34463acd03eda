//! Log lines in logrus' two forms. Callers such as podman read the JSON form to learn why a command failed.

use super::error::{CliError, CliResult};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Where log lines go.
#[derive(Debug, Clone)]
pub(super) struct Log {
    /// `None` is standard error.
    file: Option<Arc<File>>,
    json: bool,
    debug: bool,
}

impl Log {
    pub(super) fn to_stderr() -> Self {
        Self { file: None, json: false, debug: false }
    }

    /// Opens the log that the global options ask for.
    pub(super) fn open(path: Option<&Path>, json: bool, debug: bool) -> CliResult<Self> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map(Arc::new).map_err(|source| CliError::io(format!("open {}", path.display()), source))
        };
        let file = path.filter(|path| !path.as_os_str().is_empty()).map(open).transpose()?;
        Ok(Self { file, json, debug })
    }

    pub(super) fn warn(&self, message: &str) {
        self.line("warning", message);
    }

    pub(super) fn debug(&self, message: &str) {
        if self.debug {
            self.line("debug", message);
        }
    }

    /// The error that ends the command: in the log, and on standard error when that is another place.
    pub(super) fn fatal(&self, error: &CliError) {
        self.line("error", &error.to_string());
        if self.file.is_some() {
            eprintln!("{error}");
        }
    }

    fn line(&self, level: &str, message: &str) {
        let line = line(self.json, level, message, &now());
        // A log that cannot be written is nothing to fail for.
        let _ = match &self.file {
            Some(file) => (&**file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn line(json: bool, level: &str, message: &str, time: &str) -> String {
    if json {
        return format!("{}\n", json!({ "level": level, "msg": message, "time": time }));
    }
    format!("time=\"{time}\" level={level} msg={message:?}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_logrus() {
        let time = "2026-01-02T03:04:05Z";
        assert_eq!(
            line(true, "error", "a \"b\"\n", time),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
        assert_eq!(
            line(false, "warning", "a \"b\"", time),
            "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"a \\\"b\\\"\"\n"
        );
    }
}
