//! `docker info`.

use crate::{
    cli::{Cli, VERSION},
    client::{Call, Query},
    command::{Command, runs},
    commands::{print, say},
    error::{Error, Result},
    flags::{Flag, Matches},
    format::{
        INSPECT_FORMAT,
        json::{Ordered, to_template},
        template::Format,
    },
    opts::size,
};
use http::Method;
use wharf_api::{gojson, system::Info};

/// `docker system info`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Display system-wide information",
    also: "system info, info",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[Flag::text("format", INSPECT_FORMAT).short('f')];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let call = || Call::new(Method::GET, "/info", Query::new());
    let format = m.text("format");
    if !format.is_empty() {
        let source = if format == "json" { "{{json .}}" } else { format };
        let template = Format::parse(source).map_err(|e| Error::Status { code: 64, text: e.to_string() })?;
        let raw = cli.client().await?.fetch_raw(call()).await?;
        let text = String::from_utf8_lossy(&raw);
        let text = text.trim().strip_suffix('}').unwrap_or_default();
        let client = format!(
            "{text},\"ClientInfo\":{{\"Debug\":false,\"Version\":{VERSION:?},\"Context\":{:?},\"Plugins\":[],\"Warnings\":null}}}}",
            cli.context()
        );
        let value = Ordered::parse(client.as_bytes()).map_err(|e| Error::text(e.to_string()))?;
        say(&template.fill(&to_template(&value))?);
        return Ok(());
    }
    print(&format!(
        "Client:\n Version:    {VERSION}\n Context:    {}\n Debug Mode: false\n\nServer:\n",
        cli.context()
    ));
    let raw = cli.client().await?.fetch_raw(call()).await?;
    let info: Info = gojson::from_slice(&raw).map_err(|e| Error::text(e.to_string()))?;
    let mut out = Lines::default();
    counts(&mut out, &info);
    plugins(&mut out, &info);
    runtimes(&mut out, &info);
    machine(&mut out, &info);
    registries(&mut out, &info);
    print(&format!("{}\n", out.0));
    for warning in info.warnings.iter().flatten() {
        eprintln!("{warning}");
    }
    Ok(())
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Left out when there is no value.
    fn some(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            self.add(&format!("{label} {value}"));
        }
    }
}

fn counts(out: &mut Lines, info: &Info) {
    out.add(&format!(" Containers: {}", info.containers));
    out.add(&format!("  Running: {}", info.containers_running));
    out.add(&format!("  Paused: {}", info.containers_paused));
    out.add(&format!("  Stopped: {}", info.containers_stopped));
    out.add(&format!(" Images: {}", info.images));
    out.some(" Server Version:", &info.server_version);
    out.some(" Storage Driver:", &info.driver);
    for [name, value] in &info.driver_status {
        out.add(&format!("  {name}: {value}"));
    }
    out.some(" Logging Driver:", &info.logging_driver);
    out.some(" Cgroup Driver:", &info.cgroup_driver);
    out.some(" Cgroup Version:", &info.cgroup_version);
}

fn plugins(out: &mut Lines, info: &Info) {
    out.add(" Plugins:");
    out.add(&format!("  Volume: {}", info.plugins.volume.join(" ")));
    out.add(&format!("  Network: {}", info.plugins.network.join(" ")));
    if let Some(authorization) = info.plugins.authorization.as_ref().filter(|a| !a.is_empty()) {
        out.add(&format!("  Authorization: {}", authorization.join(" ")));
    }
    out.add(&format!("  Log: {}", info.plugins.log.join(" ")));
    if !info.cdi_spec_dirs.is_empty() {
        out.add(" CDI spec directories:");
        for folder in &info.cdi_spec_dirs {
            out.add(&format!("  {folder}"));
        }
    }
    if !info.discovered_devices.is_empty() {
        out.add(" Discovered Devices:");
        for device in &info.discovered_devices {
            out.add(&format!("  {}: {}", device.source, device.id));
        }
    }
    out.add(&format!(" Swarm: {}", info.swarm.local_node_state));
}

fn runtimes(out: &mut Lines, info: &Info) {
    if !info.runtimes.is_empty() {
        let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
        out.add(&format!(" Runtimes: {}", names.join(" ")));
        out.add(&format!(" Default Runtime: {}", info.default_runtime));
    }
    if info.os_type != "linux" {
        return;
    }
    out.add(&format!(" Init Binary: {}", info.init_binary));
    out.add(&format!(" containerd version: {}", info.containerd_commit.id));
    out.add(&format!(" runc version: {}", info.runc_commit.id));
    out.add(&format!(" init version: {}", info.init_commit.id));
    if info.security_options.is_empty() {
        return;
    }
    out.add(" Security Options:");
    for option in &info.security_options {
        let fields = || option.split(',').filter_map(|field| field.split_once('='));
        let name = fields().find(|(key, _)| *key == "name").map_or(option.as_str(), |(_, name)| name);
        out.add(&format!("  {name}"));
        for (_, profile) in fields().filter(|(key, _)| *key == "profile") {
            out.add(&format!("   Profile: {profile}"));
        }
    }
}

fn machine(out: &mut Lines, info: &Info) {
    out.some(" Kernel Version:", &info.kernel_version);
    out.some(" Operating System:", &info.operating_system);
    out.some(" OSType:", &info.os_type);
    out.some(" Architecture:", &info.architecture);
    out.add(&format!(" CPUs: {}", info.ncpu));
    out.add(&format!(" Total Memory: {}", size::binary(info.mem_total as f64)));
    out.some(" Name:", &info.name);
    out.some(" ID:", &info.id);
    out.add(&format!(" Docker Root Dir: {}", info.docker_root_dir));
    out.add(&format!(" Debug Mode: {}", info.debug));
    if info.debug {
        out.add(&format!("  File Descriptors: {}", info.n_fd));
        out.add(&format!("  Goroutines: {}", info.n_goroutines));
        out.add(&format!("  System Time: {}", info.system_time));
        out.add(&format!("  EventsListeners: {}", info.n_events_listener));
    }
    out.some(" HTTP Proxy:", &info.http_proxy);
    out.some(" HTTPS Proxy:", &info.https_proxy);
    out.some(" No Proxy:", &info.no_proxy);
    if !info.labels.is_empty() {
        out.add(" Labels:");
        for label in &info.labels {
            out.add(&format!("  {label}"));
        }
    }
    out.add(&format!(" Experimental: {}", info.experimental_build));
}

fn registries(out: &mut Lines, info: &Info) {
    if let Some(registries) = &info.registry_config {
        out.add(" Insecure Registries:");
        for index in registries.index_configs.values().filter(|index| !index.secure) {
            out.add(&format!("  {}", index.name));
        }
        for network in &registries.insecure_registry_cidrs {
            out.add(&format!("  {network}"));
        }
        if let Some(mirrors) = registries.mirrors.as_ref().filter(|m| !m.is_empty()) {
            out.add(" Registry Mirrors:");
            for mirror in mirrors {
                out.add(&format!("  {mirror}"));
            }
        }
    }
    out.add(&format!(" Live Restore Enabled: {}", info.live_restore_enabled));
    out.some(" Product License:", &info.product_license);
    if !info.default_address_pools.is_empty() {
        out.add(" Default Address Pools:");
        for pool in &info.default_address_pools {
            out.add(&format!("   Base: {}, Size: {}", pool.base, pool.size));
        }
    }
    if let Some(firewall) = &info.firewall_backend {
        out.add(&format!(" Firewall Backend: {}", firewall.driver));
        for [name, value] in &firewall.info {
            out.add(&format!("  {name}: {value}"));
        }
    }
}
