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
use std::{pin::pin, time::Duration};
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
    /// The number of the step that is worked on, from 1; 0 before the first.
    step: usize,
    /// A line whose end is to come.
    line: String,
    image: Option<String>,
}

impl<'a> Build<'a> {
    pub(super) fn new(board: &'a mut Board) -> Self {
        Self { board, step: 0, line: String::new(), image: None }
    }

    /// The number of the step that was worked on last, from 1.
    pub(super) fn step(&self) -> usize {
        self.step
    }

    /// Sends the context and follows the build; gives the image's id.
    ///
    /// # Errors
    /// The daemon's, or the connection's.
    pub(super) async fn run(&mut self, cli: &Cli, request: Prepared) -> Result<String> {
        let counter = Counter::default();
        self.board.begin("[internal] load build context");
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
        self.end_line();
        self.board.end();
        self.image.take().ok_or_else(|| Error::text("the daemon did not say which image it built"))
    }

    fn sent(&mut self, counter: &Counter) {
        self.board.log(&format!("transferring context: {} done", size::human(counter.bytes() as f64)));
        self.board.end();
    }

    fn message(&mut self, message: Message) -> Result<()> {
        if let Some(detail) = message.error_detail.filter(|detail| !detail.message.is_empty()) {
            self.end_line();
            return Err(Error::text(detail.message));
        }
        if !message.error.is_empty() {
            self.end_line();
            return Err(Error::text(message.error));
        }
        if let Some(aux) = message.aux {
            self.image = image_of(&aux).or_else(|| self.image.take());
        }
        if !message.status.is_empty()
            && message.progress_detail.is_none_or(|d| d == Value::Object(Default::default()))
        {
            let id = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
            self.board.log(&format!("{id}{}", message.status));
        }
        self.text(&message.stream);
        Ok(())
    }

    fn text(&mut self, text: &str) {
        // The builder's own lines come in messages of their own, after output that may lack its end.
        if is_own(text) {
            self.end_line();
        }
        for piece in text.split_inclusive('\n') {
            self.line.push_str(piece);
            if piece.ends_with('\n') {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.replace("\u{1b}[91m", "").replace("\u{1b}[0m", "");
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some((name, number)) = step(line, self.step + 1) {
            self.step = number;
            self.board.end();
            self.board.begin(&name);
        } else if line == " ---> Using cache" {
            self.board.cached();
        } else if !line.is_empty() && !is_own(line) {
            self.board.log(line);
        }
    }
}

/// `Step 2/5 : RUN x` becomes `[2/5] RUN x`, if it is the next step's turn.
fn step(line: &str, next: usize) -> Option<(String, usize)> {
    let (place, text) = line.strip_prefix("Step ")?.split_once(" : ")?;
    let (number, of) = place.split_once('/')?;
    let (number, of): (usize, usize) = (number.parse().ok()?, of.parse().ok()?);
    let width = of.to_string().len();
    (number == next).then(|| (format!("[{number:>width$}/{of}] {text}"), number))
}

/// Lines of the builder itself, which say what the board shows otherwise.
fn is_own(line: &str) -> bool {
    let rest_is_id =
        |rest: &str| rest.trim_end().len() == 12 && rest.trim_end().bytes().all(|b| b.is_ascii_hexdigit());
    line.starts_with(" ---> Using cache")
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
            build.text(text);
        }
        assert_eq!(build.step(), 3);
        board.end();
        let shown = board.summary();
        assert_eq!(shown, ["[1/3] FROM busybox", "[2/3] RUN printf x: x", "CACHED [3/3] CMD [\"sh\"]"]);
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
