//! Faults that a test asks for: an error, or a death, at a step of the work.
//!
//! A step names itself with [`point`]. In a release build that is nothing. In a debug build, and only when the
//! environment names a directory in `WHARF_FAULT_DIR`, the file `armed` there says what is to happen:
//!
//! ```text
//! trace                     the names of points that are passed are appended to the file `passed`
//! <name> <n> enospc         the n-th pass of that point since the file was written fails: no space left
//! <name> <n> kill           the process dies there, as of SIGKILL
//! ```
//! A fault that struck leaves the file `fired`: a test whose fault never struck has tested nothing.

use std::io;

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
    injected::point(name)
}

#[cfg(debug_assertions)]
mod injected {
    use std::{
        collections::HashMap,
        fs,
        io::{self, Write},
        path::{Path, PathBuf},
        sync::{LazyLock, Mutex, PoisonError},
    };

    static DIRECTORY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("WHARF_FAULT_DIR").map(PathBuf::from));

    /// The order being followed, and how often each point was passed since it was given.
    static STATE: LazyLock<Mutex<(String, HashMap<&'static str, u32>)>> = LazyLock::new(Mutex::default);

    pub(super) fn point(name: &'static str) -> io::Result<()> {
        match &*DIRECTORY {
            None => Ok(()),
            Some(directory) => pass(directory, name),
        }
    }

    fn pass(directory: &Path, name: &'static str) -> io::Result<()> {
        // Held while the file is read: two threads cannot count one pass each as the same.
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        let order = fs::read_to_string(directory.join("armed")).unwrap_or_default();
        if state.0 != order {
            *state = (order, HashMap::new());
        }
        let passes = state.1.entry(name).or_default();
        *passes += 1;
        let passes = *passes;
        let mut words = state.0.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("trace"), None, None) => note(&directory.join("passed"), name),
            (Some(wanted), Some(turn), Some(what)) if wanted == name && turn.parse() == Ok(passes) => {
                note(&directory.join("fired"), name)?;
                strike(what)
            }
            _ => Ok(()),
        }
    }

    fn note(path: &Path, name: &str) -> io::Result<()> {
        let mut file = fs::File::options().append(true).create(true).open(path)?;
        file.write_all(format!("{name}\n").as_bytes())
    }

    fn strike(what: &str) -> io::Result<()> {
        match what {
            "enospc" => Err(rustix::io::Errno::NOSPC.into()),
            "kill" => {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
                // The signal ends every thread before it can do anything more.
                loop {
                    std::thread::park();
                }
            }
            other => Err(io::Error::other(format!("unknown fault {other:?}"))),
        }
    }
}
