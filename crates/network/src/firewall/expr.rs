//! nftables rules as the kernel takes them: lists of expressions over registers
//! (`linux/netfilter/nf_tables.h`; what `nft --debug=netlink` prints).

use crate::{
    addr::{Family, Subnet, octets},
    nl::Body,
    ports::Protocol,
};
use std::net::IpAddr;

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// The register that holds what is compared or looked up first (NFT_REG_1).
const FIRST: u32 = 1;
/// The first of the 4-byte registers, the same bytes as [`FIRST`] (NFT_REG32_00).
const FIRST_WORD: u32 = 8;
/// The 4-byte register that follows.
const SECOND: u32 = 9;

pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const META_IIFKIND: u32 = 26;
const META_OIFKIND: u32 = 27;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_PROTO_DST: u32 = 12;
/// IP_CT_DIR_ORIGINAL
const ORIGINAL: u8 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// Offset of the destination port in TCP, UDP and SCTP headers.
const DPORT: u32 = 2;

/// Bytes of an interface name in a set or comparison.
pub(super) const NAME_LENGTH: usize = 16;

/// Whether something is to be equal or different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Equal,
    Different,
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// Which interface of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    In,
    Out,
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(&'static str),
}

/// An interface name padded as sets hold it.
pub(super) fn padded(name: &str) -> [u8; NAME_LENGTH] {
    let mut bytes = [0; NAME_LENGTH];
    let length = name.len().min(NAME_LENGTH - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

impl Verdict {
    /// NFTA_DATA_VERDICT
    pub(super) fn write(&self, data: &mut Body<'_>) {
        let (code, chain): (i32, _) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(*chain)),
            Self::Return => (-5, None),
        };
        data.nest(DATA_VERDICT, |verdict| {
            verdict.attr_be32(1, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.attr_text(2, chain);
            }
        });
    }
}

/// Writes the expressions of one rule, in order.
pub(super) struct Expressions<'a, 'b> {
    pub(super) list: &'a mut Body<'b>,
    /// What addresses are of.
    pub(super) family: Family,
}

impl Expressions<'_, '_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        self.list.nest(LIST_ELEM, |expression| {
            expression.attr_text(EXPR_NAME, name);
            expression.nest(EXPR_DATA, data);
        });
        self
    }

    fn meta(&mut self, key: u32, register: u32) -> &mut Self {
        self.expression("meta", |data| {
            data.attr_be32(1, register);
            data.attr_be32(2, key);
        })
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) -> &mut Self {
        self.expression("payload", |data| {
            data.attr_be32(1, register);
            data.attr_be32(2, base);
            data.attr_be32(3, offset);
            data.attr_be32(4, length);
        })
    }

    fn compare(&mut self, is: Is, value: &[u8]) -> &mut Self {
        self.expression("cmp", |data| {
            data.attr_be32(1, FIRST);
            data.attr_be32(2, u32::from(is == Is::Different));
            data.nest(3, |value_data| value_data.attr(DATA_VALUE, value));
        })
    }

    fn mask(&mut self, mask: &[u8]) -> &mut Self {
        self.expression("bitwise", |data| {
            data.attr_be32(1, FIRST);
            data.attr_be32(2, FIRST);
            data.attr_be32(3, mask.len() as u32);
            data.nest(4, |value| value.attr(DATA_VALUE, mask));
            data.nest(5, |value| value.attr(DATA_VALUE, &vec![0; mask.len()]));
        })
    }

    fn find(&mut self, set: &str, result: Option<u32>) -> &mut Self {
        self.expression("lookup", |data| {
            data.attr_text(1, set);
            data.attr_be32(2, FIRST);
            if let Some(register) = result {
                data.attr_be32(3, register);
            }
        })
    }

    fn ct_has(&mut self, key: u32, bits: u32) -> &mut Self {
        self.expression("ct", |data| {
            data.attr_be32(1, FIRST);
            data.attr_be32(2, key);
        });
        self.mask(&bits.to_ne_bytes()).compare(Is::Different, &[0; 4])
    }

    /// `iifname` or `oifname` compared with a name.
    pub(super) fn interface(&mut self, interface: Interface, is: Is, name: &str) -> &mut Self {
        self.load_interface(interface, FIRST).compare(is, &padded(name))
    }

    /// `iifkind` or `oifkind` is another one, such as `bridge`.
    pub(super) fn interface_is_no(&mut self, interface: Interface, kind: &str) -> &mut Self {
        let key = if interface == Interface::In { META_IIFKIND } else { META_OIFKIND };
        self.meta(key, FIRST).compare(Is::Different, &padded(kind))
    }

    /// `iifname` or `oifname` as iptables-nft writes and reads it: the name with its NUL, not padded.
    pub(super) fn interface_for_iptables(&mut self, interface: Interface, name: &str) -> &mut Self {
        let bytes = padded(name);
        let length = (name.len() + 1).min(NAME_LENGTH);
        self.load_interface(interface, FIRST).compare(Is::Equal, &bytes[..length])
    }

    /// `iifname` or `oifname` in a set.
    pub(super) fn interface_in(&mut self, interface: Interface, set: &str) -> &mut Self {
        self.load_interface(interface, FIRST).find(set, None)
    }

    /// `iifname . oifname vmap @map`
    pub(super) fn interfaces_verdict(&mut self, map: &str) -> &mut Self {
        // The second name goes into the next 16 bytes, NFT_REG_2.
        self.load_interface(Interface::In, FIRST).load_interface(Interface::Out, 2).find(map, Some(0))
    }

    fn load_interface(&mut self, interface: Interface, register: u32) -> &mut Self {
        let key = if interface == Interface::In { META_IIFNAME } else { META_OIFNAME };
        self.meta(key, register)
    }

    /// `ip saddr` or `ip daddr` in a network.
    pub(super) fn address_in(&mut self, end: End, network: &Subnet) -> &mut Self {
        let mask = network.mask_octets();
        self.load_address(end, FIRST);
        if mask.iter().any(|byte| *byte != 255) {
            self.mask(&mask);
        }
        self.compare(Is::Equal, &octets(network.first()))
    }

    /// Loads an address of the packet.
    fn load_address(&mut self, end: End, register: u32) -> &mut Self {
        // Offsets in the headers: RFC 791, 3.1; RFC 8200, 3.
        let (length, source) = if self.family == Family::V4 { (4, 12) } else { (16, 8) };
        let offset = if end == End::Source { source } else { source + length };
        self.payload(NETWORK_HEADER, offset, length, register)
    }

    /// The 4-byte register behind so many addresses and further words.
    fn behind(&self, addresses: u32, words: u32) -> u32 {
        FIRST_WORD + words + addresses * if self.family == Family::V4 { 1 } else { 4 }
    }

    /// `ct state established,related`
    pub(super) fn established(&mut self) -> &mut Self {
        self.ct_has(CT_STATE, 0x2 | 0x4)
    }

    /// `ct status dnat`
    pub(super) fn redirected(&mut self) -> &mut Self {
        self.ct_has(CT_STATUS, 1 << 5)
    }

    /// `fib daddr type local`
    pub(super) fn addressed_to_host(&mut self) -> &mut Self {
        self.expression("fib", |data| {
            data.attr_be32(1, FIRST);
            data.attr_be32(2, 3); // NFT_FIB_RESULT_ADDRTYPE
            data.attr_be32(3, 2); // NFTA_FIB_F_DADDR
        });
        self.compare(Is::Equal, &2_u32.to_ne_bytes()) // RTN_LOCAL
    }

    /// `dnat to meta l4proto . th dport map @map`, where the map gives address and port.
    pub(super) fn redirect_by_port(&mut self, map: &str) -> &mut Self {
        self.meta(META_L4PROTO, FIRST).payload(TRANSPORT_HEADER, DPORT, 2, SECOND);
        self.find(map, Some(FIRST)).redirect()
    }

    /// `dnat to ip daddr . meta l4proto . th dport map @map`
    pub(super) fn redirect_by_address(&mut self, map: &str) -> &mut Self {
        self.load_destination().find(map, Some(FIRST)).redirect()
    }

    /// `ip daddr . meta l4proto . th dport @set`
    pub(super) fn destination_in(&mut self, set: &str) -> &mut Self {
        self.load_destination().find(set, None)
    }

    fn load_destination(&mut self) -> &mut Self {
        let (protocol, port) = (self.behind(1, 0), self.behind(1, 1));
        self.load_address(End::Destination, FIRST).meta(META_L4PROTO, protocol);
        self.payload(TRANSPORT_HEADER, DPORT, 2, port)
    }

    /// `meta l4proto icmp`, or `ipv6-icmp`
    pub(super) fn is_icmp(&mut self) -> &mut Self {
        let number = if self.family == Family::V4 { 1 } else { 58 };
        self.meta(META_L4PROTO, FIRST).compare(Is::Equal, &[number])
    }

    /// `ip saddr @set`
    pub(super) fn source_in(&mut self, set: &str) -> &mut Self {
        self.load_address(End::Source, FIRST).find(set, None)
    }

    /// `meta l4proto PROTOCOL`
    pub(super) fn protocol_is(&mut self, protocol: Protocol) -> &mut Self {
        self.meta(META_L4PROTO, FIRST).compare(Is::Equal, &[protocol.number()])
    }

    /// `ct original proto-dst PORT`: the port before any redirection.
    pub(super) fn asked_for_port(&mut self, port: u16) -> &mut Self {
        self.expression("ct", |data| {
            data.attr_be32(1, FIRST);
            data.attr_be32(2, CT_PROTO_DST);
            data.attr(3, &[ORIGINAL]);
        });
        self.compare(Is::Equal, &port.to_be_bytes())
    }

    /// `ip saddr . ip daddr . meta l4proto . th dport @set`
    pub(super) fn link_in(&mut self, set: &str) -> &mut Self {
        let (to, protocol, port) = (self.behind(1, 0), self.behind(2, 0), self.behind(2, 1));
        self.load_address(End::Source, FIRST).load_address(End::Destination, to).meta(META_L4PROTO, protocol);
        self.payload(TRANSPORT_HEADER, DPORT, 2, port).find(set, None)
    }

    /// `meta l4proto PROTOCOL th dport PORT`
    pub(super) fn port_is(&mut self, protocol: Protocol, port: u16) -> &mut Self {
        self.meta(META_L4PROTO, FIRST).compare(Is::Equal, &[protocol.number()]);
        self.payload(TRANSPORT_HEADER, DPORT, 2, FIRST).compare(Is::Equal, &port.to_be_bytes())
    }

    /// `dnat to ADDRESS:PORT`
    pub(super) fn redirect_to(&mut self, address: IpAddr, port: u16) -> &mut Self {
        let mut target = octets(address);
        target.extend_from_slice(&[port.to_be_bytes()[0], port.to_be_bytes()[1], 0, 0]);
        self.expression("immediate", |data| {
            data.attr_be32(1, FIRST);
            data.nest(2, |value| value.attr(DATA_VALUE, &target));
        });
        self.redirect()
    }

    fn redirect(&mut self) -> &mut Self {
        let port = self.behind(1, 0);
        let family = if self.family == Family::V4 { 2 } else { 10 }; // AF_INET, AF_INET6
        self.expression("nat", |data| {
            data.attr_be32(1, 1); // NFT_NAT_DNAT
            data.attr_be32(2, family);
            data.attr_be32(3, FIRST);
            data.attr_be32(5, port);
        })
    }

    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |_| {})
    }

    pub(super) fn counter(&mut self) -> &mut Self {
        self.expression("counter", |data| {
            data.attr(1, &0_u64.to_be_bytes());
            data.attr(2, &0_u64.to_be_bytes());
        })
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) -> &mut Self {
        self.expression("immediate", |data| {
            data.attr_be32(1, 0); // NFT_REG_VERDICT
            data.nest(2, |value| verdict.write(value));
        })
    }
}
