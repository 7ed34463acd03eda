//! A netlink socket that can be shared, and the errors of what is asked on it.

use super::Message;
use crate::error::{Error, Result};
use std::sync::{Mutex, PoisonError};
use wharf_sys::netlink::{Family, Socket};

/// A socket in the network namespace in which it was opened; it speaks for that namespace from any thread.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Mutex<Socket>,
}

impl Channel {
    /// A socket for links, addresses and routes of the calling thread's namespace.
    pub(crate) fn route() -> Result<Self> {
        Self::open(Family::Route)
    }

    /// A socket for nftables and connection tracking of the calling thread's namespace.
    pub(crate) fn netfilter() -> Result<Self> {
        Self::open(Family::Netfilter)
    }

    fn open(family: Family) -> Result<Self> {
        let socket = Socket::open(family).map_err(Error::system("open netlink socket"))?;
        Ok(Self { socket: Mutex::new(socket) })
    }

    /// By which the kernel names this socket when it tells others of what was changed by it.
    pub(crate) fn port(&self) -> u32 {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).port()
    }

    /// Sends a request and returns the kernel's answers.
    pub(crate) fn ask(&self, request: &Message) -> wharf_sys::Result<Vec<Message>> {
        // A poisoned lock is a panic between two requests: the socket itself is in order.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).request(request)
    }

    /// Sends requests that change something, one after the other, up to the first that is refused.
    pub(crate) fn run(&self, requests: &[Message], operation: &'static str, subject: &str) -> Result<()> {
        let refused = |source| Error::Netlink { operation, subject: subject.to_owned(), source };
        requests.iter().try_for_each(|request| self.ask(request).map(drop).map_err(refused))
    }

    /// Sends an nftables transaction, its begin and end included.
    pub(crate) fn transact(&self, batch: &[Message]) -> wharf_sys::Result<()> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).batch(batch)
    }
}
