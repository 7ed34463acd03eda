//! A build as BuildKit draws it: on a terminal in place, elsewhere line by line, or as JSON (source: buildkit
//! `util/progress/progressui/{display,printer}.go`).

use crate::terminal;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// Lines of output that are shown below a step that runs.
const TAIL: usize = 6;
/// Lines of output that are kept of a step, for the case that it fails.
const KEPT: usize = 400;

/// What is said of what is given up because something else failed, as BuildKit says it.
const CANCELED: &str = "CANCELED";

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// In place.
    Terminal,
    /// Line by line.
    Plain,
    /// Messages for programs, one a line.
    Json,
    /// Not at all.
    Quiet,
}

/// Something that is done.
struct Vertex {
    name: String,
    began: Instant,
    began_at: String,
    took: Option<Duration>,
    is_cached: bool,
    error: Option<String>,
    /// Output, with the time since the start.
    log: std::collections::VecDeque<(Duration, String)>,
}

/// What is done and has been done.
pub(super) struct Board {
    style: Style,
    /// Who builds.
    driver: String,
    began: Instant,
    vertices: Vec<Vertex>,
    /// Lines on the terminal that will be drawn again.
    drawn: usize,
    /// What is said at the end.
    notes: Vec<String>,
}

impl Board {
    /// An empty board; `driver` is who builds.
    pub(super) fn new(style: Style, driver: String) -> Self {
        let board =
            Self { style, driver, began: Instant::now(), vertices: Vec::new(), drawn: 0, notes: Vec::new() };
        if style == Style::Plain {
            board.write(&format!("#0 building with {:?} instance using docker driver\n\n", "default"));
        }
        board
    }

    /// Something begins; gives its number.
    pub(super) fn begin(&mut self, name: &str) -> usize {
        self.vertices.push(Vertex {
            name: name.to_owned(),
            began: Instant::now(),
            began_at: jiff::Timestamp::now().to_string(),
            took: None,
            is_cached: false,
            error: None,
            log: std::collections::VecDeque::new(),
        });
        let number = self.vertices.len();
        match self.style {
            Style::Plain => self.write(&format!("#{number} {name}\n")),
            Style::Json => self.write_vertex(number),
            Style::Terminal => self.tick(),
            Style::Quiet => {}
        }
        number
    }

    /// A line of output of what goes on.
    pub(super) fn log(&mut self, number: usize, line: &str) {
        let Some(vertex) = self.open(number) else { return };
        let since = vertex.began.elapsed();
        if vertex.log.len() == KEPT {
            vertex.log.pop_front();
        }
        vertex.log.push_back((since, line.to_owned()));
        match self.style {
            Style::Plain => self.write(&format!("#{number} {:.3} {line}\n", since.as_secs_f64())),
            Style::Json => {
                let now = jiff::Timestamp::now().to_string();
                let data = STANDARD.encode(format!("{line}\n"));
                let log = json!({ "vertex": id(number), "stream": 1, "data": data, "timestamp": now });
                self.write(&format!("{}\n", json!({ "logs": [log] })));
            }
            Style::Terminal | Style::Quiet => {}
        }
    }

    /// A line to be shown at the end.
    pub(super) fn note(&mut self, line: &str) {
        self.notes.push(format!("{line}\n"));
    }

    /// It need not be done, for it has been.
    pub(super) fn cached(&mut self, number: usize) {
        if let Some(vertex) = self.open(number) {
            vertex.is_cached = true;
        }
    }

    /// Something has ended.
    pub(super) fn end(&mut self, number: usize) {
        let Some(vertex) = self.open(number) else { return };
        let took = vertex.began.elapsed();
        vertex.took = Some(took);
        let end = match &vertex.error {
            Some(error) if error == CANCELED => CANCELED.to_owned(),
            Some(error) => format!("ERROR: {error}"),
            None if vertex.is_cached => "CACHED".to_owned(),
            None => format!("DONE {}", seconds(took)),
        };
        match self.style {
            Style::Plain => self.write(&format!("#{number} {end}\n\n")),
            Style::Json => self.write_vertex(number),
            Style::Terminal => self.tick(),
            Style::Quiet => {}
        }
    }

    /// This has failed, and so has all: what else goes on is given up.
    pub(super) fn fail(&mut self, failed: usize, message: &str) {
        for number in 1..=self.vertices.len() {
            if let Some(vertex) = self.open(number) {
                vertex.error = Some(if number == failed { message } else { CANCELED }.to_owned());
            }
            self.end(number);
        }
        self.finish();
    }

    /// The image is there.
    pub(super) fn export(&mut self, image: &str, names: &[String]) {
        let number = self.begin("exporting to image");
        self.log(number, &format!("writing image {image} done"));
        for name in names {
            self.log(number, &format!("naming to {name} done"));
        }
        self.end(number);
    }

    /// Draws for the last time.
    pub(super) fn finish(&mut self) {
        if self.style == Style::Terminal {
            self.draw(true);
        }
        if matches!(self.style, Style::Terminal | Style::Plain) {
            let notes = std::mem::take(&mut self.notes).concat();
            self.write(&notes);
        }
    }

    /// Draws times anew.
    pub(super) fn tick(&mut self) {
        if self.style == Style::Terminal {
            self.draw(false);
        }
    }

    /// The output of what failed, between lines.
    pub(super) fn failed(&self) -> String {
        let has_failed = |v: &&Vertex| v.error.as_ref().is_some_and(|error| error != CANCELED);
        let Some(vertex) = self.vertices.iter().rfind(has_failed).filter(|v| !v.log.is_empty()) else {
            return String::new();
        };
        let lines: String =
            vertex.log.iter().map(|(since, line)| format!("{:.3} {line}\n", since.as_secs_f64())).collect();
        format!("------\n > {}:\n{lines}------\n", vertex.name)
    }

    fn open(&mut self, number: usize) -> Option<&mut Vertex> {
        self.vertices.get_mut(number.checked_sub(1)?).filter(|vertex| vertex.took.is_none())
    }

    fn write_vertex(&self, number: usize) {
        if let Some(vertex) = self.vertices.get(number - 1) {
            self.write(&format!("{}\n", json!({ "vertexes": [vertex.json(number)] })));
        }
    }

    fn draw(&mut self, is_last: bool) {
        let (rows, columns) = terminal::size();
        let width = if columns == 0 { 80 } else { usize::from(columns) };
        let height = if rows == 0 { 24 } else { usize::from(rows) };
        let mut lines = self.lines(width, is_last);
        if !is_last && lines.len() >= height {
            // What has scrolled away cannot be drawn again: the head and the newest stay.
            lines.drain(1..=lines.len() + 1 - height);
        }
        let up = if self.drawn == 0 { String::new() } else { format!("\x1b[{}A", self.drawn) };
        let text: String = lines.iter().map(|line| format!("\x1b[2K{line}\n")).collect();
        self.write(&format!("{up}\r{text}\x1b[J"));
        self.drawn = lines.len();
    }

    fn lines(&self, width: usize, is_last: bool) -> Vec<String> {
        let done = self.vertices.iter().filter(|vertex| vertex.took.is_some()).count();
        let is_finished = is_last && self.vertices.iter().all(|vertex| vertex.error.is_none());
        let head = format!(
            "[+] Building {} ({done}/{}){}",
            seconds(self.began.elapsed()),
            self.vertices.len(),
            if is_finished { " FINISHED" } else { "" }
        );
        let mut lines = vec![justify(&head, &self.driver, width)];
        for vertex in &self.vertices {
            let took = seconds(vertex.took.unwrap_or_else(|| vertex.began.elapsed()));
            lines.push(justify(&format!(" => {}", vertex.title()), &took, width));
            if vertex.took.is_none() {
                let skipped = vertex.log.len().saturating_sub(TAIL);
                lines.extend(
                    vertex.log.iter().skip(skipped).map(|(_, line)| cut(&format!(" => => # {line}"), width)),
                );
            }
        }
        lines
    }

    fn write(&self, text: &str) {
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// What was done, for tests.
    #[cfg(test)]
    pub(super) fn summary(&self) -> Vec<String> {
        let line = |vertex: &Vertex| {
            let log: Vec<&str> = vertex.log.iter().map(|(_, line)| line.as_str()).collect();
            let log = if log.is_empty() { String::new() } else { format!(": {}", log.join("|")) };
            format!("{}{log}", vertex.title())
        };
        self.vertices.iter().map(line).collect()
    }
}

impl Vertex {
    fn title(&self) -> String {
        let state = match (&self.error, self.is_cached) {
            (Some(error), _) if error == CANCELED => "CANCELED ",
            (Some(_), _) => "ERROR ",
            (None, true) => "CACHED ",
            (None, false) => "",
        };
        format!("{state}{}", self.name)
    }

    fn json(&self, number: usize) -> Value {
        let mut value = json!({ "digest": id(number), "name": self.name, "started": self.began_at });
        if self.took.is_some() {
            value["completed"] = json!(jiff::Timestamp::now().to_string());
        }
        if self.is_cached {
            value["cached"] = json!(true);
        }
        if let Some(error) = &self.error {
            value["error"] = json!(error);
        }
        value
    }
}

/// What stands for a digest in messages for programs: it only tells vertices apart.
fn id(number: usize) -> String {
    format!("sha256:{number:064x}")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// Two texts at the ends of a line, control characters left out.
fn justify(left: &str, right: &str, width: usize) -> String {
    let room = width.saturating_sub(right.chars().count() + 1);
    format!("{:room$} {right}", cut(left, room))
}

fn cut(text: &str, width: usize) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_what_goes_on_with_its_last_output() {
        let mut board = Board::new(Style::Quiet, "docker:default".into());
        let first = board.begin("[1/2] FROM busybox");
        board.cached(first);
        board.end(first);
        let second = board.begin("[2/2] RUN make");
        (0..9).for_each(|n| board.log(second, &format!("line {n}\u{1b}[2J")));
        let lines = board.lines(40, false);
        assert!(lines[0].starts_with("[+] Building ") && lines[0].contains("(1/2)"), "{lines:?}");
        assert!(lines[0].ends_with(" docker:default") && lines.iter().all(|line| line.chars().count() <= 40));
        assert!(lines[1].starts_with(" => CACHED [1/2] FROM busybox"));
        assert_eq!(lines[3..], (3..9).map(|n| format!(" => => # line {n}[2J")).collect::<Vec<_>>());
        let third = board.begin("[other 1/1] RUN x");
        board.log(third, "x");
        board.fail(second, "it broke");
        assert!(board.lines(60, true)[3].starts_with(" => CANCELED [other 1/1] RUN x"));
        assert!(board.lines(60, true)[2].starts_with(" => ERROR [2/2] RUN make"));
        assert!(!board.lines(60, true)[0].contains("FINISHED"));
        assert!(
            board.failed().starts_with("------\n > [2/2] RUN make:\n0.")
                && board.failed().ends_with("------\n")
        );
        let json = board.vertices[1].json(2);
        assert_eq!((&json["name"], &json["error"]), (&json!("[2/2] RUN make"), &json!("it broke")));
    }

    #[test]
    fn all_is_well_at_the_end() {
        let mut board = Board::new(Style::Quiet, "docker:default".into());
        let number = board.begin("a");
        board.end(number);
        board.export("sha256:1", &["x:latest".to_owned()]);
        assert!(board.lines(80, true)[0].contains("(2/2) FINISHED"));
        assert_eq!(board.failed(), "");
        assert_eq!(
            board.summary()[1],
            "exporting to image: writing image sha256:1 done|naming to x:latest done"
        );
    }
}
