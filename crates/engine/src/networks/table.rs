//! The networks that exist, in memory and on disk.
//!
//! On disk: `<data-root>/network/files/networks.json`, the networks as an inspect shows them. Docker keeps them
//! in a bolt file beside it, `local-kv.db`, which is neither read nor written yet.

use crate::{Error, Result, blocking::blocking, random};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use wharf_api::{
    network::{Ipam, Network},
    time::Time,
};
use wharf_spec::NetworkId;

/// The networks that every daemon has (source: moby `daemon/network/network_mode.go`).
pub(super) const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// All networks, by id.
pub(super) struct Table {
    path: PathBuf,
    networks: Mutex<BTreeMap<NetworkId, Network>>,
}

impl Table {
    /// Reads the networks, and adds `host` and `none` if they are missing. Blocks.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        crate::config::make_dir(dir, 0o750)?;
        let path = dir.join("networks.json");
        let list: Vec<Network> = match std::fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map_err(|source| Error::Record { path: path.clone(), source })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(Error::Io { step: "read", path, source }),
        };
        let mut networks = BTreeMap::new();
        for network in list {
            match network.id.parse::<NetworkId>() {
                Ok(id) => drop(networks.insert(id, network)),
                Err(error) => tracing::error!(network = network.name, %error, "a network is left out"),
            }
        }
        for (name, driver) in [("host", "host"), ("none", "null")] {
            if !networks.values().any(|network| network.name == name) {
                let (id, network) = new(name, driver);
                networks.insert(id, network);
            }
        }
        Ok(Self { path, networks: Mutex::new(networks) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<NetworkId, Network>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the networks as they are now.
    pub(super) async fn save(&self) -> Result<()> {
        let networks: Vec<Network> = self.lock().values().cloned().collect();
        let path = self.path.clone();
        blocking(move || write(&path, &networks)).await
    }

    /// As [`Table::save`]. Blocks.
    pub(super) fn save_now(&self) -> Result<()> {
        let networks: Vec<Network> = self.lock().values().cloned().collect();
        write(&self.path, &networks)
    }

    /// The network with this id, else of this name, else with this unambiguous id prefix
    /// (source: moby `daemon/network.go`, FindNetwork).
    pub(super) fn find(&self, term: &str) -> Result<(NetworkId, Network)> {
        let networks = self.lock();
        let exact = networks.iter().find(|(id, _)| id.as_str() == term);
        let named = || networks.iter().find(|(_, network)| network.name == term);
        if let Some((id, network)) = exact.or_else(named) {
            return Ok((id.clone(), network.clone()));
        }
        let mut with_prefix =
            networks.iter().filter(|(id, _)| !term.is_empty() && id.as_str().starts_with(term));
        match (with_prefix.next(), with_prefix.count()) {
            (Some((id, network)), 0) => Ok((id.clone(), network.clone())),
            (Some(_), others) => Err(Error::Invalid(format!(
                "network {term} is ambiguous ({} matches found based on ID prefix)",
                others + 1
            ))),
            (None, _) => Err(Error::NoSuchNetwork(term.into())),
        }
    }
}

/// A network that is to be: an id and what every network has.
pub(super) fn new(name: &str, driver: &str) -> (NetworkId, Network) {
    let id = NetworkId::from_random(random::bytes32());
    let network = Network {
        name: name.into(),
        id: id.to_string(),
        created: Time::now(),
        scope: "local".into(),
        driver: driver.into(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".into(), ..Ipam::default() },
        options: Some(BTreeMap::new()),
        labels: Some(BTreeMap::new()),
        ..Network::default()
    };
    (id, network)
}

/// Whole or not at all.
fn write(path: &Path, networks: &[Network]) -> Result<()> {
    let json = serde_json::to_vec(networks).map_err(|source| Error::Encode { what: "networks", source })?;
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, json)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| Error::Io { step: "write", path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_survive_and_are_found_as_docker_finds_them() {
        let dir = std::env::temp_dir().join(format!("wharf-networks-{}", std::process::id()));
        let table = Table::open(&dir).unwrap();
        let (id, mine) = new("mine", "bridge");
        table.lock().insert(id.clone(), mine);
        table.save_now().unwrap();
        let again = Table::open(&dir).unwrap();
        assert_eq!(again.lock().len(), 3);
        for term in ["mine", id.as_str(), &id.as_str()[..20]] {
            assert_eq!(again.find(term).unwrap().0, id, "{term}");
        }
        assert_eq!(again.find("").unwrap_err().to_string(), "network  not found");
        assert_eq!(again.find("nosuch").unwrap_err().to_string(), "network nosuch not found");
        assert_eq!(again.find("host").unwrap().0, table.find("host").unwrap().0, "ids are stable");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
