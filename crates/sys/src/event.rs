//! Waiting for things: epoll, eventfd, signalfd, inotify, poll.

use crate::raw::{check, own};
use crate::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::mem::MaybeUninit;
use std::time::Duration;

pub use rustix::event::epoll::EventFlags;

/// A set of descriptors that are waited for, each under a token of the caller's choice.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

/// Something happened to a descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The token it was added under.
    pub token: u64,
    /// What happened.
    pub flags: EventFlags,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Result<Epoll> {
        Ok(Epoll { fd: epoll::create(epoll::CreateFlags::CLOEXEC).on("epoll_create", || "epoll")? })
    }

    /// Waits for `flags` on a descriptor from now on. EPERM: regular files are always ready.
    pub fn add(&self, fd: impl AsFd, token: u64, flags: EventFlags) -> Result<()> {
        epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), flags).on("epoll_ctl", || "add")
    }

    /// Changes what is waited for.
    pub fn modify(&self, fd: impl AsFd, token: u64, flags: EventFlags) -> Result<()> {
        epoll::modify(&self.fd, fd, epoll::EventData::new_u64(token), flags).on("epoll_ctl", || "modify")
    }

    /// Waits no longer for a descriptor. Do it before closing one that has copies elsewhere.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        epoll::delete(&self.fd, fd).on("epoll_ctl", || "remove")
    }

    /// Waits until something happens or the time is over (`None`: for ever); a signal ends it early with
    /// nothing.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Vec<Ready>> {
        let timeout = timeout.map(timespec);
        let mut space = [MaybeUninit::uninit(); 64];
        match epoll::wait(&self.fd, &mut space, timeout.as_ref()) {
            Ok((events, _)) => Ok(events.iter().map(ready).collect()),
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(errno) => Err(crate::Error::call("epoll_wait", "epoll", errno)),
        }
    }
}

fn ready(event: &epoll::Event) -> Ready {
    // The kernel's struct is packed: fields are copied, not borrowed.
    let (token, flags) = (event.data.u64(), event.flags);
    Ready { token, flags }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

/// Waits until one descriptor is readable or closed by its peer; `false` when the time is over.
pub fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> Result<bool> {
    let timeout = timeout.map(timespec);
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout.as_ref()))
        .map(|count| count > 0)
        .on("poll", || "descriptor")
}

/// As [`wait_readable`], until something can be written.
pub fn wait_writable(fd: impl AsFd, timeout: Option<Duration>) -> Result<bool> {
    let timeout = timeout.map(timespec);
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout.as_ref()))
        .map(|count| count > 0)
        .on("poll", || "descriptor")
}

/// A counter that can be waited for (eventfd(2)), non-blocking.
pub fn eventfd() -> Result<OwnedFd> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).on("eventfd", || "eventfd")
}

/// Adds to an eventfd.
pub fn eventfd_signal(fd: impl AsFd) -> Result<()> {
    rustix::io::write(fd, &1u64.to_ne_bytes()).map(drop).on("write", || "eventfd")
}

/// Takes what an eventfd has counted; 0 when nothing.
pub fn eventfd_take(fd: impl AsFd) -> Result<u64> {
    let mut count = [0u8; 8];
    match rustix::io::read(fd, &mut count) {
        Ok(_) => Ok(u64::from_ne_bytes(count)),
        Err(Errno::AGAIN) => Ok(0),
        Err(errno) => Err(crate::Error::call("read", "eventfd", errno)),
    }
}

/// A descriptor that delivers these signals (signalfd(2), non-blocking); block them first with
/// [`crate::process::block_signals`].
pub fn signalfd(signals: &[i32]) -> Result<OwnedFd> {
    let mask: u64 = signals.iter().fold(0, |mask, signal| mask | 1 << (signal - 1));
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask is live and of the size given.
    let value = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &mask, size_of::<u64>(), flags) };
    check(value).and_then(own).on("signalfd", || format!("{signals:?}"))
}

/// A signal taken from a signalfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// Who sent it; 0 for the kernel and for senders of other pid namespaces.
    pub sender: i32,
}

/// The next signal of a signalfd; `None` when there is none now.
pub fn signalfd_next(fd: impl AsFd) -> Result<Option<Signal>> {
    // struct signalfd_siginfo: 128 bytes, ssi_signo at 0 and ssi_pid at 12.
    let mut info = [0u8; 128];
    match rustix::io::retry_on_intr(|| rustix::io::read(fd.as_fd(), &mut info)) {
        Ok(128) => {
            let word = |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
            Ok(Some(Signal { number: word(0), sender: word(12) }))
        }
        Ok(_) | Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(crate::Error::call("read", "signalfd", errno)),
    }
}

/// A descriptor that becomes readable when the file at `path` is modified (inotify(7), non-blocking).
pub fn watch_modified(path: &std::path::Path) -> Result<OwnedFd> {
    use rustix::fs::inotify;
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let fd = inotify::init(flags).on("inotify_init", || "inotify")?;
    inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY)
        .on("inotify_add_watch", || path.display().to_string())?;
    Ok(fd)
}

/// Reads and forgets everything a non-blocking descriptor has.
pub fn drain(fd: impl AsFd) -> Result<()> {
    let mut space = [0u8; 4096];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(fd.as_fd(), &mut space)) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(crate::Error::call("read", "descriptor", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_tells_which_and_what() {
        let epoll = Epoll::new().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        epoll.add(&read, 7, EventFlags::IN).unwrap();
        assert!(epoll.wait(Some(Duration::ZERO)).unwrap().is_empty());
        rustix::io::write(&write, b"x").unwrap();
        let events = epoll.wait(None).unwrap();
        assert_eq!((events[0].token, events[0].flags), (7, EventFlags::IN));
        assert!(wait_readable(&read, Some(Duration::ZERO)).unwrap());
        epoll.remove(&read).unwrap();
        assert!(epoll.wait(Some(Duration::ZERO)).unwrap().is_empty());
    }

    #[test]
    fn eventfd_counts() {
        let fd = eventfd().unwrap();
        assert_eq!(eventfd_take(&fd).unwrap(), 0);
        eventfd_signal(&fd).unwrap();
        eventfd_signal(&fd).unwrap();
        assert_eq!(eventfd_take(&fd).unwrap(), 2);
    }

    #[test]
    fn signals_come_by_descriptor() {
        let thread = std::thread::spawn(|| {
            crate::process::block_signals(&[libc::SIGUSR2]).unwrap();
            let fd = signalfd(&[libc::SIGUSR2]).unwrap();
            assert_eq!(signalfd_next(&fd).unwrap(), None);
            let own = rustix::thread::gettid().as_raw_pid();
            // SAFETY: integers only; the signal is blocked in the thread it is sent to.
            unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), own, libc::SIGUSR2) };
            signalfd_next(&fd).unwrap()
        });
        let signal = thread.join().unwrap().unwrap();
        assert_eq!(signal, Signal { number: libc::SIGUSR2, sender: std::process::id() as i32 });
    }

    #[test]
    fn modification_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let watch = watch_modified(file.path()).unwrap();
        assert!(!wait_readable(&watch, Some(Duration::ZERO)).unwrap());
        std::fs::write(file.path(), "x").unwrap();
        assert!(wait_readable(&watch, Some(Duration::ZERO)).unwrap());
        drain(&watch).unwrap();
        assert!(!wait_readable(&watch, Some(Duration::ZERO)).unwrap());
    }
}
