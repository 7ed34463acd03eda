//! UDP flows that the kernel remembers (ctnetlink; `linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Address translation is decided on a flow's first packet and remembered. A UDP client that goes on sending
//! would never reach a port that was published after its first datagram, and after the container's end would
//! reach whoever gets the address next. So such flows are forgotten (Docker does so too: moby
//! `daemon/libnetwork/drivers/bridge/bridge_linux.go`, `clearConntrackEntries`).

use super::PublishedPort;
use crate::{
    addr::Family,
    error::{Error, Result},
    nl::{Channel, Message, attrs, find_attr, message},
    ports::Protocol,
};
use std::net::IpAddr;
use wharf_sys::netlink::DUMP;

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;

/// `struct nfgenmsg`
fn header(family: Family) -> [u8; 4] {
    [if family == Family::V4 { 2 } else { 10 }, 0, 0, 0]
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    destination_port: u16,
}

/// Forgets flows to these ports that do not lead to their container.
pub(super) fn forget_strays(channel: &Channel, family: Family, ports: &[PublishedPort]) -> Result<()> {
    let udp: Vec<&PublishedPort> = udp(family, ports).collect();
    forget(channel, family, &udp, |port, original, reply| {
        let host = port.binding.host_address;
        let to_host = host.is_unspecified() || host == original.destination;
        to_host && original.destination_port == port.binding.host_port && port.container != reply.source
    })
}

/// Forgets flows that lead to these ports' containers.
pub(super) fn forget_ended(channel: &Channel, family: Family, ports: &[PublishedPort]) -> Result<()> {
    let udp: Vec<&PublishedPort> = udp(family, ports).collect();
    forget(channel, family, &udp, |port, _, reply| port.container == reply.source)
}

fn udp(family: Family, ports: &[PublishedPort]) -> impl Iterator<Item = &PublishedPort> {
    ports.iter().filter(move |port| port.is_of(family) && port.binding.protocol == Protocol::Udp)
}

fn forget(
    channel: &Channel,
    family: Family,
    ports: &[&PublishedPort],
    concerns: impl Fn(&PublishedPort, &Tuple, &Tuple) -> bool,
) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let refused = |source| Error::Netlink { operation: "list", subject: "flows".into(), source };
    let list = message(SUBSYSTEM << 8 | GET, DUMP, |body| body.fixed(&header(family)));
    for flow in channel.ask(&list).map_err(refused)? {
        let Some((original, reply)) = read(&flow) else { continue };
        let is_udp = original.protocol == Protocol::Udp.number();
        if is_udp && ports.iter().any(|port| concerns(port, &original, &reply)) {
            // It may have ended by itself meanwhile.
            let _ = channel.ask(&deletion(family, &flow));
        }
    }
    Ok(())
}

fn read(flow: &Message) -> Option<(Tuple, Tuple)> {
    let payload = flow.payload.get(4..)?;
    Some((read_tuple(find_attr(payload, TUPLE_ORIGINAL)?)?, read_tuple(find_attr(payload, TUPLE_REPLY)?)?))
}

fn read_tuple(tuple: &[u8]) -> Option<Tuple> {
    let (ip, transport) = (find_attr(tuple, 1)?, find_attr(tuple, 2)?);
    // CTA_IP_V4_SRC and _DST are 1 and 2, CTA_IP_V6_SRC and _DST 3 and 4
    let v4 = |kind| Some(IpAddr::from(<[u8; 4]>::try_from(find_attr(ip, kind)?).ok()?));
    let v6 = |kind| Some(IpAddr::from(<[u8; 16]>::try_from(find_attr(ip, kind + 2)?).ok()?));
    let address = |kind| v4(kind).or_else(|| v6(kind));
    let port = find_attr(transport, 3).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    Some(Tuple {
        source: address(1)?,
        destination: address(2)?,
        protocol: *find_attr(transport, 1)?.first()?,
        destination_port: port.unwrap_or(0),
    })
}

/// Names the flow by what the kernel itself said of it.
fn deletion(family: Family, flow: &Message) -> Message {
    message(SUBSYSTEM << 8 | DELETE, 0, |body| {
        body.fixed(&header(family));
        let attributes = flow.payload.get(4..).unwrap_or_default();
        for (kind, payload) in attrs(attributes).filter(|(kind, _)| matches!(*kind, TUPLE_ORIGINAL | ID)) {
            if kind == ID {
                body.attr(kind, payload);
            } else {
                body.nest(kind, |tuple| tuple.fixed(payload));
            }
        }
    })
}
