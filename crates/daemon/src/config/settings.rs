//! The merged configuration, typed, with dockerd's defaults.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};
use wharf_api::{Version, container::Ulimit, gojson};

/// What flags and file say together. Fields are named as the keys of `daemon.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", rename = "Config", default)]
pub(crate) struct Settings {
    pub(crate) data_root: PathBuf,
    pub(crate) exec_root: PathBuf,
    pub(crate) pidfile: PathBuf,
    pub(crate) hosts: Vec<String>,
    pub(crate) group: String,
    pub(crate) storage_driver: String,
    pub(crate) exec_opts: Vec<String>,
    pub(crate) cgroup_parent: String,
    pub(crate) cpu_rt_period: i64,
    pub(crate) cpu_rt_runtime: i64,
    pub(crate) storage_opts: Vec<String>,
    pub(crate) debug: bool,
    pub(crate) log_level: String,
    pub(crate) log_format: String,
    pub(crate) labels: Vec<String>,
    pub(crate) live_restore: bool,
    pub(crate) experimental: bool,
    pub(crate) shutdown_timeout: i64,
    pub(crate) default_stop_timeout: i64,
    pub(crate) features: BTreeMap<String, bool>,
    pub(crate) min_api_version: String,
    pub(crate) runtimes: BTreeMap<String, Runtime>,
    pub(crate) default_runtime: String,
    pub(crate) init: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) userns_remap: String,
    pub(crate) seccomp_profile: String,
    pub(crate) default_ulimits: BTreeMap<String, Ulimit>,
    pub(crate) default_shm_size: Size,
    pub(crate) default_ipc_mode: String,
    pub(crate) default_cgroupns_mode: String,
    pub(crate) log_driver: String,
    pub(crate) log_opts: BTreeMap<String, String>,
    pub(crate) keep_removed_logs: Size,
    pub(crate) keep_removed_logs_days: i64,
    pub(crate) dns: Vec<String>,
    pub(crate) dns_opts: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) registry_certs_dir: PathBuf,
    pub(crate) registry_mirrors: Vec<String>,
    pub(crate) registry_mirrors_of: Vec<String>,
    pub(crate) max_concurrent_downloads: i64,
    pub(crate) max_concurrent_uploads: i64,
    pub(crate) max_download_attempts: i64,
    pub(crate) http_proxy: String,
    pub(crate) https_proxy: String,
    pub(crate) no_proxy: String,
    pub(crate) bridge: String,
    pub(crate) bip: String,
    pub(crate) fixed_cidr: String,
    pub(crate) ipv6: bool,
    pub(crate) bip6: String,
    pub(crate) fixed_cidr_v6: String,
    pub(crate) mtu: i64,
    pub(crate) publish_mode: String,
    pub(crate) publish_allow: Vec<String>,
    pub(crate) publish_allow_set: String,
    pub(crate) icc: bool,
    pub(crate) iptables: bool,
    pub(crate) ip6tables: bool,
    pub(crate) userland_proxy: bool,
    pub(crate) ip_forward: bool,
    pub(crate) ip_masq: bool,
    pub(crate) ip: String,
    pub(crate) default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) init_path: String,
    pub(crate) plugin_socket_dir: String,
    pub(crate) host_gateway_ips: Vec<IpAddr>,
    /// Of one address, as Docker had it before 28.
    pub(crate) host_gateway_ip: Option<IpAddr>,
    pub(crate) cdi_spec_dirs: Vec<String>,
    pub(crate) raw_logs: bool,
    pub(crate) metrics_addr: String,
    pub(crate) tls: Option<bool>,
    pub(crate) tlsverify: Option<bool>,
    pub(crate) tlscacert: PathBuf,
    pub(crate) tlscert: PathBuf,
    pub(crate) tlskey: PathBuf,
    pub(crate) default_address_pools: Vec<Pool>,
    /// Options that Wharf takes in their default only, see `options::Support`.
    #[serde(skip)]
    pub(crate) unbuilt: Map<String, Value>,
    /// The keys that were given at all.
    #[serde(skip)]
    pub(crate) set: Vec<String>,
}

/// How connections from the network are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Clients need a certificate of [`Self::ca`].
    pub(crate) verify: bool,
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// `DOCKER_CERT_PATH`, else `DOCKER_CONFIG`, else `~/.docker`.
fn certificate_folder() -> PathBuf {
    let given = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || given("HOME").unwrap_or_default().join(".docker");
    given("DOCKER_CERT_PATH").or_else(|| given("DOCKER_CONFIG")).unwrap_or_else(home)
}

/// A runtime of the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Runtime {
    /// The program.
    pub(crate) path: String,
    /// Arguments before its command.
    pub(crate) runtime_args: Vec<String>,
    /// A containerd shim instead of a program.
    pub(crate) runtime_type: String,
}

/// A pool of subnets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pool {
    /// The prefix that subnets are cut from.
    pub(crate) base: String,
    /// The length of their prefixes.
    pub(crate) size: u8,
}

/// Bytes: a number, or a text with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) i64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(i64),
            Text(String),
        }
        match Form::deserialize(d)? {
            Form::Number(n) => Ok(Self(n)),
            Form::Text(text) => super::options::parse_bytes(&text)
                .map(Self)
                .ok_or_else(|| serde::de::Error::custom(format!("invalid size: '{text}'"))),
        }
    }
}

impl Default for Settings {
    // tidy: long, because it is a list of one line per setting
    fn default() -> Self {
        Self {
            data_root: "/var/lib/docker".into(),
            exec_root: "/var/run/docker".into(),
            pidfile: "/var/run/docker.pid".into(),
            hosts: Vec::new(),
            group: "docker".into(),
            storage_driver: String::new(),
            exec_opts: Vec::new(),
            cgroup_parent: String::new(),
            cpu_rt_period: 0,
            cpu_rt_runtime: 0,
            storage_opts: Vec::new(),
            debug: false,
            log_level: "info".into(),
            log_format: "text".into(),
            labels: Vec::new(),
            live_restore: true,
            experimental: false,
            shutdown_timeout: 15,
            default_stop_timeout: 10,
            features: BTreeMap::new(),
            min_api_version: Version::MIN.to_string(),
            runtimes: BTreeMap::new(),
            default_runtime: "runc".into(),
            init: false,
            no_new_privileges: false,
            userns_remap: String::new(),
            seccomp_profile: "builtin".into(),
            default_ulimits: BTreeMap::new(),
            default_shm_size: Size(64 << 20),
            default_ipc_mode: "private".into(),
            default_cgroupns_mode: String::new(),
            log_driver: "json-file".into(),
            log_opts: BTreeMap::new(),
            keep_removed_logs: Size(0),
            keep_removed_logs_days: 7,
            dns: Vec::new(),
            dns_opts: Vec::new(),
            dns_search: Vec::new(),
            insecure_registries: Vec::new(),
            registry_certs_dir: "/etc/docker/certs.d".into(),
            registry_mirrors: Vec::new(),
            registry_mirrors_of: Vec::new(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            http_proxy: String::new(),
            https_proxy: String::new(),
            no_proxy: String::new(),
            bridge: String::new(),
            bip: String::new(),
            fixed_cidr: String::new(),
            ipv6: false,
            bip6: String::new(),
            fixed_cidr_v6: String::new(),
            mtu: 0,
            publish_mode: "docker".into(),
            publish_allow: Vec::new(),
            publish_allow_set: String::new(),
            icc: true,
            iptables: true,
            ip6tables: true,
            userland_proxy: true,
            ip_forward: true,
            ip_masq: true,
            ip: "0.0.0.0".into(),
            default_network_opts: BTreeMap::new(),
            init_path: String::new(),
            plugin_socket_dir: "/run/docker/plugins".into(),
            host_gateway_ips: Vec::new(),
            host_gateway_ip: None,
            cdi_spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            raw_logs: false,
            metrics_addr: String::new(),
            tls: None,
            tlsverify: None,
            tlscacert: PathBuf::new(),
            tlscert: PathBuf::new(),
            tlskey: PathBuf::new(),
            default_address_pools: Vec::new(),
            unbuilt: Map::new(),
            set: Vec::new(),
        }
    }
}

/// Reads the merged object; what it does not say keeps its default.
pub(super) fn read(merged: Map<String, Value>) -> Result<Settings, String> {
    let text = serde_json::to_vec(&merged).map_err(|e| e.to_string())?;
    let mut settings: Settings = gojson::from_slice(&text).map_err(|e| e.to_string())?;
    settings.unbuilt = merged;
    Ok(settings)
}

impl Settings {
    /// Takes over what the environment says: `DOCKER_MIN_API_VERSION`, and the usual names of proxies.
    ///
    /// # Errors
    /// When the version is out of range.
    pub(super) fn apply_environment(&mut self) -> Result<(), String> {
        if let Ok(version) = std::env::var("DOCKER_MIN_API_VERSION")
            && !version.is_empty()
        {
            super::validate::min_api_version(&version)
                .map_err(|e| format!("invalid DOCKER_MIN_API_VERSION: {e}"))?;
            self.min_api_version = version;
        }
        let asked = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        if asked && self.tlsverify.is_none() {
            self.tlsverify = Some(true);
        }
        for (slot, names) in [
            (&mut self.http_proxy, ["HTTP_PROXY", "http_proxy"]),
            (&mut self.https_proxy, ["HTTPS_PROXY", "https_proxy"]),
            (&mut self.no_proxy, ["NO_PROXY", "no_proxy"]),
        ] {
            if slot.is_empty() {
                *slot = names.iter().find_map(|n| std::env::var(n).ok()).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Files for TLS, where connections from the network are to be encrypted (source: moby
    /// `daemon/command/options.go`, setDefaultOptions): `--tlsverify` turns TLS on whatever it says, and TLS asks
    /// clients for a certificate unless it says no.
    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        let wanted = self.tls.unwrap_or(false) || self.tlsverify.is_some();
        wanted.then(|| {
            let folder = certificate_folder();
            let file = |given: &PathBuf, name: &str| match given.as_os_str().is_empty() {
                true => folder.join(name),
                false => given.clone(),
            };
            TlsFiles {
                verify: self.tlsverify.unwrap_or(true),
                ca: file(&self.tlscacert, "ca.pem"),
                cert: file(&self.tlscert, "cert.pem"),
                key: file(&self.tlskey, "key.pem"),
            }
        })
    }

    /// The oldest API version to serve; it has been checked.
    pub(crate) fn min_version(&self) -> Version {
        self.min_api_version.parse().unwrap_or(Version::MIN)
    }
}
