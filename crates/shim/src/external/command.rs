//! One run of a runtime: its process, its patience, and what it said when it failed.

use super::External;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::MemfdFlags;
use serde::Deserialize;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use wharf_spec::shim::{Failure, FailureKind};
use wharf_sys::{event, process};

/// A runtime that takes longer hangs: the shim has others to serve.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of what a runtime says is read.
const MOST_WORDS: u64 = 64 * 1024;

/// The standard streams of a runtime.
#[derive(Debug)]
pub(super) enum Streams<'a> {
    /// Nothing to read, its errors are kept.
    None,
    /// A container's process inherits them.
    Container(&'a [OwnedFd; 3]),
}

/// A line of a runtime's `--log` in JSON.
#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

impl External {
    /// Runs one of the runtime's commands to its end.
    ///
    /// # Errors
    /// [`FailureKind::ExternalRuntime`] with Docker's whole text (source: containerd
    /// `cmd/containerd-shim-runc-v2/process/init.go`, runtimeError).
    pub(super) fn run(&self, verb: &str, args: &[&OsStr], streams: Streams<'_>) -> Result<(), Failure> {
        let log = self.bundle.join("log.json");
        // Only what is said now counts.
        super::forget(&log);
        let failed = |problem: String| Failure {
            kind: FailureKind::ExternalRuntime,
            step: verb.to_owned(),
            errno: 0,
            message: format!("OCI runtime {verb} failed: {problem}"),
        };
        let ended = self.start(verb, args, streams, &log).and_then(|(child, words)| {
            let status = wait(child)?;
            Ok((status, words))
        });
        match ended {
            Ok((status, _)) if status.success() => Ok(()),
            Ok((status, words)) => Err(failed(last_error(&log).unwrap_or_else(|| {
                let words = words.map(said).unwrap_or_default();
                format!("{} did not terminate successfully: {status}: {words}", self.runtime.path)
            }))),
            Err(problem) => Err(failed(format!(
                "unable to retrieve OCI runtime error (open {}: no such file or directory): {problem}",
                log.display()
            ))),
        }
    }

    /// The process, and where its errors go if not to the container's own.
    fn start(
        &self,
        verb: &str,
        args: &[&OsStr],
        streams: Streams<'_>,
        log: &Path,
    ) -> Result<(Child, Option<File>), String> {
        let mut command = Command::new(&self.runtime.path);
        command.args(&self.runtime.args).arg("--root").arg(&self.runtime.root);
        command.arg("--log").arg(log).args(["--log-format", "json"]).arg(verb).args(args);
        command.env_clear().envs(self.runtime.env.iter().filter_map(|pair| pair.split_once('=')));
        let copy = |fd: &OwnedFd| fd.try_clone().map(Stdio::from).map_err(|error| error.to_string());
        let words = match streams {
            Streams::Container([stdin, stdout, stderr]) => {
                command.stdin(copy(stdin)?).stdout(copy(stdout)?).stderr(copy(stderr)?);
                None
            }
            Streams::None => {
                let words = rustix::fs::memfd_create("runtime-stderr", MemfdFlags::CLOEXEC)
                    .map_err(|errno| errno.to_string())?;
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(copy(&words)?);
                Some(File::from(words))
            }
        };
        let child = process::spawn_with_default_signals(&mut command).map_err(|error| {
            let why = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
            let why = why.map_or_else(|| error.to_string(), wharf_sys::errno_text);
            format!("fork/exec {}: {why}", self.runtime.path)
        })?;
        Ok((child, words))
    }
}

/// Waits for its end, not for ever.
fn wait(mut child: Child) -> Result<ExitStatus, String> {
    let pidfd = process::pidfd_open(child.id() as i32).map_err(|error| error.to_string())?;
    let in_time = event::wait_readable(pidfd.as_fd(), Some(PATIENCE)).unwrap_or(true);
    if !in_time {
        // It may have ended just now.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if in_time { Ok(status) } else { Err(format!("it did not end within {} seconds", PATIENCE.as_secs())) }
}

/// The last error in a log of JSON lines (source: containerd `process/utils.go`, getLastRuntimeError).
fn last_error(log: &Path) -> Option<String> {
    let mut text = String::new();
    // Half a log is better than none.
    let _ = File::open(log).ok()?.take(MOST_WORDS).read_to_string(&mut text);
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
    let last = lines.filter(|line| line.level == "error").map(|line| line.msg.trim().to_owned()).next();
    last.filter(|message| !message.is_empty())
}

fn said(mut words: File) -> String {
    let mut bytes = Vec::new();
    // Nothing to say is what an unreadable one says.
    let _ = words.rewind().and_then(|()| words.take(MOST_WORDS).read_to_end(&mut bytes).map(drop));
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::plan::ExternalRuntime;

    /// A runtime that is a shell script; `$1` is its root, `$3` its log.
    fn external(dir: &Path, script: &str) -> External {
        let runtime = ExternalRuntime {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            root: dir.join("root").display().to_string(),
            env: vec!["WORD=heard".into()],
        };
        External { runtime, id: "cc".into(), bundle: dir.to_owned() }
    }

    fn message(script: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let failure = external(dir.path(), script).run("start", &["cc".as_ref()], Streams::None).unwrap_err();
        assert_eq!((failure.kind, failure.step.as_str()), (FailureKind::ExternalRuntime, "start"));
        failure.message
    }

    #[test]
    fn the_command_line_is_runcs() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"echo "$0 $1 $2 $3 $4 $5 $6 $7 $WORD$HOME" > "${1%root}words""#;
        external(dir.path(), script).run("start", &["cc".as_ref()], Streams::None).unwrap();
        let dir = dir.path().display();
        let words = std::fs::read_to_string(format!("{dir}/words")).unwrap();
        let wanted = format!("--root {dir}/root --log {dir}/log.json --log-format json start cc heard\n");
        assert_eq!(words, wanted);
    }

    #[test]
    fn failures_are_in_the_runtimes_words() {
        let log = r#"{ echo '{"level":"error","msg":"first"}'; echo '{"level":"error","msg":" last "}';
            echo '{"level":"warning","msg":"aside"}'; echo nonsense; } > "$3"; exit 1"#;
        assert_eq!(message(log), "OCI runtime start failed: last");
        let silent = message("echo no such flag >&2; exit 3");
        assert_eq!(
            silent,
            "OCI runtime start failed: /bin/sh did not terminate successfully: exit status: 3: no such flag"
        );
    }

    #[test]
    fn a_missing_program_is_told_as_docker_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut external = external(dir.path(), "");
        external.runtime.path = "/nosuch/runtime".into();
        let failure = external.run("create", &[], Streams::None).unwrap_err();
        let end =
            "log.json: no such file or directory): fork/exec /nosuch/runtime: no such file or directory";
        assert!(failure.message.ends_with(end), "{}", failure.message);
    }
}
