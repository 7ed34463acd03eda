//! A start that failed, told as Docker tells it.

use crate::Error;
use rustix::io::Errno;
use wharf_spec::shim::{Failure, FailureKind};

/// A shim's failure in Docker's words, with Docker's exit code (source: moby `daemon/errors.go`,
/// setExitCodeFromError: the code follows from the text, which clients read too).
pub(super) fn start_error(failure: &Failure, program: &str) -> Error {
    let (code, message) = failure_text(failure, program, "OCI runtime create failed: ");
    Error::Start { code, message: format!("failed to create shim task: {message}") }
}

/// Exit code and text of a process that could not be started. `prefix` is what Docker puts before the words of
/// its runtime; what an external runtime says comes whole.
pub(crate) fn failure_text(failure: &Failure, program: &str, prefix: &str) -> (i32, String) {
    if failure.kind == FailureKind::ExternalRuntime {
        return by_text(format!("{}: unknown", in_gos_words(&failure.message)));
    }
    let (code, text) = own_failure_text(failure, program);
    (code, format!("{prefix}{text}"))
}

/// A runtime written in C has the C library's words for errors; clients look for Go's, which are in lower case
/// (source: docker/cli `cli/command/container/run.go`, toStatusError).
fn in_gos_words(message: &str) -> String {
    let words = ["No such file or directory", "Permission denied", "Is a directory"];
    words.iter().fold(message.to_owned(), |text, word| text.replace(word, &word.to_ascii_lowercase()))
}

fn own_failure_text(failure: &Failure, program: &str) -> (i32, String) {
    let is = |errno: Errno| failure.errno == errno.raw_os_error();
    let init = "unable to start container process: error during container init";
    match failure.kind {
        FailureKind::ProgramNotFound if program.contains('/') => {
            (127, format!("{init}: exec: {program:?}: stat {program}: no such file or directory: unknown"))
        }
        FailureKind::ProgramNotFound => {
            (127, format!("{init}: exec: {program:?}: executable file not found in $PATH: unknown"))
        }
        FailureKind::ProgramNotRunnable if is(Errno::ISDIR) => {
            (126, format!("{init}: exec: {program:?}: is a directory: unknown: permission denied"))
        }
        FailureKind::ProgramNotRunnable if is(Errno::ACCESS) => {
            (126, format!("{init}: exec: {program:?}: permission denied: unknown"))
        }
        FailureKind::ProgramNotRunnable => {
            let why = errno_words(failure);
            (126, format!("{init}: exec: {program:?}: {why}: unknown"))
        }
        _ => by_text(format!("{init}: {}: unknown", failure.message)),
    }
}

fn errno_words(failure: &Failure) -> String {
    match failure.errno {
        n if n > 0 => wharf_sys::errno_text(Errno::from_raw_os_error(n)),
        _ => failure.message.clone(),
    }
}

fn by_text(message: String) -> (i32, String) {
    let lower = message.to_lowercase();
    if lower.contains("permission denied") {
        (126, message)
    } else if lower.contains("is a directory") {
        (126, format!("{message}: permission denied"))
    } else if lower.contains("not a directory") {
        let hint = "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type";
        (127, format!("{message}: {hint}"))
    } else if lower.contains("executable file not found") || lower.contains("no such file or directory") {
        (127, message)
    } else {
        (128, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, errno: i32, message: &str) -> Failure {
        Failure { kind, step: "x".into(), errno, message: message.into() }
    }

    #[test]
    fn failures_are_told_as_docker_does() {
        let text = |failure: &Failure, program: &str| match start_error(failure, program) {
            Error::Start { code, message } => (code, message.split_once("exec: ").map(|(_, t)| t.to_owned())),
            other => panic!("{other}"),
        };
        let not_found = failure(FailureKind::ProgramNotFound, 2, "");
        let (code, message) = text(&not_found, "nosuchbinary");
        assert_eq!(code, 127);
        assert_eq!(message.unwrap(), "\"nosuchbinary\": executable file not found in $PATH: unknown");
        let (code, message) = text(&failure(FailureKind::ProgramNotRunnable, 13, ""), "/etc/passwd");
        assert_eq!((code, message.unwrap().as_str()), (126, "\"/etc/passwd\": permission denied: unknown"));
        let (code, message) = text(&failure(FailureKind::ProgramNotRunnable, 21, ""), "/etc");
        assert_eq!(
            (code, message.unwrap().as_str()),
            (126, "\"/etc\": is a directory: unknown: permission denied")
        );
        let not_a_dir = failure(FailureKind::Setup, 20, "mount /x: Not a directory");
        let code = |failure: &Failure| failure_text(failure, "sh", "").0;
        assert_eq!(code(&not_a_dir), 127);
        assert_eq!(code(&failure(FailureKind::Setup, 5, "mount: Input/output error")), 128);
        let nameless = failure(FailureKind::ProgramNotRunnable, 0, "no reason given");
        assert!(failure_text(&nameless, "sh", "").1.contains("exec: \"sh\": no reason given"));
        let theirs = failure(FailureKind::ExternalRuntime, 0, "OCI runtime exec failed: Permission denied");
        let wanted = (126, "OCI runtime exec failed: permission denied: unknown".to_owned());
        assert_eq!(failure_text(&theirs, "sh", "OCI runtime create failed: "), wanted);
    }
}
