//! What the event loop waits for, by name instead of by number.

use rustix::fd::AsFd;
use std::time::Duration;
use wharf_logs::Stream;
use wharf_sys::Result;
use wharf_sys::event::{Epoll, EventFlags};

/// A thing that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// `shim.sock`.
    Listener,
    /// SIGCHLD.
    Signals,
    /// The kernel's word that it killed for memory.
    OutOfMemory,
    /// The log's writer takes more.
    Log,
    /// A daemon's connection.
    Control(u32),
    /// A process's end.
    Exit(u32),
    /// A process's output.
    Output(u32, Stream),
    /// A process's input.
    Input(u32),
    /// An attached client.
    Client(u32),
}

impl Token {
    fn to_number(self) -> u64 {
        let (kind, id): (u64, u32) = match self {
            Token::Listener => (0, 0),
            Token::Signals => (1, 0),
            Token::OutOfMemory => (2, 0),
            Token::Control(id) => (3, id),
            Token::Exit(id) => (4, id),
            Token::Output(id, Stream::Stdout) => (5, id),
            Token::Output(id, Stream::Stderr) => (6, id),
            Token::Input(id) => (7, id),
            Token::Client(id) => (8, id),
            Token::Log => (9, 0),
        };
        kind << 32 | u64::from(id)
    }

    fn from_number(number: u64) -> Option<Token> {
        let id = number as u32;
        Some(match number >> 32 {
            0 => Token::Listener,
            1 => Token::Signals,
            2 => Token::OutOfMemory,
            3 => Token::Control(id),
            4 => Token::Exit(id),
            5 => Token::Output(id, Stream::Stdout),
            6 => Token::Output(id, Stream::Stderr),
            7 => Token::Input(id),
            8 => Token::Client(id),
            9 => Token::Log,
            _ => return None,
        })
    }
}

/// Waits.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: Epoll,
}

impl Poller {
    pub(super) fn new() -> Result<Poller> {
        Ok(Poller { epoll: Epoll::new()? })
    }

    pub(super) fn add(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> Result<()> {
        self.epoll.add(fd, token.to_number(), flags)
    }

    pub(super) fn modify(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> Result<()> {
        self.epoll.modify(fd, token.to_number(), flags)
    }

    /// Before closing: the daemon may hold a copy of the same socket, which keeps it in the epoll set.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // Not being in the set is what is wanted.
        let _ = self.epoll.remove(fd);
    }

    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<Vec<(Token, EventFlags)>> {
        let ready = self.epoll.wait(timeout)?;
        Ok(ready.into_iter().filter_map(|r| Some((Token::from_number(r.token)?, r.flags))).collect())
    }
}

/// Whether a descriptor should be looked at for input: data, or an end that reading will show.
pub(super) fn is_readable(flags: EventFlags) -> bool {
    flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let tokens = [
            Token::Listener,
            Token::Signals,
            Token::OutOfMemory,
            Token::Control(7),
            Token::Exit(u32::MAX),
            Token::Output(1, Stream::Stdout),
            Token::Output(1, Stream::Stderr),
            Token::Input(3),
            Token::Client(9),
        ];
        for token in tokens {
            assert_eq!(Token::from_number(token.to_number()), Some(token));
        }
        assert_eq!(Token::from_number(99 << 32), None);
    }
}
