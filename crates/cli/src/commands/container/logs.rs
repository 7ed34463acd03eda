//! `docker logs`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::timestamp,
    streams::Splitter,
};
use http::{Method, header};
use http_body_util::BodyExt;
use regex_lite::Regex;
use std::io::{self, Write};
use wharf_api::container::InspectResponse;

/// `docker container logs`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Fetch the logs of a container",
    also: "container logs, logs",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("details", "Show extra details provided to logs"),
    Flag::bool("follow", "Follow log output").short('f'),
    Flag::text("grep", "Show only lines that match this regular expression"),
    Flag::text(
        "since",
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    Flag::text("tail", "Number of lines to show from the end of the logs (default \"all\")").short('n'),
    Flag::bool("timestamps", "Show timestamps").short('t'),
    Flag::text(
        "until",
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let path = format!("/containers/{}", encode(m.arg(0)));
    let inspected: Result<InspectResponse> = client.get(&format!("{path}/json"), Query::new()).await;
    let (path, tty, missing) = match inspected {
        Ok(container) => (format!("/containers/{}", encode(&container.id)), Some(container.config.tty), None),
        // Wharf may have kept the log of a container that is removed.
        Err(error) if error.is_not_found() => (path, None, Some(error)),
        Err(error) => return Err(error),
    };
    let since = timestamp::parse(m.text("since"))
        .map_err(|why| Error::text(format!("invalid value for \"since\": {why}")))?;
    let until = timestamp::parse(m.text("until"))
        .map_err(|why| Error::text(format!("invalid value for \"until\": {why}")))?;
    let mut filter = match m.text("grep") {
        "" => None,
        pattern => {
            let out: [Box<dyn Write>; 2] = [Box::new(io::stdout()), Box::new(io::stderr())];
            Some(LineFilter::new(pattern, out)?)
        }
    };
    let tail = if m.given("tail") { m.text("tail") } else { "all" };
    let query = Query::new()
        .with("stdout", "1")
        .with("stderr", "1")
        .with_text("since", &since)
        .with_text("until", &until)
        .with_switch("timestamps", m.is("timestamps"))
        .with_switch("details", m.is("details"))
        .with_switch("follow", m.is("follow"))
        .with("tail", tail);
    let response = client.send(Call::new(Method::GET, &format!("{path}/logs"), query)).await;
    let response = response.map_err(|error| missing.filter(|_| error.is_not_found()).unwrap_or(error))?;
    let is_raw = || {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        kind == Some("application/vnd.docker.raw-stream")
    };
    let tty = tty.unwrap_or_else(is_raw);
    let mut splitter = Splitter::new(!tty, true, true);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Error::Connect(e.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        match &mut filter {
            None => splitter.write(&data)?,
            Some(filter) => splitter.split(&data, |stream, part| filter.take(stream, part))?,
        }
    }
    Ok(filter.map_or(Ok(()), |mut filter| filter.finish())?)
}

/// Puts lines together and shows those that match. Wharf's own: it works with any daemon.
struct LineFilter<W> {
    pattern: Regex,
    /// What has arrived of a line, of standard output and of error.
    begun: [Vec<u8>; 2],
    out: [W; 2],
}

impl<W: Write> LineFilter<W> {
    fn new(pattern: &str, out: [W; 2]) -> Result<Self> {
        let pattern = Regex::new(pattern)
            .map_err(|why| Error::text(format!("invalid value for \"grep\": {pattern:?}: {why}")))?;
        Ok(Self { pattern, begun: Default::default(), out })
    }

    fn take(&mut self, stream: u8, part: &[u8]) -> io::Result<()> {
        let at = usize::from(stream == 2);
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            self.begun[at].extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.show(at)?;
            }
        }
        self.out[at].flush()
    }

    fn show(&mut self, at: usize) -> io::Result<()> {
        let line = std::mem::take(&mut self.begun[at]);
        if self.pattern.is_match(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])) {
            self.out[at].write_all(&line)?;
        }
        Ok(())
    }

    /// Last lines without an end.
    fn finish(&mut self) -> io::Result<()> {
        (0..2).try_for_each(|at| self.show(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_that_match() {
        let mut filter = LineFilter::new("^a.*z$", [Vec::new(), Vec::new()]).unwrap();
        for (stream, part) in [(1, "ab"), (2, "az\n"), (1, "z\nno\naz"), (2, "b\nazz"), (1, "z\n")] {
            filter.take(stream, part.as_bytes()).unwrap();
        }
        filter.finish().unwrap();
        assert_eq!(filter.out, [b"abz\nazz\n".to_vec(), b"az\nazz".to_vec()]);
        let error = LineFilter::<Vec<u8>>::new("(", [Vec::new(), Vec::new()]).err().unwrap().to_string();
        assert!(error.starts_with("invalid value for \"grep\": \"(\":"), "{error}");
    }
}
