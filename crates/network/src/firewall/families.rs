//! The tables of both families as one.

use super::{BridgeRules, Forwarding, LinkRule, PublishedPort, Table};
use crate::{addr::Family, error::Result, nl::Channel, publish::PublishAllow};
use std::{collections::BTreeSet, sync::Arc};

/// What is filtered; a family without is the business of others (`--iptables=false`, `--ip6tables=false`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) v4: Option<Forwarding>,
    pub(crate) v6: Option<Forwarding>,
}

/// The tables of one daemon.
#[derive(Debug)]
pub(crate) struct Firewall {
    pub(super) v4: Table,
    v6: Table,
}

/// How the tables are to be.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Their name.
    pub(crate) table: String,
    pub(crate) scope: Scope,
    pub(crate) networks: Vec<BridgeRules>,
    /// Who reaches published ports of networks that are `filtered`.
    pub(crate) allow: PublishAllow,
}

impl Firewall {
    /// Makes the tables anew, whatever an earlier daemon left of them, with these networks and ports.
    pub(crate) fn install(channel: Channel, setup: Setup, ports: &[PublishedPort]) -> Result<Self> {
        let Setup { table, scope, networks, allow } = setup;
        let (channel, allow) = (Arc::new(channel), Arc::new(allow));
        let (v4, v6) = split(networks);
        let make = |family, networks, forwarding: Option<Forwarding>| Table {
            family,
            channel: forwarding.map(|_| Arc::clone(&channel)),
            table: table.clone(),
            forwarding: forwarding.unwrap_or(Forwarding::Open),
            networks,
            links: BTreeSet::new(),
            allow: Arc::clone(&allow),
            allowed: Vec::new(),
        };
        let mut firewall = Self { v4: make(Family::V4, v4, scope.v4), v6: make(Family::V6, v6, scope.v6) };
        firewall.read_allowed()?;
        firewall.rebuild(ports)?;
        Ok(firewall)
    }

    /// What happens to IPv6 packets between interfaces that are not ours, from when the next table is made: there is
    /// none before the first network with IPv6.
    pub(crate) fn set_forwarding_v6(&mut self, forwarding: Forwarding) {
        self.v6.forwarding = forwarding;
    }

    /// Makes the tables anew with these ports, after somebody removed or changed them (`nft flush ruleset`).
    pub(crate) fn rebuild(&self, ports: &[PublishedPort]) -> Result<()> {
        self.each(|table| table.rebuild(ports))
    }

    /// Changes to these networks.
    pub(crate) fn set_networks(&mut self, networks: Vec<BridgeRules>) -> Result<()> {
        let (v4, v6) = split(networks);
        self.v4.set_networks(v4)?;
        self.v6.set_networks(v6)
    }

    /// Opens these ways between containers, and closes all others.
    pub(crate) fn set_links(&mut self, links: BTreeSet<LinkRule>) -> Result<()> {
        let (v4, v6) = links.into_iter().partition(|link| link.to.is_ipv4());
        self.v4.set_links(v4)?;
        self.v6.set_links(v6)
    }

    /// Whether any way between containers is open.
    pub(crate) fn has_links(&self) -> bool {
        self.tables().any(|table| !table.links.is_empty())
    }

    /// Redirects published ports.
    pub(crate) fn add_ports(&self, ports: &[PublishedPort]) -> Result<()> {
        self.each(|table| table.add_ports(ports))
    }

    /// Stops redirecting published ports, all of which must be redirected now.
    pub(crate) fn remove_ports(&self, ports: &[PublishedPort]) -> Result<()> {
        self.each(|table| table.remove_ports(ports))
    }

    /// Redirects other ports in place of these.
    pub(crate) fn replace_ports(&self, gone: &[PublishedPort], added: &[PublishedPort]) -> Result<()> {
        self.each(|table| table.replace_ports(gone, added))
    }

    /// Makes clients that were sending to these ports already reach the container from now on.
    pub(crate) fn adopt_flows(&self, ports: &[PublishedPort]) {
        self.tables().for_each(|table| table.adopt_flows(ports));
    }

    /// Makes clients of an ended container not reach the next one with its address.
    pub(crate) fn end_flows(&self, ports: &[PublishedPort]) {
        self.tables().for_each(|table| table.end_flows(ports));
    }

    /// Removes the tables and the rules in the tables of others.
    pub(crate) fn remove(&self) -> Result<()> {
        self.each(Table::remove)
    }

    /// Puts our rules beside dropping policies again, after somebody remade his tables.
    pub(crate) fn allow_beside_others(&self) {
        self.tables().for_each(Table::allow_beside_others);
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        [&self.v4, &self.v6].into_iter()
    }

    /// Does something to every table; the first failure counts.
    fn each(&self, change: impl FnMut(&Table) -> Result<()>) -> Result<()> {
        self.tables().map(change).fold(Ok(()), Result::and)
    }
}

fn split(networks: Vec<BridgeRules>) -> (Vec<BridgeRules>, Vec<BridgeRules>) {
    networks.into_iter().partition(|network| network.subnet.is_v4())
}
