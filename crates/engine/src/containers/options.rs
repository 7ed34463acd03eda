//! What callers give to the verbs of containers, and what streams they get back.

use crate::{Filters, Result};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::net::UnixStream;
use wharf_spec::{ImageRef, Platform};

/// For [`crate::Containers::create`].
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// Of a container that somebody has to know of before it is there; `None`: one is made up.
    pub id: Option<wharf_spec::ContainerId>,
    /// `?name=`; `None` or empty: one is made up.
    pub name: Option<String>,
    /// `?platform=`.
    pub platform: Option<Platform>,
    /// The body.
    pub request: wharf_api::container::CreateRequest,
}

/// For [`crate::Containers::commit`].
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// What to call the image; `None` is nothing.
    pub reference: Option<ImageRef>,
    /// Who made it.
    pub author: String,
    /// The comment of its history.
    pub comment: String,
    /// Taken instead of the container's own where it says something.
    pub config: Option<wharf_api::container::Config>,
    /// Dockerfile instructions applied to the config.
    pub changes: Vec<String>,
}

/// For [`crate::Containers::stop`] and [`crate::Containers::restart`].
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// Name or number; `None`: the container's stop signal.
    pub signal: Option<String>,
    /// Seconds until SIGKILL; `None`: the container's; negative: for ever.
    pub timeout: Option<i64>,
}

/// For [`crate::Containers::remove`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
    /// The name is that of a link, which is removed instead of a container.
    pub link: bool,
}

/// For [`crate::Containers::list`].
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// The newest so many, running or not; 0 or less is no limit.
    pub limit: i64,
    /// With the sizes of their layers.
    pub size: bool,
    /// `?filters=`.
    pub filters: Filters,
}

/// What [`crate::Containers::wait`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It does not run (at once if so already).
    #[default]
    NotRunning,
    /// The next end of it.
    NextExit,
    /// It is gone.
    Removed,
}

impl std::str::FromStr for WaitCondition {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => crate::error::invalid(format!("invalid condition: {other:?}")),
        }
    }
}

/// For [`crate::Containers::attach`].
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// First what the log holds.
    pub logs: bool,
    /// Then what comes.
    pub stream: bool,
    /// The caller's bytes go to the process, if it has an open input.
    pub stdin: bool,
    /// Output is wanted.
    pub stdout: bool,
    /// Errors are wanted.
    pub stderr: bool,
    /// Such as `ctrl-p,ctrl-q`; `None`: Docker's default, which is that.
    pub detach_keys: Option<String>,
}

/// An attached client's side.
#[derive(Debug)]
pub struct Attached {
    /// Bytes are raw, not frames.
    pub tty: bool,
    /// What the log holds, if it was asked for: to be sent first.
    pub logs: Option<Logs>,
    /// Reading gives output, already framed when there is no terminal; writing gives input; shutting down the
    /// write half ends the input. `None` when no stream was asked for.
    pub stream: Option<UnixStream>,
}

/// How JSON objects follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonLines {
    /// A line each.
    Lines,
    /// With a record separator before each (RFC 7464).
    Sequence,
}

/// For [`crate::Containers::logs`].
#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    /// Each line as a JSON object instead of a frame.
    pub json: Option<JsonLines>,
    /// Output is wanted.
    pub stdout: bool,
    /// Errors are wanted.
    pub stderr: bool,
    /// Go on with what comes until the container ends.
    pub follow: bool,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// The last so many lines; `None` is all.
    pub tail: Option<u64>,
    /// A time before each line.
    pub timestamps: bool,
    /// The line's attributes before it.
    pub details: bool,
}

impl LogsOptions {
    /// Docker's reading of `tail`: what is no number is all (source: moby `daemon/logs.go`).
    pub fn tail_from(text: &str) -> Option<u64> {
        text.parse().ok()
    }
}

/// Lines of a log, ready to be sent: framed for a client unless `tty`.
pub struct Logs {
    /// Bytes are raw, not frames.
    pub tty: bool,
    /// Chunks of whole frames. An error ends the stream and belongs in-band (stream 3 of the framing).
    pub chunks: BoxStream<'static, Result<Bytes>>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("tty", &self.tty).finish_non_exhaustive()
    }
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// Exit code.
    pub code: i32,
    /// What else went wrong, empty if nothing.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_dockers() {
        assert_eq!("".parse::<WaitCondition>().unwrap(), WaitCondition::NotRunning);
        assert_eq!("removed".parse::<WaitCondition>().unwrap(), WaitCondition::Removed);
        let error = "nosuch".parse::<WaitCondition>().unwrap_err();
        assert_eq!(error.to_string(), "invalid condition: \"nosuch\"");
    }

    #[test]
    fn a_bad_tail_is_all() {
        assert_eq!(LogsOptions::tail_from("zz"), None);
        assert_eq!(LogsOptions::tail_from("all"), None);
        assert_eq!(LogsOptions::tail_from("-1"), None);
        assert_eq!(LogsOptions::tail_from("0"), Some(0));
    }
}
