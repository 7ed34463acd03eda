//! Links: ports that stay open between two containers where containers may not talk to each other.

use super::Inner;
use crate::{firewall::LinkRule, record::SandboxRecord};
use std::collections::BTreeSet;

impl Inner {
    /// Opens what the links of all containers say, after one of them came, went or changed its networks. A failure is
    /// logged: the container is as it was.
    pub(super) fn apply_links(&mut self) {
        let none = self.sandboxes.values().all(|live| live.record.open_links.is_empty());
        if none && !self.firewall.has_links() {
            return;
        }
        let links = self.links();
        if let Err(error) = self.firewall.set_links(links) {
            tracing::warn!(%error, "links between containers are not as they should be");
        }
    }

    /// The ways that are open now: both containers must be there, on a network that needs it.
    pub(super) fn links(&self) -> BTreeSet<LinkRule> {
        let records = self.sandboxes.values().map(|live| &live.record);
        records.flat_map(|record| self.links_from(record)).collect()
    }

    fn links_from(&self, from: &SandboxRecord) -> Vec<LinkRule> {
        let mut rules = Vec::new();
        for link in &from.open_links {
            let Some(target) = self.sandboxes.get(&link.target) else { continue };
            for endpoint in &from.endpoints {
                let shared = target.record.endpoints.iter().find(|other| other.network == endpoint.network);
                let network = self.networks.get(&endpoint.network);
                let talks = network.is_none_or(|network| network.network.spec.inter_container);
                let Some(other) = shared.filter(|_| !talks) else { continue };
                for (from, to) in endpoint.addresses().zip(other.addresses()) {
                    let (from, to) = (from.address(), to.address());
                    rules.push(LinkRule { from, to, protocol: link.protocol, port: link.port });
                }
            }
        }
        rules
    }
}
