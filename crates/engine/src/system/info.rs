//! `GET /info` (source: moby `daemon/info.go`, `daemon/info_unix.go`).

use super::{CgroupVersion, Kernel, System, host};
use crate::{Result, blocking::blocking, cdi::Registry, state::Status};
use wharf_api::{system as api, time::Time};

/// The registry that names without a host mean.
const INDEX: &str = "https://index.docker.io/v1/";

impl System {
    /// Everything about the engine and its machine.
    ///
    /// # Errors
    /// When the engine is going down.
    pub async fn info(&self) -> Result<api::Info> {
        let dirs = self.0.config.cdi_spec_dirs.clone();
        let machine = blocking(move || {
            Ok(Machine {
                distribution: host::distribution(),
                descriptors: host::open_descriptors(),
                devices: Registry::read(&dirs).listing(),
            })
        })
        .await?;
        let kernel = self.0.containers.kernel();
        let config = &self.0.config;
        let live = config.live.get();
        let mut info = api::Info {
            id: self.0.id.clone(),
            images: count(self.0.images.count()),
            driver: "overlay2".into(),
            driver_status: driver_status(),
            plugins: plugins(self.0.containers.parts().volumes.driver_names()),
            debug: live.debug,
            n_fd: machine.descriptors,
            n_goroutines: count(tokio::runtime::Handle::current().metrics().num_alive_tasks()),
            system_time: Time::now(),
            logging_driver: config.log_driver.clone(),
            n_events_listener: count(self.0.events.listeners()),
            kernel_version: host::kernel_release(),
            operating_system: machine.distribution.0,
            os_version: machine.distribution.1,
            os_type: "linux".into(),
            architecture: host::machine(),
            index_server_address: INDEX.into(),
            registry_config: Some(self.registries()),
            ncpu: count(kernel.processors),
            mem_total: i64::try_from(host::memory_total()).unwrap_or(i64::MAX),
            docker_root_dir: config.data_root.to_string_lossy().into_owned(),
            http_proxy: config.proxies.http.clone(),
            https_proxy: config.proxies.https.clone(),
            no_proxy: config.proxies.no.clone(),
            name: super::hostname(),
            labels: live.labels.clone(),
            experimental_build: config.experimental,
            server_version: config.server_version.clone(),
            live_restore_enabled: live.live_restore,
            init_binary: match &config.init_path {
                Some(path) => path.to_string_lossy().into_owned(),
                None => "docker-init".into(),
            },
            cdi_spec_dirs: config.cdi_spec_dirs.clone(),
            security_options: self.security_options(),
            ..api::Info::default()
        };
        self.fill_counts(&mut info);
        fill_abilities(&mut info, kernel);
        info.cgroup_driver = config.cgroup_driver.name().into();
        self.fill_runtimes(&mut info);
        info.swarm.local_node_state = "inactive".into();
        info.warnings = warnings(&info, kernel);
        let (devices, wrong) = machine.devices;
        info.discovered_devices =
            devices.into_iter().map(|id| api::DeviceInfo { source: "cdi".into(), id }).collect();
        if !wrong.is_empty() {
            info.warnings.get_or_insert_default().extend(wrong);
        }
        Ok(info)
    }

    fn fill_counts(&self, info: &mut api::Info) {
        let all = self.0.containers.all();
        info.containers = count(all.len());
        for container in all {
            let counter = container.with(|state| match state.status {
                Status::Running(_) | Status::Restarting(_) => &mut info.containers_running,
                Status::Paused(_) => &mut info.containers_paused,
                _ => &mut info.containers_stopped,
            });
            *counter += 1;
        }
    }

    fn fill_runtimes(&self, info: &mut api::Info) {
        let config = self.0.config.live.get();
        for name in ["runc", "io.containerd.runc.v2"] {
            let runtime = api::Runtime { path: "wharf-runtime".into(), ..api::Runtime::default() };
            info.runtimes.insert(name.into(), runtime);
        }
        for (name, runtime) in &config.runtimes {
            let path = runtime.path.to_string_lossy().into_owned();
            let runtime_args = runtime.args.clone();
            info.runtimes
                .insert(name.clone(), api::Runtime { path, runtime_args, ..api::Runtime::default() });
        }
        info.default_runtime.clone_from(&config.default_runtime);
        for commit in [&mut info.containerd_commit, &mut info.runc_commit, &mut info.init_commit] {
            commit.id = "N/A".into();
        }
    }

    fn registries(&self) -> api::RegistryConfig {
        let config = self.0.config.live.get();
        let mut indexes = std::collections::BTreeMap::new();
        let docker = api::IndexInfo {
            name: "docker.io".into(),
            mirrors: config.registry_mirrors.clone(),
            secure: true,
            official: true,
        };
        indexes.insert("docker.io".to_owned(), docker);
        let is_network = |text: &&String| text.contains('/');
        for name in config.insecure_registries.iter().filter(|r| !is_network(r)) {
            let index = api::IndexInfo { name: name.clone(), ..api::IndexInfo::default() };
            indexes.insert(name.clone(), index);
        }
        let own = ["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
        let networks = config.insecure_registries.iter().filter(is_network).cloned();
        api::RegistryConfig {
            insecure_registry_cidrs: own.into_iter().chain(networks).collect(),
            index_configs: indexes,
            mirrors: (!config.registry_mirrors.is_empty()).then(|| config.registry_mirrors.clone()),
            ..api::RegistryConfig::default()
        }
    }

    fn security_options(&self) -> Vec<String> {
        let kernel = self.0.containers.kernel();
        let mut options = Vec::new();
        if kernel.apparmor {
            options.push("name=apparmor".to_owned());
        }
        if kernel.seccomp {
            let profile = match self.0.config.seccomp_profile.as_str() {
                "" => "builtin",
                own => own,
            };
            options.push(format!("name=seccomp,profile={profile}"));
        }
        if self.0.config.remap.is_some() {
            options.push("name=userns".to_owned());
        }
        if kernel.cgroup_version == CgroupVersion::V2 {
            options.push("name=cgroupns".to_owned());
        }
        if self.0.config.no_new_privileges {
            options.push("name=no-new-privileges".to_owned());
        }
        options
    }
}

struct Machine {
    distribution: (String, String),
    descriptors: i64,
    /// CDI devices, and what is wrong with their specifications.
    devices: (Vec<String>, Vec<String>),
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn driver_status() -> Vec<[String; 2]> {
    [
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ]
    .map(|(key, value)| [key.to_owned(), value.to_owned()])
    .to_vec()
}

fn plugins(volume: Vec<String>) -> api::PluginsInfo {
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
    api::PluginsInfo {
        volume,
        network: words(&["bridge", "host", "ipvlan", "macvlan", "null", "overlay"]),
        authorization: None,
        log: words(&["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"]),
    }
}

fn fill_abilities(info: &mut api::Info, kernel: &Kernel) {
    let v2 = kernel.cgroup_version == CgroupVersion::V2;
    info.cgroup_version = if v2 { "2" } else { "1" }.into();
    info.memory_limit = kernel.memory_limit;
    info.swap_limit = kernel.swap_limit;
    info.oom_kill_disable = kernel.oom_kill_disable;
    info.cpu_cfs_period = kernel.cpu_cfs;
    info.cpu_cfs_quota = kernel.cpu_cfs;
    info.cpu_shares = kernel.cpu_shares;
    info.cpu_set = kernel.cpuset;
    info.pids_limit = kernel.pids_limit;
    info.ipv4_forwarding = Kernel::ipv4_forwarding();
}

fn warnings(info: &api::Info, kernel: &Kernel) -> Option<Vec<String>> {
    let v2 = kernel.cgroup_version == CgroupVersion::V2;
    let missing = [
        (info.memory_limit, "No memory limit support"),
        (info.swap_limit, "No swap limit support"),
        (info.oom_kill_disable || v2, "No oom kill disable support"),
        (info.cpu_cfs_quota, "No cpu cfs quota support"),
        (info.cpu_cfs_period, "No cpu cfs period support"),
        (info.cpu_shares, "No cpu shares support"),
        (info.cpu_set, "No cpuset support"),
        (kernel.blkio_throttle, if v2 { "No io.max support" } else { "No blkio throttle support" }),
        (info.ipv4_forwarding, "IPv4 forwarding is disabled"),
    ];
    let all: Vec<String> =
        missing.iter().filter(|(there, _)| !there).map(|(_, text)| format!("WARNING: {text}")).collect();
    (!all.is_empty()).then_some(all)
}
