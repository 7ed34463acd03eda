//! Names of containers: entered, changed, served.

use super::{Fabric, Inner, Live};
use crate::{
    dns::{self, Forwarding},
    error::{Error, Result},
    record::SandboxRecord,
};
use std::os::fd::OwnedFd;
use wharf_spec::NetworkId;

impl Fabric {
    /// Answers a container's questions for names from now on. What no name of ours answers is asked of the servers in
    /// `forwarding`. Nothing happens where the embedded DNS server does not listen.
    ///
    /// # Errors
    /// [`Error::UnknownSandbox`], or a record that cannot be written.
    pub fn serve_names(&self, container: &str, forwarding: Forwarding) -> Result<()> {
        let mut inner = self.lock();
        let live = inner.sandboxes.get_mut(container);
        let live = live.ok_or_else(|| Error::UnknownSandbox(container.to_owned()))?;
        if live.resolver.is_none() {
            return Ok(());
        }
        live.record.forwarding = Some(forwarding.clone());
        self.records.save(&live.record)?;
        self.serve(live, forwarding)
    }

    /// Gives a container another name, and other names in each network.
    ///
    /// # Errors
    /// [`Error::UnknownSandbox`], or a record that cannot be written.
    pub fn rename(
        &self,
        container: &str,
        name: &str,
        names_in: impl Fn(&NetworkId) -> Vec<String>,
    ) -> Result<()> {
        let mut inner = self.lock();
        let live = inner.sandboxes.get_mut(container);
        let live = live.ok_or_else(|| Error::UnknownSandbox(container.to_owned()))?;
        live.record.name = name.to_owned();
        for endpoint in live.record.endpoints.iter_mut().filter(|endpoint| !endpoint.names.is_empty()) {
            endpoint.names = names_in(&endpoint.network);
        }
        let record = live.record.clone();
        self.enter_names(&inner, &record);
        self.records.save(&record)
    }

    /// Serves a container that an earlier daemon served, with the sockets that its shim kept, else with new ones.
    pub(super) fn serve_again(&self, live: &mut Live, held: &mut Vec<OwnedFd>) -> Result<()> {
        let Some(forwarding) = live.record.forwarding.clone() else { return Ok(()) };
        let kept = dns::Sockets::adopt(held);
        live.resolver = Some(match kept {
            Some(sockets) => sockets,
            None => dns::Sockets::open(live.sandbox.namespace())?,
        });
        self.serve(live, forwarding)
    }

    fn serve(&self, live: &Live, forwarding: Forwarding) -> Result<()> {
        let (Some(server), Some(sockets)) = (&self.dns, &live.resolver) else { return Ok(()) };
        let namespace = live.sandbox.namespace().try_clone_to_owned().map_err(Error::system("dup"))?;
        server.serve(&live.record.container, sockets, namespace, forwarding)
    }

    /// Enters a container as its record says.
    pub(super) fn enter_names(&self, inner: &Inner, record: &SandboxRecord) {
        self.names.set(record, |id| inner.networks.get(id).map(|network| network.network.spec.name.clone()));
    }

    /// Enters every container.
    pub(super) fn enter_all_names(&self) {
        let inner = self.lock();
        inner.sandboxes.values().for_each(|live| self.enter_names(&inner, &live.record));
    }

    /// Nobody finds the container by name any more, it is answered no more, and nothing is passed on to it.
    pub(super) fn stop_serving(&self, container: &str) {
        if let Some(server) = &self.dns {
            server.stop(container);
        }
        if let Some(proxy) = &self.proxy {
            proxy.stop(container);
        }
        self.names.remove(container);
    }
}
