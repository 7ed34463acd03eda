//! The terminal: its size, raw mode, the keys that detach.

use crate::error::{Error, Result};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::{cell::RefCell, os::fd::AsFd};

/// Rows and columns of standard output, 0 when it is no terminal.
pub(crate) fn size() -> (u16, u16) {
    tcgetwinsize(std::io::stdout()).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// The width of help texts: the terminal's at standard input, else 80.
pub(crate) fn help_width() -> usize {
    match tcgetwinsize(std::io::stdin()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => 80,
    }
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    isatty(std::io::stdin())
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    isatty(std::io::stdout())
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    isatty(std::io::stderr())
}

/// A terminal for the container's terminal must be one (docker/cli: `CheckTty`).
pub(crate) fn check_input(attach_stdin: bool, tty: bool) -> Result<()> {
    if attach_stdin && tty && !stdin_is_terminal() {
        return Err(Error::text("the input device is not a TTY"));
    }
    Ok(())
}

/// Raw mode of standard input and output, ended when dropped.
pub(crate) struct Raw {
    before: RefCell<Vec<(Place, Termios)>>,
}

#[derive(Clone, Copy)]
enum Place {
    Stdin,
    Stdout,
}

impl Raw {
    /// Every key goes through as it is: no echo, no lines, no signals. What is no terminal stays as it is.
    pub(crate) fn enter() -> Self {
        let mut before = Vec::new();
        if let Ok(old) = tcgetattr(std::io::stdin()) {
            let mut raw = old.clone();
            raw.make_raw();
            if tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).is_ok() {
                before.push((Place::Stdin, old));
            }
        }
        if let Ok(old) = tcgetattr(std::io::stdout()) {
            before.push((Place::Stdout, old));
        }
        Self { before: RefCell::new(before) }
    }

    /// As it was before.
    pub(crate) fn leave(&self) {
        for (place, old) in self.before.borrow_mut().drain(..) {
            let set = |fd: &dyn AsFd| tcsetattr(fd.as_fd(), OptionalActions::Now, &old);
            // A terminal that is gone needs no restoring.
            let _ = match place {
                Place::Stdin => set(&std::io::stdin()),
                Place::Stdout => set(&std::io::stdout()),
            };
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Reads `ctrl-p,ctrl-q` (source: moby/term `ascii.go`).
///
/// # Errors
/// In Docker's words.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>> {
    let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
    let mut keys = Vec::new();
    for key in text.split(',') {
        let byte = match (key.as_bytes(), key.to_lowercase().strip_prefix("ctrl-")) {
            ([one], _) => Some(*one),
            (_, Some("@")) => Some(0),
            (_, Some("[")) => Some(27),
            (_, Some("\\")) => Some(28),
            (_, Some("]")) => Some(29),
            (_, Some("^")) => Some(30),
            (_, Some("_")) => Some(31),
            (_, Some(letter)) if letter.len() == 1 && letter.as_bytes()[0].is_ascii_lowercase() => {
                Some(letter.as_bytes()[0] - b'a' + 1)
            }
            _ if key.eq_ignore_ascii_case("del") => Some(127),
            _ => None,
        };
        keys.push(byte.ok_or_else(|| {
            Error::text(format!("invalid detach keys ({text}): Unknown character: '{}'", key.to_lowercase()))
        })?);
    }
    Ok(keys)
}

/// Looks for the detach keys in what is typed.
pub(crate) struct DetachWatch {
    keys: Vec<u8>,
    seen: usize,
}

/// What of the typed bytes is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) detach: bool,
}

impl DetachWatch {
    pub(crate) const fn new(keys: Vec<u8>) -> Self {
        Self { keys, seen: 0 }
    }

    /// Takes what was typed. Keys that may be the beginning of the sequence are held back until it is clear.
    pub(crate) fn take(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len());
        for &key in typed {
            if self.keys.get(self.seen) == Some(&key) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return Typed { bytes, detach: true };
                }
                continue;
            }
            bytes.extend_from_slice(&self.keys[..self.seen]);
            self.seen = 0;
            if self.keys.first() == Some(&key) && self.keys.len() > 1 {
                self.seen = 1;
            } else {
                bytes.push(key);
            }
        }
        Typed { bytes, detach: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_does() {
        assert_eq!(detach_keys("").unwrap(), [16, 17]);
        assert_eq!(detach_keys("ctrl-a,x,ctrl-],DEL").unwrap(), [1, b'x', 29, 127]);
        assert!(detach_keys("shift-a").unwrap_err().to_string().starts_with("invalid detach keys (shift-a)"));
        assert!(detach_keys("a,").is_err());
    }

    #[test]
    fn the_sequence_is_held_back_until_it_is_clear() {
        let mut watch = DetachWatch::new(vec![16, 17]);
        let sent = |bytes: &[u8], detach| Typed { bytes: bytes.to_vec(), detach };
        assert_eq!(watch.take(b"ab\x10"), sent(b"ab", false));
        assert_eq!(watch.take(b"c"), sent(b"\x10c", false));
        assert_eq!(watch.take(b"\x10\x10"), sent(b"\x10", false));
        assert_eq!(watch.take(b"\x11xyz"), sent(b"", true));
    }
}
