//! What the daemon tells the engine: roots, defaults, limits.

use crate::{Error, Remap, Result, blocking::blocking};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use wharf_api::container::HostConfig;
use wharf_spec::plan::IdMaps;

/// Settings of an engine, as `dockerd`'s flags and `daemon.json` give them.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--data-root`: what survives a reboot.
    pub data_root: PathBuf,
    /// `--exec-root`: run directories, sockets, what lives as long as the machine is up.
    pub exec_root: PathBuf,
    /// Where `wharf-shim` is; `None`: beside our own executable, then in `libexec`.
    pub shim: Option<PathBuf>,
    /// `--exec-opt native.cgroupdriver`.
    pub cgroup_driver: CgroupDriver,
    /// `--cpu-rt-period` and `--cpu-rt-runtime` in microseconds: the share of realtime processes in all groups above
    /// containers; 0 leaves what there is.
    pub realtime: (i64, i64),
    /// `--storage-opt overlay2.size` in bytes: what a container may write; 0 is everything.
    pub container_size: u64,
    /// `--cgroup-parent`; Docker's default with the cgroupfs driver is `/docker`.
    pub cgroup_parent: String,
    /// `--log-driver`.
    pub log_driver: String,
    /// `--log-opt`.
    pub log_options: BTreeMap<String, String>,
    /// So many bytes of logs of removed containers are kept; 0: none.
    pub keep_removed_logs: u64,
    /// For how long.
    pub keep_removed_logs_days: u32,
    /// `--default-ulimit`: name, soft, hard.
    pub default_ulimits: BTreeMap<String, (i64, i64)>,
    /// How many descriptors the daemon was given, soft and hard: what containers get that say nothing of it. Set
    /// by [`Self::raise_descriptor_limit`].
    pub descriptors: Option<(u64, u64)>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-opt`.
    pub dns_options: Vec<String>,
    /// `--init`: containers get an init process unless they say otherwise.
    pub init: bool,
    /// `--init-path`: the program that is this process; `None` is our own.
    pub init_path: Option<PathBuf>,
    /// `--plugin-socket-dir`: where plugins have their sockets.
    pub plugin_socket_dir: PathBuf,
    /// `--cdi-spec-dir`: where devices are described; none at all turns CDI off.
    pub cdi_spec_dirs: Vec<String>,
    /// `--host-gateway-ip`: what `host-gateway` means; empty is the default bridge's address.
    pub host_gateway_ips: Vec<IpAddr>,
    /// `--no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--seccomp-profile`: path of the default profile, `unconfined`, or empty for the built-in one.
    pub seccomp_profile: String,
    /// `--experimental`.
    pub experimental: bool,
    /// `--registry-certs-dir`: a folder for each registry with its certificates.
    pub registry_certs_dir: PathBuf,
    /// `--registry-mirror-of`: `host=url`, mirrors of other registries than Docker Hub.
    pub registry_mirrors_of: Vec<String>,
    /// `--bridge`, `--bip`, `--mtu`, ... as given; read by `networks`.
    pub network: NetworkConfig,
    /// `--http-proxy`, `--https-proxy`, `--no-proxy`.
    pub proxies: Proxies,
    /// `--userns-remap`: containers run in user namespaces. The data-root is that of its ids then.
    pub remap: Option<Remap>,
    /// The version told to clients, a Docker version number since clients compare it.
    pub server_version: String,
    /// Containers whose policies want it are started when the engine opens.
    pub auto_restart: bool,
    /// What a reload changes.
    pub live: Live,
}

/// Settings that change while the engine runs (source: moby `daemon/reload.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloadable {
    /// `--debug`.
    pub debug: bool,
    /// `--label`: the daemon's own labels.
    pub labels: Vec<String>,
    /// `--feature`.
    pub features: BTreeMap<String, bool>,
    /// `--live-restore`: containers run on when the daemon ends.
    pub live_restore: bool,
    /// `--shutdown-timeout` in seconds: how long the daemon waits for containers when it ends; negative for as long
    /// as it takes.
    pub shutdown_timeout: i64,
    /// `--default-stop-timeout` in seconds: how long a container that says nothing of it gets to stop.
    pub default_stop_timeout: i64,
    /// `--add-runtime`: OCI runtimes by name, besides the built-in one.
    pub runtimes: BTreeMap<String, Runtime>,
    /// `--default-runtime`.
    pub default_runtime: String,
    /// `--default-cgroupns-mode`; `None`: private on cgroup v2, host on v1.
    pub default_cgroupns_mode: Option<String>,
    /// `--default-ipc-mode`: `private` or `shareable`.
    pub default_ipc_mode: String,
    /// `--default-shm-size` in bytes.
    pub default_shm_size: i64,
    /// `--insecure-registry`.
    pub insecure_registries: Vec<String>,
    /// `--registry-mirror`.
    pub registry_mirrors: Vec<String>,
    /// `--max-concurrent-downloads`; 0 for no limit.
    pub max_concurrent_downloads: usize,
    /// `--max-concurrent-uploads`; 0 for no limit.
    pub max_concurrent_uploads: usize,
    /// `--max-download-attempts`.
    pub max_download_attempts: u32,
}

/// The settings that change, as they are now. Clones are the same ones, so that a reload reaches all who hold a copy
/// of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<RwLock<Arc<Reloadable>>>);

impl Live {
    /// The settings as they are now; they stay so for who holds them.
    pub fn get(&self) -> Arc<Reloadable> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other settings from now on.
    pub(crate) fn set(&self, settings: Reloadable) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

impl From<Reloadable> for Live {
    fn from(settings: Reloadable) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(settings))))
    }
}

impl Default for Reloadable {
    fn default() -> Self {
        Self {
            debug: false,
            labels: Vec::new(),
            features: BTreeMap::new(),
            live_restore: true,
            shutdown_timeout: 15,
            default_stop_timeout: 10,
            runtimes: BTreeMap::new(),
            default_runtime: "runc".into(),
            default_cgroupns_mode: None,
            default_ipc_mode: "private".into(),
            default_shm_size: 64 << 20,
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
        }
    }
}

/// Who makes control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The engine itself, in the cgroup file system.
    Cgroupfs,
    /// systemd, which is asked for a scope of each container.
    Systemd,
}

impl CgroupDriver {
    /// Docker's choice for this machine (source: moby `daemon/daemon_unix.go`, UsingSystemd).
    pub fn usual() -> Self {
        let is_booted = std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|found| found.is_dir());
        match wharf_sys::cgroup::Hierarchies::detect() {
            Ok(wharf_sys::cgroup::Hierarchies::V2(_)) if is_booted => Self::Systemd,
            _ => Self::Cgroupfs,
        }
    }

    /// Its name in Docker's words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// Where containers are that name no parent.
    pub fn usual_parent(self) -> &'static str {
        match self {
            Self::Cgroupfs => "/docker",
            Self::Systemd => "system.slice",
        }
    }

    /// Whether it takes this parent.
    ///
    /// # Errors
    /// In Docker's words.
    pub fn check_parent(self, parent: &str) -> std::result::Result<(), String> {
        let is_slice = parent.len() > ".slice".len() && parent.ends_with(".slice");
        if self == Self::Systemd && !is_slice {
            return Err(
                "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"".into()
            );
        }
        Ok(())
    }
}

/// An OCI runtime of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub path: PathBuf,
    /// Arguments before its command.
    pub args: Vec<String>,
}

/// The daemon's own connections to registries.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "named as the environment variables")]
pub struct Proxies {
    pub http: String,
    pub https: String,
    pub no: String,
}

/// What the daemon was told about networks.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// `--bridge`: an existing bridge to use, or `none` for no default bridge.
    pub bridge: String,
    /// Name of the bridge made for the default network; Docker's is `docker0`.
    pub bridge_name: String,
    /// `--bip`: address and length of the default bridge, such as `172.17.0.1/16`.
    pub bip: String,
    /// `--fixed-cidr`.
    pub fixed_cidr: String,
    /// `--ipv6`: the default bridge has IPv6.
    pub ipv6: bool,
    /// `--bip6`: IPv6 address and length of the default bridge.
    pub bip6: String,
    /// `--fixed-cidr-v6`.
    pub fixed_cidr_v6: String,
    /// `--default-address-pool`: base and size.
    pub default_address_pools: Vec<(String, u8)>,
    /// `--mtu`; 0 is the kernel's default.
    pub mtu: u32,
    /// `--icc`.
    pub inter_container_communication: bool,
    /// `--iptables`.
    pub iptables: bool,
    /// `--ip6tables`.
    pub ip6tables: bool,
    /// `--ip-forward`.
    pub ip_forward: bool,
    /// `--ip-masq`.
    pub ip_masquerade: bool,
    /// `--ip`: where ports are published by default.
    pub default_ip: String,
    /// `--userland-proxy`: ports are published on IPv6 addresses for containers without IPv6 too.
    pub userland_proxy: bool,
    /// `--publish-mode filtered`: published ports are reached by those only whom the host lets through.
    pub publish_filtered: bool,
    /// `--publish-allow`: sources, ports, or `forward`.
    pub publish_allow: Vec<String>,
    /// `--publish-allow-set`: family, table and set.
    pub publish_allow_set: String,
    /// `--default-network-opt`: options of new networks, by driver.
    pub default_options: BTreeMap<String, BTreeMap<String, String>>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            bridge: String::new(),
            bridge_name: "docker0".into(),
            bip: String::new(),
            fixed_cidr: String::new(),
            ipv6: false,
            bip6: String::new(),
            fixed_cidr_v6: String::new(),
            default_address_pools: Vec::new(),
            mtu: 0,
            inter_container_communication: true,
            iptables: true,
            ip6tables: true,
            ip_forward: true,
            ip_masquerade: true,
            default_ip: "0.0.0.0".into(),
            userland_proxy: true,
            publish_filtered: false,
            publish_allow: Vec::new(),
            publish_allow_set: String::new(),
            default_options: BTreeMap::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_root: "/var/lib/docker".into(),
            exec_root: "/run/docker".into(),
            shim: None,
            cgroup_driver: CgroupDriver::Cgroupfs,
            realtime: (0, 0),
            container_size: 0,
            cgroup_parent: CgroupDriver::Cgroupfs.usual_parent().into(),
            log_driver: "json-file".into(),
            keep_removed_logs: 0,
            keep_removed_logs_days: 7,
            log_options: BTreeMap::new(),
            default_ulimits: BTreeMap::new(),
            descriptors: None,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            init: false,
            init_path: None,
            plugin_socket_dir: "/run/docker/plugins".into(),
            cdi_spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            host_gateway_ips: Vec::new(),
            no_new_privileges: false,
            seccomp_profile: String::new(),
            experimental: false,
            registry_certs_dir: "/etc/docker/certs.d".into(),
            registry_mirrors_of: Vec::new(),
            network: NetworkConfig::default(),
            proxies: Proxies::default(),
            remap: None,
            server_version: "29.0.0".into(),
            auto_restart: true,
            live: Live::default(),
        }
    }
}

impl Config {
    /// Lets this process, and the shims after it, have as many descriptors as there may be: a published port is
    /// one in each. What was given at first is kept for containers.
    pub(crate) fn raise_descriptor_limit(&mut self) {
        match wharf_sys::process::raise_descriptor_limit() {
            Ok(before) => self.descriptors = Some((before.soft, before.hard)),
            Err(error) => tracing::warn!(%error, "the limit of descriptors is not raised"),
        }
    }

    /// The ids of files of containers, `None` where they are the host's.
    pub(crate) fn ids(&self) -> Option<Arc<IdMaps>> {
        self.remap.as_ref().map(|remap| Arc::clone(&remap.ids))
    }

    /// The ids of a container's user namespace, `None` where it is in the host's.
    pub(crate) fn ids_of(&self, host: &HostConfig) -> Option<Arc<IdMaps>> {
        if host.userns_mode.is_host() { None } else { self.ids() }
    }

    /// Gives a file or directory of ours to the containers' root, where that is another than the host's.
    ///
    /// # Errors
    /// When its owner cannot be changed.
    pub(crate) fn give_to_root(&self, path: &Path) -> Result<()> {
        self.remap.as_ref().map_or(Ok(()), |remap| give(path, remap.root))
    }

    /// Lets the containers' root pass through a directory of ours: its group gets it.
    fn let_pass(&self, path: &Path) -> Result<()> {
        self.remap.as_ref().map_or(Ok(()), |remap| give(path, (0, remap.root.1)))
    }

    /// Makes the directory of one container (source: moby `daemon/create.go`).
    ///
    /// # Errors
    /// When it exists or cannot be made.
    pub(crate) fn make_container_dir(&self, dir: &Path) -> Result<()> {
        let io = |source| Error::Io { step: "make container directory", path: dir.into(), source };
        wharf_sys::fault::point("container.mkdir").map_err(io)?;
        std::fs::DirBuilder::new().mode(0o710).create(dir).map_err(io)?;
        self.let_pass(dir)?;
        std::fs::DirBuilder::new().mode(0o700).create(dir.join("checkpoints")).map_err(io)
    }

    /// `<data-root>/containers`
    pub fn containers_dir(&self) -> PathBuf {
        self.data_root.join("containers")
    }

    /// `<data-root>/volumes`
    pub fn volumes_dir(&self) -> PathBuf {
        self.data_root.join("volumes")
    }

    /// `<exec-root>/containers`: one run directory per running container.
    pub fn run_dir(&self) -> PathBuf {
        self.exec_root.join("containers")
    }

    /// Makes the directories the engine itself keeps, with Docker's modes
    /// (source: moby `daemon/daemon.go`, `NewDaemon`).
    pub(crate) async fn prepare_directories(&self) -> Result<()> {
        let wanted = [
            (self.data_root.clone(), 0o710),
            (self.containers_dir(), 0o710),
            (self.volumes_dir(), 0o701),
            (self.data_root.join("tmp"), 0o700),
            (self.exec_root.clone(), 0o711),
            (self.run_dir(), 0o700),
        ];
        let this = self.clone();
        blocking(move || {
            for (dir, mode) in &wanted {
                make_dir(dir, *mode)?;
            }
            this.let_pass(&this.data_root)?;
            this.let_pass(&this.containers_dir())
        })
        .await
    }
}

fn give(path: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|source| Error::Io {
        step: "chown",
        path: path.into(),
        source,
    })
}

/// Makes a directory and what is above it; one that exists is left as it is.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(|source| Error::Io {
        step: "make directory",
        path: dir.into(),
        source,
    })
}
