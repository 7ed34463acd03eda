//! Handing the descriptor of a seccomp filter to whoever decides about the calls it asks about (source: OCI
//! runtime-spec, config-linux.md "The Container Process State").

use crate::error::{Error, Result, Step};
use crate::hooks::OCI_VERSION;
use crate::seccomp::Program;
use crate::spawn::Spawned;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use wharf_sys::{Context, process};

/// Takes descriptor `number` out of the process under the filter and sends it to the socket that the profile
/// names, with the container's state as JSON.
pub(crate) fn hand_over(filter: Option<&Program>, of: &Spawned, number: i32, state: &[u8]) -> Result<()> {
    let step = || "seccomp listener".to_owned();
    let Some(listener) = filter.and_then(|filter| filter.listener.as_ref()) else {
        return Err(Error::refused(step(), "a report out of place"));
    };
    let fd = process::pidfd_getfd(&of.pidfd, number).step(step)?;
    let failed = |error: std::io::Error| {
        let errno = wharf_sys::Errno::from_io_error(&error).unwrap_or(wharf_sys::Errno::IO);
        let problem = format!(
            "failed to connect with seccomp agent specified in the seccomp profile: dial unix {}: {}",
            listener.path,
            wharf_sys::errno_text(errno)
        );
        Error::refused(step(), problem)
    };
    let socket = UnixStream::connect(&listener.path).map_err(failed)?;
    let state: serde_json::Value =
        serde_json::from_slice(state).map_err(|error| Error::refused(step(), error.to_string()))?;
    let message = serde_json::json!({
        "ociVersion": OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": of.pid,
        "metadata": listener.metadata,
        "state": state,
    });
    send(&socket, message.to_string().as_bytes(), &fd).step(step)
}

fn send(socket: &UnixStream, bytes: &[u8], fd: &OwnedFd) -> wharf_sys::Result<()> {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(wharf_sys::Error::malformed("sendmsg", "no room for one descriptor"));
    }
    let parts = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))
        .map(drop)
        .on("sendmsg", || "seccomp agent")
}
