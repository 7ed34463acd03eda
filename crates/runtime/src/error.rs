//! What can go wrong with a container, in runc's words where Docker's messages are made of them.

use wharf_spec::ErrorKind;
use wharf_spec::shim::{Failure, FailureKind};
use wharf_sys::{Errno, errno_text};

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of making, entering, signalling or removing a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error("{step}: {source}")]
    Step {
        /// What was being done.
        step: String,
        /// What was refused.
        source: wharf_sys::Error,
    },
    /// The plan asks for something that must not or cannot be.
    #[error("{step}: {problem}")]
    Refused {
        /// What was being done.
        step: String,
        /// Why not.
        problem: String,
    },
    /// The program cannot be run (source: Go `os/exec.LookPath`, which words runc's message).
    #[error("exec: {name:?}: {problem}")]
    Program {
        /// As asked for.
        name: String,
        /// Why not.
        problem: String,
        /// The error number behind it.
        errno: i32,
    },
    /// The working directory cannot be entered.
    #[error("chdir to cwd ({path:?}) set in config.json failed: {}", errno_text(*source))]
    WorkingDirectory {
        /// As asked for.
        path: String,
        /// Why not.
        source: Errno,
    },
    /// The new process reported this before it ended.
    #[error("{0}")]
    Init(Failure),
    /// The new process ended without a word.
    #[error("unable to start container process: container init exited with status {0} while it was set up")]
    InitDied(i32),
    /// A hook failed.
    #[error("error running {kind} hook #{index}: {problem}")]
    Hook {
        /// Such as `createRuntime`.
        kind: &'static str,
        /// Which of them, from 0.
        index: usize,
        /// What happened.
        problem: String,
    },
    /// The container's process has ended.
    #[error("container not running")]
    NotRunning,
    /// The filter cannot be compiled.
    #[error(transparent)]
    Seccomp(#[from] crate::seccomp::SeccompError),
}

impl Error {
    /// A refusal.
    pub(crate) fn refused(step: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Refused { step: step.into(), problem: problem.into() }
    }

    /// What the error means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Program { .. } | Error::WorkingDirectory { .. } | Error::Refused { .. } => {
                ErrorKind::InvalidArgument
            }
            Error::NotRunning => ErrorKind::Conflict,
            Error::Seccomp(error) => error.kind(),
            Error::Init(failure) => match failure.kind {
                FailureKind::ProgramNotFound
                | FailureKind::ProgramNotRunnable
                | FailureKind::WorkingDirectory => ErrorKind::InvalidArgument,
                FailureKind::NotFound => ErrorKind::NotFound,
                FailureKind::Conflict => ErrorKind::Conflict,
                FailureKind::Setup | FailureKind::ExternalRuntime => ErrorKind::System,
            },
            Error::Step { .. } | Error::InitDied(_) | Error::Hook { .. } => ErrorKind::System,
        }
    }

    fn failure_kind(&self) -> FailureKind {
        match self {
            Error::Program { errno, .. } if *errno == Errno::NOENT.raw_os_error() => {
                FailureKind::ProgramNotFound
            }
            Error::Program { .. } => FailureKind::ProgramNotRunnable,
            Error::WorkingDirectory { .. } => FailureKind::WorkingDirectory,
            Error::Init(failure) => failure.kind,
            Error::NotRunning => FailureKind::NotFound,
            Error::Step { .. }
            | Error::Refused { .. }
            | Error::InitDied(_)
            | Error::Hook { .. }
            | Error::Seccomp(_) => FailureKind::Setup,
        }
    }

    fn errno(&self) -> i32 {
        match self {
            Error::Step { source, .. } => source.errno().map_or(0, Errno::raw_os_error),
            Error::Program { errno, .. } => *errno,
            Error::WorkingDirectory { source, .. } => source.raw_os_error(),
            Error::Init(failure) => failure.errno,
            Error::Refused { .. }
            | Error::InitDied(_)
            | Error::Hook { .. }
            | Error::NotRunning
            | Error::Seccomp(_) => 0,
        }
    }

    fn step(&self) -> String {
        match self {
            Error::Step { step, .. } | Error::Refused { step, .. } => step.clone(),
            Error::Program { .. } => "exec".to_owned(),
            Error::WorkingDirectory { .. } => "chdir".to_owned(),
            Error::Init(failure) => failure.step.clone(),
            Error::InitDied(_) => "init".to_owned(),
            Error::Hook { kind, .. } => (*kind).to_owned(),
            Error::NotRunning => "state".to_owned(),
            Error::Seccomp(_) => "seccomp".to_owned(),
        }
    }

    /// As the new process reports it to its parent: with the words runc puts around errors of its init.
    pub(crate) fn into_init_failure(self) -> Failure {
        let prefix = match &self {
            Error::Program { .. } | Error::WorkingDirectory { .. } => "unable to start container process",
            _ => "unable to start container process: error during container init",
        };
        let mut failure = Failure::from(self);
        failure.message = format!("{prefix}: {}", failure.message);
        failure
    }
}

/// The message is what runc prints behind `runc create failed: ` or `exec failed: `; the engine adds Docker's
/// words in front.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Init(failure) => failure,
            other => Failure {
                kind: other.failure_kind(),
                step: other.step(),
                errno: other.errno(),
                message: other.to_string(),
            },
        }
    }
}

/// A step that a test may let fail.
pub(crate) fn point(name: &'static str) -> Result<()> {
    let failed = |_| wharf_sys::Error::call("write", name, Errno::NOSPC);
    wharf_sys::fault::point(name).map_err(failed).step(|| name)
}

/// Names the step on an error of the kernel.
pub(crate) trait Step<T> {
    /// `step` is what was being done, in runc's words where it has some.
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Step<T> for wharf_sys::Result<T> {
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Step { step: step().into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_runc() {
        let missing = Error::Program {
            name: "nosuch".into(),
            problem: "executable file not found in $PATH".into(),
            errno: Errno::NOENT.raw_os_error(),
        };
        let failure = missing.into_init_failure();
        assert_eq!(failure.kind, FailureKind::ProgramNotFound);
        let expected =
            "unable to start container process: exec: \"nosuch\": executable file not found in $PATH";
        assert_eq!(failure.message, expected);
        let cwd = Error::WorkingDirectory { path: "/x".into(), source: Errno::NOENT };
        let failure = Failure::from(cwd);
        assert_eq!(failure.kind, FailureKind::WorkingDirectory);
        assert!(
            failure
                .message
                .ends_with("chdir to cwd (\"/x\") set in config.json failed: no such file or directory")
        );
    }
}
