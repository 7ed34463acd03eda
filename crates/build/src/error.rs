//! Why a build fails, in Docker's words.

use wharf_spec::ErrorKind;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Error {
    /// The file is wrong.
    #[error("{0}")]
    Dockerfile(#[from] wharf_dockerfile::Error),
    /// It is none.
    #[error("failed to parse {name}: {source}")]
    Syntax { name: String, source: wharf_dockerfile::Error },
    /// It is the request that is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Something cannot be done as it is asked for.
    #[error("{0}")]
    Refused(String),
    /// With what was being done.
    #[error("{what}: {source}")]
    While { what: String, source: Box<Error> },
    /// A command did not succeed.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command { command: String, code: i64 },
    /// Nobody waits for the image any more.
    #[error("Build cancelled")]
    Cancelled,
    #[error("{0}")]
    Archive(#[from] wharf_archive::Error),
    #[error("{0}")]
    System(#[from] wharf_sys::Error),
    #[error("{step} {path}: {source}")]
    Io { step: &'static str, path: String, source: std::io::Error },
    /// Of the worker.
    #[error("{text}")]
    Worker { text: String, kind: ErrorKind },
}

impl Error {
    /// What it means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dockerfile(_) | Self::Syntax { .. } | Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::While { source, .. } => source.kind(),
            Self::Worker { kind, .. } => *kind,
            Self::Cancelled => ErrorKind::Cancelled,
            _ => ErrorKind::System,
        }
    }

    /// Exit status of the command that failed, or 0.
    pub fn code(&self) -> i64 {
        match self {
            Self::Command { code, .. } => *code,
            _ => 0,
        }
    }

    pub(crate) fn io(
        step: &'static str,
        path: impl std::fmt::Display,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_string();
        move |source| Self::Io { step, path, source }
    }

    /// With what was being done in front.
    pub(crate) fn context(self, what: impl Into<String>) -> Self {
        Self::While { what: what.into(), source: Box::new(self) }
    }
}

pub(crate) fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Refused(text.into()))
}
