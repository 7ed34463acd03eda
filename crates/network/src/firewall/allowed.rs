//! The addresses in a set of the host's own rules, which rules of other tables, such as ours, cannot refer to: they
//! are read, and read again whenever that table changes.

use super::{
    ALLOWED, ALLOWED_SOURCES, BridgeRules, Firewall, Table,
    batch::{Batch, Element, kind},
    expr::{End, Interface, Verdict},
};
use crate::{
    addr::{Family, Subnet},
    error::{Error, Result},
    nl::{self, Channel, Message, attrs, find_attr, route::is_gone},
    publish::AllowSet,
};
use std::net::Ipv4Addr;
use wharf_sys::netlink::DUMP;

/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u16 = 10;
/// NFT_SET_INTERVAL
const INTERVAL: u32 = 4;
/// NFT_SET_ELEM_INTERVAL_END
const END: u32 = 1;
/// NFTA_SET_ELEM_KEY and so on, `linux/netfilter/nf_tables.h`
const KEY: u16 = 1;
const FLAGS: u16 = 3;
const KEY_END: u16 = 10;

impl Table {
    /// Reads the set of the host again; whether it is another one now. It counts with the next change of the table.
    fn read_allowed(&mut self) -> Result<bool> {
        let (Some(channel), Some(set)) = (&self.channel, &self.allow.set) else { return Ok(false) };
        if self.family != Family::V4 {
            return Ok(false);
        }
        let now = read(channel, set)?;
        Ok(std::mem::replace(&mut self.allowed, now.clone()) != now)
    }

    /// Lets through whom the set of the host has now.
    fn follow_allowed(&mut self) -> Result<()> {
        if !self.read_allowed()? {
            return Ok(());
        }
        let mut batch = Batch::new(self.family);
        batch.clear_set(&self.table, ALLOWED_SOURCES);
        self.add_allowed(&mut batch);
        self.commit(batch, "change sources in")
    }

    pub(super) fn add_allowed(&self, batch: &mut Batch) {
        let ranges = self.allowed.iter().flat_map(|(first, last)| Element::range(*first, *last));
        batch.add_elements(&self.table, ALLOWED_SOURCES, &ranges.collect::<Vec<_>>());
    }

    /// What passes to published ports of bridges that are filtered.
    pub(super) fn add_allow_rules(&self, batch: &mut Batch) {
        let is_of = |subnet: Subnet| Family::of(subnet.address()) == self.family;
        for allow in self.allow.rules.iter().filter(|allow| allow.source.is_none_or(is_of)) {
            batch.add_rule(&self.table, ALLOWED, |rule| {
                if let Some(source) = &allow.source {
                    rule.address_in(End::Source, source);
                }
                if let Some(protocol) = allow.protocol {
                    rule.protocol_is(protocol);
                }
                if let Some(port) = allow.port {
                    rule.asked_for_port(port);
                }
                rule.verdict(&Verdict::Accept);
            });
        }
        if self.family == Family::V4 {
            batch.add_rule(&self.table, ALLOWED, |rule| {
                rule.source_in(ALLOWED_SOURCES).verdict(&Verdict::Accept);
            });
        }
        let verdict = if self.allow.forward { Verdict::Accept } else { Verdict::Drop };
        batch.add_rule(&self.table, ALLOWED, |rule| {
            rule.counter().verdict(&verdict);
        });
    }

    /// The ways that get a rule of ours in the host's FORWARD chain: not what that chain is to decide.
    pub(super) fn ways_beside_others(&self, network: &BridgeRules) -> Vec<(Interface, String)> {
        match network.filtered && self.allow.forward {
            true => vec![(Interface::In, network.bridge.clone())],
            false => [Interface::In, Interface::Out].map(|way| (way, network.bridge.clone())).to_vec(),
        }
    }
}

impl Firewall {
    /// Reads the set of the host again, for the next [`Firewall::rebuild`].
    pub(crate) fn read_allowed(&mut self) -> Result<()> {
        self.v4.read_allowed().map(drop)
    }

    /// Lets through whom the set of the host has now.
    pub(crate) fn follow_allowed(&mut self) -> Result<()> {
        self.v4.follow_allowed()
    }
}

/// Addresses from the first to the last.
pub(super) type Range = (Ipv4Addr, Ipv4Addr);

/// The addresses of a set; none of one that does not exist, or is of another kind.
pub(super) fn read(channel: &Channel, of: &AllowSet) -> Result<Vec<Range>> {
    let set = look(channel, kind::GET_SET, 0, of)?;
    let Some(set) = set.iter().find_map(|message| message.payload.get(4..)) else {
        tracing::warn!(table = of.table, set = of.set, "no such set: nothing is let through by it");
        return Ok(Vec::new());
    };
    let number = |kind| Some(u32::from_be_bytes(find_attr(set, kind)?.try_into().ok()?));
    if number(5) != Some(4) {
        tracing::warn!(
            table = of.table,
            set = of.set,
            "is no set of IPv4 addresses: nothing is let through by it"
        );
        return Ok(Vec::new());
    }
    let is_interval = number(3).unwrap_or(0) & INTERVAL != 0;
    let elements = look(channel, kind::GET_ELEMENT, DUMP, of)?;
    let payloads = elements.iter().filter_map(|message| message.payload.get(4..));
    let lists = payloads.filter_map(|payload| find_attr(payload, 3));
    let marks: Vec<Mark> = lists.flat_map(|list| attrs(list).filter_map(|(_, one)| mark(one))).collect();
    Ok(if is_interval { ranges(marks) } else { marks.iter().map(|mark| (mark.at, mark.at)).collect() })
}

/// An element: an address, or where a range of them begins or ends (the first that is no more in it).
struct Mark {
    at: Ipv4Addr,
    is_end: bool,
    /// Where the range ends, in one element.
    last: Option<Ipv4Addr>,
}

fn mark(element: &[u8]) -> Option<Mark> {
    let address = |kind| {
        let bytes = find_attr(find_attr(element, kind)?, 1)?;
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
    };
    let flags = find_attr(element, FLAGS).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    Some(Mark { at: address(KEY)?, is_end: flags.unwrap_or(0) & END != 0, last: address(KEY_END) })
}

fn ranges(mut marks: Vec<Mark>) -> Vec<Range> {
    // Where one range ends and the next begins, the end comes first.
    marks.sort_by_key(|mark| (mark.at, !mark.is_end));
    let mut ranges = Vec::new();
    let mut open = None;
    for mark in marks {
        match (mark.is_end, mark.last) {
            (false, Some(last)) => ranges.push((mark.at, last)),
            (false, None) => open = Some(mark.at),
            (true, _) => {
                let before = Ipv4Addr::from(u32::from(mark.at).wrapping_sub(1));
                ranges.extend(open.take().map(|first| (first, before)));
            }
        }
    }
    ranges.extend(open.map(|first| (first, Ipv4Addr::BROADCAST)));
    ranges
}

fn look(channel: &Channel, kind: u16, flags: u16, of: &AllowSet) -> Result<Vec<Message>> {
    let request = nl::message(SUBSYSTEM << 8 | kind, flags, |body| {
        body.fixed(&[of.family, 0, 0, 0]);
        body.attr_text(1, &of.table);
        body.attr_text(2, &of.set);
    });
    match channel.ask(&request) {
        Ok(answer) => Ok(answer),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(source) => {
            let subject = format!("nftables set {} {}", of.table, of.set);
            Err(Error::Netlink { operation: "read", subject, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_make_ranges() {
        let mark = |at: &str, is_end| Mark { at: at.parse().unwrap(), is_end, last: None };
        let marks = vec![
            mark("10.0.2.0", true),
            mark("10.0.1.0", false),
            mark("0.0.0.0", true),
            mark("10.0.1.0", true),
            mark("10.0.0.0", false),
            mark("240.0.0.0", false),
        ];
        let shown: Vec<_> = ranges(marks).iter().map(|(a, b)| format!("{a}-{b}")).collect();
        assert_eq!(shown, ["10.0.0.0-10.0.0.255", "10.0.1.0-10.0.1.255", "240.0.0.0-255.255.255.255"]);
    }
}
