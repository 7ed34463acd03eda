//! What can go wrong in the engine, in the words Docker's clients know.

use std::path::PathBuf;
use wharf_spec::{ContainerId, ErrorKind, shim::Failure};

/// The result of an engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. The texts are Docker's where Docker has one
/// (source: moby `daemon/errors.go` and the files of the verbs).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container has this id, id prefix or name.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// No exec has this id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// No image has this id, id prefix or reference.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// No network has this id, id prefix or name.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// No volume has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// Something else that was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// An id prefix that several containers share.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousPrefix(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The request has a part that Docker answers with status 500, though the request is at fault.
    #[error("{0}")]
    Refused(String),
    /// A text of the request cannot be read.
    #[error("{0}")]
    Request(#[from] wharf_api::Error),
    /// The request contradicts the state of something.
    #[error("{0}")]
    Conflict(String),
    /// Allowed to nobody.
    #[error("{0}")]
    Forbidden(String),
    /// There is nothing to do: started or stopped already.
    #[error("container is already in the requested state")]
    NotModified,
    /// Docker can, Wharf cannot yet.
    #[error("{0} is not supported by this engine")]
    NotImplemented(&'static str),
    /// Credentials are missing or wrong.
    #[error("{0}")]
    Unauthorized(String),
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The wanted name.
        name: String,
        /// Who has it.
        owner: ContainerId,
    },
    /// Only a running container can do this.
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    /// Docker's prefix of a verb before the reason.
    #[error("{context}: {source}")]
    Context {
        /// What was being done, such as `cannot kill container: web`.
        context: String,
        /// Why it failed; its kind is this error's kind.
        source: Box<Error>,
    },
    /// A file of the engine could not be worked with.
    #[error("{step} {}: {}", path.display(), words(source))]
    Io {
        /// What was being done, as a verb.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A system call without a path failed.
    #[error("{step}: {}", words(source))]
    Os {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A record on disk is not what it should be.
    #[error("read record {}: {source}", path.display())]
    Record {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A value of ours could not be written as JSON.
    #[error("encode {what}: {source}")]
    Encode {
        /// What was being written.
        what: &'static str,
        /// Why it failed.
        source: serde_json::Error,
    },
    /// The shim said no.
    #[error("{0}")]
    Task(#[source] Failure),
    /// A build failed.
    #[error("{0}")]
    Build(#[source] wharf_build::Error),
    /// A build context that is not kept, or is in use.
    #[error("no such build context")]
    NoSuchContext,
    /// The main process could not be started.
    #[error("failed to create task for container: {message}")]
    Start {
        /// Docker's exit code for it: 126, 127 or 128.
        code: i32,
        /// Docker's text after the prefix.
        message: String,
    },
    /// An exec's process could not be started.
    #[error("{message}")]
    ExecStart {
        /// Docker's exit code for it: 126 or 127.
        code: i32,
        /// Docker's text.
        message: String,
    },
    /// The shim went away in the middle of a conversation.
    #[error("the shim of container {0} is gone")]
    ShimGone(ContainerId),
    /// The zygote cannot be started or does not answer.
    #[error("{step}: {}", words(source))]
    Zygote {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A message could not be encoded or decoded.
    #[error("{0}")]
    Protocol(String),
    /// The image and layer store.
    #[error("{0}")]
    Store(String, ErrorKind),
    /// The network layer.
    #[error("{0}")]
    Network(String, ErrorKind),
    /// The registry client.
    #[error("{0}")]
    Registry(String, ErrorKind),
    /// The container's log driver keeps nothing that could be read.
    #[error("configured logging driver does not support reading")]
    LogsNotReadable,
    /// Reading a container's log.
    #[error("{0}")]
    Log(String),
    /// A blocking task of ours panicked.
    #[error("internal error: a worker panicked")]
    Panicked,
    /// The daemon is going down.
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

impl Error {
    /// What this means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchExec(_)
            | Self::NoSuchImage(_)
            | Self::NoSuchNetwork(_)
            | Self::NoSuchVolume(_)
            | Self::NotFound(_) => ErrorKind::NotFound,
            Self::Invalid(_) | Self::AmbiguousPrefix(_) => ErrorKind::InvalidArgument,
            Self::Conflict(_) | Self::NameInUse { .. } | Self::NotRunning(_) | Self::NoSuchContext => {
                ErrorKind::Conflict
            }
            Self::Request(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::NotModified => ErrorKind::NotModified,
            Self::NotImplemented(_) | Self::LogsNotReadable => ErrorKind::NotImplemented,
            Self::Unauthorized(_) => ErrorKind::Unauthorized,
            Self::Context { source, .. } => source.kind(),
            // Docker answers 400 where the command itself is at fault, 500 where the set-up is
            // (source: moby `daemon/start.go`, translateContainerdStartErr).
            Self::Start { code, .. } | Self::ExecStart { code, .. } => match code {
                126 | 127 => ErrorKind::InvalidArgument,
                _ => ErrorKind::System,
            },
            Self::Task(failure) => match failure.kind {
                wharf_spec::shim::FailureKind::NotFound => ErrorKind::NotFound,
                wharf_spec::shim::FailureKind::Conflict => ErrorKind::Conflict,
                _ => ErrorKind::System,
            },
            Self::Store(_, kind) | Self::Network(_, kind) | Self::Registry(_, kind) => *kind,
            Self::ShuttingDown => ErrorKind::Unavailable,
            Self::Refused(_)
            | Self::Io { .. }
            | Self::Os { .. }
            | Self::Record { .. }
            | Self::Encode { .. }
            | Self::ShimGone(_)
            | Self::Zygote { .. }
            | Self::Protocol(_)
            | Self::Log(_)
            | Self::Panicked => ErrorKind::System,
        }
    }

    /// Exit status of the build's command that failed, or 0.
    pub fn code(&self) -> i64 {
        match self {
            Self::Build(error) => error.code(),
            _ => 0,
        }
    }

    /// The same error with Docker's prefix of the verb before it.
    pub(crate) fn context(self, context: impl Into<String>) -> Self {
        Self::Context { context: context.into(), source: Box::new(self) }
    }
}

/// The kernel's words as Go prints them: `no such file or directory`, which clients look for.
pub(crate) use wharf_sys::io_text as words;

/// Shorthand for the most frequent error of validation.
pub(crate) fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Invalid(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_kernel_read_as_in_go() {
        let source = std::io::Error::from_raw_os_error(2);
        let error = Error::Io { step: "open", path: "/x".into(), source };
        assert_eq!(error.to_string(), "open /x: no such file or directory");
        assert_eq!(words(&std::io::Error::other("own words")), "own words");
    }
}
