//! What ends a command: the words on standard error and the exit status.

use std::io;

/// The result of everything here.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A flag is wrong (exit status 125). `main` adds the usage.
    #[error("{0}")]
    Flag(String),
    /// The daemon refuses.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// Nobody listens at the daemon's address.
    #[error("Cannot connect to the Docker daemon at {0}. Is the docker daemon running?")]
    NoDaemon(String),
    /// The connection to the daemon failed otherwise.
    #[error("error during connect: {0}")]
    Connect(String),
    /// We may not use the daemon's socket.
    #[error("permission denied while trying to connect to the docker API at {0}")]
    Permission(String),
    /// A status to end with, after these words if there are any.
    #[error("{text}")]
    Status {
        /// Exit status.
        code: i32,
        /// Standard error, without a line when empty.
        text: String,
    },
    /// Anything else that only has words.
    #[error("{0}")]
    Text(String),
    /// Input or output failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// A wrong flag.
    pub(crate) fn flag(text: impl Into<String>) -> Self {
        Self::Flag(text.into())
    }

    /// Words and status 1.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A status without words: what ran in the container ended with it.
    pub(crate) const fn exit(code: i32) -> Self {
        Self::Status { code, text: String::new() }
    }

    /// `map_err` for input and output.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether the daemon says that it does not know the thing.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Daemon { status: 404, .. })
    }

    /// The exit status.
    pub(crate) const fn code(&self) -> i32 {
        match self {
            Self::Flag(_) => 125,
            Self::Status { code, .. } => *code,
            _ => 1,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Text(error.to_string())
    }
}

/// The errors of several objects as one: each in its line, status 1 (Go: `errors.Join`).
pub(crate) fn join(errors: Vec<Error>) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Err(Error::Text(lines.join("\n")))
}
