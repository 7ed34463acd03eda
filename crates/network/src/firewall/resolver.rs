//! Port 53 of the embedded DNS server, redirected in a container's namespace.

use super::{
    batch::{Batch, Hook},
    expr::End,
};
use crate::{
    addr::{Family, Subnet},
    error::{Error, Result},
    nl::Channel,
    ports::Protocol,
};
use std::net::Ipv4Addr;

/// In the container's namespace, where nobody else of ours has a table.
const TABLE: &str = "wharf-resolver";
const OUTPUT: &str = "output";
const PORT: u16 = 53;

/// Makes what is sent to port 53 of `server` arrive on these ports of it, in the channel's namespace. Answers find
/// their way back by connection tracking.
pub(crate) fn redirect_dns(channel: &Channel, server: Ipv4Addr, udp_port: u16, tcp_port: u16) -> Result<()> {
    let mut batch = Batch::new(Family::V4);
    let whole = Subnet::new(server.into(), 32).ok_or(Error::AddressOutOfRange)?;
    // Adding first makes the removal succeed where there is none.
    batch.add_table(TABLE);
    batch.delete_table(TABLE);
    batch.add_table(TABLE);
    // NF_INET_LOCAL_OUT, before the container's own translation
    let hook = Hook { chain_type: "nat", number: 3, priority: -101 };
    batch.add_chain(TABLE, OUTPUT, Some(&hook));
    for (protocol, port) in [(Protocol::Udp, udp_port), (Protocol::Tcp, tcp_port)] {
        batch.add_rule(TABLE, OUTPUT, |rule| {
            rule.address_in(End::Destination, &whole).port_is(protocol, PORT);
            rule.redirect_to(server.into(), port);
        });
    }
    batch.commit(channel, "redirect DNS in", TABLE)
}
