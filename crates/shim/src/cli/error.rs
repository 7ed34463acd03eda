//! What can go wrong on the command line, in runc's words where callers look for them.

use std::fmt;
use std::io;
use wharf_runtime::oci::OciError;

/// Results of commands.
pub(super) type CliResult<T> = Result<T, CliError>;

/// An error that ends a command.
#[derive(Debug)]
pub(super) enum CliError {
    /// The id has characters that no id has.
    InvalidId,
    /// There is a container of that name.
    Exists,
    /// There is none.
    NotExist,
    /// Its process has ended.
    NotRunning,
    /// Anything that text alone tells.
    Text(String),
    /// A file or a program of the host.
    Io {
        /// What was done with what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A command failed; prefix and exit code are as runc's (`create failed`).
    Command {
        /// In front of the message.
        prefix: &'static str,
        /// The exit code.
        code: u8,
        /// Why.
        source: Box<CliError>,
    },
}

impl CliError {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// What the process exits with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Command { code, .. } => *code,
            _ => 1,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidId => f.write_str("invalid container ID format"),
            Self::Exists => f.write_str("container with given ID already exists"),
            Self::NotExist => f.write_str("container does not exist"),
            Self::NotRunning => f.write_str("container not running"),
            Self::Text(text) => f.write_str(text),
            Self::Io { what, source } => {
                let errno = wharf_sys::Errno::from_io_error(source);
                let text = errno.map_or_else(|| source.to_string(), wharf_sys::errno_text);
                write!(f, "{what}: {text}")
            }
            Self::Command { prefix, source, .. } => write!(f, "{prefix}: {source}"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<lexopt::Error> for CliError {
    fn from(error: lexopt::Error) -> Self {
        Self::Text(format!("Incorrect Usage: {error}"))
    }
}

impl From<wharf_sys::Error> for CliError {
    fn from(error: wharf_sys::Error) -> Self {
        Self::Text(error.to_string())
    }
}

impl From<OciError> for CliError {
    fn from(error: OciError) -> Self {
        Self::Text(error.to_string())
    }
}

impl From<wharf_runtime::Error> for CliError {
    fn from(error: wharf_runtime::Error) -> Self {
        match error {
            wharf_runtime::Error::NotRunning => Self::NotRunning,
            other => Self::Text(other.to_string()),
        }
    }
}

/// A document as people like to read it.
pub(super) fn pretty(document: &impl serde::Serialize) -> CliResult<String> {
    serde_json::to_string_pretty(document).map_err(|error| CliError::text(error.to_string()))
}
