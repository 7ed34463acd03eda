//! A container's two records on disk, in Docker's form (source: moby `daemon/container/container.go`,
//! `daemon/network/settings.go`, `daemon/volume/mounts/mounts.go`; the order of fields is theirs).
//!
//! `<data-root>/containers/<id>/config.v2.json` is a [`Record`], `hostconfig.json` beside it an API
//! `HostConfig`. Paths in a record point to the root it was written under: they are derived again from the
//! current one when it is read.

use crate::{Config, Error, Result, clock, state};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use wharf_api::{Empty, container as api, mount::Mount, network::EndpointSettings, time::Time};
use wharf_spec::{ContainerId, Descriptor, Platform};
use wharf_sys::fault;

/// `config.v2.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Record {
    pub(super) stream_config: Empty,
    pub(crate) state: StateRecord,
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) created: Time,
    /// By a swarm.
    pub(crate) managed: bool,
    /// The program.
    pub(crate) path: String,
    /// Its arguments.
    pub(crate) args: Option<Vec<String>>,
    pub(crate) config: api::Config,
    /// `sha256:...`, empty for a container without an image.
    pub(crate) image: String,
    pub(crate) image_manifest: Option<Descriptor>,
    pub(crate) network_settings: NetworkSettings,
    pub(crate) log_path: String,
    /// With a slash before it.
    pub(crate) name: String,
    /// The storage driver.
    pub(crate) driver: String,
    #[serde(rename = "OS")]
    pub(crate) os: String,
    pub(crate) image_platform: Platform,
    pub(crate) restart_count: i64,
    pub(crate) has_been_started_before: bool,
    pub(crate) has_been_manually_stopped: bool,
    /// By destination.
    pub(crate) mount_points: BTreeMap<String, MountPoint>,
    pub(super) secret_references: Option<Vec<serde_json::Value>>,
    pub(super) config_references: Option<Vec<serde_json::Value>>,
    pub(crate) mount_label: String,
    pub(crate) process_label: String,
    pub(crate) app_armor_profile: String,
    pub(crate) seccomp_profile: String,
    pub(crate) no_new_privileges: bool,
    pub(crate) writable_cgroups: Option<bool>,
    pub(crate) hostname_path: String,
    pub(crate) hosts_path: String,
    pub(crate) shm_path: String,
    pub(crate) resolv_conf_path: String,
    pub(super) local_log_cache_meta: LocalLogCacheMeta,
}

/// `State` of a record: the booleans of Docker.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct StateRecord {
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: i64,
    exit_code: i64,
    error: String,
    started_at: Time,
    finished_at: Time,
    pub(crate) health: Option<api::Health>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct LocalLogCacheMeta {
    have_notify_enabled: bool,
}

/// `NetworkSettings` of a record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Id of the network namespace, empty when there is none.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Where the namespace can be opened, empty when there is none.
    pub sandbox_key: String,
    /// By the network's name.
    pub networks: BTreeMap<String, Endpoint>,
    service: Option<serde_json::Value>,
    /// Published ports of the running container.
    pub ports: Option<api::PortMap>,
    has_swarm_endpoint: bool,
}

/// One attachment, as it was asked for and as it became.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// What clients see.
    #[serde(flatten)]
    pub settings: EndpointSettings,
    /// The address was chosen by us, not asked for.
    #[serde(rename = "IPAMOperational")]
    pub ipam_operational: bool,
    /// The hardware address that was asked for.
    #[serde(rename = "DesiredMacAddress")]
    pub desired_mac_address: String,
}

impl NetworkSettings {
    /// What stays when the container has ended: what was asked for, nothing of what came of it.
    #[must_use]
    pub fn ended(mut self) -> Self {
        self.sandbox_id.clear();
        self.sandbox_key.clear();
        self.ports = None;
        for endpoint in self.networks.values_mut() {
            endpoint.clear();
        }
        self
    }

    /// What an inspect shows. The fields of old clients are left to the daemon.
    pub fn to_api(&self) -> api::NetworkSettings {
        api::NetworkSettings {
            sandbox_id: self.sandbox_id.clone(),
            sandbox_key: self.sandbox_key.clone(),
            ports: self.ports.clone().unwrap_or_default(),
            networks: self.networks.iter().map(|(name, e)| (name.clone(), e.settings.clone())).collect(),
            ..Default::default()
        }
    }
}

impl Endpoint {
    /// Forgets what came of the request; the request and the network's id stay
    /// (source: moby `daemon/network.go`, cleanOperationalData).
    pub fn clear(&mut self) {
        let settings = &mut self.settings;
        settings.endpoint_id.clear();
        settings.gateway.clear();
        settings.ip_address.clear();
        settings.ip_prefix_len = 0;
        settings.ipv6_gateway.clear();
        settings.global_ipv6_address.clear();
        settings.global_ipv6_prefix_len = 0;
        settings.mac_address.clone_from(&self.desired_mac_address);
        if self.ipam_operational {
            settings.ipam_config = None;
            self.ipam_operational = false;
        }
    }
}

/// One mount point of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct MountPoint {
    /// Path on the host: of a bind mount, or the volume's directory.
    pub(crate) source: String,
    /// Path in the container, cleaned.
    pub(crate) destination: String,
    #[serde(rename = "RW")]
    pub(crate) rw: bool,
    /// Of the volume, empty for others.
    pub(crate) name: String,
    /// Of the volume, empty for others.
    pub(crate) driver: String,
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// The mode as given, such as `ro,z`.
    #[serde(rename = "Relabel", skip_serializing_if = "String::is_empty")]
    pub(crate) mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) propagation: String,
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub(crate) id: String,
    pub(crate) spec: Mount,
    /// A missing source is an error and not made as a directory.
    pub(crate) skip_mountpoint_creation: bool,
    /// A new volume gets what the image has at the destination.
    #[serde(skip)]
    pub(crate) copy_data: bool,
}

impl MountPoint {
    /// What an inspect shows.
    pub(crate) fn to_api(&self) -> api::MountPoint {
        api::MountPoint {
            kind: self.kind.clone(),
            name: self.name.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: self.propagation.clone(),
        }
    }
}

impl Record {
    /// Derives every path below the data-root again: those in directories of containers, and those of volumes.
    pub(crate) fn set_paths(&mut self, config: &Config, host: &api::HostConfig) {
        let containers = config.containers_dir();
        let own = containers.join(&self.id);
        for (path, file) in [
            (&mut self.hostname_path, "hostname"),
            (&mut self.hosts_path, "hosts"),
            (&mut self.resolv_conf_path, "resolv.conf"),
            (&mut self.shm_path, "mounts/shm"),
        ] {
            if !path.is_empty() {
                // With `--network container:` and `--ipc container:` it is another container's file.
                let derived = within_container(path).map_or(own.join(file), |tail| containers.join(tail));
                *path = derived.to_string_lossy().into_owned();
            }
        }
        self.set_log_path(config, host);
        for point in self.mount_points.values_mut() {
            if point.kind == "volume" && point.driver == "local" {
                let data = config.volumes_dir().join(&point.name).join("_data");
                point.source = data.to_string_lossy().into_owned();
            }
        }
    }

    /// Where a volume is that a container starts with.
    pub(crate) fn found_volume(&mut self, name: &str, path: &Path) {
        let points = self.mount_points.values_mut();
        for point in points.filter(|point| point.kind == "volume" && point.name == name) {
            point.source = path.to_string_lossy().into_owned();
        }
    }

    /// Docker shows the log's path only for json-file, and only once there is a log (source: moby
    /// `daemon/container/container.go`, StartLogger).
    pub(crate) fn set_log_path(&mut self, config: &Config, host: &api::HostConfig) {
        let log = config.containers_dir().join(&self.id).join(format!("{}-json.log", self.id));
        self.log_path = match host.log_config.driver.as_str() {
            "json-file" if self.has_been_started_before => log.to_string_lossy().into_owned(),
            _ => String::new(),
        };
    }
}

/// The part of a path from a container's directory on.
fn within_container(path: &str) -> Option<PathBuf> {
    let mut components = Path::new(path).components();
    let is_id =
        |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<ContainerId>().is_ok());
    let id = components.find(|component| is_id(component.as_os_str()))?;
    Some(Path::new(id.as_os_str()).join(components.as_path()))
}

impl StateRecord {
    /// The record of a status.
    pub(crate) fn of(status: &state::Status, health: Option<api::Health>) -> Self {
        let facts = status.facts();
        Self {
            running: facts.running,
            paused: facts.paused,
            restarting: facts.restarting,
            oom_killed: facts.oom_killed,
            dead: facts.dead,
            pid: facts.pid.into(),
            exit_code: facts.exit_code.into(),
            error: facts.error.to_owned(),
            started_at: clock::or_zero(facts.started_at),
            finished_at: clock::or_zero(facts.finished_at),
            health,
        }
    }

    /// The status a record tells of. One that ran is taken at its word: restoring finds out.
    pub(crate) fn status(&self) -> state::Status {
        let started_at = clock::not_zero(self.started_at);
        let code = i32::try_from(self.exit_code).unwrap_or(255);
        let exit = state::Exit {
            code,
            error: self.error.clone(),
            started_at,
            finished_at: clock::not_zero(self.finished_at),
            oom_killed: self.oom_killed,
        };
        match started_at {
            _ if self.dead => state::Status::Dead(Some(exit)),
            _ if self.restarting => state::Status::Restarting(exit),
            Some(started_at) if self.running => {
                let run = state::Run {
                    pid: i32::try_from(self.pid).unwrap_or(0),
                    started_at,
                    last_finished_at: exit.finished_at,
                    oom_killed: self.oom_killed,
                };
                if self.paused { state::Status::Paused(run) } else { state::Status::Running(run) }
            }
            Some(_) => state::Status::Exited(exit),
            None if code == 0 && self.error.is_empty() => state::Status::Created(None),
            None => {
                let failure = state::StartFailure { code, error: self.error.clone() };
                state::Status::Created(Some(failure))
            }
        }
    }
}

/// Reads both records of a container's directory.
///
/// # Errors
/// When the first is missing, one is unreadable, or the id in it is not the directory's name.
pub(crate) fn read(dir: &Path) -> Result<(Record, api::HostConfig)> {
    let record: Record = read_json(&dir.join("config.v2.json"))?;
    let host = match read_json(&dir.join("hostconfig.json")) {
        // As Docker reads it (moby `daemon/container/container.go`, readHostConfig).
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            api::HostConfig::default()
        }
        read => read?,
    };
    if dir.file_name().and_then(|n| n.to_str()) != Some(record.id.as_str()) {
        return Err(Error::Conflict(format!("container id of {} is {}", dir.display(), record.id)));
    }
    Ok((record, host))
}

/// Reads only the container's own record.
///
/// # Errors
/// When it is missing or unreadable.
pub(crate) fn read_record(dir: &Path) -> Result<Record> {
    read_json(&dir.join("config.v2.json"))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(|source| Error::Io { step: "read", path: path.into(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: path.into(), source })
}

/// Writes a record: a temporary beside it, then a rename. No fsync: what a power loss takes is put right at
/// the next start.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut json = wharf_spec::to_go_json(value);
    json.push(b'\n');
    write_file(path, &json, 0o600)
}

/// Replaces a file, whole or not at all.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let error = |step| move |source| Error::Io { step, path: path.into(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    fault::point("container.write").map_err(error("write"))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .map_err(error("write"))?;
    file.write_all(bytes).map_err(error("write"))?;
    fault::point("container.rename").and_then(|()| fs::rename(&temporary, path)).map_err(error("rename"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_order_are_dockers() {
        let text = String::from_utf8(wharf_spec::to_go_json(&Record::default())).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut at = 0;
        for key in "StreamConfig State ID Created Managed Path Args Config Image ImageManifest NetworkSettings LogPath \
            Name Driver OS ImagePlatform RestartCount HasBeenStartedBefore HasBeenManuallyStopped MountPoints \
            SecretReferences ConfigReferences MountLabel ProcessLabel AppArmorProfile SeccompProfile NoNewPrivileges \
            WritableCgroups HostnamePath HostsPath ShmPath ResolvConfPath LocalLogCacheMeta"
            .split_whitespace()
        {
            assert!(value.get(key).is_some(), "{key}");
            let found = text[at..].find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} out of order"));
            at += found;
        }
        assert!(text.contains("\"StreamConfig\":{}"));
        assert!(text.contains("\"StartedAt\":\"0001-01-01T00:00:00Z\""));
    }

    #[test]
    fn records_survive_the_disk() {
        let dir = std::env::temp_dir().join(format!("wharf-record-{}", std::process::id()));
        let id = "ab".repeat(32);
        let dir = dir.join(&id);
        fs::create_dir_all(&dir).unwrap();
        let mut record = Record { id: id.clone(), name: "/x".into(), ..Default::default() };
        let mut endpoint = Endpoint::default();
        endpoint.settings.ip_address = "10.0.0.1".into();
        endpoint.ipam_operational = true;
        record.network_settings.networks.insert("n".into(), endpoint.clone());
        record
            .mount_points
            .insert("/v".into(), MountPoint { mode: "z".into(), rw: true, ..Default::default() });
        write(&dir.join("config.v2.json"), &record).unwrap();
        write(&dir.join("hostconfig.json"), &api::HostConfig::default()).unwrap();
        let (read_back, _) = read(&dir).unwrap();
        assert_eq!(read_back.network_settings.networks["n"], endpoint);
        assert_eq!(read_back.mount_points["/v"].mode, "z");
        let moved = dir.with_file_name("cd".repeat(32));
        fs::rename(&dir, &moved).unwrap();
        assert!(read(&moved).is_err());
        fs::remove_dir_all(moved.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_status_survives_its_record() {
        let at = jiff::Timestamp::new(1_700_000_000, 5).unwrap();
        let mut status = state::Status::Created(None);
        let same = |status: &state::Status| StateRecord::of(status, None).status() == *status;
        assert!(same(&status));
        status.start_failed(127, "no".into());
        assert!(same(&status));
        status = state::Status::Created(None);
        status.started(7, at);
        assert!(same(&status));
        status.paused();
        assert!(same(&status));
        let exit = state::Exit {
            code: 1,
            error: String::new(),
            started_at: Some(at),
            finished_at: Some(at),
            oom_killed: true,
        };
        status.restarting(exit.clone());
        assert!(same(&status));
        status.exited(exit);
        assert!(same(&status));
        status.removal_failed("x".into());
        assert!(same(&status));
    }

    #[test]
    fn paths_follow_the_data_root() {
        let config = Config { data_root: "/new".into(), ..Default::default() };
        let mut record =
            Record { id: "ab".into(), hostname_path: "/old/hostname".into(), ..Default::default() };
        let volume = MountPoint {
            kind: "volume".into(),
            driver: "local".into(),
            name: "v".into(),
            ..Default::default()
        };
        record.mount_points.insert("/v".into(), volume);
        let other = "cd".repeat(32);
        record.resolv_conf_path = format!("/var/lib/docker/containers/{other}/resolv.conf");
        let mut host = api::HostConfig::default();
        host.log_config.driver = "json-file".into();
        record.set_paths(&config, &host);
        assert_eq!(record.hostname_path, "/new/containers/ab/hostname");
        assert_eq!(record.resolv_conf_path, format!("/new/containers/{other}/resolv.conf"));
        assert_eq!((record.hosts_path.as_str(), record.log_path.as_str()), ("", ""), "not started yet");
        record.has_been_started_before = true;
        record.set_paths(&config, &host);
        assert_eq!(record.log_path, "/new/containers/ab/ab-json.log");
        assert_eq!(record.mount_points["/v"].source, "/new/volumes/v/_data");
        assert_eq!(record.shm_path, "");
    }
}
