//! Packet filtering and address translation: an nftables table for each family, and rules beside a dropping FORWARD
//! policy.
//!
//! [`Firewall`] keeps the tables `ip <name>` and, where a network has IPv6, `ip6 <name>` equal to the networks and
//! published ports it was told. Both are built alike. What varies is in sets and maps, so that a packet's way does not grow with their number:
//!
//! ```text
//! set bridges              bridges of networks that reach the world
//! set internal             bridges of internal networks
//! map same-bridge          iifname . oifname : accept, or drop where containers may not talk (ICC off)
//! set links                address . address . protocol . port  of linked containers where ICC is off
//! set filtered             bridges whose published ports are reached by those only whom the host lets through
//! set allowed-sources      addresses that a set of the host's own rules has
//! map ports                protocol . port           : container address . port      (host address 0.0.0.0)
//! map ports-by-address     address . protocol . port : container address . port
//! set unprotected          bridges of networks in gateway mode nat-unprotected
//! set routed               bridges of networks in gateway mode routed
//! set open-ports           container address . protocol . port   (published in gateway mode routed)
//!
//! chain guard        prerouting, raw   from a bridge to or from 127.0.0.0/8: drop (route_localnet is on)
//! chain redirect                       the two maps of ports
//! chain prerouting   nat               to this host, but not to 127.0.0.0/8, nor from fe80::/10: redirect
//! chain output       nat               to this host, but not to ::1: redirect
//! chain forward      filter            established; links; same bridge; internal; into a bridge; out of a bridge;
//!                                      between other interfaces, where the host was no router before
//! chain into-bridge                    published (redirected) ones pass, what a gateway mode opens, the rest is dropped
//! chain allowed                        published ones to a bridge in `filtered`: what the host lets through, or drop
//! chain postrouting  nat               masquerade: out of a bridge, from 127.0.0.0/8, back into the same bridge
//! ```
//!
//! Every change is one transaction. The table is remade as a whole when a daemon starts.

mod allowed;
mod batch;
mod expr;
mod families;
mod flows;
mod forward;
mod resolver;
mod watch;

use crate::{
    addr::{Family, Subnet},
    bridge::GatewayMode,
    error::Result,
    nl::Channel,
    ports::{PortBinding, Protocol},
    publish::PublishAllow,
};
use batch::{Batch, Element, Hook, SetKind};
use expr::{End, Interface, Is, Verdict};
pub(crate) use families::{Firewall, Scope, Setup};
pub(crate) use resolver::redirect_dns;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};
pub(crate) use watch::{Changes, Watch};

const BRIDGES: &str = "bridges";
const INTERNAL: &str = "internal";
const SAME_BRIDGE: &str = "same-bridge";
const LINKS: &str = "links";
const FILTERED: &str = "filtered";
const ALLOWED_SOURCES: &str = "allowed-sources";
const PORTS: &str = "ports";
const ADDRESS_PORTS: &str = "ports-by-address";
const UNPROTECTED: &str = "unprotected";
const ROUTED: &str = "routed";
const OPEN_PORTS: &str = "open-ports";

const GUARD: &str = "guard";
const REDIRECT: &str = "redirect";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const FORWARD: &str = "forward";
const INTO_BRIDGE: &str = "into-bridge";
const ALLOWED: &str = "allowed";
const POSTROUTING: &str = "postrouting";

const LOOPBACK: Subnet = Subnet::v4(127, 0, 8);
/// Who has such an address is forwarded nowhere.
const LINK_LOCAL: Subnet = Subnet::v6(0xfe80, 10);

/// What the firewall has to know of a bridge network in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeRules {
    pub(crate) bridge: String,
    pub(crate) subnet: Subnet,
    /// No way out and none in.
    pub(crate) internal: bool,
    /// Traffic that leaves the bridge gets the host's address.
    pub(crate) masquerade: bool,
    /// Containers on the bridge may talk to each other.
    pub(crate) inter_container: bool,
    /// Published ports are reached by those only whom the host lets through.
    pub(crate) filtered: bool,
    /// What passes from outside besides published ports.
    pub(crate) mode: GatewayMode,
}

/// A published port and the container behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublishedPort {
    pub(crate) binding: PortBinding,
    pub(crate) container: IpAddr,
}

impl PublishedPort {
    /// It leads from a host's address to a container's of the family. What does not, since the container has none of
    /// its host address's family, is not redirected but passed on by the proxy.
    fn is_of(&self, family: Family) -> bool {
        [self.binding.host_address, self.container].map(Family::of) == [family; 2]
    }
}

/// A container may reach a port of another one on its bridge, although containers there may not talk to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkRule {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// What happens to packets between interfaces that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// Left to others.
    Open,
    /// Dropped, unless a bridge is involved: this daemon switched forwarding on, and the host was no router
    /// before. Docker sets the policy of FORWARD to DROP then (moby `drivers/bridge/setup_ip_forwarding.go`),
    /// which also cuts off the bridges of other engines; this does not.
    NoRouter,
}

/// The table of one daemon in one family.
#[derive(Debug)]
struct Table {
    family: Family,
    /// `None`: filtering is the business of others (`--iptables=false`).
    channel: Option<Arc<Channel>>,
    table: String,
    forwarding: Forwarding,
    networks: Vec<BridgeRules>,
    links: BTreeSet<LinkRule>,
    allow: Arc<PublishAllow>,
    /// What the set of the host had when it was read.
    allowed: Vec<allowed::Range>,
}

impl Table {
    /// The one of IPv6 is there only while a network has it.
    fn is_needed(&self) -> bool {
        self.family == Family::V4 || !self.networks.is_empty()
    }

    fn commit(&self, batch: Batch, operation: &'static str) -> Result<()> {
        self.channel.as_ref().map_or(Ok(()), |channel| batch.commit(channel, operation, &self.table))
    }

    /// Makes the table anew with these ports, after somebody removed or changed it (`nft flush ruleset`).
    fn rebuild(&self, ports: &[PublishedPort]) -> Result<()> {
        let mut batch = Batch::new(self.family);
        // Adding first makes the removal succeed on a host without the table.
        batch.add_table(&self.table);
        batch.delete_table(&self.table);
        if !self.is_needed() {
            // A kernel that knows nothing of the family has nothing to remove either.
            let _ = self.commit(batch, "remove");
            self.allow_beside_others();
            return Ok(());
        }
        batch.add_table(&self.table);
        self.add_sets(&mut batch);
        self.add_chains(&mut batch);
        self.add_fixed_rules(&mut batch);
        self.add_forward_rules(&mut batch);
        self.add_networks(&mut batch);
        self.add_allow_rules(&mut batch);
        self.add_allowed(&mut batch);
        batch.add_elements(&self.table, LINKS, &link_elements(self.links.iter()));
        self.change_ports(&mut batch, ports, Batch::add_elements);
        self.commit(batch, "set up")?;
        self.allow_beside_others();
        Ok(())
    }

    /// Changes to these networks.
    fn set_networks(&mut self, networks: Vec<BridgeRules>) -> Result<()> {
        let was_needed = self.is_needed();
        let before = std::mem::replace(&mut self.networks, networks);
        if self.is_needed() != was_needed {
            // Without a network there are no ports either.
            let rebuilt = self.rebuild(&[]);
            if rebuilt.is_err() {
                self.networks = before;
            }
            return rebuilt;
        }
        if !was_needed {
            return Ok(());
        }
        let mut batch = Batch::new(self.family);
        for set in [BRIDGES, INTERNAL, FILTERED, SAME_BRIDGE, UNPROTECTED, ROUTED] {
            batch.clear_set(&self.table, set);
        }
        batch.clear_chain(&self.table, POSTROUTING);
        self.add_networks(&mut batch);
        if let Err(error) = self.commit(batch, "change networks of") {
            self.networks = before;
            return Err(error);
        }
        self.allow_beside_others();
        Ok(())
    }

    /// Opens these ways between containers, and closes all others.
    fn set_links(&mut self, links: BTreeSet<LinkRule>) -> Result<()> {
        let mut batch = Batch::new(self.family);
        let closed = link_elements(self.links.difference(&links));
        batch.delete_elements(&self.table, LINKS, &closed);
        batch.add_elements(&self.table, LINKS, &link_elements(links.difference(&self.links)));
        let before = std::mem::replace(&mut self.links, links);
        let changed = self.commit(batch, "change links of");
        if changed.is_err() {
            self.links = before;
        }
        changed
    }

    /// Redirects published ports.
    fn add_ports(&self, ports: &[PublishedPort]) -> Result<()> {
        let mut batch = Batch::new(self.family);
        self.change_ports(&mut batch, ports, Batch::add_elements);
        self.commit(batch, "publish ports in")
    }

    /// Stops redirecting published ports, all of which must be redirected now.
    fn remove_ports(&self, ports: &[PublishedPort]) -> Result<()> {
        let mut batch = Batch::new(self.family);
        self.change_ports(&mut batch, ports, Batch::delete_elements);
        self.commit(batch, "withdraw ports from")
    }

    /// Redirects other ports in place of these, at once.
    fn replace_ports(&self, gone: &[PublishedPort], added: &[PublishedPort]) -> Result<()> {
        let mut batch = Batch::new(self.family);
        self.change_ports(&mut batch, gone, Batch::delete_elements);
        self.change_ports(&mut batch, added, Batch::add_elements);
        self.commit(batch, "change ports in")
    }

    /// Makes clients that were sending to these ports already reach the container from now on.
    fn adopt_flows(&self, ports: &[PublishedPort]) {
        self.change_flows(ports, flows::forget_strays);
    }

    /// Makes clients of an ended container not reach the next one with its address.
    fn end_flows(&self, ports: &[PublishedPort]) {
        self.change_flows(ports, flows::forget_ended);
    }

    fn change_flows(
        &self,
        ports: &[PublishedPort],
        change: fn(&Channel, Family, &[PublishedPort]) -> Result<()>,
    ) {
        let Some(channel) = &self.channel else { return };
        if let Err(error) = change(channel, self.family, ports) {
            tracing::debug!(%error, "flows of before go on as they were");
        }
    }

    /// Removes the table and the rules in the tables of others.
    fn remove(&self) -> Result<()> {
        let Some(channel) = self.channel.as_ref().filter(|_| self.is_needed()) else { return Ok(()) };
        let others = forward::withdraw(channel, self.family, &self.mark());
        let mut batch = Batch::new(self.family);
        batch.add_table(&self.table);
        batch.delete_table(&self.table);
        self.commit(batch, "remove").and(others)
    }

    /// Puts our rules beside a dropping policy again, after somebody remade his tables. What cannot be
    /// done is logged: networking on the host does not depend on us there.
    fn allow_beside_others(&self) {
        let Some(channel) = &self.channel else { return };
        let ways: Vec<_> =
            self.networks.iter().flat_map(|network| self.ways_beside_others(network)).collect();
        if let Err(error) = forward::allow(channel, self.family, &self.mark(), &ways) {
            tracing::warn!(%error, "the host's FORWARD chain drops what containers send, and cannot be changed");
        }
    }

    /// The comment by which our rules in the tables of others are known.
    fn mark(&self) -> String {
        format!("managed by {}", self.table)
    }

    fn add_sets(&self, batch: &mut Batch) {
        batch.add_set(&self.table, BRIDGES, SetKind::Interfaces);
        batch.add_set(&self.table, INTERNAL, SetKind::Interfaces);
        batch.add_set(&self.table, SAME_BRIDGE, SetKind::InterfaceVerdicts);
        batch.add_set(&self.table, FILTERED, SetKind::Interfaces);
        batch.add_set(&self.table, ALLOWED_SOURCES, SetKind::AddressRanges);
        batch.add_set(&self.table, LINKS, SetKind::Links);
        batch.add_set(&self.table, PORTS, SetKind::Ports);
        batch.add_set(&self.table, ADDRESS_PORTS, SetKind::AddressPorts);
        batch.add_set(&self.table, UNPROTECTED, SetKind::Interfaces);
        batch.add_set(&self.table, ROUTED, SetKind::Interfaces);
        batch.add_set(&self.table, OPEN_PORTS, SetKind::OpenPorts);
    }

    fn add_chains(&self, batch: &mut Batch) {
        // Hook numbers and priorities: linux/netfilter.h, linux/netfilter_ipv4.h
        let hook = |chain_type, number, priority| Hook { chain_type, number, priority };
        let mut add = |name, hook: Option<Hook>| batch.add_chain(&self.table, name, hook.as_ref());
        add(REDIRECT, None);
        add(INTO_BRIDGE, None);
        add(ALLOWED, None);
        add(GUARD, Some(hook("filter", 0, -300)));
        add(PREROUTING, Some(hook("nat", 0, -100)));
        add(FORWARD, Some(hook("filter", 2, 0)));
        add(OUTPUT, Some(hook("nat", 3, -100)));
        add(POSTROUTING, Some(hook("nat", 4, 100)));
    }

    fn add_fixed_rules(&self, batch: &mut Batch) {
        let table = &self.table;
        if self.family == Family::V4 {
            for end in [End::Source, End::Destination] {
                batch.add_rule(table, GUARD, |rule| {
                    rule.interface_in(Interface::In, BRIDGES).address_in(end, &LOOPBACK);
                    rule.counter().verdict(&Verdict::Drop);
                });
            }
        }
        batch.add_rule(table, REDIRECT, |rule| {
            rule.redirect_by_address(ADDRESS_PORTS);
        });
        batch.add_rule(table, REDIRECT, |rule| {
            rule.redirect_by_port(PORTS);
        });
        // The kernel forwards nothing from ::1 and from link-local addresses: the sockets of the proxy get that.
        let exceptions = match self.family {
            Family::V4 => [Some((PREROUTING, End::Destination, LOOPBACK)), None],
            Family::V6 => [
                Some((PREROUTING, End::Source, LINK_LOCAL)),
                Subnet::new(Ipv6Addr::LOCALHOST.into(), 128).map(|local| (OUTPUT, End::Destination, local)),
            ],
        };
        for (chain, end, addresses) in exceptions.into_iter().flatten() {
            batch.add_rule(table, chain, |rule| {
                rule.address_in(end, &addresses).verdict(&Verdict::Return);
            });
        }
        for chain in [PREROUTING, OUTPUT] {
            batch.add_rule(table, chain, |rule| {
                rule.addressed_to_host().verdict(&Verdict::Jump(REDIRECT));
            });
        }
    }

    fn add_forward_rules(&self, batch: &mut Batch) {
        let table = &self.table;
        batch.add_rule(table, FORWARD, |rule| {
            rule.established().verdict(&Verdict::Accept);
        });
        batch.add_rule(table, FORWARD, |rule| {
            rule.link_in(LINKS).verdict(&Verdict::Accept);
        });
        batch.add_rule(table, FORWARD, |rule| {
            rule.interfaces_verdict(SAME_BRIDGE);
        });
        for interface in [Interface::In, Interface::Out] {
            batch.add_rule(table, FORWARD, |rule| {
                rule.interface_in(interface, INTERNAL).counter().verdict(&Verdict::Drop);
            });
        }
        batch.add_rule(table, FORWARD, |rule| {
            rule.interface_in(Interface::Out, BRIDGES).verdict(&Verdict::Jump(INTO_BRIDGE));
        });
        batch.add_rule(table, FORWARD, |rule| {
            rule.interface_in(Interface::In, BRIDGES).verdict(&Verdict::Accept);
        });
        if self.forwarding == Forwarding::NoRouter {
            batch.add_rule(table, FORWARD, |rule| {
                rule.interface_is_no(Interface::In, "bridge").interface_is_no(Interface::Out, "bridge");
                rule.counter().verdict(&Verdict::Drop);
            });
        }
        batch.add_rule(table, INTO_BRIDGE, |rule| {
            rule.interface_in(Interface::Out, FILTERED).redirected().verdict(&Verdict::Jump(ALLOWED));
        });
        batch.add_rule(table, INTO_BRIDGE, |rule| {
            rule.interface_in(Interface::Out, FILTERED).destination_in(OPEN_PORTS);
            rule.verdict(&Verdict::Jump(ALLOWED));
        });
        batch.add_rule(table, INTO_BRIDGE, |rule| {
            rule.redirected().verdict(&Verdict::Accept);
        });
        batch.add_rule(table, INTO_BRIDGE, |rule| {
            rule.interface_in(Interface::Out, UNPROTECTED).verdict(&Verdict::Accept);
        });
        batch.add_rule(table, INTO_BRIDGE, |rule| {
            rule.interface_in(Interface::Out, ROUTED).is_icmp().verdict(&Verdict::Accept);
        });
        batch.add_rule(table, INTO_BRIDGE, |rule| {
            rule.destination_in(OPEN_PORTS).verdict(&Verdict::Accept);
        });
        batch.add_rule(table, INTO_BRIDGE, |rule| {
            rule.counter().verdict(&Verdict::Drop);
        });
    }

    /// The elements and rules that depend on the networks.
    fn add_networks(&self, batch: &mut Batch) {
        let table = &self.table;
        let named = |is_wanted: fn(&BridgeRules) -> bool| -> Vec<Element> {
            let wanted = self.networks.iter().filter(|network| is_wanted(network));
            wanted.map(|network| Element::interface(&network.bridge)).collect()
        };
        batch.add_elements(table, BRIDGES, &named(|network| !network.internal));
        batch.add_elements(table, INTERNAL, &named(|network| network.internal));
        batch.add_elements(table, FILTERED, &named(|network| network.filtered));
        batch.add_elements(table, UNPROTECTED, &named(|network| network.mode == GatewayMode::NatUnprotected));
        batch.add_elements(table, ROUTED, &named(|network| network.mode == GatewayMode::Routed));
        let pair = |network: &BridgeRules| {
            let verdict = if network.inter_container { Verdict::Accept } else { Verdict::Drop };
            Element::interface_verdict(&network.bridge, &network.bridge, verdict)
        };
        batch.add_elements(table, SAME_BRIDGE, &self.networks.iter().map(pair).collect::<Vec<_>>());
        if self.family == Family::V4 {
            batch.add_rule(table, POSTROUTING, |rule| {
                rule.interface_in(Interface::Out, BRIDGES).address_in(End::Source, &LOOPBACK);
                rule.masquerade();
            });
        }
        for network in self.networks.iter().filter(|network| !network.internal) {
            if network.masquerade && network.mode != GatewayMode::Routed {
                batch.add_rule(table, POSTROUTING, |rule| {
                    rule.address_in(End::Source, &network.subnet);
                    rule.interface(Interface::Out, Is::Different, &network.bridge).masquerade();
                });
            }
            // A container that reaches one on its own bridge, or itself, through a published port: the answer
            // must come back through here.
            batch.add_rule(table, POSTROUTING, |rule| {
                rule.address_in(End::Source, &network.subnet);
                rule.interface(Interface::Out, Is::Equal, &network.bridge).redirected().masquerade();
            });
        }
    }

    fn change_ports(
        &self,
        batch: &mut Batch,
        ports: &[PublishedPort],
        change: fn(&mut Batch, &str, &str, &[Element]),
    ) {
        let (mut everywhere, mut by_address, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for PublishedPort { binding, container } in ports.iter().filter(|port| port.is_of(self.family)) {
            let host = binding.host_address;
            if binding.is_open_only() {
                open.push(Element::open_port(binding, *container));
            } else if host.is_unspecified() {
                everywhere.push(Element::port(None, binding, *container));
            } else {
                by_address.push(Element::port(Some(host), binding, *container));
            }
        }
        change(batch, &self.table, OPEN_PORTS, &open);
        change(batch, &self.table, PORTS, &everywhere);
        change(batch, &self.table, ADDRESS_PORTS, &by_address);
    }
}

fn link_elements<'a>(links: impl Iterator<Item = &'a LinkRule>) -> Vec<Element> {
    links.map(|link| Element::link(link.from, link.to, link.protocol, link.port)).collect()
}
