//! The networks that exist, in memory and on disk.
//!
//! On disk: `<data-root>/network/files/local-kv.db`, Docker's file of networks and of what runs in them; see
//! [`records`](super::records) for what is in it. It is held while this is open.

use super::records::{self, NetworkMap, endpoint::Live};
use crate::{Error, Result, database::Database, random};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};
use wharf_api::{
    network::{Ipam, Network},
    time::Time,
};
use wharf_spec::NetworkId;

/// The networks that every daemon has (source: moby `daemon/network/network_mode.go`).
pub(super) const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// The bucket that has everything.
const BUCKET: &str = "libnetwork";
/// Docker's mode for the file.
const MODE: u32 = 0o644;

/// All networks, by id.
pub(super) struct Table {
    networks: Mutex<NetworkMap>,
    database: Database,
}

impl Table {
    /// Reads the networks, and adds `host` and `none` if they are missing. Blocks.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        crate::config::make_dir(dir, 0o750)?;
        let (database, root) = Database::open(&dir.join("local-kv.db"), MODE)?;
        let mut networks = root.bucket(BUCKET).map(records::networks).unwrap_or_default();
        let mut earlier = earlier_builds(dir)?;
        earlier.retain(|_, old| !networks.values().any(|network| network.name == old.name));
        networks.extend(earlier);
        for (name, driver) in [("host", "host"), ("none", "null")] {
            if !networks.values().any(|network| network.name == name) {
                let (id, network) = new(name, driver);
                networks.insert(id, network);
            }
        }
        Ok(Self { networks: Mutex::new(networks), database })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, NetworkMap> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the networks as they are now, and what runs in them. Blocks.
    pub(super) fn save(&self, live: &[Live]) -> Result<()> {
        self.database.change(|root| {
            let records = root.bucket_mut(BUCKET);
            *records = records::updated(records, &self.lock(), live);
        })
    }

    /// Waits until what was written is on the disk. Blocks.
    pub(super) fn sync(&self) -> Result<()> {
        self.database.sync()
    }

    /// Lets another daemon have the file. Blocks.
    pub(super) fn close(&self) {
        self.database.close();
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

/// What builds before 0.1 kept in a file of their own, which is read once.
fn earlier_builds(dir: &Path) -> Result<NetworkMap> {
    let path = dir.join("networks.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(NetworkMap::new()),
        Err(source) => return Err(Error::Io { step: "read", path, source }),
    };
    let networks =
        records::network::from_json(&bytes).map_err(|source| Error::Record { path: path.clone(), source })?;
    tracing::info!(path = %path.display(), "networks taken over into local-kv.db");
    Ok(networks)
}

/// Removes the file of [`earlier_builds`], now that its networks are in the database.
pub(super) fn remove_earlier(dir: &Path) {
    // One that stays is read again, and changes nothing.
    let _ = std::fs::remove_file(dir.join("networks.json"));
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
        table.save(&[]).unwrap();
        assert!(Table::open(&dir).is_err(), "one daemon at a time");
        table.close();
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
