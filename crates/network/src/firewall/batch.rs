//! Transactions of nftables: everything in a [`Batch`] happens, or nothing
//! (`linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`).

use super::expr::{Expressions, NAME_LENGTH, Verdict, padded};
use crate::{
    addr::{Family, octets},
    error::{Error, Result},
    nl::{self, Body, Channel, Message},
    ports::{PortBinding, Protocol},
};
use std::net::{IpAddr, Ipv4Addr};
use wharf_sys::netlink::{APPEND, CREATE};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// NFPROTO_IPV4, NFPROTO_IPV6
fn protocol_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Kinds of messages, `NFT_MSG_*`.
pub(super) mod kind {
    pub(in crate::firewall) const NEW_TABLE: u16 = 0;
    pub(in crate::firewall) const DELETE_TABLE: u16 = 2;
    pub(in crate::firewall) const NEW_CHAIN: u16 = 3;
    pub(in crate::firewall) const GET_CHAIN: u16 = 4;
    pub(in crate::firewall) const NEW_RULE: u16 = 6;
    pub(in crate::firewall) const GET_RULE: u16 = 7;
    pub(in crate::firewall) const DELETE_RULE: u16 = 8;
    pub(in crate::firewall) const NEW_SET: u16 = 9;
    pub(in crate::firewall) const GET_SET: u16 = 10;
    pub(in crate::firewall) const NEW_ELEMENT: u16 = 12;
    pub(in crate::firewall) const GET_ELEMENT: u16 = 13;
    pub(in crate::firewall) const DELETE_ELEMENT: u16 = 14;
}

/// Elements in one message: an attribute holds 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// Numbers by which `nft` shows a set's key and data (`nft describe`, nftables `include/datatype.h`).
const TYPE_ADDRESS_V4: u32 = 7;
const TYPE_ADDRESS_V6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_SERVICE: u32 = 13;
const TYPE_INTERFACE: u32 = 41;
/// NFT_DATA_VERDICT
const TYPE_VERDICT: u32 = 0xffff_ff00;

const SET_INTERVAL: u32 = 4;
const SET_MAP: u32 = 8;
/// NFT_SET_ELEM_INTERVAL_END: the first that is no more in the range.
const INTERVAL_END: u32 = 1;
/// User data by which `nft` shows interface names (libnftnl `udata.h`: NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes,
/// BYTEORDER_HOST_ENDIAN).
const HOST_ORDER_KEY: [u8; 6] = {
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};

/// The kinds of sets in our table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetKind {
    /// Interface names.
    Interfaces,
    /// Pairs of interface names with a verdict.
    InterfaceVerdicts,
    /// Protocol and port, with address and port.
    Ports,
    /// Address, protocol and port, with address and port.
    AddressPorts,
    /// Who, whom, protocol and port.
    Links,
    /// Address, protocol and port.
    OpenPorts,
    /// Ranges of addresses.
    AddressRanges,
}

/// Where a base chain is hooked in.
pub(super) struct Hook {
    /// `filter` or `nat`.
    pub(super) chain_type: &'static str,
    /// NF_INET_*
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// One element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    key: Vec<u8>,
    data: ElementData,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ElementData {
    None,
    /// It ends a range.
    End,
    Value(Vec<u8>),
    Verdict(Verdict),
}

impl Element {
    pub(super) fn interface(name: &str) -> Self {
        Self { key: padded(name).to_vec(), data: ElementData::None }
    }

    pub(super) fn interface_verdict(from: &str, to: &str, verdict: Verdict) -> Self {
        let key = [padded(from), padded(to)].concat();
        Self { key, data: ElementData::Verdict(verdict) }
    }

    /// A published port, for [`SetKind::AddressPorts`] with its host address and [`SetKind::Ports`] without.
    pub(super) fn port(host: Option<IpAddr>, binding: &PortBinding, container: IpAddr) -> Self {
        let mut key = host.map_or_else(Vec::new, octets);
        key.extend_from_slice(&[binding.protocol.number(), 0, 0, 0]);
        key.extend_from_slice(&padded_port(binding.host_port));
        let mut value = octets(container);
        value.extend_from_slice(&padded_port(binding.container_port));
        Self { key, data: ElementData::Value(value) }
    }

    /// Both elements of a range, for [`SetKind::AddressRanges`].
    pub(super) fn range(first: Ipv4Addr, last: Ipv4Addr) -> Vec<Self> {
        let begin = Self { key: first.octets().to_vec(), data: ElementData::None };
        let end = u32::from(last).checked_add(1).map(|next| next.to_be_bytes().to_vec());
        let end = end.map(|key| Self { key, data: ElementData::End });
        std::iter::once(begin).chain(end).collect()
    }

    /// For [`SetKind::Links`].
    pub(super) fn link(from: IpAddr, to: IpAddr, protocol: Protocol, port: u16) -> Self {
        let mut key = octets(from);
        key.extend(octets(to));
        key.extend_from_slice(&[protocol.number(), 0, 0, 0]);
        key.extend_from_slice(&padded_port(port));
        Self { key, data: ElementData::None }
    }

    /// A container's port, for [`SetKind::OpenPorts`].
    pub(super) fn open_port(binding: &PortBinding, container: IpAddr) -> Self {
        let mut key = octets(container);
        key.extend_from_slice(&[binding.protocol.number(), 0, 0, 0]);
        key.extend_from_slice(&padded_port(binding.container_port));
        Self { key, data: ElementData::None }
    }

    fn write(&self, list: &mut Body<'_>, with_data: bool) {
        list.nest(1, |element| {
            element.nest(1, |key| key.attr(1, &self.key));
            match &self.data {
                _ if !with_data => {}
                ElementData::None => {}
                ElementData::End => element.attr_be32(3, INTERVAL_END),
                ElementData::Value(value) => element.nest(2, |data| data.attr(1, value)),
                ElementData::Verdict(verdict) => element.nest(2, |data| verdict.write(data)),
            }
        });
    }
}

fn padded_port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// `struct nfgenmsg`
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The message of nftables of that kind.
pub(super) fn message(family: Family, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) -> Message {
    nl::message(SUBSYSTEM << 8 | kind, flags, |message| {
        message.fixed(&header(protocol_family(family), 0));
        body(message);
    })
}

/// One transaction about tables of one family.
pub(super) struct Batch {
    family: Family,
    messages: Vec<Message>,
}

impl Batch {
    pub(super) fn new(family: Family) -> Self {
        Self { family, messages: vec![frame(BATCH_BEGIN)] }
    }

    /// Appends a message of nftables.
    pub(super) fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) {
        self.messages.push(message(self.family, kind, flags, body));
    }

    /// Makes a table, or leaves the one that is there.
    pub(super) fn add_table(&mut self, table: &str) {
        self.message(kind::NEW_TABLE, CREATE, |body| body.attr_text(1, table));
    }

    /// Removes a table that must exist.
    pub(super) fn delete_table(&mut self, table: &str) {
        self.message(kind::DELETE_TABLE, 0, |body| body.attr_text(1, table));
    }

    pub(super) fn add_set(&mut self, table: &str, name: &str, set: SetKind) {
        let concat = |types: &[u32]| types.iter().fold(0, |all, one| all << 6 | one);
        let (address, width) = match self.family {
            Family::V4 => (TYPE_ADDRESS_V4, 4),
            Family::V6 => (TYPE_ADDRESS_V6, 16),
        };
        let target = Some((concat(&[address, TYPE_SERVICE]), width + 4));
        let flags = match set {
            SetKind::Interfaces | SetKind::Links | SetKind::OpenPorts => 0,
            SetKind::AddressRanges => SET_INTERVAL,
            SetKind::InterfaceVerdicts | SetKind::Ports | SetKind::AddressPorts => SET_MAP,
        };
        let (key_type, key_length, data): (u32, u32, Option<(u32, u32)>) = match set {
            SetKind::Interfaces => (TYPE_INTERFACE, NAME_LENGTH as u32, None),
            SetKind::InterfaceVerdicts => {
                let pair = concat(&[TYPE_INTERFACE, TYPE_INTERFACE]);
                (pair, 2 * NAME_LENGTH as u32, Some((TYPE_VERDICT, 0)))
            }
            SetKind::Ports => (concat(&[TYPE_PROTOCOL, TYPE_SERVICE]), 8, target),
            SetKind::AddressPorts => (concat(&[address, TYPE_PROTOCOL, TYPE_SERVICE]), width + 8, target),
            SetKind::Links => (concat(&[address, address, TYPE_PROTOCOL, TYPE_SERVICE]), 2 * width + 8, None),
            SetKind::AddressRanges => (address, width, None),
            SetKind::OpenPorts => (concat(&[address, TYPE_PROTOCOL, TYPE_SERVICE]), width + 8, None),
        };
        let id = self.messages.len() as u32;
        self.message(kind::NEW_SET, CREATE, |body| {
            body.attr_text(1, table);
            body.attr_text(2, name);
            body.attr_be32(3, flags);
            body.attr_be32(4, key_type);
            body.attr_be32(5, key_length);
            if let Some((data_type, data_length)) = data {
                body.attr_be32(6, data_type);
                body.attr_be32(7, data_length);
            }
            body.attr_be32(10, id);
            if set == SetKind::Interfaces {
                body.attr(13, &HOST_ORDER_KEY);
            }
        });
    }

    pub(super) fn add_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(kind::NEW_ELEMENT, table, set, elements);
    }

    pub(super) fn delete_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(kind::DELETE_ELEMENT, table, set, elements);
    }

    fn elements(&mut self, message: u16, table: &str, set: &str, elements: &[Element]) {
        let adds = message == kind::NEW_ELEMENT;
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.message(message, if adds { CREATE } else { 0 }, |body| {
                body.attr_text(1, table);
                body.attr_text(2, set);
                body.nest(3, |list| part.iter().for_each(|element| element.write(list, adds)));
            });
        }
    }

    pub(super) fn add_chain(&mut self, table: &str, name: &str, hook: Option<&Hook>) {
        self.message(kind::NEW_CHAIN, CREATE, |body| {
            body.attr_text(1, table);
            body.attr_text(3, name);
            let Some(hook) = hook else { return };
            body.nest(4, |place| {
                place.attr_be32(1, hook.number);
                place.attr_be32(2, hook.priority.cast_unsigned());
            });
            body.attr_be32(5, 1); // policy: NF_ACCEPT
            body.attr_text(7, hook.chain_type);
        });
    }

    /// Appends a rule to a chain.
    pub(super) fn add_rule(
        &mut self,
        table: &str,
        chain: &str,
        expressions: impl FnOnce(&mut Expressions<'_, '_>),
    ) {
        let family = self.family;
        self.message(kind::NEW_RULE, CREATE | APPEND, |body| {
            body.attr_text(1, table);
            body.attr_text(2, chain);
            body.nest(4, |list| expressions(&mut Expressions { list, family }));
        });
    }

    /// Removes every element of a set.
    pub(super) fn clear_set(&mut self, table: &str, set: &str) {
        self.message(kind::DELETE_ELEMENT, 0, |body| {
            body.attr_text(1, table);
            body.attr_text(2, set);
        });
    }

    /// Removes every rule of a chain.
    pub(super) fn clear_chain(&mut self, table: &str, chain: &str) {
        self.message(kind::DELETE_RULE, 0, |body| {
            body.attr_text(1, table);
            body.attr_text(2, chain);
        });
    }

    /// Carries the transaction out.
    pub(super) fn commit(mut self, channel: &Channel, operation: &'static str, table: &str) -> Result<()> {
        if self.messages.len() == 1 {
            return Ok(());
        }
        self.messages.push(frame(BATCH_END));
        let family = if self.family == Family::V4 { "ip" } else { "ip6" };
        channel.transact(&self.messages).map_err(|source| Error::Netlink {
            operation,
            subject: format!("nftables table {family} {table}"),
            source,
        })
    }
}

/// The begin or end of a transaction.
fn frame(kind: u16) -> Message {
    nl::message(kind, 0, |body| body.fixed(&header(0, SUBSYSTEM)))
}
