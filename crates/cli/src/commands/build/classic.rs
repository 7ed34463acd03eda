//! The classic builder's stream of lines, read for the board (source of the lines: moby
//! `daemon/builder/dockerfile/{builder,dispatchers,containerbackend}.go`).

use super::{board::Board, request::Prepared};
use crate::{
    cli::Cli,
    client::JsonLines,
    commands::container::cp::progress::Counter,
    error::{Error, Result},
    opts::size,
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, pin::pin, time::Duration};
use wharf_api::gojson;

/// How often times on the board move.
const TICK: Duration = Duration::from_millis(100);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Message {
    stream: String,
    status: String,
    id: String,
    progress_detail: Option<Value>,
    error_detail: Option<Detail>,
    error: String,
    aux: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    message: String,
}

/// The image's id in data besides.
pub(super) fn image_of(aux: &Value) -> Option<String> {
    aux.get("ID").and_then(Value::as_str).map(str::to_owned)
}

/// A build under way.
pub(super) struct Build<'a> {
    board: &'a mut Board,
    /// What is drawn while the context is sent.
    context: usize,
    /// Stages by their names; the only one, or all of a build in order, has none.
    stages: BTreeMap<String, Stage>,
    /// The one that was told of last, or that failed.
    last: String,
    has_failed: bool,
    image: Option<String>,
}

/// A stage under way.
#[derive(Default)]
struct Stage {
    /// The number of the step that is worked on, from 1; 0 before the first.
    step: usize,
    /// Where it is drawn.
    vertex: usize,
    /// A line whose end is to come.
    line: String,
}

impl<'a> Build<'a> {
    pub(super) fn new(board: &'a mut Board) -> Self {
        let (stages, last) = (BTreeMap::new(), String::new());
        Self { board, context: 0, stages, last, has_failed: false, image: None }
    }

    /// The stage and the number of the step that was worked on last, or failed, from 1.
    pub(super) fn step(&self) -> (String, usize) {
        (self.last.clone(), self.stages.get(&self.last).map_or(0, |stage| stage.step))
    }

    /// It ends with an error.
    pub(super) fn fail(&mut self, message: &str) {
        let vertex = self.stages.get(&self.last).map_or(self.context, |stage| stage.vertex);
        self.board.fail(vertex, message);
    }

    /// Sends the context and follows the build; gives the image's id.
    ///
    /// # Errors
    /// The daemon's, or the connection's.
    pub(super) async fn run(&mut self, cli: &Cli, request: Prepared) -> Result<String> {
        let counter = Counter::default();
        self.context = self.board.begin("[internal] load build context");
        let mut ticks = tokio::time::interval(TICK);
        let response = {
            let mut sending = pin!(request.send(cli, &counter));
            loop {
                tokio::select! {
                    response = &mut sending => break response?,
                    _ = ticks.tick() => self.board.tick(),
                }
            }
        };
        let mut lines = JsonLines::of(response);
        let mut sent = Some(counter);
        loop {
            let line = tokio::select! {
                line = lines.next() => line?,
                _ = ticks.tick() => {
                    self.board.tick();
                    continue;
                }
            };
            if let Some(counter) = sent.take() {
                self.sent(&counter);
            }
            let Some(line) = line else { break };
            let message: Message = gojson::from_slice(&line)
                .map_err(|error| Error::text(format!("invalid progress message: {error}")))?;
            self.message(message)?;
        }
        self.end_lines();
        let vertices: Vec<usize> = self.stages.values().map(|stage| stage.vertex).collect();
        vertices.into_iter().for_each(|vertex| self.board.end(vertex));
        self.image.take().ok_or_else(|| Error::text("the daemon did not say which image it built"))
    }

    fn sent(&mut self, counter: &Counter) {
        let text = format!("transferring context: {} done", size::human(counter.bytes() as f64));
        self.board.log(self.context, &text);
        self.board.end(self.context);
    }

    fn message(&mut self, message: Message) -> Result<()> {
        if let Some(detail) = message.error_detail.filter(|detail| !detail.message.is_empty()) {
            self.end_lines();
            return Err(Error::text(detail.message));
        }
        if !message.error.is_empty() {
            self.end_lines();
            return Err(Error::text(message.error));
        }
        if let Some(aux) = message.aux {
            self.image = image_of(&aux).or_else(|| self.image.take());
        }
        if !message.status.is_empty()
            && message.progress_detail.is_none_or(|d| d == Value::Object(Default::default()))
        {
            let id = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
            let vertex = self.stages.get(&self.last).map_or(0, |stage| stage.vertex);
            self.board.log(vertex, &format!("{id}{}", message.status));
        }
        if !message.stream.is_empty() {
            self.text(&message.id, &message.stream);
        }
        Ok(())
    }

    fn text(&mut self, name: &str, text: &str) {
        if !self.has_failed {
            name.clone_into(&mut self.last);
        }
        // The builder's own lines come in messages of their own, after output that may lack its end.
        if is_own(text) {
            self.end_line(name);
        }
        for piece in text.split_inclusive('\n') {
            self.stages.entry(name.to_owned()).or_default().line.push_str(piece);
            if piece.ends_with('\n') {
                self.end_line(name);
            }
        }
    }

    fn end_lines(&mut self) {
        let names: Vec<String> = self.stages.keys().cloned().collect();
        names.iter().for_each(|name| self.end_line(name));
    }

    fn end_line(&mut self, name: &str) {
        let Self { board, stages, has_failed, .. } = self;
        let stage = stages.entry(name.to_owned()).or_default();
        let line = std::mem::take(&mut stage.line);
        let line = line.replace("\u{1b}[91m", "").replace("\u{1b}[0m", "");
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some((text, number)) = step(name, line, stage.step + 1) {
            stage.step = number;
            board.end(stage.vertex);
            stage.vertex = board.begin(&text);
        } else if line == " ---> Using cache" {
            board.cached(stage.vertex);
        } else if line == " ---> Failed" && !name.is_empty() {
            *has_failed = true;
        } else if let Some(why) = line.strip_prefix(" ---> Not cached: ") {
            board.log(stage.vertex, &format!("not cached: {why}"));
        } else if stage.vertex == 0 && line.starts_with("[Warning] ") {
            board.note(line);
        } else if !line.is_empty() && !is_own(line) {
            board.log(stage.vertex, line);
        }
    }
}

/// `Step 2/5 : RUN x` becomes `[2/5] RUN x`, or `[stage 2/5] RUN x`, if it is the next step's turn.
fn step(stage: &str, line: &str, next: usize) -> Option<(String, usize)> {
    let (place, text) = line.strip_prefix("Step ")?.split_once(" : ")?;
    let (number, of) = place.split_once('/')?;
    let (number, of): (usize, usize) = (number.parse().ok()?, of.parse().ok()?);
    let width = of.to_string().len();
    let stage = if stage.is_empty() { String::new() } else { format!("{stage} ") };
    (number == next).then(|| (format!("[{stage}{number:>width$}/{of}] {text}"), number))
}

/// Lines of the builder itself, which say what the board shows otherwise.
fn is_own(line: &str) -> bool {
    let rest_is_id =
        |rest: &str| rest.trim_end().len() == 12 && rest.trim_end().bytes().all(|b| b.is_ascii_hexdigit());
    line.starts_with(" ---> Using cache")
        || line.starts_with(" ---> Not cached: ")
        || line == " ---> Failed\n"
        || line.strip_prefix(" ---> Running in ").is_some_and(rest_is_id)
        || line.strip_prefix(" ---> Removed intermediate container ").is_some_and(rest_is_id)
        || line.strip_prefix("Removing intermediate container ").is_some_and(rest_is_id)
        || line.strip_prefix(" ---> ").is_some_and(|rest| rest_is_id(rest) || rest.trim_end().is_empty())
        || line.strip_prefix("Successfully built ").is_some_and(rest_is_id)
        || line.starts_with("Successfully tagged ")
        || (line.starts_with("Step ") && line.contains(" : "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::build::board::Style;

    #[test]
    fn steps_and_output_are_told_apart() {
        let mut board = Board::new(Style::Quiet, "docker:default".into());
        let mut build = Build::new(&mut board);
        for text in [
            "Step 1/3 : FROM busybox\n",
            " ---> 0123456789ab\n",
            "Step 2/3 : RUN printf x\n",
            " ---> Running in 0123456789ab\n",
            "Step 9/9 : not a step\n",
            "x",
            "Removing intermediate container 0123456789ab\n",
            " ---> 0123456789ab\n",
            "Step 3/3 : CMD [\"sh\"]\n",
            " ---> Using cache\n",
            " ---> 0123456789ab\n",
            "Successfully built 0123456789ab\n",
        ] {
            build.text("", text);
        }
        assert_eq!(build.step(), (String::new(), 3));
        let shown = board.summary();
        assert_eq!(shown, ["[1/3] FROM busybox", "[2/3] RUN printf x: x", "CACHED [3/3] CMD [\"sh\"]"]);
    }

    #[test]
    fn stages_that_are_built_at_once_are_told_apart() {
        let mut board = Board::new(Style::Quiet, "docker:default".into());
        let mut build = Build::new(&mut board);
        for (stage, text) in [
            ("a", "Step 1/2 : FROM x\n"),
            ("stage-1", "Step 1/1 : FROM y\n"),
            ("a", "Step 2/2 : RUN false\n"),
            ("stage-1", "of y\n"),
            ("a", " ---> Not cached: files changed\n"),
            ("a", "of a"),
            ("a", " ---> Failed\n"),
            ("stage-1", "late\n"),
        ] {
            build.text(stage, text);
        }
        assert_eq!(build.step(), ("a".to_owned(), 2));
        build.fail("it broke");
        let shown = board.summary();
        let expected = [
            "[a 1/2] FROM x",
            "CANCELED [stage-1 1/1] FROM y: of y|late",
            "ERROR [a 2/2] RUN false: not cached: files changed|of a",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_error_ends_the_build() {
        let mut board = Board::new(Style::Quiet, "docker:default".into());
        let mut build = Build::new(&mut board);
        let line = br#"{"errorDetail":{"code":3,"message":"The command '/bin/sh -c exit 3' returned a non-zero code: 3"},"error":"x"}"#;
        let error = build.message(gojson::from_slice(line).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "The command '/bin/sh -c exit 3' returned a non-zero code: 3");
        build.message(gojson::from_slice(br#"{"aux":{"ID":"sha256:1"}}"#).unwrap()).unwrap();
        assert_eq!(build.image.as_deref(), Some("sha256:1"));
    }
}
