//! Netlink messages: writing and reading what is inside them, and asking the kernel.
//!
//! Attribute format: netlink(7), `linux/netlink.h`. The frame around a message is `wharf_sys::netlink`'s.

mod channel;
pub(crate) mod route;

pub(crate) use channel::Channel;
pub(crate) use wharf_sys::netlink::Message;

/// Marks an attribute that holds attributes (NLA_F_NESTED).
const NESTED: u16 = 0x8000;
/// What is left of an attribute's type without its marks (NLA_TYPE_MASK).
const KIND_MASK: u16 = 0x3fff;

/// Writes a message.
pub(crate) fn message(kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) -> Message {
    let mut payload = Vec::with_capacity(128);
    body(&mut Body { bytes: &mut payload });
    Message { kind, flags, payload }
}

/// A message's or nested attribute's content while it is written.
pub(crate) struct Body<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Body<'_> {
    /// The fixed header that a family has before its attributes; its length is a multiple of 4.
    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn attr(&mut self, kind: u16, payload: &[u8]) {
        self.bytes.extend_from_slice(&((4 + payload.len()) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// A number in the machine's byte order, as rtnetlink has them.
    pub(crate) fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order, as nfnetlink has them.
    pub(crate) fn attr_be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// A text with the NUL byte that the kernel expects.
    pub(crate) fn attr_text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Body<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(&mut Body { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The attributes in a payload, marks removed; bytes that make no attribute end it.
pub(crate) fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let payload = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([head[2], head[3]]) & KIND_MASK, payload))
    })
}

/// The first attribute of a kind.
pub(crate) fn find_attr(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(bytes).find(|(found, _)| *found == kind).map(|(_, payload)| payload)
}

/// A NUL-terminated text.
pub(crate) fn text(payload: &[u8]) -> &str {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).unwrap_or_default()
}

/// A number in the machine's byte order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let written = message(16, 0, |body| {
            body.fixed(&[1, 2, 3, 4]);
            body.attr_text(3, "eth0");
            body.nest(18, |info| info.attr_u32(1, 7));
        });
        let payload = &written.payload[4..];
        assert_eq!(payload.len(), 12 + 12);
        assert_eq!(text(find_attr(payload, 3).unwrap()), "eth0");
        assert_eq!(find_attr(find_attr(payload, 18).unwrap(), 1).unwrap(), 7_u32.to_ne_bytes());
    }

    #[test]
    fn broken_bytes_end_the_reading() {
        assert_eq!(attrs(&[2, 0, 1, 0, 9, 9]).count(), 0);
        assert_eq!(attrs(&[255, 255, 1, 0]).count(), 0);
        assert_eq!(attrs(&[]).count(), 0);
        assert_eq!(text(&[0xff, 0xff]), "");
    }
}
