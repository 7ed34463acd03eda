//! A daemon's connection: messages in and out, without ever waiting for the daemon.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::rc::Rc;
use wharf_spec::shim::{Message, Request, VERSION};
use wharf_sys::seqpacket;

/// A daemon that lets more messages wait than this has stopped reading and is hung up on.
const MOST_WAITING: usize = 4096;

/// The connection.
#[derive(Debug)]
pub(super) struct Control {
    socket: OwnedFd,
    waiting: VecDeque<Outgoing>,
}

/// A message that waits to be sent, with the descriptors it names.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    fds: Option<Rc<[OwnedFd]>>,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A request and the descriptors that came with it.
    Request(Box<Request>, Vec<OwnedFd>),
    /// Not understood, but its number is known so that it can be answered.
    Unknown {
        /// [`Request::seq`]
        seq: u32,
    },
    /// Nonsense.
    Ignored,
    /// Nothing now.
    Nothing,
    /// The daemon is gone.
    Closed,
}

impl Control {
    pub(super) fn new(socket: OwnedFd) -> Result<Control, wharf_sys::Error> {
        seqpacket::set_nonblocking(&socket, true)?;
        Ok(Control { socket, waiting: VecDeque::new() })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn receive(&self) -> Incoming {
        match seqpacket::recv(&self.socket) {
            Ok(Some(packet)) => decode(&packet.bytes, packet.fds),
            Ok(None) => Incoming::Closed,
            Err(error) if error.is(Errno::AGAIN) => Incoming::Nothing,
            // Cut off or of unknown form: the packet is consumed. Errors of the socket itself end it.
            Err(error) if error.errno().is_none() => Incoming::Ignored,
            Err(_) => Incoming::Closed,
        }
    }

    /// Sends, or keeps for [`Control::flush`].
    pub(super) fn send(&mut self, message: &Message) {
        self.send_with(message, None);
    }

    /// The same, with the descriptors that the message names.
    pub(super) fn send_with(&mut self, message: &Message, fds: Option<Rc<[OwnedFd]>>) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(Outgoing { bytes: encode(message), fds });
        }
    }

    /// Sends what waits; `false` when the connection is dead.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(Outgoing { bytes, fds }) = self.waiting.front() {
            let fds: Vec<_> = fds.iter().flat_map(|fds| fds.iter()).map(AsFd::as_fd).collect();
            match seqpacket::send(&self.socket, bytes, &fds) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) if error.is(Errno::AGAIN) => return self.waiting.len() < MOST_WAITING,
                Err(_) => return false,
            }
        }
        true
    }
}

/// `[version u16 LE][postcard]`
pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let head = VERSION.to_le_bytes().to_vec();
    postcard::to_extend(message, head).expect("a message holds nothing that postcard cannot write")
}

/// The body of a message of a version that is understood here.
pub(crate) fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (version, body) = bytes.split_first_chunk()?;
    (1..=VERSION).contains(&u16::from_le_bytes(*version)).then_some(body)
}

fn decode(bytes: &[u8], fds: Vec<OwnedFd>) -> Incoming {
    if let Some(Ok(request)) = body(bytes).map(postcard::from_bytes::<Request>) {
        return Incoming::Request(Box::new(request), fds);
    }
    // In every version the number comes first.
    match bytes.get(2..).map(postcard::take_from_bytes::<u32>) {
        Some(Ok((seq, _))) => Incoming::Unknown { seq },
        _ => Incoming::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::shim::{Call, Event};

    fn control() -> (Control, OwnedFd) {
        let (ours, theirs) = seqpacket::pair().unwrap();
        (Control::new(ours).unwrap(), theirs)
    }

    #[test]
    fn requests_arrive() {
        let (control, daemon) = control();
        assert!(matches!(control.receive(), Incoming::Nothing));
        let request = Request { seq: 300, call: Call::State };
        let bytes = postcard::to_extend(&request, VERSION.to_le_bytes().to_vec()).unwrap();
        seqpacket::send(&daemon, &bytes, &[]).unwrap();
        assert!(matches!(control.receive(), Incoming::Request(r, _) if *r == request));
        drop(daemon);
        assert!(matches!(control.receive(), Incoming::Closed));
    }

    #[test]
    fn nonsense_is_ignored_and_the_unknown_answered() {
        let (control, daemon) = control();
        seqpacket::send(&daemon, b"", &[]).unwrap();
        assert!(matches!(control.receive(), Incoming::Ignored));
        seqpacket::send(&daemon, b"\x01", &[]).unwrap();
        assert!(matches!(control.receive(), Incoming::Ignored));
        // A later version's message, and an unknown call.
        seqpacket::send(&daemon, &[9, 0, 0xac, 2, 0], &[]).unwrap();
        assert!(matches!(control.receive(), Incoming::Unknown { seq: 300 }));
        seqpacket::send(&daemon, &[1, 0, 5, 77], &[]).unwrap();
        assert!(matches!(control.receive(), Incoming::Unknown { seq: 5 }));
    }

    #[test]
    fn a_daemon_that_does_not_read_is_hung_up_on() {
        let (mut control, _daemon) = control();
        let message = Message::Event(Event::OutOfMemory);
        let alive = (0..100_000).all(|_| {
            control.send(&message);
            control.flush()
        });
        assert!(!alive);
        assert!(control.waiting.len() <= MOST_WAITING);
    }
}
