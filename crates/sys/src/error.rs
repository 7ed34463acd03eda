//! What went wrong in a system call: its name, what it was about, and the error number.

use rustix::io::Errno;
use wharf_spec::ErrorKind;

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the kernel or of what it gave us to read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{call} {subject}: {}", errno_text(*source))]
    Call {
        /// The call's name.
        call: &'static str,
        /// What it was applied to.
        subject: String,
        /// The error number.
        source: Errno,
    },
    /// Something was read, or asked for, that makes no sense.
    #[error("{subject}: {problem}")]
    Malformed {
        /// What was looked at.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// A failed call.
    pub fn call(call: &'static str, subject: impl Into<String>, source: Errno) -> Error {
        Error::Call { call, subject: subject.into(), source }
    }

    /// Nonsense found in or asked of `subject`.
    pub fn malformed(subject: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Malformed { subject: subject.into(), problem: problem.into() }
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Call { source, .. } => Some(*source),
            Error::Malformed { .. } => None,
        }
    }

    /// Whether the kernel refused with this error number.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno() == Some(errno)
    }

    /// What the error means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Call { source, .. } => match *source {
                Errno::NOENT => ErrorKind::NotFound,
                Errno::EXIST | Errno::BUSY => ErrorKind::Conflict,
                Errno::PERM | Errno::ACCESS => ErrorKind::Forbidden,
                _ => ErrorKind::System,
            },
            Error::Malformed { .. } => ErrorKind::System,
        }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        match error.errno() {
            Some(errno) => std::io::Error::new(std::io::Error::from(errno).kind(), error),
            None => std::io::Error::new(std::io::ErrorKind::InvalidData, error),
        }
    }
}

/// Names the call and its subject on a bare error number.
pub trait Context<T> {
    /// Wraps the error: `call` is the system call, `subject` what it was applied to.
    fn on<S: Into<String>>(self, call: &'static str, subject: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn on<S: Into<String>>(self, call: &'static str, subject: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::call(call, subject(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn on<S: Into<String>>(self, call: &'static str, subject: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => Error::call(call, subject(), errno),
            None => Error::malformed(subject(), error.to_string()),
        })
    }
}

/// An error number in words as Go programs print it, such as `no such file or directory` (source: Go,
/// `syscall/zerrors_linux_amd64.go`): Docker's messages are made of these.
pub fn errno_text(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect::<String>()
        }
        _ => text.to_owned(),
    }
}

/// What went wrong with a file, in Go's words where the kernel said it.
pub fn io_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) if number > 0 => errno_text(Errno::from_raw_os_error(number)),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_go() {
        assert_eq!(errno_text(Errno::NOENT), "no such file or directory");
        assert_eq!(errno_text(Errno::NOEXEC), "exec format error");
        assert_eq!(errno_text(Errno::ISDIR), "is a directory");
        assert_eq!(io_text(&Errno::NOSPC.into()), "no space left on device");
        assert_eq!(io_text(&std::io::Error::other("own words")), "own words");
        assert_eq!(errno_text(Errno::from_raw_os_error(libc::ENOTSUP)), "operation not supported");
    }

    #[test]
    fn names_call_and_subject() {
        let error = Err::<(), _>(Errno::PERM).on("mount", || "/proc").unwrap_err();
        assert_eq!(error.to_string(), "mount /proc: operation not permitted");
        assert_eq!(error.kind(), ErrorKind::Forbidden);
    }
}
