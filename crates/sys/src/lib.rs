//! The kernel, made safe: the only crate of Wharf with `unsafe` in it.
//!
//! Role: system calls and kernel interfaces that std has no words for, each behind a safe function that
//! says which call failed, on what, and with which error number ([`Error`]). It knows nothing of containers.
//!
//! | module | what it wraps |
//! |---|---|
//! | [`mount`] | mount API by descriptor (fsopen, open_tree, move_mount, mount_setattr), overlay, mountinfo |
//! | [`path`] | path resolution inside a root (openat2), [`path::Root`] |
//! | [`fs`] | locks, memfd, xattrs, nodes, times, atomic replace |
//! | [`process`] | clone3, pidfd, wait, setns, credentials, limits, signals, execve |
//! | [`caps`] | capability sets |
//! | [`seccomp`] | installing a filter |
//! | [`cgroup`] | cgroup v1 and v2 behind one [`cgroup::Cgroup`] |
//! | [`pty`] | pseudo terminals |
//! | [`quota`] | limits on what is written in a tree |
//! | [`seqpacket`] | messages with descriptors over unix sockets |
//! | [`event`] | epoll, eventfd, signalfd, inotify |
//! | [`fault`] | faults that tests ask for |
//! | [`mountns`] | mount namespaces where file systems are put together |
//! | [`netns`] | network namespaces and threads inside them |
//! | [`crc64`] | checksums by carry-less multiplication |
//! | [`netlink`] | requests and replies on netlink sockets |
//!
//! Files on disk: none of its own.
//!
//! Invariants: every descriptor it makes is close-on-exec. Every `unsafe` block holds one operation and says
//! why it is sound. Nothing here retries for ever.

pub mod caps;
pub mod cgroup;
pub mod crc64;
mod error;
pub mod event;
pub mod fault;
pub mod fs;
pub mod mount;
pub mod mountns;
pub mod netlink;
pub mod netns;
pub mod path;
pub mod process;
pub mod pty;
pub mod quota;
mod raw;
pub mod seccomp;
pub mod seqpacket;

pub use error::{Context, Error, Result, errno_text, io_text};
pub use rustix::io::Errno;
