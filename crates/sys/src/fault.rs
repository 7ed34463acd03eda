//! Faults that a test asks for: an error, or a death, at a step of the work.
//!
//! A step names itself with [`point`]. In a release build that is nothing. In a debug build, and only when the
//! environment names a directory in `WHARF_FAULT_DIR`, the file `armed` there says what is to happen:
//!
//! ```text
//! trace                     the names of points that are passed are appended to the file `passed`, with the word
//!                           `death` behind those that cannot fail
//! <name> <n> enospc         the n-th pass of that point since the file was written fails: no space left
//! <name> <n> kill           the process dies there, as of SIGKILL
//! ```
//! A fault that struck appends the process's id to the file `fired`: a test whose fault never struck has tested
//! nothing. Passes are counted by a byte each in the file `count`, over all processes: daemon, zygote, shims, and
//! what they fork. Whoever writes the order makes these files (`wharf_testkit::Faults`).
//!
//! The directory is held open from the first point on, so that a process that has left the host's mounts behind
//! passes points as well.

use rustix::fd::BorrowedFd;
use std::{ffi::OsString, io};

/// The variable that names the directory of orders.
const VARIABLE: &str = "WHARF_FAULT_DIR";

/// What a process started with an empty environment needs to have the same faults; `None` in a release build.
pub fn environment() -> Option<(&'static str, OsString)> {
    if cfg!(debug_assertions) { std::env::var_os(VARIABLE).map(|value| (VARIABLE, value)) } else { None }
}

/// A step of work that a test may let fail. The name is `<noun>.<step>`.
///
/// # Errors
/// Only when a test asked for one.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// A step of work that a test may let fail. The name is `<noun>.<step>`.
///
/// # Errors
/// Only when a test asked for one.
#[cfg(debug_assertions)]
pub fn point(name: &'static str) -> io::Result<()> {
    injected::point(name, "")
}

/// A step behind which nothing can fail any more, but the process can still die.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn death(_name: &'static str) {}

/// A step behind which nothing can fail any more, but the process can still die.
#[cfg(debug_assertions)]
pub fn death(name: &'static str) {
    // An error that is asked for here has no effect: there is none to be had.
    let _ = injected::point(name, " death");
}

/// What a process that closes its descriptors keeps while there is an order, so that it passes points afterwards.
pub(crate) fn descriptor() -> Option<BorrowedFd<'static>> {
    #[cfg(debug_assertions)]
    return injected::descriptor();
    #[cfg(not(debug_assertions))]
    None
}

#[cfg(debug_assertions)]
mod injected {
    use super::VARIABLE;
    use rustix::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        fs::{Mode, OFlags, SeekFrom},
    };
    use std::{
        fs::File,
        io::{self, Read, Write},
        sync::LazyLock,
    };

    static DIRECTORY: LazyLock<Option<OwnedFd>> = LazyLock::new(|| {
        let path = std::env::var_os(VARIABLE)?;
        rustix::fs::open(path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
    });

    pub(super) fn descriptor() -> Option<BorrowedFd<'static>> {
        let directory = DIRECTORY.as_ref()?.as_fd();
        open(directory, "armed", OFlags::RDONLY).is_ok().then_some(directory)
    }

    pub(super) fn point(name: &'static str, note: &str) -> io::Result<()> {
        match &*DIRECTORY {
            None => Ok(()),
            Some(directory) => pass(directory.as_fd(), name, note),
        }
    }

    fn pass(directory: BorrowedFd<'_>, name: &'static str, note: &str) -> io::Result<()> {
        let Ok(mut order) = open(directory, "armed", OFlags::RDONLY) else { return Ok(()) };
        let mut text = String::new();
        order.read_to_string(&mut text)?;
        let mut words = text.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("trace"), None, None) => append(directory, "passed", &format!("{name}{note}\n")).map(drop),
            (Some(wanted), Some(turn), Some(what)) if wanted == name => {
                let pass = append(directory, "count", ".")?;
                if turn.parse() != Ok(pass) {
                    return Ok(());
                }
                append(directory, "fired", &format!("{}\n", std::process::id()))?;
                strike(what)
            }
            _ => Ok(()),
        }
    }

    fn open(directory: BorrowedFd<'_>, name: &str, flags: OFlags) -> io::Result<File> {
        let fd = rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())?;
        Ok(File::from(fd))
    }

    /// Returns the size that the file has with this text at its end.
    fn append(directory: BorrowedFd<'_>, name: &str, text: &str) -> io::Result<u64> {
        let mut file = open(directory, name, OFlags::WRONLY | OFlags::APPEND)?;
        file.write_all(text.as_bytes())?;
        Ok(rustix::fs::seek(&file, SeekFrom::Current(0))?)
    }

    fn strike(what: &str) -> io::Result<()> {
        match what {
            "enospc" => Err(rustix::io::Errno::NOSPC.into()),
            "kill" => {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
                // The first process of a pid namespace is not killed from inside.
                if std::process::id() == 1 {
                    crate::process::exit(137);
                }
                // Elsewhere the signal ends every thread before it can do anything more.
                loop {
                    std::thread::park();
                }
            }
            other => Err(io::Error::other(format!("unknown fault {other:?}"))),
        }
    }
}
