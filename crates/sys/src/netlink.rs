//! Requests and replies on netlink sockets (source: netlink(7), linux/netlink.h,
//! linux/netfilter/nfnetlink.h).
//!
//! This module knows the frame (the 16-byte header, acknowledgements, dumps, extended errors) and nothing of
//! what is inside: payloads go in and come out as bytes.

use crate::{Context, Error, Result};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::io::Errno;
use std::time::Duration;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLM_F_REQUEST`
pub const REQUEST: u16 = 1;
/// `NLM_F_ACK`
pub const ACK: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub const APPEND: u16 = 0x800;

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
/// In the flags of an error: the request's payload is not repeated; attributes follow.
const FLAG_CAPPED: u16 = 0x100;
const FLAG_ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`
const ATTR_MESSAGE: u16 = 1;

/// How long the kernel may take to answer: it answers while it handles the request, so this only guards
/// against waiting for ever for an answer that got lost.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Which part of the kernel is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and conntrack.
    Netfilter,
}

/// A message: its header's fields that matter, and the bytes behind the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`
    pub kind: u16,
    /// `nlmsg_flags`; for requests without [`REQUEST`] and sequence numbers, which are added when sending.
    pub flags: u16,
    /// Everything after the header.
    pub payload: Vec<u8>,
}

/// A netlink socket in the network namespace of the thread that opened it, wherever it is used later.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    port: u32,
    sequence: u32,
}

/// One message as read, with its sequence number and the port of the socket it is about.
struct Received {
    sequence: u32,
    port: u32,
    message: Message,
}

/// A change in the kernel that is told to whoever listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The port ([`Socket::port`]) of the socket by which it was asked for.
    pub port: u32,
    /// What changed.
    pub message: Message,
}

/// A socket on which nothing is asked: it hears what changes in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Listener {
    inner: netlink_sys::Socket,
}

impl Listener {
    /// Hears a multicast group, such as `NFNLGRP_NFTABLES`, from now on.
    pub fn open(family: Family, group: u32) -> Result<Self> {
        let mut inner = netlink_sys::Socket::new(family.protocol()).on("socket", || "netlink")?;
        inner.bind_auto().on("bind", || "netlink")?;
        inner.add_membership(group).on("setsockopt", || "netlink group")?;
        inner.set_non_blocking(true).on("fcntl", || "netlink")?;
        // A replaced rule set is many messages at once. Needs CAP_NET_ADMIN beyond the default.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&inner, 1 << 20);
        Ok(Self { inner })
    }

    /// What has been told since, as one datagram; nothing when there is none. ENOBUFS: more was told than there
    /// was room for, and is lost.
    pub fn next(&self) -> Result<Vec<Notice>> {
        let (bytes, sender) = match self.inner.recv_from_full() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            received => received.on("recvfrom", || "netlink")?,
        };
        if sender.port_number() != 0 {
            return Ok(Vec::new());
        }
        let notice = |received: Received| Notice { port: received.port, message: received.message };
        Ok(decode(&bytes)?.into_iter().map(notice).collect())
    }
}

impl rustix::fd::AsFd for Listener {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Family {
    fn protocol(self) -> isize {
        match self {
            Self::Route => NETLINK_ROUTE,
            Self::Netfilter => NETLINK_NETFILTER,
        }
    }
}

impl Socket {
    /// Opens a socket.
    pub fn open(family: Family) -> Result<Socket> {
        let mut inner = netlink_sys::Socket::new(family.protocol()).on("socket", || "netlink")?;
        let port = inner.bind_auto().on("bind", || "netlink")?.port_number();
        // Both only make errors more readable; every kernel from 4.12 on has them.
        let _ = inner.set_ext_ack(true);
        let _ = inner.set_cap_ack(true);
        // A batch is answered message by message: room for many answers. Needs CAP_NET_ADMIN beyond the
        // default.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&inner, 4 << 20);
        let timeout = Some(ANSWER_WAIT);
        rustix::net::sockopt::set_socket_timeout(&inner, rustix::net::sockopt::Timeout::Recv, timeout)
            .on("setsockopt", || "netlink")?;
        Ok(Socket { inner, port, sequence: 0 })
    }

    /// By which the kernel names this socket to others, unique in its namespace.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends one request and returns what the kernel answers, acknowledgement excluded: nothing for most, one
    /// message for a get, all of them for a dump ([`DUMP`] in the flags). The kernel's refusal is the error,
    /// with its explanation when it gives one.
    pub fn request(&mut self, request: &Message) -> Result<Vec<Message>> {
        let sequence = self.next_sequence();
        let dump = request.flags & DUMP == DUMP;
        let flags = if dump { request.flags } else { request.flags | ACK };
        self.send(&encode(request, flags, sequence))?;
        let mut answers = Vec::new();
        loop {
            for received in self.receive()? {
                if received.sequence != sequence {
                    continue;
                }
                match received.message.kind {
                    TYPE_ERROR => {
                        parse_error(&received.message)?;
                        return Ok(answers);
                    }
                    TYPE_DONE => {
                        parse_done(&received.message)?;
                        return Ok(answers);
                    }
                    _ => answers.push(received.message),
                }
            }
        }
    }

    /// Sends several requests in one datagram, as nftables wants its transactions (the first and last message
    /// are the batch's begin and end, which are not acknowledged; the others are). All or nothing: the first
    /// refusal is the error.
    pub fn batch(&mut self, requests: &[Message]) -> Result<()> {
        let Some(inner_count) = requests.len().checked_sub(2) else {
            return Err(Error::malformed("netlink batch", "has no begin and end"));
        };
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(1);
        for (index, request) in requests.iter().enumerate() {
            let frame = index == 0 || index + 1 == requests.len();
            let flags = if frame { request.flags } else { request.flags | ACK };
            let sequence = self.next_sequence();
            bytes.extend(encode(request, flags, sequence));
        }
        self.send(&bytes)?;
        self.await_batch(first, inner_count)
    }

    /// Waits for one answer to each inner message; a refusal of the frame (the first message) ends it at
    /// once.
    fn await_batch(&mut self, first: u32, inner_count: usize) -> Result<()> {
        let mut missing = inner_count;
        let mut refusal = None;
        while missing > 0 {
            for received in self.receive()? {
                if received.message.kind != TYPE_ERROR {
                    continue;
                }
                let result = parse_error(&received.message);
                if received.sequence == first && result.is_err() {
                    return result;
                }
                let inner = received.sequence.wrapping_sub(first) as usize;
                if (1..=inner_count).contains(&inner) {
                    missing = missing.saturating_sub(1);
                    refusal = refusal.or(result.err());
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn next_sequence(&mut self) -> u32 {
        // 0 is what the kernel's own notifications carry.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let kernel = netlink_sys::SocketAddr::new(0, 0);
        let sent = self.inner.send_to(bytes, &kernel, 0).on("sendto", || "netlink")?;
        match sent == bytes.len() {
            true => Ok(()),
            false => Err(Error::malformed("netlink", format!("sent {sent} of {} bytes", bytes.len()))),
        }
    }

    fn receive(&self) -> Result<Vec<Received>> {
        let (bytes, sender) = self.inner.recv_from_full().on("recvfrom", || "netlink")?;
        // Other processes may send to our port id; only the kernel's answers count.
        if sender.port_number() != 0 {
            return Ok(Vec::new());
        }
        decode(&bytes)
    }
}

/// Rounds up to the 4 bytes that everything in netlink is aligned to.
pub fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn encode(message: &Message, flags: u16, sequence: u32) -> Vec<u8> {
    let length = HEADER + message.payload.len();
    let mut bytes = Vec::with_capacity(aligned(length));
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(message.kind.to_ne_bytes());
    bytes.extend((flags | REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(&message.payload);
    bytes.resize(aligned(length), 0);
    bytes
}

fn decode(mut bytes: &[u8]) -> Result<Vec<Received>> {
    let mut all = Vec::new();
    while bytes.len() >= HEADER {
        let length = u32_at(bytes, 0).unwrap_or(0) as usize;
        if length < HEADER || length > bytes.len() {
            return Err(Error::malformed(
                "netlink",
                format!("a message of {length} bytes in {}", bytes.len()),
            ));
        }
        let kind = u16_at(bytes, 4).unwrap_or(0);
        let flags = u16_at(bytes, 6).unwrap_or(0);
        let sequence = u32_at(bytes, 8).unwrap_or(0);
        let port = u32_at(bytes, 12).unwrap_or(0);
        let payload = bytes[HEADER..length].to_vec();
        all.push(Received { sequence, port, message: Message { kind, flags, payload } });
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    Ok(all)
}

/// An NLMSG_ERROR message: an error, or with number 0 an acknowledgement.
fn parse_error(message: &Message) -> Result<()> {
    let code = u32_at(&message.payload, 0)
        .ok_or_else(|| Error::malformed("netlink", "an error without a number"))?;
    refusal(code as i32, explanation(message))
}

/// The end of a dump carries a number too.
fn parse_done(message: &Message) -> Result<()> {
    refusal(u32_at(&message.payload, 0).unwrap_or(0) as i32, None)
}

fn refusal(code: i32, explanation: Option<String>) -> Result<()> {
    match code {
        0 => Ok(()),
        code => {
            let subject = explanation.unwrap_or_else(|| "request".to_owned());
            Err(Error::call("netlink", subject, Errno::from_raw_os_error(-code)))
        }
    }
}

/// The kernel's words behind an error (NLMSGERR_ATTR_MSG).
fn explanation(message: &Message) -> Option<String> {
    if message.flags & FLAG_ACK_TLVS == 0 {
        return None;
    }
    // Error number, the request's header, and unless capped the request's payload.
    let request_length = u32_at(&message.payload, 4)? as usize;
    let skipped = if message.flags & FLAG_CAPPED != 0 { HEADER } else { aligned(request_length.max(HEADER)) };
    let mut attributes = message.payload.get(4 + skipped..)?;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        let value = attributes.get(4..length)?;
        if kind & 0x3fff == ATTR_MESSAGE {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(aligned(length)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTM_NEWLINK: u16 = 16;
    const RTM_GETLINK: u16 = 18;
    const RTM_SETLINK: u16 = 19;

    /// `struct ifinfomsg` for an interface index.
    fn ifinfo(index: i32) -> Vec<u8> {
        let mut payload = vec![0u8; 16];
        payload[4..8].copy_from_slice(&index.to_ne_bytes());
        payload
    }

    fn in_new_netns<T: Send>(body: impl FnOnce() -> T + Send) -> T {
        crate::netns::in_netns(crate::netns::create().unwrap(), body).unwrap()
    }

    #[test]
    fn dumps_gets_and_acknowledges() {
        in_new_netns(|| {
            let mut socket = Socket::open(Family::Route).unwrap();
            let dump =
                socket.request(&Message { kind: RTM_GETLINK, flags: DUMP, payload: ifinfo(0) }).unwrap();
            assert!(dump.iter().all(|message| message.kind == RTM_NEWLINK));
            assert!(dump.iter().any(|message| u32_at(&message.payload, 4) == Some(1)), "loopback");
            let one = socket.request(&Message { kind: RTM_GETLINK, flags: 0, payload: ifinfo(1) }).unwrap();
            assert_eq!(one.len(), 1);
            let mut up = ifinfo(1);
            up[8..12].copy_from_slice(&1u32.to_ne_bytes());
            up[12..16].copy_from_slice(&1u32.to_ne_bytes());
            assert!(
                socket.request(&Message { kind: RTM_SETLINK, flags: 0, payload: up }).unwrap().is_empty()
            );
        });
    }

    #[test]
    fn refusals_carry_number_and_words() {
        in_new_netns(|| {
            let mut socket = Socket::open(Family::Route).unwrap();
            let error =
                socket.request(&Message { kind: RTM_GETLINK, flags: 0, payload: ifinfo(4711) }).unwrap_err();
            assert!(error.is(Errno::NODEV), "{error}");
            let mut payload = ifinfo(0);
            // An attribute IFLA_MTU of a wrong length is explained by the kernel.
            payload.extend([5, 0, 4, 0, 1, 0, 0, 0]);
            let request = Message { kind: RTM_NEWLINK, flags: CREATE | EXCL, payload };
            let error = socket.request(&request).unwrap_err();
            assert!(!error.to_string().contains("netlink request"), "{error}");
        });
    }

    #[test]
    fn batches_are_atomic() {
        in_new_netns(|| {
            let mut socket = Socket::open(Family::Netfilter).unwrap();
            let frame = |kind: u16| Message { kind, flags: 0, payload: vec![0, 0, 0, 10] };
            // nfgenmsg for the inet family, then NFTA_TABLE_NAME.
            let table = |name: &[u8; 4]| {
                let mut payload = vec![1, 0, 0, 0, 8, 0, 1, 0];
                payload.extend(name);
                payload
            };
            const NEW_TABLE: u16 = 10 << 8;
            const DELETE_TABLE: u16 = 10 << 8 | 2;
            let new = Message { kind: NEW_TABLE, flags: CREATE, payload: table(b"one\0") };
            let delete = Message { kind: DELETE_TABLE, flags: 0, payload: table(b"two\0") };
            let listener = Listener::open(Family::Netfilter, 7).unwrap();
            assert!(listener.next().unwrap().is_empty());
            let error = socket.batch(&[frame(16), new.clone(), delete.clone(), frame(17)]).unwrap_err();
            assert!(error.is(Errno::NOENT), "{error}");
            let get = Message { kind: 10 << 8 | 1, flags: DUMP, payload: vec![1, 0, 0, 0] };
            assert!(socket.request(&get).unwrap().is_empty(), "the good half was undone");
            socket.batch(&[frame(16), new.clone(), new, frame(17)]).unwrap();
            assert_eq!(socket.request(&get).unwrap().len(), 1);
            let heard = listener.next().unwrap();
            assert_eq!((heard[0].message.kind, heard[0].port), (NEW_TABLE, socket.port()));
        });
    }

    #[test]
    fn nonsense_lengths_are_refused() {
        assert!(decode(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(decode(&[255; 16]).is_err());
        assert!(decode(&[]).unwrap().is_empty());
        let error = Message { kind: TYPE_ERROR, flags: FLAG_ACK_TLVS | FLAG_CAPPED, payload: vec![255; 8] };
        assert!(parse_error(&error).is_err());
    }
}
