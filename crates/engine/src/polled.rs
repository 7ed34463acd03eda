//! Descriptors that tokio has no type for, watched by its reactor.

use std::{io, os::fd::OwnedFd};
use tokio::io::{Interest, unix::AsyncFd};

/// Watches a descriptor, which must be non-blocking for reading and writing.
///
/// # Errors
/// When epoll does not take it.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[allow(deprecated, reason = "unsound only for types other than OwnedFd, whose number can change")]
    AsyncFd::with_interest(fd, interest)
}
