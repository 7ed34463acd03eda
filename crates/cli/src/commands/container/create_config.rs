//! From the flags of `docker run` to the request that makes a container
//! (source: docker/cli `cli/command/container/opts.go`, `parse`).

use super::create_network;
use crate::{
    flags::Matches,
    opts::{
        cpus, device, env, gpus, hosts, keyvalue, mount, port, restart, security, throttle, ulimit,
        volume::{self, Volume},
    },
};
use wharf_api::{
    Empty,
    container::{
        CgroupnsMode, Config, CreateRequest, DeviceRequest, HealthConfig, HostConfig, LogConfig, PidMode,
        UsernsMode, UtsMode,
    },
};

type Parsed<T> = Result<T, String>;

/// Makes the request. `image` and what follows it are the arguments; `proxies` are variables from the
/// configuration.
///
/// # Errors
/// In Docker's words.
pub(crate) fn request(m: &Matches, proxies: Vec<String>) -> Parsed<CreateRequest> {
    let (binds, volumes) = binds(m)?;
    let config = config(m, proxies, volumes)?;
    let mut host = host(m, binds)?;
    resources(m, &mut host)?;
    if host.auto_remove && !host.restart_policy.is_none() {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    let (mode, endpoints) = create_network::endpoints(m)?;
    host.network_mode.0 = mode;
    Ok(CreateRequest { config, host_config: Some(host), networking_config: Some(endpoints) })
}

/// Bind mounts, and the targets of anonymous volumes.
type Binds = (Option<Vec<String>>, Option<wharf_api::Set<String>>);

fn binds(m: &Matches) -> Parsed<Binds> {
    let (mut binds, mut volumes) = (Vec::new(), wharf_api::Set::new());
    for spec in m.all("volume") {
        match volume::parse(spec)? {
            Volume::Anonymous(target) => {
                volumes.insert(target, Empty {});
            }
            Volume::Bind(bind) => binds.push(bind),
        }
    }
    Ok(((!binds.is_empty()).then_some(binds), Some(volumes)))
}

/// Which standard streams are attached: those asked for, else output and error; input with `-i`.
struct Attach {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

fn attach(m: &Matches) -> Attach {
    let asked: Vec<String> = m.all("attach").iter().map(|s| s.to_lowercase()).collect();
    let has = |name: &str| asked.iter().any(|a| a == name);
    let none = asked.is_empty();
    Attach {
        stdin: has("stdin") || m.is("interactive"),
        stdout: none || has("stdout"),
        stderr: none || has("stderr"),
    }
}

fn config(m: &Matches, proxies: Vec<String>, volumes: Option<wharf_api::Set<String>>) -> Parsed<Config> {
    let attach = attach(m);
    let mut variables = proxies;
    variables.extend(env::variables(m.all("env-file"), m.all("env"))?);
    let labels = keyvalue::with_files(m.all("label-file"), m.all("label"))?;
    let mut exposed = wharf_api::Set::new();
    exposed.extend(port::bindings(m.all("publish"))?.into_keys().map(|p| (p, Empty {})));
    exposed.extend(port::exposed(m.all("expose"))?.into_iter().map(|p| (p, Empty {})));
    let command = m.args.get(1..).unwrap_or_default().to_vec();
    Ok(Config {
        hostname: m.string("hostname"),
        domainname: m.string("domainname"),
        user: m.string("user"),
        attach_stdin: attach.stdin,
        attach_stdout: attach.stdout,
        attach_stderr: attach.stderr,
        exposed_ports: exposed,
        tty: m.is("tty"),
        open_stdin: m.is("interactive"),
        stdin_once: m.is("interactive") && attach.stdin,
        env: (!variables.is_empty()).then_some(variables),
        cmd: (!command.is_empty()).then_some(command),
        healthcheck: health(m)?,
        image: m.arg(0).to_owned(),
        volumes,
        working_dir: m.string("workdir"),
        entrypoint: m.given("entrypoint").then(|| vec![m.string("entrypoint")]),
        labels: Some(keyvalue::map(&labels)),
        stop_signal: m.string("stop-signal"),
        stop_timeout: m.given("stop-timeout").then(|| m.int("stop-timeout")),
        ..Config::default()
    })
}

fn health(m: &Matches) -> Parsed<Option<HealthConfig>> {
    let command = m.text("health-cmd");
    let durations = ["health-interval", "health-timeout", "health-start-period", "health-start-interval"];
    let asked = !command.is_empty()
        || durations.iter().any(|name| m.nanos(name) != 0)
        || m.int("health-retries") != 0;
    if m.is("no-healthcheck") {
        if asked {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }));
    }
    if !asked {
        return Ok(None);
    }
    for name in durations {
        if m.nanos(name) < 0 {
            return Err(format!("--{name} cannot be negative"));
        }
    }
    if m.int("health-retries") < 0 {
        return Err("--health-retries cannot be negative".to_owned());
    }
    Ok(Some(HealthConfig {
        test: (!command.is_empty()).then(|| vec!["CMD-SHELL".to_owned(), command.to_owned()]),
        interval: m.nanos("health-interval"),
        timeout: m.nanos("health-timeout"),
        start_period: m.nanos("health-start-period"),
        start_interval: m.nanos("health-start-interval"),
        retries: m.int("health-retries"),
    }))
}

fn host(m: &Matches, binds: Option<Vec<String>>) -> Parsed<HostConfig> {
    let security = security::options(m.some("security-opt"))?;
    let empty_paths = || security.unconfined_paths.then(Vec::new);
    let tmpfs = m.all("tmpfs").iter().map(|t| t.split_once(':').unwrap_or((t, "")));
    let driver = m.string("log-driver");
    Ok(HostConfig {
        binds,
        container_id_file: m.string("cidfile"),
        log_config: LogConfig { config: Some(security::logging(&driver, m.all("log-opt"))?), driver },
        port_bindings: Some(port::bindings(m.all("publish"))?),
        restart_policy: restart::parse(if m.given("restart") { m.text("restart") } else { "no" })?,
        auto_remove: m.is("rm"),
        volume_driver: m.string("volume-driver"),
        volumes_from: m.some("volumes-from"),
        annotations: keyvalue::map(m.all("annotation")),
        cap_add: m.some("cap-add"),
        cap_drop: m.some("cap-drop"),
        cgroupns_mode: valid(
            CgroupnsMode(m.string("cgroupns")),
            CgroupnsMode::is_valid,
            "cgroupns: invalid CGROUP",
        )?,
        dns: Some(m.all("dns").to_vec()),
        dns_options: Some(m.all("dns-option").to_vec()),
        dns_search: Some(m.all("dns-search").to_vec()),
        extra_hosts: m.some("add-host").map(|all| all.iter().map(|h| hosts::extra_host(h)).collect()),
        group_add: m.some("group-add"),
        ipc_mode: wharf_api::container::IpcMode(m.string("ipc")),
        links: m.some("link"),
        oom_score_adj: m.int("oom-score-adj"),
        pid_mode: valid(PidMode(m.string("pid")), PidMode::is_valid, "pid: invalid PID")?,
        privileged: m.is("privileged"),
        publish_all_ports: m.is("publish-all"),
        readonly_rootfs: m.is("read-only"),
        masked_paths: empty_paths(),
        readonly_paths: empty_paths(),
        security_opt: security.options,
        storage_opt: security::storage(m.all("storage-opt"))?,
        tmpfs: tmpfs.map(|(path, options)| (path.to_owned(), options.to_owned())).collect(),
        uts_mode: valid(UtsMode(m.string("uts")), UtsMode::is_valid, "uts: invalid UTS")?,
        userns_mode: valid(UsernsMode(m.string("userns")), UsernsMode::is_valid, "userns: invalid USER")?,
        shm_size: m.bytes("shm-size"),
        sysctls: keyvalue::map(m.all("sysctl")),
        runtime: m.string("runtime"),
        isolation: m.string("isolation"),
        mounts: m.all("mount").iter().map(|text| mount::parse(text)).collect::<Parsed<_>>()?,
        init: m.switch("init"),
        ..HostConfig::default()
    })
}

fn valid<T>(mode: T, is_valid: impl Fn(&T) -> bool, words: &str) -> Parsed<T> {
    if is_valid(&mode) { Ok(mode) } else { Err(format!("--{words} mode")) }
}

fn resources(m: &Matches, host: &mut HostConfig) -> Parsed<()> {
    let swappiness = if m.given("memory-swappiness") { m.int("memory-swappiness") } else { -1 };
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let list = |name: &str| m.all(name).iter();
    host.cpu_shares = m.int("cpu-shares");
    host.memory = m.bytes("memory");
    host.nano_cpus = cpus::parse(m.text("cpus")).unwrap_or(0);
    host.cgroup_parent = m.string("cgroup-parent");
    host.blkio_weight = u16::try_from(m.uint("blkio-weight")).unwrap_or(0);
    host.blkio_weight_device =
        Some(list("blkio-weight-device").map(|t| throttle::weight(t)).collect::<Parsed<_>>()?);
    host.blkio_device_read_bps =
        Some(list("device-read-bps").map(|t| throttle::bps(t)).collect::<Parsed<_>>()?);
    host.blkio_device_write_bps =
        Some(list("device-write-bps").map(|t| throttle::bps(t)).collect::<Parsed<_>>()?);
    host.blkio_device_read_iops =
        Some(list("device-read-iops").map(|t| throttle::iops(t)).collect::<Parsed<_>>()?);
    host.blkio_device_write_iops =
        Some(list("device-write-iops").map(|t| throttle::iops(t)).collect::<Parsed<_>>()?);
    host.cpu_period = m.int("cpu-period");
    host.cpu_quota = m.int("cpu-quota");
    host.cpu_realtime_period = m.int("cpu-rt-period");
    host.cpu_realtime_runtime = m.int("cpu-rt-runtime");
    host.cpuset_cpus = m.string("cpuset-cpus");
    host.cpuset_mems = m.string("cpuset-mems");
    host.device_cgroup_rules = m.some("device-cgroup-rule");
    host.memory_reservation = m.bytes("memory-reservation");
    host.memory_swap = m.bytes("memory-swap");
    host.memory_swappiness = Some(swappiness);
    host.oom_kill_disable = Some(m.is("oom-kill-disable"));
    host.pids_limit = Some(m.int("pids-limit"));
    host.ulimits = Some(ulimit::all(m.all("ulimit")));
    host.cpu_count = m.int("cpu-count");
    host.cpu_percent = m.int("cpu-percent");
    host.io_maximum_iops = m.uint("io-maxiops");
    host.io_maximum_bandwidth = u64::try_from(m.bytes("io-maxbandwidth")).unwrap_or(0);
    devices(m, host)
}

fn devices(m: &Matches, host: &mut HostConfig) -> Parsed<()> {
    let (cdi, plain): (Vec<&String>, Vec<&String>) = m.all("device").iter().partition(|d| device::is_cdi(d));
    host.devices = Some(plain.into_iter().map(|d| device::parse(d)).collect::<Parsed<_>>()?);
    let mut requests = m.all("gpus").iter().map(|g| gpus::parse(g)).collect::<Parsed<Vec<_>>>()?;
    if !cdi.is_empty() {
        let ids = cdi.into_iter().cloned().collect();
        requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(ids),
            ..DeviceRequest::default()
        });
    }
    host.device_requests = (!requests.is_empty()).then_some(requests);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::container::run, flags::Parser};

    fn parse(line: &str) -> Parsed<CreateRequest> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let parser = Parser { flags: run::COMMAND.flags, interspersed: false };
        request(&parser.parse(&words).map_err(|e| e.to_string())?, Vec::new())
    }

    #[test]
    fn flags_become_a_request() {
        let r = parse("-it --rm --name web -p 8080:80 -v /a:/b -v /data -e A=1 --net host -m 64m --cpus 1.5 busybox sh -c true").unwrap();
        let (config, host) = (r.config, r.host_config.unwrap());
        assert!(
            config.tty
                && config.attach_stdin
                && config.open_stdin
                && config.stdin_once
                && config.attach_stdout
        );
        assert_eq!((config.image.as_str(), config.cmd.unwrap().len()), ("busybox", 3));
        assert_eq!(config.env.unwrap(), ["A=1"]);
        assert_eq!(config.volumes.unwrap().into_keys().collect::<Vec<_>>(), ["/data"]);
        assert_eq!(host.binds.unwrap(), ["/a:/b"]);
        assert_eq!((host.memory, host.nano_cpus, host.auto_remove), (64 << 20, 1_500_000_000, true));
        assert_eq!(host.network_mode.as_str(), "host");
        assert_eq!(host.port_bindings.unwrap().len(), 1);
        assert_eq!(config.exposed_ports.len(), 1);
    }

    #[test]
    fn defaults_are_dockers() {
        let r = parse("busybox").unwrap();
        let (config, host) = (r.config, r.host_config.unwrap());
        assert!(!config.tty && !config.attach_stdin && config.attach_stdout && config.attach_stderr);
        assert!(config.cmd.is_none() && config.entrypoint.is_none() && config.healthcheck.is_none());
        assert_eq!((host.memory_swappiness, host.oom_kill_disable, host.init), (Some(-1), Some(false), None));
        assert_eq!((host.network_mode.as_str(), host.restart_policy.name.as_str()), ("default", "no"));
        assert_eq!(parse("--entrypoint= busybox").unwrap().config.entrypoint, Some(vec![String::new()]));
    }

    #[test]
    fn contradictions_are_refused() {
        for (line, error) in [
            ("--rm --restart always x", "conflicting options: cannot specify both --restart and --rm"),
            ("--no-healthcheck --health-cmd a x", "--no-healthcheck conflicts with --health-* options"),
            ("--health-cmd a --health-interval -1s x", "--health-interval cannot be negative"),
            ("--memory-swappiness 101 x", "invalid value: 101. Valid memory swappiness range is 0-100"),
            ("--pid container: x", "--pid: invalid PID mode"),
            ("--uts foo x", "--uts: invalid UTS mode"),
            ("--env-file /nope x", "open /nope: no such file or directory"),
            ("-p x:y:z x", "invalid IP address: x"),
            (
                "-a foo x",
                "invalid argument \"foo\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR",
            ),
            ("--mac-address foo x", "foo is not a valid mac address"),
        ] {
            assert_eq!(parse(line).unwrap_err(), error, "{line}");
        }
    }
}
