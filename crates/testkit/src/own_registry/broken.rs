//! Answers that go wrong.

use super::{OwnRegistry, Reply, Request};
use crate::until;
use anyhow::Result;
use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
};

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends after so many bytes of the answer's body.
    Cut(usize),
    /// This byte of the content is another one.
    Flip(usize),
    /// So many bytes at the end are missing, and the header says so too.
    Shorter(usize),
    /// So many bytes more than there are, and the header says so too.
    Longer(usize),
    /// After so many bytes nothing comes any more. The connection stays until the client ends it.
    Stall(usize),
    /// This status and no content.
    Status(u16),
    /// A `Range` is ignored: all of it comes again.
    NoRanges,
}

/// What will go wrong, and what did, by the digest or tag at the end of a path.
#[derive(Default)]
pub(super) struct Broken {
    next: HashMap<String, VecDeque<Fault>>,
    fired: HashMap<String, usize>,
    /// Connections that stall now.
    stalled: usize,
}

/// Whether the connection can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    Ended,
}

impl OwnRegistry {
    /// So many answers about this digest or tag go wrong, after those that will already.
    pub fn break_next(&self, what: &str, fault: Fault, times: usize) {
        let faults = std::iter::repeat_n(fault, times);
        self.state().broken.next.entry(what.to_owned()).or_default().extend(faults);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.state().broken.next.clear();
    }

    /// How often something went wrong with this digest or tag.
    pub fn broke(&self, what: &str) -> usize {
        self.state().broken.fired.get(what).copied().unwrap_or(0)
    }

    /// Waits until so many connections stall.
    ///
    /// # Errors
    /// When they do not within the usual patience.
    pub fn until_stalled(&self, connections: usize) -> Result<()> {
        until("stalled connections", || Ok((self.state().broken.stalled == connections).then_some(())))
    }

    /// Sends an answer, or what becomes of it.
    pub(super) fn send(&self, mut stream: &TcpStream, request: &Request, reply: Reply) -> io::Result<Sent> {
        let fault = self.fault(request, reply.0);
        if let Some(Fault::Status(status)) = fault {
            write!(stream, "HTTP/1.1 {status} Broken\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(Sent::Whole);
        }
        let end = match fault {
            Some(Fault::Cut(bytes) | Fault::Stall(bytes)) => bytes,
            _ => usize::MAX,
        };
        write_reply(stream, request, damaged(reply, fault), fault != Some(Fault::NoRanges), end)?;
        match fault {
            Some(Fault::Stall(_)) => {
                self.state().broken.stalled += 1;
                // Until the client goes.
                let _ = stream.read_to_end(&mut Vec::new());
                self.state().broken.stalled -= 1;
                Ok(Sent::Ended)
            }
            Some(Fault::Cut(_)) => stream.shutdown(Shutdown::Both).map(|()| Sent::Ended),
            _ => Ok(Sent::Whole),
        }
    }

    fn fault(&self, request: &Request, status: u16) -> Option<Fault> {
        let mut state = self.state();
        let what = request.path().rsplit('/').next().unwrap_or_default().to_owned();
        let is_hit = request.method == "GET" && status == 200;
        let faults = state.broken.next.get_mut(&what).filter(|_| is_hit)?;
        // Only what is a fault for this request fires.
        faults.front().filter(|fault| **fault != Fault::NoRanges || request.range_start().is_some())?;
        let fault = faults.pop_front();
        *state.broken.fired.entry(what).or_default() += 1;
        fault
    }
}

fn damaged((status, headers, mut body): Reply, fault: Option<Fault>) -> Reply {
    match fault {
        Some(Fault::Flip(at)) => body[at] ^= 1,
        Some(Fault::Shorter(by)) => body.truncate(body.len() - by),
        Some(Fault::Longer(by)) => body.resize(body.len() + by, 0),
        _ => {}
    }
    (status, headers, body)
}

/// The head, and at most so many bytes of the body.
fn write_reply(
    mut stream: &TcpStream,
    request: &Request,
    (mut status, headers, body): Reply,
    ranges: bool,
    end: usize,
) -> io::Result<()> {
    let total = body.len();
    let from = request.range_start().filter(|_| ranges && status == 200).map(|from| from.min(total));
    let body = &body[from.unwrap_or(0)..];
    let mut head = String::new();
    if let Some(from) = from {
        status = 206;
        head = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
    }
    head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    write!(stream, "HTTP/1.1 {status} X\r\n{head}\r\n")?;
    if request.method == "HEAD" {
        return Ok(());
    }
    stream.write_all(&body[..end.min(body.len())])
}
