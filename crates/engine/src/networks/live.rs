//! What runs in the networks, for the records on disk.
//!
//! Nothing waits for these records: they are written a moment after a container has started or ended, many changes
//! at once. A daemon that starts writes them anew from what still runs; see `docs/adr/0009`.

use super::{Inner, Networks, ports, records::endpoint::Live};
use crate::{Result, blocking::blocking, containers::Container};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// How long changes are collected.
const BATCH: Duration = Duration::from_millis(250);
/// After this long without a change what was written goes to the disk.
const QUIET: Duration = Duration::from_secs(2);

/// Writes the records of what runs whenever it has changed, until the networks are gone.
pub(super) async fn keep(inner: Weak<Inner>, changed: Arc<tokio::sync::Notify>) {
    loop {
        changed.notified().await;
        loop {
            tokio::time::sleep(BATCH).await;
            let Some(inner) = inner.upgrade() else { return };
            if let Err(error) = inner.write().await {
                tracing::warn!(%error, "records of endpoints not written");
            }
            drop(inner);
            if tokio::time::timeout(QUIET, changed.notified()).await.is_err() {
                break;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.sync().await {
            tracing::warn!(%error, "records of endpoints not on the disk");
        }
    }
}

impl Networks {
    /// Writes the networks as they are now, and waits for the disk.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) async fn save(&self) -> Result<()> {
        self.0.write().await?;
        self.0.sync().await
    }
}

impl Inner {
    async fn write(&self) -> Result<()> {
        let (table, live) = (Arc::clone(&self.table), self.live());
        blocking(move || table.save(&live)).await
    }

    async fn sync(&self) -> Result<()> {
        let table = Arc::clone(&self.table);
        blocking(move || table.sync()).await
    }

    fn live(&self) -> Vec<Live> {
        self.containers.all().iter().flat_map(|container| self.endpoints(container)).collect()
    }

    fn endpoints(&self, container: &Container) -> Vec<Live> {
        let in_kernel = self.fabric.endpoints(container.id.as_str());
        let networks = container.networks();
        if networks.sandbox_id.is_empty() || (in_kernel.is_none() && container.pid() == 0) {
            return Vec::new();
        }
        let (made, published) = in_kernel.unwrap_or_default();
        let host = container.host_config();
        let exposed = container.exposed_ports();
        let bindings = host.port_bindings.clone().unwrap_or_default();
        // It was checked when the container started.
        let asked = ports::requests(&bindings, &exposed, host.publish_all_ports).unwrap_or_default();
        let joined = networks.networks.values().map(|endpoint| &endpoint.settings);
        let live = joined.filter_map(|settings| {
            Some(Live {
                container: container.id.clone(),
                name: container.name().to_string(),
                sandbox: networks.sandbox_id.clone(),
                network: settings.network_id.parse().ok()?,
                id: Some(settings.endpoint_id.clone()).filter(|id| !id.is_empty())?,
                made: made.iter().find(|made| made.id.as_str() == settings.endpoint_id).cloned(),
                dns_names: settings.dns_names.clone(),
                aliases: settings.aliases.clone().unwrap_or_default(),
                exposed: exposed.clone(),
                asked: asked.clone(),
                published: published.clone(),
            })
        });
        live.collect()
    }
}
