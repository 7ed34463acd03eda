//! Legacy links: the names that one container, the parent, has for others, its children (source: moby
//! `daemon/links.go`, `daemon/daemon_unix.go`, registerLinks).
//!
//! They are kept where they were asked for, in the parent's `hostconfig.json`, as `child:alias`; all else follows from
//! there. A child is named there as the client named it, or by its id once it has been renamed.

use super::{
    Container, Containers,
    create::parse_link,
    files,
    link_environment::{self, Linked},
};
use crate::{Error, Result, blocking::blocking};
use std::{collections::BTreeMap, sync::Arc};
use wharf_spec::ContainerId;

impl Containers {
    /// The children of a container, with its aliases for them. In user-defined networks links are aliases of another
    /// kind.
    pub(super) fn children(&self, parent: &Container) -> Vec<(String, Arc<Container>)> {
        let host = parent.host_config();
        if host.network_mode.is_user_defined() {
            return Vec::new();
        }
        let links = host.links.iter().flatten().map(|link| parse_link(link));
        links.filter_map(|(name, alias)| Some((alias.to_owned(), self.get(name).ok()?))).collect()
    }

    /// What links on the default bridge tell a container in its environment (source: moby
    /// `daemon/container_operations_unix.go`, setupLinkedContainers).
    ///
    /// # Errors
    /// When a linked container does not run any more, or is not on the default bridge.
    pub(super) fn link_environment(&self, parent: &Container) -> Result<Vec<String>> {
        if !parent.networks().networks.contains_key("bridge") {
            return Ok(Vec::new());
        }
        let mut variables = Vec::new();
        for (alias, child) in self.children(parent) {
            let address = child.networks().networks.get("bridge").map(|e| e.settings.ip_address.parse());
            let Some(Ok(address)) = address else {
                let id = &child.id;
                return Err(Error::Refused(format!("container {id} not attached to default bridge network")));
            };
            let environment = child.with(|state| state.record.config.env.clone()).unwrap_or_default();
            let linked = Linked {
                name: &format!("/{}/{alias}", parent.name()),
                address,
                ports: child.exposed_ports(),
                environment: &environment,
            };
            variables.extend(link_environment::variables(&linked));
        }
        Ok(variables)
    }

    /// Docker's names of linked containers, beside their own: `/parent/alias`.
    pub(super) fn link_names(&self) -> BTreeMap<ContainerId, Vec<String>> {
        let mut names: BTreeMap<ContainerId, Vec<String>> = BTreeMap::new();
        for parent in self.all() {
            for (alias, child) in self.children(&parent) {
                names.entry(child.id.clone()).or_default().push(format!("/{}/{alias}", parent.name()));
            }
        }
        names
    }

    /// Lets the links to a container outlive its name. No lifecycle lock is held.
    ///
    /// # Errors
    /// When a parent's record cannot be written.
    pub(super) async fn pin_links(&self, child: &Container) -> Result<()> {
        for parent in self.all() {
            if !self.children(&parent).iter().any(|(_, other)| other.id == child.id) {
                continue;
            }
            let _one_verb = parent.lifecycle.lock().await;
            let mut host = (*parent.host_config()).clone();
            for link in host.links.iter_mut().flatten() {
                let (name, alias) = parse_link(link);
                if self.get(name).is_ok_and(|other| other.id == child.id) {
                    *link = format!("{}:{alias}", child.id);
                }
            }
            parent.update(|state| state.host = Arc::new(host));
            parent.save_all().await?;
        }
        Ok(())
    }

    /// Tells the running parents of a container its address, which may be another one at each of its starts (source:
    /// moby `daemon/container_operations_unix.go`, addLegacyLinks).
    pub(super) async fn tell_parents(&self, child: &Container) {
        let address =
            child.networks().networks.get("bridge").and_then(|e| e.settings.ip_address.parse().ok());
        let Some(address) = address else { return };
        for parent in self.all().into_iter().filter(|parent| parent.with(|state| state.status.has_process()))
        {
            for (alias, _) in self.children(&parent).into_iter().filter(|(_, other)| other.id == child.id) {
                let dir = parent.dir().to_owned();
                let told = blocking(move || files::update_hosts(&dir, &alias, address)).await;
                if let Err(error) = told {
                    tracing::warn!(container = %parent.id, %error, "address of a linked container not known");
                }
            }
        }
    }
}
