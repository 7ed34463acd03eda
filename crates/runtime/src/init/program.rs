//! Finding the program, the filter, and becoming it.

use super::ProcHandle;
use super::environment::Environment;
use crate::error::{Error, Result, Step};
use crate::seccomp::Program;
use crate::sync::ChildEnd;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags};
use std::convert::Infallible;
use std::ffi::CString;
use std::io::Write;
use std::path::{Path, PathBuf};
use wharf_sys::{Context, Errno, errno_text, path, process, seccomp};

/// The place of the `--init` program, as Docker has it.
pub(super) const INIT: &str = "/sbin/docker-init";

/// Everything execve needs.
#[derive(Debug)]
pub(super) struct Prepared {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Prepared {
    /// Its environment as text.
    pub(super) fn environment(&self) -> Vec<String> {
        self.env.iter().map(|pair| pair.to_string_lossy().into_owned()).collect()
    }
}

/// Looks the program up, as the user it runs as.
pub(super) fn find(args: &[String], env: Environment, under_init: bool) -> Result<Prepared> {
    let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
    if under_init {
        all.splice(0..0, [INIT, "--"]);
    }
    let name = all.first().copied().unwrap_or_default();
    let path = look_up(name, &env.path)?;
    let nul = |_| Error::refused("exec", "contains nul byte (\\x00)");
    let path = CString::new(path.into_os_string().into_encoded_bytes()).map_err(nul)?;
    let args = all.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(nul)?;
    Ok(Prepared { path, args, env: env.all })
}

/// Finds a program in the words of Go's `exec.LookPath`: a name with a slash is a path, any other is looked
/// for in PATH.
fn look_up(name: &str, search: &str) -> Result<PathBuf> {
    let problem = |problem: String, errno: Errno| Error::Program {
        name: name.to_owned(),
        problem,
        errno: errno.raw_os_error(),
    };
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(Refusal::Stat(errno)) => Err(problem(format!("stat {name}: {}", errno_text(errno)), errno)),
            Err(Refusal::Use(errno)) => Err(problem(errno_text(errno), errno)),
        };
    }
    let missing = || problem("executable file not found in $PATH".to_owned(), Errno::NOENT);
    if name.is_empty() || search.is_empty() {
        return Err(missing());
    }
    for dir in search.split(':') {
        let path = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        if executable(&path).is_err() {
            continue;
        }
        if path.is_absolute() {
            return Ok(path);
        }
        let text = "cannot run executable found relative to current directory";
        return Err(problem(text.to_owned(), Errno::NOENT));
    }
    Err(missing())
}

/// Why a file is no program.
#[derive(Debug)]
enum Refusal {
    /// It cannot be looked at.
    Stat(Errno),
    /// It is there.
    Use(Errno),
}

fn executable(path: &Path) -> Result<(), Refusal> {
    let stat = rustix::fs::stat(path).map_err(Refusal::Stat)?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Refusal::Use(Errno::ISDIR));
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        // A filter may not know the call: the mode bits must do.
        Err(Errno::NOSYS | Errno::PERM) if stat.st_mode & 0o111 != 0 => Ok(()),
        Err(Errno::NOSYS | Errno::PERM) => Err(Refusal::Use(Errno::ACCESS)),
        Err(errno) => Err(Refusal::Use(errno)),
    }
}

/// Installs the filter, if there is one. One that asks somebody about calls has the parent hand its descriptor on.
pub(super) fn install_filter(program: Option<&Program>, sync: &ChildEnd) -> Result<()> {
    let Some(program) = program else { return Ok(()) };
    let step = || "unable to init seccomp";
    if program.listener.is_none() {
        return seccomp::install(&program.filter, program.flags).step(step);
    }
    let listener = seccomp::install_with_listener(&program.filter, program.flags).step(step)?;
    sync.await_listener(listener.as_raw_fd())
}

/// Signals end the process while it waits at the gate. The first process of a pid namespace is deaf to those that it
/// does not handle, and whoever sends one then means a container that has not begun (source: runc's init, whose Go
/// runtime ends by them). To be called before anybody hears that the process waits.
pub(super) fn heed_signals() {
    process::exit_on_termination_signals();
}

/// Waits until somebody opens the gate for reading, and tells him that it was passed.
pub(super) fn wait_at_gate(proc: &ProcHandle, gate: BorrowedFd<'_>) -> Result<()> {
    let fifo = path::reopen_through(proc, gate, OFlags::WRONLY).step(|| "reopen exec fifo")?;
    rustix::io::write(&fifo, b"0").map(drop).on("write", || "exec fifo").step(|| "write exec fifo")
}

/// Becomes the program. When the kernel refuses it now, the container has started and its output says why, as
/// runc has it: a wrong format or a missing interpreter.
pub(super) fn execute(prepared: &Prepared) -> Result<Infallible> {
    let errno = process::execve(&prepared.path, &prepared.args, &prepared.env);
    let text = format!("exec {}: {}\n", prepared.path.to_string_lossy(), errno_text(errno));
    // Nobody is left to tell when this fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
    process::exit(super::FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, search: &str) -> String {
        look_up(name, search).unwrap_err().to_string()
    }

    #[test]
    fn words_of_go() {
        assert_eq!(look_up("sh", "/nonexistent:/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(look_up("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        assert_eq!(refusal("nosuch", "/bin"), "exec: \"nosuch\": executable file not found in $PATH");
        assert_eq!(refusal("sh", ""), "exec: \"sh\": executable file not found in $PATH");
        assert_eq!(refusal("/etc", "/bin"), "exec: \"/etc\": is a directory");
        assert_eq!(refusal("/etc/passwd", "/bin"), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(refusal("/nosuch", "/bin"), "exec: \"/nosuch\": stat /nosuch: no such file or directory");
        assert_eq!(refusal("passwd", "/etc"), "exec: \"passwd\": executable file not found in $PATH");
    }
}
