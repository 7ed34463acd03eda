//! Every option of dockerd: its flag, its key in `daemon.json`, its kind, and whether Wharf does it.

use serde_json::{Value, json};
use std::fmt::Write as _;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Text,
    Int,
    /// A number of bytes with an optional unit.
    Bytes,
    List,
    /// `key=value`, several.
    Map,
    /// `group=key=value`, several.
    Nested,
    /// `name[=bool]`, several.
    Features,
    /// `name=path`, several.
    Runtimes,
    /// `name=soft[:hard]`, several.
    Ulimits,
    /// `base=10.0.0.0/8,size=24`, several.
    Pools,
}

/// What Wharf does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// What dockerd does.
    Built,
    /// Nothing yet: only this value, dockerd's default as JSON, is taken.
    Only(&'static str),
}

/// One option.
#[derive(Debug)]
pub(super) struct Opt {
    /// The flag without dashes; `None`: the file only.
    pub(super) flag: Option<&'static str>,
    /// The letter of the short flag.
    pub(super) short: Option<char>,
    /// The key in the file.
    pub(super) key: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// What Wharf does with it.
    pub(super) support: Support,
    /// One line for `--help`.
    pub(super) help: &'static str,
}

const fn opt(flag: &'static str, key: &'static str, kind: Kind, help: &'static str) -> Opt {
    Opt { flag: Some(flag), short: None, key, kind, support: Support::Built, help }
}

const fn short(short: char, flag: &'static str, key: &'static str, kind: Kind, help: &'static str) -> Opt {
    Opt { flag: Some(flag), short: Some(short), key, kind, support: Support::Built, help }
}

const fn only(flag: &'static str, key: &'static str, kind: Kind, default: &'static str) -> Opt {
    Opt { flag: Some(flag), short: None, key, kind, support: Support::Only(default), help: "" }
}

/// The options in the order of their flags.
pub(super) static OPTIONS: &[Opt] = &[
    opt(
        "add-runtime",
        "runtimes",
        Kind::Runtimes,
        "Register an additional OCI compatible runtime (name=path)",
    ),
    only("allow-direct-routing", "allow-direct-routing", Kind::Bool, "false"),
    only("authorization-plugin", "authorization-plugins", Kind::List, "[]"),
    opt("bip", "bip", Kind::Text, "IPv4 address for the default bridge"),
    opt("bip6", "bip6", Kind::Text, "IPv6 address for the default bridge"),
    short('b', "bridge", "bridge", Kind::Text, "Attach containers to a network bridge"),
    only("bridge-accept-fwmark", "bridge-accept-fwmark", Kind::Text, "\"\""),
    opt("cdi-spec-dir", "cdi-spec-dirs", Kind::List, "CDI specification directories to use"),
    opt("cgroup-parent", "cgroup-parent", Kind::Text, "Set parent cgroup for all containers"),
    only("containerd", "containerd", Kind::Text, "\"\""),
    only("containerd-namespace", "containerd-namespace", Kind::Text, "\"moby\""),
    only("containerd-plugins-namespace", "containerd-plugin-namespace", Kind::Text, "\"plugins.moby\""),
    opt(
        "cpu-rt-period",
        "cpu-rt-period",
        Kind::Int,
        "Limit the CPU real-time period in microseconds for the parent cgroup for all containers (not supported with cgroups v2)",
    ),
    opt(
        "cpu-rt-runtime",
        "cpu-rt-runtime",
        Kind::Int,
        "Limit the CPU real-time runtime in microseconds for the parent cgroup for all containers (not supported with cgroups v2)",
    ),
    only("cri-containerd", "cri-containerd", Kind::Bool, "false"),
    opt(
        "data-root",
        "data-root",
        Kind::Text,
        "Root directory of persistent state (default \"/var/lib/docker\")",
    ),
    short('D', "debug", "debug", Kind::Bool, "Enable debug mode"),
    opt(
        "default-address-pool",
        "default-address-pools",
        Kind::Pools,
        "Default address pools for node specific local networks",
    ),
    opt(
        "default-cgroupns-mode",
        "default-cgroupns-mode",
        Kind::Text,
        "Default mode for containers cgroup namespace (\"host\" | \"private\")",
    ),
    only("default-gateway", "default-gateway", Kind::Text, "\"\""),
    only("default-gateway-v6", "default-gateway-v6", Kind::Text, "\"\""),
    opt(
        "default-ipc-mode",
        "default-ipc-mode",
        Kind::Text,
        "Default mode for containers ipc (\"shareable\" | \"private\") (default \"private\")",
    ),
    opt("default-network-opt", "default-network-opts", Kind::Nested, "Default network options"),
    opt(
        "default-runtime",
        "default-runtime",
        Kind::Text,
        "Default OCI runtime for containers (default \"runc\")",
    ),
    opt(
        "default-shm-size",
        "default-shm-size",
        Kind::Bytes,
        "Default shm size for containers (default 64MiB)",
    ),
    opt(
        "default-stop-timeout",
        "default-stop-timeout",
        Kind::Int,
        "Set the default container stop timeout in seconds (0 to terminate immediately) (default 10)",
    ),
    opt(
        "default-ulimit",
        "default-ulimits",
        Kind::Ulimits,
        "Default ulimits for containers (name=soft[:hard])",
    ),
    opt("dns", "dns", Kind::List, "DNS server to use"),
    opt("dns-opt", "dns-opts", Kind::List, "DNS options to use"),
    opt("dns-search", "dns-search", Kind::List, "DNS search domains to use"),
    opt(
        "exec-opt",
        "exec-opts",
        Kind::List,
        "Runtime execution options (native.cgroupdriver=cgroupfs|systemd)",
    ),
    opt(
        "exec-root",
        "exec-root",
        Kind::Text,
        "Root directory for execution state files (default \"/var/run/docker\")",
    ),
    opt("experimental", "experimental", Kind::Bool, "Enable experimental features"),
    opt("feature", "features", Kind::Features, "Enable feature in the daemon"),
    only("firewall-backend", "firewall-backend", Kind::Text, "\"nftables\""),
    opt("fixed-cidr", "fixed-cidr", Kind::Text, "IPv4 subnet for the default bridge network"),
    opt("fixed-cidr-v6", "fixed-cidr-v6", Kind::Text, "IPv6 subnet for the default bridge network"),
    short('G', "group", "group", Kind::Text, "Group for the unix socket (default \"docker\")"),
    short('H', "host", "hosts", Kind::List, "Daemon socket(s) to connect to"),
    opt(
        "host-gateway-ip",
        "host-gateway-ips",
        Kind::List,
        "IP addresses that the special 'host-gateway' string in --add-host resolves to. Defaults to the IP addresses of the default bridge",
    ),
    opt("http-proxy", "http-proxy", Kind::Text, "HTTP proxy URL to use for outgoing traffic"),
    opt("https-proxy", "https-proxy", Kind::Text, "HTTPS proxy URL to use for outgoing traffic"),
    opt(
        "icc",
        "icc",
        Kind::Bool,
        "Enable inter-container communication for the default bridge network (default true)",
    ),
    opt("init", "init", Kind::Bool, "Run an init in the container to forward signals and reap processes"),
    opt("init-path", "init-path", Kind::Text, "Path to the docker-init binary"),
    opt("insecure-registry", "insecure-registries", Kind::List, "Enable insecure registry communication"),
    opt(
        "ip",
        "ip",
        Kind::Text,
        "Host IP for port publishing from the default bridge network (default 0.0.0.0)",
    ),
    opt(
        "ip-forward",
        "ip-forward",
        Kind::Bool,
        "Enable IP forwarding in system configuration (default true)",
    ),
    only("ip-forward-no-drop", "ip-forward-no-drop", Kind::Bool, "false"),
    opt(
        "ip-masq",
        "ip-masq",
        Kind::Bool,
        "Enable IP masquerading for the default bridge network (default true)",
    ),
    opt("ip6tables", "ip6tables", Kind::Bool, "Enable addition of firewall rules for IPv6 (default true)"),
    opt("iptables", "iptables", Kind::Bool, "Enable addition of firewall rules (default true)"),
    opt("ipv6", "ipv6", Kind::Bool, "Enable IPv6 networking for the default bridge network"),
    opt(
        "keep-removed-logs",
        "keep-removed-logs",
        Kind::Bytes,
        "Keep so many bytes of logs of removed containers",
    ),
    opt(
        "keep-removed-logs-days",
        "keep-removed-logs-days",
        Kind::Int,
        "Days for which logs of removed containers are kept (default 7)",
    ),
    opt("label", "labels", Kind::List, "Set key=value labels to the daemon"),
    opt("live-restore", "live-restore", Kind::Bool, "Enable live restore when containers are still running"),
    opt("log-driver", "log-driver", Kind::Text, "Default driver for container logs (default \"json-file\")"),
    opt(
        "log-format",
        "log-format",
        Kind::Text,
        "Set the logging format (\"text\"|\"json\") (default \"text\")",
    ),
    short(
        'l',
        "log-level",
        "log-level",
        Kind::Text,
        "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\") (default \"info\")",
    ),
    opt("log-opt", "log-opts", Kind::Map, "Default log driver options for containers"),
    opt(
        "max-concurrent-downloads",
        "max-concurrent-downloads",
        Kind::Int,
        "Set the max concurrent downloads (default 3)",
    ),
    opt(
        "max-concurrent-uploads",
        "max-concurrent-uploads",
        Kind::Int,
        "Set the max concurrent uploads (default 5)",
    ),
    opt(
        "max-download-attempts",
        "max-download-attempts",
        Kind::Int,
        "Set the max download attempts for each pull (default 5)",
    ),
    opt(
        "metrics-addr",
        "metrics-addr",
        Kind::Text,
        "Set default address and port to serve the metrics api on",
    ),
    Opt {
        flag: None,
        short: None,
        key: "min-api-version",
        kind: Kind::Text,
        support: Support::Built,
        help: "",
    },
    opt("mtu", "mtu", Kind::Int, "Set the MTU for the default \"bridge\" network"),
    only("network-control-plane-mtu", "network-control-plane-mtu", Kind::Int, "1500"),
    only("network-diagnostic-port", "network-diagnostic-port", Kind::Int, "0"),
    opt(
        "no-new-privileges",
        "no-new-privileges",
        Kind::Bool,
        "Set no-new-privileges by default for new containers",
    ),
    opt(
        "no-proxy",
        "no-proxy",
        Kind::Text,
        "Comma-separated list of hosts or IP addresses for which the proxy is skipped",
    ),
    only("node-generic-resource", "node-generic-resources", Kind::List, "[]"),
    short(
        'p',
        "pidfile",
        "pidfile",
        Kind::Text,
        "Path to use for daemon PID file (default \"/var/run/docker.pid\")",
    ),
    opt(
        "plugin-socket-dir",
        "plugin-socket-dir",
        Kind::Text,
        "Directory of plugins' sockets (default \"/run/docker/plugins\")",
    ),
    opt(
        "publish-allow",
        "publish-allow",
        Kind::List,
        "Who reaches published ports in mode filtered: source, port[/protocol], both, or \"forward\"",
    ),
    opt(
        "publish-allow-set",
        "publish-allow-set",
        Kind::Text,
        "Set of addresses in the host's nftables rules who reach them too (\"inet filter published\")",
    ),
    opt(
        "publish-mode",
        "publish-mode",
        Kind::Text,
        "Whether the host's firewall counts for published ports (\"docker\" | \"filtered\") (default \"docker\")",
    ),
    opt("raw-logs", "raw-logs", Kind::Bool, "Full timestamps without ANSI coloring"),
    opt(
        "registry-certs-dir",
        "registry-certs-dir",
        Kind::Text,
        "Folder with the certificates of registries (default \"/etc/docker/certs.d\")",
    ),
    opt("registry-mirror", "registry-mirrors", Kind::List, "Preferred registry mirror"),
    opt(
        "registry-mirror-of",
        "registry-mirrors-of",
        Kind::List,
        "Preferred mirror of another registry than Docker Hub (host=url)",
    ),
    only("rootless", "rootless", Kind::Bool, "false"),
    opt(
        "seccomp-profile",
        "seccomp-profile",
        Kind::Text,
        "Path to seccomp profile. Set to \"unconfined\" to disable the default seccomp profile (default \"builtin\")",
    ),
    only("selinux-enabled", "selinux-enabled", Kind::Bool, "false"),
    opt("shutdown-timeout", "shutdown-timeout", Kind::Int, "Set the default shutdown timeout (default 15)"),
    short('s', "storage-driver", "storage-driver", Kind::Text, "Storage driver to use"),
    opt("storage-opt", "storage-opts", Kind::List, "Storage driver options (overlay2.size=bytes)"),
    only("swarm-default-advertise-addr", "swarm-default-advertise-addr", Kind::Text, "\"\""),
    opt("tls", "tls", Kind::Bool, "Use TLS; implied by --tlsverify"),
    opt(
        "tlscacert",
        "tlscacert",
        Kind::Text,
        "Trust certs signed only by this CA (default \"~/.docker/ca.pem\")",
    ),
    opt("tlscert", "tlscert", Kind::Text, "Path to TLS certificate file (default \"~/.docker/cert.pem\")"),
    opt("tlskey", "tlskey", Kind::Text, "Path to TLS key file (default \"~/.docker/key.pem\")"),
    opt("tlsverify", "tlsverify", Kind::Bool, "Use TLS and verify the remote"),
    opt(
        "userland-proxy",
        "userland-proxy",
        Kind::Bool,
        "Publish ports of containers without IPv6 on IPv6 addresses too (default true)",
    ),
    only("userland-proxy-path", "userland-proxy-path", Kind::Text, "\"\""),
    opt("userns-remap", "userns-remap", Kind::Text, "User/Group setting for user namespaces"),
];

/// The text of `--help`.
pub(crate) fn help() -> String {
    let mut text =
        String::from("Usage:  dockerd [OPTIONS]\n\nA self-sufficient runtime for containers.\n\nOptions:\n");
    for option in OPTIONS.iter().filter(|o| o.support == Support::Built) {
        let Some(flag) = option.flag else { continue };
        let letter = option.short.map_or("    ".to_owned(), |c| format!("-{c}, "));
        let value = match option.kind {
            Kind::Bool => "",
            Kind::Int => " int",
            Kind::Bytes => " bytes",
            Kind::List => " list",
            Kind::Map | Kind::Features => " map",
            Kind::Nested => " mapmap",
            Kind::Runtimes => " runtime",
            Kind::Ulimits => " ulimit",
            Kind::Pools => " pool-options",
            Kind::Text => " string",
        };
        let _ = writeln!(text, "  {letter}--{:<34} {}", format!("{flag}{value}"), option.help);
    }
    for (flag, what) in [
        ("check", "Check the data-root, which no daemon may use, print what is wrong and exit"),
        ("config-file string", "Daemon configuration file (default \"/etc/docker/daemon.json\")"),
        ("deep", "With --check: also rebuild each layer's archive and compare its digest"),
        ("help", "Print usage"),
        ("repair", "With --check: first remove what crashes left and write anew what can be derived"),
        ("stop-containers", "Stop the containers that run on without a daemon, and exit"),
        ("validate", "Validate daemon configuration and exit"),
    ] {
        let _ = writeln!(text, "      --{flag:<34} {what}");
    }
    let _ = writeln!(text, "  -v, --{:<34} Print version information and quit", "version");
    text
}

/// Bytes with an optional unit, as docker/go-units `RAMInBytes`: `64m`, `1.5GiB`, `100`.
pub(super) fn parse_bytes(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim_start().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * f64::from(1024_u32.pow(power.min(3))) * f64::from(1024_u32.pow(power.max(3) - 3));
    (bytes <= 9e18).then_some(bytes as i64)
}

/// `key=value`; a key alone has an empty value.
pub(super) fn parse_pair(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((key.to_owned(), json!(value)))
}

/// `group=key=value` (source: moby `daemon/pkg/opts/opts.go`, MapMapOpts).
pub(super) fn parse_nested(text: &str) -> Result<(String, String, Value), String> {
    let form = |text: &str, what: &str| format!("invalid value {text:?} for map option, should be {what}");
    let (group, rest) = text.split_once('=').ok_or_else(|| form(text, "root-key=key=value"))?;
    let (key, value) = rest.split_once('=').ok_or_else(|| form(rest, "key=value"))?;
    Ok((group.to_owned(), key.to_owned(), json!(value)))
}

/// `name` or `name=bool` (source: moby `daemon/internal/opts`, `SetOpts`).
pub(super) fn parse_feature(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, "true"));
    match value {
        _ if name.is_empty() => Err(format!("invalid key: {name:?}")),
        "true" | "1" => Ok((name.to_owned(), json!(true))),
        "false" | "0" => Ok((name.to_owned(), json!(false))),
        _ => Err(format!("invalid boolean value: {value:?}")),
    }
}

/// `name=path` (source: moby `daemon/pkg/opts/runtime.go`).
pub(super) fn parse_runtime(text: &str) -> Result<(String, Value), String> {
    let Some((name, path)) = text.split_once('=') else {
        return Err(format!("invalid runtime argument: {text}"));
    };
    let name = name.trim().to_lowercase();
    if name.is_empty() || path.trim().is_empty() {
        return Err(format!("invalid runtime argument: {text}"));
    }
    if name == "runc" {
        return Err("runtime name 'runc' is reserved".into());
    }
    Ok((name, json!({ "path": path.trim() })))
}

/// `name=soft[:hard]` (source: docker/go-units `ParseUlimit`).
pub(super) fn parse_ulimit(text: &str) -> Result<(String, Value), String> {
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    let mut numbers = Vec::new();
    for part in limits.split(':') {
        numbers.push(
            part.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {part:?}: invalid syntax"))?,
        );
    }
    let (soft, hard) = match numbers[..] {
        [soft] => (soft, soft),
        [soft, hard] => (soft, hard),
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok((name.to_owned(), json!({ "Name": name, "Soft": soft, "Hard": hard })))
}

/// `base=<prefix>,size=<length>` (source: moby `daemon/pkg/opts/address_pools.go`).
pub(super) fn parse_pool(text: &str) -> Result<Value, String> {
    let (mut base, mut size) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("base", value)) => base = Some(value.to_owned()),
            Some(("size", value)) => {
                size = Some(value.parse::<u8>().map_err(|_| format!("invalid size value: {value}"))?);
            }
            Some((key, value)) => return Err(format!("unexpected key '{key}' in '{key}={value}'")),
            None => return Err(format!("invalid field '{field}' must be a key=value pair")),
        }
    }
    match (base, size) {
        (Some(base), Some(size)) => Ok(json!({ "base": base, "size": size })),
        _ => Err(format!("invalid address pool '{text}': base and size are needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_sound() {
        let flags: Vec<&str> = OPTIONS.iter().map(|o| o.flag.unwrap_or(o.key)).collect();
        let mut sorted = flags.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(flags, sorted);
        for option in OPTIONS {
            if let Support::Only(default) = option.support {
                assert!(serde_json::from_str::<Value>(default).is_ok(), "{}", option.key);
            }
        }
        assert!(help().contains("-H, --host list"));
    }

    #[test]
    fn the_document_lists_them_all() {
        let documented: Vec<_> = crate::documented::rows("Options of the daemon")
            .into_iter()
            .map(|row| row[..3].iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>())
            .collect();
        let flag = |option: &Opt| {
            let letter = option.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
            option.flag.map(|flag| format!("{letter}--{flag}")).unwrap_or_default()
        };
        let key = |option: &Opt| if option.flag == Some(option.key) { "" } else { option.key }.to_owned();
        let state = |option: &Opt| match option.support {
            Support::Built => "built".to_owned(),
            Support::Only(default) => format!("only `{default}`"),
        };
        let wanted: Vec<_> = OPTIONS.iter().map(|o| vec![flag(o), key(o), state(o)]).collect();
        assert_eq!(documented, wanted);
    }

    #[test]
    fn values() {
        assert_eq!(parse_bytes("64m"), Some(64 << 20));
        assert_eq!(parse_bytes("1.5GiB"), Some(3 << 29));
        assert_eq!(parse_bytes("100"), Some(100));
        assert_eq!(parse_bytes("x"), None);
        assert_eq!(parse_bytes("99999999999p"), None);
        assert_eq!(parse_pool("base=10.0.0.0/8,size=24").unwrap(), json!({"base": "10.0.0.0/8", "size": 24}));
        assert!(parse_pool("base=10.0.0.0/8").is_err());
        assert!(parse_ulimit("nofile=2:1").is_err());
        assert!(parse_runtime("runc=/x").is_err());
        assert_eq!(parse_feature("a=0").unwrap().1, json!(false));
    }
}
