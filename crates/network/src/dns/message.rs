//! DNS messages (RFC 1035, RFC 6891): what a query asks, and the bytes of an answer.

use super::names::Family;
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QTYPE, ResourceRecord, TYPE,
    rdata::{A, AAAA, PTR, RData},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds that an answer is good for (source: moby `daemon/libnetwork/resolver.go`, respTTL).
const TTL: u32 = 600;
/// What an answer over UDP may have when the client says nothing.
const SMALLEST_LIMIT: usize = 512;
/// What an answer over TCP may have.
pub(super) const LARGEST: usize = 65_535;
const HEADER: usize = 12;
const RESPONSE_BIT: u8 = 0x80;
const RECURSION_AVAILABLE: u8 = 0x80;
/// The rcode of "try another server".
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What a query asks, as far as it can concern us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Address(String, Family),
    /// Who takes mail.
    Mail(String),
    /// Who has the address.
    Pointer(IpAddr),
    Other,
}

/// A query.
pub(super) struct Query<'a> {
    bytes: &'a [u8],
    packet: Option<Packet<'a>>,
    pub(super) question: Question,
}

impl<'a> Query<'a> {
    /// `None` for what is no query at all. A query of a kind that is not understood is [`Question::Other`].
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let questions = u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]);
        if bytes.len() < HEADER || bytes[2] & RESPONSE_BIT != 0 || questions == 0 {
            return None;
        }
        let packet = Packet::parse(bytes).ok().filter(|packet| packet.opcode() == OPCODE::StandardQuery);
        let question = packet.as_ref().map_or(Question::Other, question);
        Some(Self { bytes, packet, question })
    }

    /// An answer with these addresses, in this order, cut to what the client takes.
    pub(super) fn addresses(&self, addresses: &[IpAddr], transport: Transport) -> Option<Vec<u8>> {
        let data = addresses.iter().map(|address| match address {
            IpAddr::V4(address) => RData::A(A::from(*address)),
            IpAddr::V6(address) => RData::AAAA(AAAA::from(*address)),
        });
        self.reply(data.collect(), transport)
    }

    /// An answer with a name.
    pub(super) fn name(&self, name: &str, transport: Transport) -> Option<Vec<u8>> {
        self.reply(vec![RData::PTR(PTR(Name::new(name).ok()?))], transport)
    }

    /// An answer that the server could not find one.
    pub(super) fn failure(&self) -> Option<Vec<u8>> {
        self.error(SERVER_FAILURE)
    }

    /// An answer that the server has too much to do.
    pub(super) fn refusal(&self) -> Option<Vec<u8>> {
        self.error(REFUSED)
    }

    fn reply(&self, answers: Vec<RData<'_>>, transport: Transport) -> Option<Vec<u8>> {
        let asked = self.packet.as_ref()?;
        let limit = match (transport, asked.opt()) {
            (Transport::Tcp, _) => LARGEST,
            (Transport::Udp, Some(opt)) => SMALLEST_LIMIT.max(opt.udp_packet_size.into()),
            (Transport::Udp, None) => SMALLEST_LIMIT,
        };
        let mut reply = Packet::new_reply(asked.id());
        reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
        if asked.has_flags(PacketFlag::RECURSION_DESIRED) {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        reply.questions.clone_from(&asked.questions);
        let owner = &asked.questions.first()?.qname;
        reply
            .answers
            .extend(answers.into_iter().map(|data| ResourceRecord::new(owner.clone(), CLASS::IN, TTL, data)));
        let mut bytes = reply.build_bytes_vec_compressed().ok()?;
        while bytes.len() > limit && !reply.answers.is_empty() {
            let each = bytes.len() / reply.answers.len();
            let too_many = ((bytes.len() - limit) / each.max(1)).max(1).min(reply.answers.len());
            reply.answers.truncate(reply.answers.len() - too_many);
            reply.set_flags(PacketFlag::TRUNCATION);
            bytes = reply.build_bytes_vec_compressed().ok()?;
        }
        Some(bytes)
    }

    /// The query's header and question with an error code. It works for questions that are not understood.
    fn error(&self, code: u8) -> Option<Vec<u8>> {
        let end = question_end(self.bytes)?;
        let mut bytes = self.bytes.get(..end)?.to_vec();
        bytes[2] |= RESPONSE_BIT;
        bytes[3] = RECURSION_AVAILABLE | code;
        bytes[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        Some(bytes)
    }
}

fn question(packet: &Packet<'_>) -> Question {
    let Some(asked) = packet.questions.first() else { return Question::Other };
    let name = asked.qname.to_string();
    match asked.qtype {
        QTYPE::TYPE(TYPE::A) => Question::Address(name, Family::V4),
        QTYPE::TYPE(TYPE::AAAA) => Question::Address(name, Family::V6),
        QTYPE::TYPE(TYPE::MX) => Question::Mail(name),
        QTYPE::TYPE(TYPE::PTR) => pointer(&name).map_or(Question::Other, Question::Pointer),
        _ => Question::Other,
    }
}

/// The address in a name such as `4.3.2.1.in-addr.arpa` (RFC 1035, 3.5; RFC 3596, 2.5).
fn pointer(name: &str) -> Option<IpAddr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = digits.rsplit('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        return <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into());
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?.rsplit('.');
    let nibbles: Vec<u8> = nibbles
        .map(|nibble| u8::from_str_radix(nibble, 16).ok().filter(|n| *n < 16))
        .collect::<Option<_>>()?;
    let octets: Vec<u8> = nibbles.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect();
    <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// Where the first question ends.
fn question_end(bytes: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        match length {
            0 => return Some(at + 4).filter(|end| *end <= bytes.len()),
            1..64 => {}
            _ => return None,
        }
    }
}

/// The id of a message.
pub(super) fn id(bytes: &[u8]) -> Option<[u8; 2]> {
    Some([*bytes.first()?, *bytes.get(1)?])
}

/// Whether bytes are a response to the query with this id.
pub(super) fn answers(bytes: &[u8], id: [u8; 2], query: &[u8]) -> bool {
    let asked = question_end(query).and_then(|end| query.get(HEADER..end));
    let repeated = question_end(bytes).and_then(|end| bytes.get(HEADER..end));
    let same = match (asked, repeated) {
        (Some(asked), Some(repeated)) => asked.eq_ignore_ascii_case(repeated),
        // A server that fails may leave the question out.
        _ => true,
    };
    bytes.len() >= HEADER && bytes[..2] == id && bytes[2] & RESPONSE_BIT != 0 && same
}

/// Whether a response says that another server should be asked.
pub(super) fn try_another(response: &[u8]) -> bool {
    response.get(3).is_some_and(|flags| matches!(flags & 15, SERVER_FAILURE | REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{Question as Asked, RCODE, rdata::OPT};

    fn query(name: &str, kind: TYPE, udp_size: Option<u16>) -> Vec<u8> {
        let mut packet = Packet::new_query(0x1234);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Asked::new(Name::new(name).unwrap(), kind.into(), CLASS::IN.into(), false));
        *packet.opt_mut() =
            udp_size.map(|size| OPT { opt_codes: Vec::new(), udp_packet_size: size, version: 0 });
        packet.build_bytes_vec().unwrap()
    }

    fn asked(name: &str, kind: TYPE) -> Question {
        Query::parse(&query(name, kind, None)).unwrap().question
    }

    #[test]
    fn questions_are_told_apart() {
        assert_eq!(asked("Web", TYPE::A), Question::Address("Web".into(), Family::V4));
        assert_eq!(asked("web.net", TYPE::AAAA), Question::Address("web.net".into(), Family::V6));
        assert_eq!(asked("web", TYPE::TXT), Question::Other);
        assert_eq!(asked("3.0.0.10.in-addr.arpa", TYPE::PTR), Question::Pointer("10.0.0.3".parse().unwrap()));
        let six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(asked(six, TYPE::PTR), Question::Pointer("fd00::2".parse().unwrap()));
        assert_eq!(asked("3.0.10.in-addr.arpa", TYPE::PTR), Question::Other);
        let mut response = query("web", TYPE::A, None);
        response[2] |= RESPONSE_BIT;
        assert!(Query::parse(&response).is_none() && Query::parse(b"short").is_none());
        let mut unknown = query("web", TYPE::A, None);
        let end = unknown.len();
        unknown[end - 4..end - 2].copy_from_slice(&[0xff, 0x01]);
        let unknown = Query::parse(&unknown).unwrap();
        assert_eq!(unknown.question, Question::Other);
        assert_eq!(unknown.failure().unwrap().len(), end);
    }

    #[test]
    fn answers_repeat_the_question_and_fit() {
        let addresses: Vec<IpAddr> = (0..100).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
        for (size, transport, most, whole) in [
            (None, Transport::Udp, 512, false),
            (Some(1232), Transport::Udp, 1232, false),
            (Some(4096), Transport::Udp, 4096, true),
            (None, Transport::Tcp, LARGEST, true),
        ] {
            let bytes = query("Pool", TYPE::A, size);
            let reply = Query::parse(&bytes).unwrap().addresses(&addresses, transport).unwrap();
            assert!(reply.len() <= most && reply.len() + 16 > most.min(1600), "{}", reply.len());
            let parsed = Packet::parse(&reply).unwrap();
            assert_eq!(parsed.has_flags(PacketFlag::TRUNCATION), !whole);
            assert_eq!(parsed.answers.len() == 100, whole);
            assert_eq!(parsed.questions[0].qname.to_string(), "Pool");
            assert!(parsed.has_flags(PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED));
            assert!(answers(&reply, [0x12, 0x34], &bytes) && !answers(&reply, [0, 0], &bytes));
        }
        let bytes = query("x", TYPE::A, Some(1232));
        let failure = Query::parse(&bytes).unwrap().failure().unwrap();
        assert_eq!(Packet::parse(&failure).unwrap().rcode(), RCODE::ServerFailure);
        assert!(try_another(&failure) && !try_another(&bytes));
        assert!(!answers(&failure, [0x12, 0x34], &query("y", TYPE::A, None)));
    }
}
