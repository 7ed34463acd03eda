//! The published ports of a container are changed while it runs.

use super::{Fabric, Inner, ports::Allocation, ports::published};
use crate::{
    dns,
    error::{Error, Result},
    ports::{PortBinding, PortRequest},
    record::SandboxRecord,
};
use std::os::fd::OwnedFd;

/// What a container has after its ports were changed.
#[derive(Debug)]
pub struct Republished {
    /// Everything it publishes now.
    pub ports: Vec<PortBinding>,
    /// All sockets for the shim to keep, in place of those that it has.
    pub held: Vec<OwnedFd>,
}

/// What a change comes to.
struct Change {
    /// The bindings as they are to be.
    bindings: Vec<PortBinding>,
    /// Those that are given up, and their ports with them.
    gone: Vec<PortBinding>,
    /// What is new.
    added: Allocation,
}

impl Fabric {
    /// Takes published ports from a running container and gives it others: all or none. A host port that is taken away and
    /// asked for again is never free in between. Connections that exist live on.
    ///
    /// # Errors
    /// [`Error::UnknownSandbox`], [`Error::NotPublished`], a port that is taken, or a refusal of the kernel.
    pub fn republish(
        &self,
        container: &str,
        remove: &[PortRequest],
        add: &[PortRequest],
    ) -> Result<Republished> {
        let mut inner = self.lock();
        let unknown = || Error::UnknownSandbox(container.to_owned());
        let record = inner.sandboxes.get(container).ok_or_else(unknown)?.record.clone();
        let change = inner.plan_change(&record, remove, add)?;
        let result = self.apply_change(&mut inner, &record, &change);
        let Some(live) = inner.sandboxes.get_mut(container) else { return Err(unknown()) };
        if let Err(error) = result {
            live.record = record;
            inner.release_ports(&change.added.bindings);
            return Err(error);
        }
        live.reservation.release(&change.gone);
        live.reservation.absorb(change.added.reservation);
        inner.release_ports(&change.gone);
        let live = inner.sandboxes.get(container).ok_or_else(unknown)?;
        self.serve_ports(&inner.networks, live);
        let sockets = live.resolver.iter().flat_map(dns::Sockets::descriptors);
        let sockets = sockets.chain(live.reservation.descriptors());
        let held = sockets.map(|fd| fd.try_clone_to_owned().map_err(Error::system("dup")));
        Ok(Republished { ports: live.record.ports.clone(), held: held.collect::<Result<_>>()? })
    }

    /// Redirects as the change says, and writes it down. What was done is undone on failure.
    fn apply_change(&self, inner: &mut Inner, before: &SandboxRecord, change: &Change) -> Result<()> {
        let mut after = before.clone();
        after.ports.clone_from(&change.bindings);
        let (old, new) = (published(before), published(&after));
        self.records.save(&after)?;
        let back = |inner: &mut Inner, error| {
            // The first error says it all.
            let _ = inner.redirect_instead(before, &new, &old);
            let _ = self.records.save(before);
            Err(error)
        };
        if let Err(error) = inner.redirect_instead(&after, &old, &new) {
            return back(inner, error);
        }
        match change.added.reservation.arm() {
            Ok(()) => Ok(()),
            Err(error) => back(inner, error),
        }
    }
}

impl Inner {
    fn plan_change(
        &mut self,
        record: &SandboxRecord,
        remove: &[PortRequest],
        add: &[PortRequest],
    ) -> Result<Change> {
        let missing = |request: &&PortRequest| !record.ports.iter().any(|binding| request.means(binding));
        if let Some(request) = remove.iter().find(missing) {
            return Err(Error::NotPublished { port: request.container_port, protocol: request.protocol });
        }
        let is_removed = |binding: &PortBinding| remove.iter().any(|request| request.means(binding));
        let (mut gone, mut bindings): (Vec<_>, Vec<_>) = record.ports.iter().copied().partition(is_removed);
        let mut others = Vec::new();
        for request in add {
            let moved: Vec<PortBinding> =
                gone.iter().copied().filter(|binding| request.reuses(binding)).collect();
            if moved.is_empty() {
                others.push(request.clone());
                continue;
            }
            gone.retain(|binding| !moved.contains(binding));
            let port = request.container_port;
            bindings.extend(moved.into_iter().map(|binding| PortBinding { container_port: port, ..binding }));
        }
        let outlets = if others.is_empty() { Vec::new() } else { self.outlets(record)? };
        let added = self.allocate_ports(&others, &outlets)?;
        bindings.extend(&added.bindings);
        Ok(Change { bindings, gone, added })
    }

    /// Redirects other ports of a container, which has them from now on.
    fn redirect_instead(
        &mut self,
        record: &SandboxRecord,
        old: &[crate::firewall::PublishedPort],
        new: &[crate::firewall::PublishedPort],
    ) -> Result<()> {
        if let Some(live) = self.sandboxes.get_mut(&record.container) {
            live.record = record.clone();
        }
        let (gone, added): (Vec<_>, Vec<_>) = (
            old.iter().copied().filter(|port| !new.contains(port)).collect(),
            new.iter().copied().filter(|port| !old.contains(port)).collect(),
        );
        if self.firewall.replace_ports(&gone, &added).is_err() {
            // Somebody may have removed our table.
            let all = self.published_ports();
            self.firewall.rebuild(&all)?;
        }
        self.firewall.end_flows(&gone);
        self.firewall.adopt_flows(&added);
        Ok(())
    }
}

impl PortRequest {
    /// Whether this is what the binding came from, or would have.
    fn means(&self, binding: &PortBinding) -> bool {
        (self.container_port, self.protocol) == (binding.container_port, binding.protocol)
            && self.is_at(binding)
    }

    /// Whether exactly the binding's place on the host is asked for.
    fn reuses(&self, binding: &PortBinding) -> bool {
        let is_exact = self.host_ports.is_some_and(|(first, last)| first == last && first != 0);
        is_exact && self.protocol == binding.protocol && self.is_at(binding)
    }

    fn is_at(&self, binding: &PortBinding) -> bool {
        let (address, port) = (binding.host_address, binding.host_port);
        self.host_address.is_none_or(|asked| asked.to_canonical() == address)
            && self.host_ports.is_none_or(|(first, last)| (first..=last).contains(&port))
    }
}
