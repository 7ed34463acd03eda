//! From the daemon's settings to the engine's.

use super::{
    Settings,
    validate::{cgroup_driver, container_size},
};
use wharf_engine::config::{Config, NetworkConfig, Proxies, Reloadable, Runtime};

impl Settings {
    /// The part of the settings that concerns the engine.
    pub(crate) fn to_engine(&self) -> Config {
        let defaults = Config::default();
        let driver = cgroup_driver(&self.exec_opts);
        Config {
            data_root: self.data_root.clone(),
            exec_root: self.exec_root.clone(),
            cgroup_driver: driver,
            cgroup_parent: match self.cgroup_parent.as_str() {
                "" => driver.usual_parent().to_owned(),
                parent => parent.to_owned(),
            },
            realtime: (self.cpu_rt_period, self.cpu_rt_runtime),
            // It has been checked.
            container_size: container_size(&self.storage_opts).unwrap_or(0),
            log_driver: self.log_driver.clone(),
            log_options: self.log_opts.clone(),
            keep_removed_logs: u64::try_from(self.keep_removed_logs.0).unwrap_or(0),
            keep_removed_logs_days: u32::try_from(self.keep_removed_logs_days).unwrap_or(0),
            default_ulimits: (self.default_ulimits.iter())
                .map(|(name, limit)| (name.clone(), (limit.soft, limit.hard)))
                .collect(),
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_opts.clone(),
            init: self.init,
            plugin_socket_dir: self.plugin_socket_dir.clone().into(),
            init_path: Some(&self.init_path).filter(|path| !path.is_empty()).map(Into::into),
            cdi_spec_dirs: self.cdi_spec_dirs.clone(),
            host_gateway_ips: self.host_gateway_ips.clone(),
            no_new_privileges: self.no_new_privileges,
            seccomp_profile: match self.seccomp_profile.as_str() {
                "builtin" => String::new(),
                profile => profile.to_owned(),
            },
            experimental: self.experimental,
            registry_certs_dir: self.registry_certs_dir.clone(),
            registry_mirrors_of: self.registry_mirrors_of.clone(),
            network: self.network(),
            proxies: Proxies {
                http: self.http_proxy.clone(),
                https: self.https_proxy.clone(),
                no: self.no_proxy.clone(),
            },
            live: self.to_reloadable().into(),
            ..defaults
        }
    }

    /// The part that a reload changes.
    pub(super) fn to_reloadable(&self) -> Reloadable {
        Reloadable {
            debug: self.debug,
            labels: self.labels.clone(),
            features: self.features.clone(),
            live_restore: self.live_restore,
            shutdown_timeout: self.shutdown_timeout,
            default_stop_timeout: self.default_stop_timeout,
            runtimes: (self.runtimes.iter())
                .map(|(name, r)| {
                    (name.clone(), Runtime { path: r.path.clone().into(), args: r.runtime_args.clone() })
                })
                .collect(),
            default_runtime: self.default_runtime.clone(),
            default_cgroupns_mode: Some(self.default_cgroupns_mode.clone()).filter(|mode| !mode.is_empty()),
            default_ipc_mode: self.default_ipc_mode.clone(),
            default_shm_size: self.default_shm_size.0,
            insecure_registries: self.insecure_registries.clone(),
            registry_mirrors: self.registry_mirrors.clone(),
            max_concurrent_downloads: usize::try_from(self.max_concurrent_downloads).unwrap_or(1),
            max_concurrent_uploads: usize::try_from(self.max_concurrent_uploads).unwrap_or(1),
            max_download_attempts: u32::try_from(self.max_download_attempts).unwrap_or(u32::MAX),
        }
    }

    fn network(&self) -> NetworkConfig {
        NetworkConfig {
            bridge: self.bridge.clone(),
            bip: self.bip.clone(),
            fixed_cidr: self.fixed_cidr.clone(),
            ipv6: self.ipv6,
            bip6: self.bip6.clone(),
            fixed_cidr_v6: self.fixed_cidr_v6.clone(),
            default_address_pools: (self.default_address_pools.iter())
                .map(|pool| (pool.base.clone(), pool.size))
                .collect(),
            mtu: u32::try_from(self.mtu).unwrap_or_default(),
            inter_container_communication: self.icc,
            iptables: self.iptables,
            ip6tables: self.ip6tables,
            userland_proxy: self.userland_proxy,
            ip_forward: self.ip_forward,
            ip_masquerade: self.ip_masq,
            default_ip: self.ip.clone(),
            publish_filtered: self.publish_mode == "filtered",
            publish_allow: self.publish_allow.clone(),
            publish_allow_set: self.publish_allow_set.clone(),
            default_options: self.default_network_opts.clone(),
            ..NetworkConfig::default()
        }
    }
}
