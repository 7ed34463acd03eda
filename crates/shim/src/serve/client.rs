//! An attached client: a stream socket that gets a process's output and gives it input.

use super::detach::DetachKeys;
use super::queue::Queue;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::io::IoSlice;
use std::time::{Duration, Instant};
use wharf_logs::Stream;
use wharf_sys::event::EventFlags;

/// So long a client that came later may take nothing while its process waits for it: one that hangs must not hold a
/// container for ever. What it misses is in the log.
const PATIENCE: Duration = Duration::from_secs(60);

/// The streams a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

/// How output is put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// As it is: terminals.
    Raw,
    /// With a header that says which stream it is (source: moby `pkg/stdcopy`).
    Stdcopy,
}

/// A client has closed its connection, or it broke.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The client.
#[derive(Debug)]
pub(super) struct Client {
    /// Of which process, by number.
    pub(super) process: u32,
    /// Cleared one by one as streams end.
    pub(super) wants: Wants,
    pub(super) keys: Option<DetachKeys>,
    /// It gets nothing new and is closed when everything is written.
    pub(super) is_leaving: bool,
    /// It hung up, but what it sent before is not all read.
    pub(super) is_hung_up: bool,
    /// It came with the process, as `docker run` does: it is waited for as one waits for a pipe.
    pub(super) is_first: bool,
    /// Since then it is full and has taken nothing.
    stuck_since: Option<Instant>,
    /// What the poller waits for; `None`: it is not in the poller.
    pub(super) polled: Option<EventFlags>,
    socket: OwnedFd,
    framing: Framing,
    queue: Queue,
}

impl Client {
    /// `socket` is non-blocking.
    pub(super) fn new(process: u32, socket: OwnedFd, wants: Wants, framing: Framing) -> Client {
        Client {
            process,
            wants,
            keys: None,
            is_leaving: false,
            is_hung_up: false,
            is_first: false,
            stuck_since: None,
            polled: None,
            socket,
            framing,
            queue: Queue::default(),
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.wants.stdout,
            Stream::Stderr => self.wants.stderr,
        }
    }

    /// It cannot keep up: output of its process has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends output, keeping what the socket does not take.
    pub(super) fn send(&mut self, stream: Stream, data: &[u8]) -> Result<(), Gone> {
        let header = match self.framing {
            Framing::Raw => None,
            Framing::Stdcopy => Some(stdcopy_header(stream, data.len())),
        };
        let header = header.as_ref().map_or(&[][..], |h| &h[..]);
        let sent = if self.queue.is_empty() { send_now(&self.socket, header, data)? } else { 0 };
        self.queue.push(header.get(sent..).unwrap_or_default());
        self.queue.push(data.get(sent.saturating_sub(header.len())..).unwrap_or_default());
        if self.queue.is_full() {
            self.stuck_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        let before = self.queue.len();
        let written = self.queue.write_to(&self.socket).map_err(|_| Gone);
        if self.queue.len() < before {
            self.stuck_since = self.queue.is_full().then(Instant::now);
        }
        written
    }

    /// When it is waited for no longer.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        self.stuck_since.filter(|_| !self.is_first).map(|since| since + PATIENCE)
    }

    /// Its output side is dead: nothing is sent any more.
    pub(super) fn drop_output(&mut self) {
        self.queue.clear();
        self.wants.stdout = false;
        self.wants.stderr = false;
    }
}

/// `[stream, 0, 0, 0, length as u32 BE]`
fn stdcopy_header(stream: Stream, length: usize) -> [u8; 8] {
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    // Output comes in pieces of a read buffer: it fits.
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [number, 0, 0, 0, a, b, c, d]
}

fn send_now(socket: impl AsFd, header: &[u8], data: &[u8]) -> Result<usize, Gone> {
    let parts = [IoSlice::new(header), IoSlice::new(data)];
    loop {
        let mut none = SendAncillaryBuffer::default();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(socket.as_fd(), &parts, &mut none, flags) {
            Ok(count) => return Ok(count),
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(_) => return Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn pair(framing: Framing) -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let wants = Wants { stdin: false, stdout: true, stderr: true };
        (Client::new(0, ours.into(), wants, framing), theirs)
    }

    #[test]
    fn frames_as_stdcopy_does() {
        let (mut client, mut peer) = pair(Framing::Stdcopy);
        client.send(Stream::Stdout, b"hello").unwrap();
        client.send(Stream::Stderr, b"err").unwrap();
        drop(client);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\x03err");
    }

    #[test]
    fn a_slow_client_gets_everything_in_order() {
        let (mut client, mut peer) = pair(Framing::Stdcopy);
        let data: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
        let mut want = Vec::new();
        while !client.is_full() {
            client.send(Stream::Stdout, &data).unwrap();
            want.extend_from_slice(&stdcopy_header(Stream::Stdout, data.len()));
            want.extend_from_slice(&data);
        }
        let mut got = Vec::new();
        while !client.is_flushed() {
            let mut part = vec![0; 100_000];
            let count = peer.read(&mut part).unwrap();
            got.extend_from_slice(&part[..count]);
            client.flush().unwrap();
        }
        drop(client);
        peer.read_to_end(&mut got).unwrap();
        assert!(got == want);
    }

    #[test]
    fn patience_ends_with_clients_that_take_nothing() {
        let (mut client, mut peer) = pair(Framing::Raw);
        client.send(Stream::Stdout, b"little").unwrap();
        assert_eq!(client.patience_ends(), None);
        while !client.is_full() {
            client.send(Stream::Stdout, &[7; 50_000]).unwrap();
        }
        let first = client.patience_ends().unwrap();
        client.flush().unwrap();
        assert_eq!(client.patience_ends(), Some(first));
        // It takes something, and later all of it.
        peer.read_exact(&mut [0; 200_000]).unwrap();
        client.flush().unwrap();
        assert!(client.patience_ends().is_none_or(|later| later > first));
        while !client.is_flushed() {
            peer.read_exact(&mut [0; 50_000]).unwrap();
            client.flush().unwrap();
        }
        assert_eq!(client.patience_ends(), None);
        client.is_first = true;
        while !client.is_full() {
            client.send(Stream::Stdout, &[7; 50_000]).unwrap();
        }
        assert_eq!(client.patience_ends(), None);
    }

    #[test]
    fn a_vanished_client_is_noticed() {
        let (mut client, peer) = pair(Framing::Raw);
        drop(peer);
        assert_eq!(client.send(Stream::Stdout, b"x"), Err(Gone));
    }
}
