//! Progress of pull, push, load: several lines that change in place on a terminal, one line each elsewhere.
//!
//! Source: moby `pkg/jsonmessage/jsonmessage.go`.

use crate::{
    client::JsonLines,
    error::{Error, Result},
    opts::size,
    terminal,
};
use serde::Deserialize;
use std::{collections::HashMap, io::Write};
use wharf_api::gojson;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Message {
    stream: String,
    status: String,
    progress_detail: Option<Detail>,
    id: String,
    error_detail: Option<ErrorDetail>,
    error: String,
    aux: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: i64,
    total: i64,
    start: i64,
    units: String,
    #[serde(rename = "hidecounts")]
    hide_counts: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    code: i32,
    message: String,
}

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    Nowhere,
}

/// Shows a stream of progress messages to its end. What comes as `aux` is given back.
///
/// # Errors
/// The error that the stream brings, or a broken connection.
pub(crate) async fn show(mut lines: JsonLines, place: Place) -> Result<Vec<String>> {
    let is_terminal = match place {
        Place::Stdout => terminal::stdout_is_terminal(),
        Place::Stderr => terminal::stderr_is_terminal(),
        Place::Nowhere => false,
    };
    let mut screen = Screen { place, is_terminal, rows: HashMap::new() };
    let mut aux = Vec::new();
    while let Some(line) = lines.next().await? {
        let message: Message =
            gojson::from_slice(&line).map_err(|e| Error::text(format!("invalid progress message: {e}")))?;
        if let Some(value) = message.aux {
            aux.push(value.to_string());
            continue;
        }
        if let Some(error) = message.error_detail.as_ref().filter(|e| !e.message.is_empty()) {
            let code = if error.code == 0 { 1 } else { error.code };
            return Err(Error::Status { code, text: error.message.clone() });
        }
        if !message.error.is_empty() {
            return Err(Error::text(message.error));
        }
        screen.show(&message);
    }
    Ok(aux)
}

struct Screen {
    place: Place,
    is_terminal: bool,
    /// In which row an id is, counted from the top.
    rows: HashMap<String, usize>,
}

impl Screen {
    fn show(&mut self, message: &Message) {
        let progress = message.progress_detail.as_ref().filter(|d| d.current != 0 || d.total != 0);
        let text = if self.is_terminal {
            self.terminal_text(message, progress)
        } else if progress.is_some() {
            // A file has no use for a bar that moves.
            return;
        } else {
            plain_text(message)
        };
        match self.place {
            Place::Stdout => {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            }
            Place::Stderr => {
                let _ = std::io::stderr().write_all(text.as_bytes());
            }
            Place::Nowhere => {}
        }
    }

    fn terminal_text(&mut self, message: &Message, progress: Option<&Detail>) -> String {
        let has_row = !message.id.is_empty()
            && (message.progress_detail.is_some() || self.rows.contains_key(&message.id));
        let bar = progress.map(|detail| format!(" {}", bar(detail, terminal_width()))).unwrap_or_default();
        let body = if message.stream.is_empty() {
            let id = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
            format!("{id}{}{bar}", message.status)
        } else {
            return message.stream.clone();
        };
        if !has_row {
            // Lines that stay end the block of lines that change.
            self.rows.clear();
            return format!("{body}\n");
        }
        let next = self.rows.len();
        let row = *self.rows.entry(message.id.clone()).or_insert(next);
        let below = self.rows.len() - row;
        if row == next {
            return format!("{body}\n");
        }
        // Up to the row, its old text erased, and down again.
        format!("\x1b[{below}A\x1b[2K\r{body}\r\x1b[{below}B")
    }
}

fn plain_text(message: &Message) -> String {
    if !message.stream.is_empty() {
        return message.stream.clone();
    }
    let id = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
    format!("{id}{}\n", message.status)
}

fn terminal_width() -> usize {
    match terminal::size().1 {
        0 => 200,
        columns => usize::from(columns),
    }
}

fn bar(detail: &Detail, width: usize) -> String {
    if detail.current <= 0 && detail.total <= 0 {
        return String::new();
    }
    let human = |bytes: i64| {
        if detail.units.is_empty() { size::human(bytes as f64) } else { format!("{bytes} {}", detail.units) }
    };
    if detail.total <= 0 {
        return format!("{:>8}", human(detail.current));
    }
    let percent = ((detail.current as f64 / detail.total as f64 * 100.0) as i64 / 2).clamp(0, 50);
    let mut text = String::new();
    if width > 110 {
        let done = usize::try_from(percent).unwrap_or(0);
        let spaces = 50_usize.saturating_sub(done);
        text = format!("[{}>{}] ", "=".repeat(done), " ".repeat(spaces));
    }
    if !detail.hide_counts {
        let current = human(detail.current);
        text.push_str(&format!("{current:>8}"));
        if detail.current <= detail.total {
            text.push_str(&format!("/{}", human(detail.total)));
        }
    }
    text.push_str(&time_left(detail, width));
    text
}

fn time_left(detail: &Detail, width: usize) -> String {
    if detail.current <= 0 || detail.start <= 0 || detail.current >= detail.total || width <= 50 {
        return String::new();
    }
    let spent = jiff::Timestamp::now().as_second() - detail.start;
    let left = spent as f64 / detail.current as f64 * (detail.total - detail.current) as f64;
    format!(" {}s", left as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_dockers() {
        let detail = Detail { current: 50, total: 100, ..Detail::default() };
        assert_eq!(bar(&detail, 120), format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25)));
        assert_eq!(bar(&detail, 80), "     50B/100B");
        assert_eq!(bar(&Detail { current: 1000, ..Detail::default() }, 80), "     1kB");
        assert_eq!(bar(&Detail::default(), 80), "");
        let layers = Detail { current: 2, total: 4, units: "layers".into(), ..Detail::default() };
        assert_eq!(bar(&layers, 80), "2 layers/4 layers");
    }

    #[test]
    fn lines_change_in_place_on_a_terminal() {
        let mut screen = Screen { place: Place::Nowhere, is_terminal: true, rows: HashMap::new() };
        let message = |id: &str, status: &str, detail| Message {
            id: id.into(),
            status: status.into(),
            progress_detail: detail,
            ..Message::default()
        };
        let first = message("a", "Pulling fs layer", Some(Detail::default()));
        assert_eq!(screen.terminal_text(&first, None), "a: Pulling fs layer\n");
        let second = message("b", "Waiting", Some(Detail::default()));
        assert_eq!(screen.terminal_text(&second, None), "b: Waiting\n");
        let again = message("a", "Pull complete", Some(Detail::default()));
        assert_eq!(screen.terminal_text(&again, None), "\x1b[2A\x1b[2K\ra: Pull complete\r\x1b[2B");
        assert_eq!(screen.terminal_text(&message("", "Digest: x", None), None), "Digest: x\n");
        assert_eq!(
            plain_text(&message("latest", "Pulling from library/busybox", None)),
            "latest: Pulling from library/busybox\n"
        );
    }
}
