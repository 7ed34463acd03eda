//! What is on disk of each sandbox, so that the next daemon knows the live ones and removes the others.

use crate::{
    addr::{Family, Mac, Subnet},
    dns::Forwarding,
    error::{Error, Result},
    ports::{PortBinding, Protocol},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};
use wharf_spec::{EndpointId, NetworkId};

/// One container's networking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    /// The container's id.
    pub(crate) container: String,
    /// The container's name, for messages.
    pub(crate) name: String,
    /// The sandbox's id: 64 hex characters.
    pub(crate) sandbox: String,
    /// The namespace's name: an nsfs mount.
    pub(crate) key: PathBuf,
    /// In the order of their interfaces.
    pub(crate) endpoints: Vec<Endpoint>,
    /// What is published, by the endpoint with the default route.
    pub(crate) ports: Vec<PortBinding>,
    /// Ports of other containers that it may reach where containers may not talk to each other.
    #[serde(default)]
    pub(crate) open_links: Vec<OpenLink>,
    /// Where the embedded DNS server sends what it does not know; `None` where it does not serve.
    #[serde(default)]
    pub(crate) forwarding: Option<Forwarding>,
}

/// A port of another container that is open to one (`--link`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenLink {
    /// The other container's id; it need not run.
    pub target: String,
    /// Transport.
    pub protocol: Protocol,
    /// The target's port.
    pub port: u16,
}

/// A container's attachment to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network.
    pub network: NetworkId,
    /// This attachment.
    pub id: EndpointId,
    /// The interface in the container.
    pub interface: String,
    /// Its index there.
    pub index: u32,
    /// The other end, on the host.
    pub host_interface: String,
    /// IPv4 address and prefix length, in a network with IPv4.
    pub address: Option<Subnet>,
    /// IPv6 address and prefix length, in a network with IPv6.
    #[serde(default)]
    pub address_v6: Option<Subnet>,
    /// The interface's address.
    pub mac: Mac,
    /// The network's IPv4 gateway; `None` in an internal network.
    pub gateway: Option<IpAddr>,
    /// The network's IPv6 gateway; `None` in an internal network.
    #[serde(default)]
    pub gateway_v6: Option<IpAddr>,
    /// The container's IPv4 default route goes here.
    pub is_default_route: bool,
    /// The container's IPv6 default route goes here.
    #[serde(default)]
    pub is_default_route_v6: bool,
    /// What the container is called in this network; empty where the embedded DNS server knows nobody.
    #[serde(default)]
    pub names: Vec<String>,
    /// What it calls others in this network: an alias, and the name it stands for.
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// Further addresses, link-local.
    #[serde(default)]
    pub link_local: Vec<Subnet>,
    /// Kernel parameters of the interface, `net.X.Y.IFNAME.Z=V`.
    #[serde(default)]
    pub sysctls: Vec<String>,
}

impl Endpoint {
    /// Its addresses with their prefix lengths, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = Subnet> {
        [self.address, self.address_v6].into_iter().flatten()
    }

    /// Its address of a family.
    pub fn address_of(&self, family: Family) -> Option<IpAddr> {
        let address = if family == Family::V4 { self.address } else { self.address_v6 };
        address.map(|address| address.address())
    }

    /// The host has the other end of the interface; not of one that shares a device of the host.
    pub fn has_cable(&self) -> bool {
        !self.host_interface.is_empty()
    }

    /// A default route of the container goes here.
    pub fn leads_out(&self) -> bool {
        self.is_default_route || self.is_default_route_v6
    }
}

impl SandboxRecord {
    /// Somebody may ask for the container by name, and it for others.
    pub(crate) fn has_names(&self) -> bool {
        self.endpoints.iter().any(|endpoint| !endpoint.names.is_empty())
    }
}

/// What was found on disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Sandboxes that were in use.
    pub(crate) live: Vec<SandboxRecord>,
    /// Removals that did not finish, with the path of their note.
    pub(crate) removed: Vec<(PathBuf, SandboxRecord)>,
}

/// The folder of records.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(crate) fn open(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).map_err(Error::file("make", &dir))?;
        Ok(Self { dir })
    }

    /// Where a container's record is.
    pub(crate) fn path(&self, container: &str) -> PathBuf {
        self.dir.join(format!("{container}.json"))
    }

    /// Where the record of a sandbox is while what is left of it is removed.
    pub(crate) fn removal_path(&self, sandbox: &str) -> PathBuf {
        self.dir.join(format!("{sandbox}.removing"))
    }

    /// Writes a record: whole or not at all.
    pub(crate) fn save(&self, record: &SandboxRecord) -> Result<()> {
        let path = self.path(&record.container);
        let temporary = path.with_extension("tmp");
        let json =
            serde_json::to_vec(record).map_err(|source| Error::Record { path: path.clone(), source })?;
        fs::write(&temporary, json).map_err(Error::file("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(Error::file("write", &path))
    }

    /// Turns a record into a note that the sandbox is to be removed, and returns the note's path.
    pub(crate) fn mark_removed(&self, record: &SandboxRecord) -> Result<PathBuf> {
        let (path, note) = (self.path(&record.container), self.removal_path(&record.sandbox));
        match fs::rename(&path, &note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("rename", path)(error)),
            _ => Ok(note),
        }
    }

    /// All records. What cannot be read is logged and left out.
    pub(crate) fn load(&self) -> Result<Found> {
        let (mut live, mut removed) = (Vec::new(), Vec::new());
        let entries = fs::read_dir(&self.dir).map_err(Error::file("read", &self.dir))?;
        for entry in entries {
            let path = entry.map_err(Error::file("read", &self.dir))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => live.extend(read(&path)),
                Some("removing") => removed.extend(read(&path).map(|record| (path, record))),
                // Half written when a daemon died: the rename never happened.
                Some("tmp") => drop(fs::remove_file(&path)),
                _ => {}
            }
        }
        live.sort_by(|a, b| a.container.cmp(&b.container));
        Ok(Found { live, removed })
    }
}

fn read(path: &Path) -> Option<SandboxRecord> {
    let parsed = fs::read(path).map_err(Error::file("read", path)).and_then(|json| {
        serde_json::from_slice(&json).map_err(|source| Error::Record { path: path.into(), source })
    });
    parsed.inspect_err(|error| tracing::error!(%error, "a network record is left out")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_broken_ones_do_no_harm() {
        let dir = std::env::temp_dir().join(format!("wharf-records-{}", std::process::id()));
        let records = Records::open(dir.clone()).unwrap();
        let record = SandboxRecord {
            container: "c1".into(),
            name: "web".into(),
            sandbox: "s1".into(),
            key: "/run/x".into(),
            endpoints: Vec::new(),
            ports: Vec::new(),
            open_links: Vec::new(),
            forwarding: None,
        };
        records.save(&record).unwrap();
        fs::write(dir.join("bad.json"), b"{").unwrap();
        fs::write(dir.join("half.tmp"), b"{").unwrap();
        let found = |live, removed| Found { live, removed };
        assert_eq!(records.load().unwrap(), found(vec![record.clone()], vec![]));
        let note = records.mark_removed(&record).unwrap();
        assert_eq!(records.load().unwrap(), found(vec![], vec![(note, record)]));
        assert!(!dir.join("half.tmp").exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
