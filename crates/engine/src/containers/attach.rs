//! `POST /containers/{id}/attach`: a socket pair, one end for the shim, one for the caller.

use super::{AttachOptions, Attached, Container, Containers, LogsOptions};
use crate::{Error, Result, error::invalid, state::Verb, task::AttachStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
};
use wharf_sys::fault;

/// `ctrl-p,ctrl-q`
const DEFAULT_DETACH_KEYS: [u8; 2] = [16, 17];

impl Containers {
    /// Attaches a client. One that attaches before the start gets every byte from the first on.
    ///
    /// # Errors
    /// When the container is paused or restarts, or the detach keys are none.
    pub async fn attach(&self, id_or_name: &str, options: AttachOptions) -> Result<Attached> {
        let container = self.get(id_or_name)?;
        let keys = detach_keys(options.detach_keys.as_deref().unwrap_or(""))?;
        container.check(Verb::Attach)?;
        let (tty, open_stdin) =
            container.with(|state| (state.record.config.tty, state.record.config.open_stdin));
        let logs = match options.logs && (options.stdout || options.stderr) {
            true => Some(self.logs_so_far(&container, &options).await?),
            false => None,
        };
        let stream = match options.stream {
            true => {
                let (ours, theirs) = stream_pair()?;
                let client = AttachStream {
                    stream: theirs,
                    stdin: options.stdin && open_stdin,
                    stdout: options.stdout,
                    stderr: options.stderr,
                    // Only on a terminal are keys more than bytes.
                    detach_keys: if tty { keys } else { Vec::new() },
                };
                self.join(&container, client).await?;
                Some(ours)
            }
            false => None,
        };
        fault::death("attach.joined");
        self.emit_plain(&container, "attach");
        Ok(Attached { tty, logs, stream })
    }

    async fn logs_so_far(&self, container: &Arc<Container>, options: &AttachOptions) -> Result<super::Logs> {
        let options =
            LogsOptions { stdout: options.stdout, stderr: options.stderr, ..LogsOptions::default() };
        self.logs_of(container, options).await
    }

    /// Hands a client to the shim, or keeps it until there is one. The lifecycle lock keeps a start that is
    /// under way from passing the client by.
    async fn join(&self, container: &Arc<Container>, client: AttachStream) -> Result<()> {
        let _one_verb = container.lifecycle.lock().await;
        if let Ok(shim) = container.shim() {
            let (call, stream) = client.into_call(None);
            fault::point("attach.ask").map_err(|source| Error::Os { step: "attach", source })?;
            return match shim.call(call, &[stream.as_fd()]).await {
                // It has just ended: the stream closes, as it does at every end.
                Ok(_) | Err(Error::ShimGone(_)) => Ok(()),
                Err(error) => Err(error),
            };
        }
        container.update(|state| {
            if state.removed {
                return Err(Error::NoSuchContainer(container.id.to_string()));
            }
            state.early.retain(|client| !is_hung_up(&client.stream));
            state.early.push(client);
            Ok(())
        })
    }
}

/// A connected pair: the caller's end for tokio, the shim's as it is.
pub(crate) fn stream_pair() -> Result<(tokio::net::UnixStream, UnixStream)> {
    let os = |source| Error::Os { step: "make a stream", source };
    let (ours, theirs) = UnixStream::pair().map_err(os)?;
    ours.set_nonblocking(true).map_err(os)?;
    Ok((tokio::net::UnixStream::from_std(ours).map_err(os)?, theirs))
}

fn is_hung_up(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0) && fds[0].revents().contains(PollFlags::HUP)
}

/// A key sequence such as `ctrl-p,ctrl-q` or `a,b` as bytes; empty is Docker's default (source:
/// moby/term `ascii.go`, ToBytes).
///
/// # Errors
/// For a key that is none.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT_DETACH_KEYS.to_vec());
    }
    text.split(',').map(|key| key_code(key, text)).collect()
}

fn key_code(key: &str, all: &str) -> Result<u8> {
    let bytes = key.as_bytes();
    match (bytes, key.to_ascii_lowercase().strip_prefix("ctrl-").map(str::as_bytes)) {
        ([one], _) => Ok(*one),
        (_, Some([letter @ b'a'..=b'z'])) => Ok(letter - b'a' + 1),
        (_, Some(b"@")) => Ok(0),
        (_, Some(b"[")) => Ok(27),
        (_, Some(b"\\")) => Ok(28),
        (_, Some(b"]")) => Ok(29),
        (_, Some(b"^")) => Ok(30),
        (_, Some(b"_")) => Ok(31),
        _ => invalid(format!("Invalid detach keys ({all}) provided")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_bytes() {
        assert_eq!(detach_keys("").unwrap(), [16, 17]);
        assert_eq!(detach_keys("ctrl-a,x,ctrl-[").unwrap(), [1, b'x', 27]);
        assert_eq!(detach_keys("ctrl-P,CTRL-q").unwrap(), [16, 17]);
        assert!(detach_keys("ctrl-1").is_err());
        assert_eq!(detach_keys("nope").unwrap_err().to_string(), "Invalid detach keys (nope) provided");
    }

    #[tokio::test]
    async fn who_hung_up_is_noticed() {
        let (ours, theirs) = stream_pair().unwrap();
        assert!(!is_hung_up(&theirs));
        drop(ours);
        assert!(is_hung_up(&theirs));
    }
}
