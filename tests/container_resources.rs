//! Every resource of HostConfig: what the container's cgroup says of it, seen from inside, before and after an
//! `update`, on both cgroup versions; and what is refused or taken out with a warning, in Docker's words.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use wharf_testkit::{Builder, Daemon, busybox, lacks_project_quotas};

/// A file of a container's cgroup: controller and name on v1, name on v2, and what is to be in them. An empty
/// value: not on this version.
struct Wanted {
    file: (&'static str, &'static str),
    values: (&'static str, &'static str),
}

const fn wanted(v1_file: &'static str, v1: &'static str, v2_file: &'static str, v2: &'static str) -> Wanted {
    Wanted { file: (v1_file, v2_file), values: (v1, v2) }
}

/// A container, what it is started with, and what it is changed to.
struct Case {
    name: &'static str,
    host: fn(&Machine) -> Value,
    started: &'static [Wanted],
    update: fn(&Machine) -> Value,
    updated: &'static [Wanted],
}

/// What differs between machines.
struct Machine {
    is_v2: bool,
    /// A whole disk: `/dev/vda`.
    disk: String,
}

impl Machine {
    fn look() -> Result<Machine> {
        Ok(Machine { is_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), disk: disk()?.0 })
    }

    fn file(&self, wanted: &Wanted) -> (String, String) {
        let (file, value) = match self.is_v2 {
            true => (wanted.file.1, wanted.values.1),
            false => (wanted.file.0, wanted.values.0),
        };
        (file.to_owned(), value.replace("DISK", &disk().map_or_else(|_| String::new(), |(_, number)| number)))
    }

    fn throttles(&self, rates: [u64; 4]) -> Value {
        let names =
            ["BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"];
        let limit = |rate: u64| json!([{"Path": self.disk, "Rate": rate}]);
        names.iter().zip(rates).map(|(name, rate)| ((*name).to_owned(), limit(rate))).collect()
    }
}

/// A block device that is no partition, and its number.
fn disk() -> Result<(String, String)> {
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        if !name.starts_with("loop") && size.trim() != "0" && Path::new("/dev").join(&name).exists() {
            let number = fs::read_to_string(entry.path().join("dev"))?.trim().to_owned();
            return Ok((format!("/dev/{name}"), number));
        }
    }
    anyhow::bail!("no disk")
}

const MIB: u64 = 1 << 20;

const CASES: &[Case] = &[
    Case {
        name: "memory",
        host: |_| json!({"Memory": 64 * MIB, "MemorySwap": 96 * MIB, "MemoryReservation": 32 * MIB}),
        started: &[
            wanted("memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
            wanted("memory/memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432"),
            wanted("memory/memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
        ],
        update: |_| json!({"Memory": 128 * MIB, "MemorySwap": 256 * MIB, "MemoryReservation": 48 * MIB}),
        updated: &[
            wanted("memory/memory.limit_in_bytes", "134217728", "memory.max", "134217728"),
            wanted("memory/memory.memsw.limit_in_bytes", "268435456", "memory.swap.max", "134217728"),
            wanted("memory/memory.soft_limit_in_bytes", "50331648", "memory.low", "50331648"),
        ],
    },
    Case {
        name: "memory downwards, swap as much again by default",
        host: |_| json!({"Memory": 256 * MIB}),
        started: &[
            wanted("memory/memory.limit_in_bytes", "268435456", "memory.max", "268435456"),
            wanted("memory/memory.memsw.limit_in_bytes", "536870912", "memory.swap.max", "268435456"),
        ],
        update: |_| json!({"Memory": 64 * MIB, "MemorySwap": 64 * MIB}),
        updated: &[
            wanted("memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
            wanted("memory/memory.memsw.limit_in_bytes", "67108864", "memory.swap.max", "0"),
        ],
    },
    Case {
        name: "swap without limit",
        host: |_| json!({"Memory": 64 * MIB, "MemorySwap": 64 * MIB}),
        started: &[wanted("memory/memory.memsw.limit_in_bytes", "67108864", "memory.swap.max", "0")],
        update: |_| json!({"MemorySwap": -1}),
        updated: &[wanted(
            "memory/memory.memsw.limit_in_bytes",
            "9223372036854771712",
            "memory.swap.max",
            "max",
        )],
    },
    Case {
        name: "quota and shares",
        host: |_| json!({"CpuShares": 512, "CpuPeriod": 50_000, "CpuQuota": 25_000}),
        started: &[
            wanted("cpu/cpu.shares", "512", "cpu.weight", "59"),
            wanted("cpu/cpu.cfs_period_us", "50000", "cpu.max", "25000 50000"),
            wanted("cpu/cpu.cfs_quota_us", "25000", "cpu.max", "25000 50000"),
        ],
        update: |_| json!({"CpuShares": 2048, "CpuPeriod": 20_000, "CpuQuota": 10_000}),
        updated: &[
            wanted("cpu/cpu.shares", "2048", "cpu.weight", "174"),
            wanted("cpu/cpu.cfs_period_us", "20000", "cpu.max", "10000 20000"),
            wanted("cpu/cpu.cfs_quota_us", "10000", "cpu.max", "10000 20000"),
        ],
    },
    Case {
        name: "processors",
        host: |_| json!({"NanoCpus": 500_000_000}),
        started: &[
            wanted("cpu/cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"),
            wanted("cpu/cpu.cfs_period_us", "100000", "cpu.max", "50000 100000"),
        ],
        update: |_| json!({"NanoCpus": 250_000_000}),
        updated: &[wanted("cpu/cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000")],
    },
    Case {
        name: "cpuset",
        host: |_| json!({"CpusetCpus": "0", "CpusetMems": "0"}),
        started: &[
            wanted("cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"),
            wanted("cpuset/cpuset.mems", "0", "cpuset.mems", "0"),
        ],
        update: |_| json!({"CpusetCpus": last_processor()}),
        updated: &[wanted("cpuset/cpuset.mems", "0", "cpuset.mems", "0")],
    },
    Case {
        name: "processes",
        host: |_| json!({"PidsLimit": 17}),
        started: &[wanted("pids/pids.max", "17", "pids.max", "17")],
        update: |_| json!({"PidsLimit": 23}),
        updated: &[wanted("pids/pids.max", "23", "pids.max", "23")],
    },
    Case {
        name: "processes without limit",
        host: |_| json!({"PidsLimit": 17}),
        started: &[],
        update: |_| json!({"PidsLimit": -1}),
        updated: &[wanted("pids/pids.max", "max", "pids.max", "max")],
    },
    Case {
        name: "throttles",
        host: |machine| machine.throttles([MIB, 2 * MIB, 300, 400]),
        started: &[
            wanted("blkio/blkio.throttle.read_bps_device", "DISK 1048576", "io.max", IO_MAX),
            wanted("blkio/blkio.throttle.write_bps_device", "DISK 2097152", "io.max", IO_MAX),
            wanted("blkio/blkio.throttle.read_iops_device", "DISK 300", "io.max", IO_MAX),
            wanted("blkio/blkio.throttle.write_iops_device", "DISK 400", "io.max", IO_MAX),
        ],
        update: |machine| machine.throttles([3 * MIB, 4 * MIB, 500, 600]),
        updated: &[
            wanted("blkio/blkio.throttle.read_bps_device", "DISK 3145728", "io.max", UPDATED_IO_MAX),
            wanted("blkio/blkio.throttle.write_bps_device", "DISK 4194304", "io.max", UPDATED_IO_MAX),
            wanted("blkio/blkio.throttle.read_iops_device", "DISK 500", "io.max", UPDATED_IO_MAX),
            wanted("blkio/blkio.throttle.write_iops_device", "DISK 600", "io.max", UPDATED_IO_MAX),
        ],
    },
];

const IO_MAX: &str = "DISK rbps=1048576 wbps=2097152 riops=300 wiops=400";
const UPDATED_IO_MAX: &str = "DISK rbps=3145728 wbps=4194304 riops=500 wiops=600";

/// `0` or `1`: whichever is the second of two, or the only one.
fn last_processor() -> &'static str {
    if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) { "1" } else { "0" }
}

/// Creates and starts a container that sleeps; gives its warnings.
fn start(daemon: &Daemon, name: &str, host: Value) -> Result<Vec<String>> {
    let mut host = host;
    host["NetworkMode"] = json!("none");
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host});
    let created = daemon.api().json("POST", &format!("/containers/create?name={name}"), &body)?;
    ensure!(created.status == 201, "{}", created.message());
    let started = daemon.api().call("POST", &format!("/containers/{name}/start"))?;
    ensure!(started.status == 204, "{}", started.message());
    let warnings = created.json()["Warnings"].clone();
    Ok(serde_json::from_value::<Option<Vec<String>>>(warnings)?.unwrap_or_default())
}

fn check(daemon: &Daemon, machine: &Machine, container: &str, wanted: &[Wanted]) -> Result<()> {
    let files: Vec<(String, String)> = wanted.iter().map(|wanted| machine.file(wanted)).collect();
    let lines: Vec<String> =
        files.iter().map(|(file, _)| format!("echo $(cat /sys/fs/cgroup/{file})")).collect();
    let got = inside(daemon, container, &lines.join("; "))?;
    for ((file, value), got) in files.iter().zip(got.lines()) {
        ensure!(got == value, "{file} is {got:?}, not {value:?}");
    }
    Ok(())
}

fn inside(daemon: &Daemon, container: &str, script: &str) -> Result<String> {
    Ok(daemon.docker(&["exec", container, "sh", "-c", script])?.ok()?.trim_end().to_owned())
}

#[test]
fn limits_are_set_and_changed_while_it_runs() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let machine = Machine::look()?;
    for (number, case) in CASES.iter().enumerate() {
        let container = format!("c{number}");
        let warnings = start(&daemon, &container, (case.host)(&machine)).context(case.name)?;
        ensure!(warnings.is_empty(), "{}: {warnings:?}", case.name);
        check(&daemon, &machine, &container, case.started).context(case.name)?;
        let path = format!("/containers/{container}/update");
        let answer = daemon.api().at("v1.55").json("POST", &path, &(case.update)(&machine))?;
        ensure!(answer.status == 200, "{}: {}", case.name, answer.message());
        ensure!(answer.json()["Warnings"].is_null(), "{}: {}", case.name, answer.json());
        check(&daemon, &machine, &container, case.updated)
            .with_context(|| format!("{}, updated", case.name))?;
        if case.name == "cpuset" {
            let allowed = inside(&daemon, &container, "grep Cpus_allowed_list /proc/1/status | cut -f2")?;
            ensure!(allowed == last_processor(), "{allowed}");
        }
        daemon.docker(&["rm", "-f", &container])?.ok()?;
    }
    daemon.stop()
}

#[test]
fn what_cannot_be_set_is_refused_or_taken_out_in_dockers_words() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let machine = Machine::look()?;
    check_refusals(&daemon)?;
    check_what_v1_has(&daemon, &machine)?;
    check_weights(&daemon, &machine)?;
    check_failing_starts(&daemon, &machine)?;
    check_updates(&daemon)?;
    daemon.stop()
}

fn check_refusals(daemon: &Daemon) -> Result<()> {
    let processors = std::thread::available_parallelism()?;
    let create = |host: &Value| {
        let body = json!({"Image": "busybox", "HostConfig": host});
        daemon.api().json("POST", "/containers/create", &body)
    };
    for (host, message) in [
        (json!({"Memory": 1024}), "Minimum memory limit allowed is 6MB".to_owned()),
        (
            json!({"Memory": 64 * MIB, "MemorySwap": 32 * MIB}),
            "Minimum memoryswap limit should be larger than memory limit, see usage".into(),
        ),
        (
            json!({"MemorySwap": 64 * MIB}),
            "You should always set the Memory limit when using Memoryswap limit, see usage".into(),
        ),
        (json!({"MemoryReservation": 1024}), "Minimum memory reservation allowed is 6MB".into()),
        (
            json!({"Memory": 64 * MIB, "MemoryReservation": 65 * MIB}),
            "Minimum memory limit can not be less than memory reservation limit, see usage".into(),
        ),
        (
            json!({"NanoCpus": 1_000_000_000, "CpuPeriod": 50_000}),
            "Conflicting options: Nano CPUs and CPU Period cannot both be set".into(),
        ),
        (
            json!({"NanoCpus": 1_000_000_000, "CpuQuota": 50_000}),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set".into(),
        ),
        (
            json!({"NanoCpus": 9_000_000_000_000_u64}),
            format!(
                "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
            ),
        ),
        (json!({"CpuShares": -1}), "invalid CPU shares (-1): value must be a positive integer".into()),
        (
            json!({"CpuPeriod": 999}),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".into(),
        ),
        (json!({"CpuQuota": 999}), "CPU cfs quota can not be less than 1ms (i.e. 1000)".into()),
        (json!({"CpusetCpus": "x"}), "Invalid value x for cpuset cpus: invalid format: x".into()),
        (json!({"CpusetMems": "1-"}), "Invalid value 1- for cpuset mems: invalid format: 1-".into()),
        (json!({"OomScoreAdj": 1001}), "Invalid value 1001, range for oom score adj is [-1000, 1000]".into()),
        (json!({"ShmSize": -1}), "SHM size can not be less than 0".into()),
        (
            json!({"IOMaximumBandwidth": 1}),
            "invalid option: QoS maximum bandwidth configuration is not supported on linux".into(),
        ),
        (json!({"CgroupnsMode": "x"}), "invalid cgroup namespace mode: x".into()),
    ] {
        let answer = create(&host)?;
        ensure!(
            (answer.status, answer.message()) == (400, message.clone()),
            "{host}: {} {}, not {message}",
            answer.status,
            answer.message()
        );
    }
    Ok(())
}

fn check_what_v1_has(daemon: &Daemon, machine: &Machine) -> Result<()> {
    // v2 has neither; v1 does as it is told.
    let warnings =
        start(daemon, "kept", json!({"MemorySwappiness": 17, "OomKillDisable": true, "Memory": 64 * MIB}))?;
    if machine.is_v2 {
        ensure!(
            warnings
                == [
                    "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
                    "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
                ],
            "{warnings:?}"
        );
    } else {
        ensure!(warnings.is_empty(), "{warnings:?}");
        let read = "cat /sys/fs/cgroup/memory/memory.swappiness; grep -w oom_kill_disable /sys/fs/cgroup/memory/memory.oom_control";
        ensure!(inside(daemon, "kept", read)? == "17\noom_kill_disable 1");
    }
    Ok(())
}

fn check_failing_starts(daemon: &Daemon, machine: &Machine) -> Result<()> {
    let no_device = json!({"BlkioDeviceReadBps": [{"Path": "/dev/nosuch", "Rate": 1}]});
    let error = start(daemon, "nodevice", no_device).unwrap_err().to_string();
    ensure!(error == "stat /dev/nosuch: no such file or directory", "{error}");
    let shares = start(daemon, "shares", json!({"CpuShares": 1}));
    match machine.is_v2 {
        true => ensure!(inside(daemon, "shares", "cat /sys/fs/cgroup/cpu.weight")? == "1"),
        false => {
            let error = shares.unwrap_err().to_string();
            ensure!(error.contains("the minimum allowed cpu-shares is 2"), "{error}");
        }
    }
    Ok(())
}

/// Weights of I/O are set where the kernel has them, and else taken out.
fn check_weights(daemon: &Daemon, machine: &Machine) -> Result<()> {
    let host = json!({"BlkioWeight": 300, "BlkioWeightDevice": [{"Path": machine.disk, "Weight": 400}]});
    let warnings = start(daemon, "weights", host)?;
    let kept = daemon.docker(&["inspect", "-f", "{{.HostConfig.BlkioWeight}}", "weights"])?.ok()?;
    if warnings.is_empty() {
        let files =
            if machine.is_v2 { "io.bfq.weight /sys/fs/cgroup/io.weight" } else { "blkio/blkio.weight" };
        let got = inside(daemon, "weights", &format!("cat /sys/fs/cgroup/{files} 2>/dev/null | head -1"))?;
        // As it is for BFQ, scaled to 1..10000 otherwise.
        ensure!(
            ["300", "default 300", "default 2930"].contains(&got.as_str()) && kept == "300\n",
            "{got} {kept}"
        );
        return Ok(());
    }
    ensure!(
        warnings
            == [
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
                "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
            ],
        "{warnings:?}"
    );
    ensure!(kept == "0\n", "{kept}");
    Ok(())
}

/// What an update is refused for, and that nothing has changed then.
fn check_updates(daemon: &Daemon) -> Result<()> {
    let id = daemon
        .docker(&[
            "run",
            "-d",
            "--rm",
            "--network=none",
            "--name=upd",
            "--cpus=0.5",
            "-m=64m",
            "busybox",
            "sleep",
            "1000",
        ])?
        .ok()?;
    let id = id.trim();
    for (update, status, message) in [
        (
            json!({"CpuPeriod": 50_000}),
            409,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            json!({"CpuQuota": 50_000}),
            409,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            json!({"Memory": 256 * MIB}),
            409,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            json!({"RestartPolicy": {"Name": "always"}}),
            409,
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ] {
        let answer = daemon.api().json("POST", "/containers/upd/update", &update)?;
        let wanted = format!("Cannot update container {id}: {message}");
        ensure!(
            (answer.status, answer.message()) == (status, wanted),
            "{update}: {} {}",
            answer.status,
            answer.message()
        );
    }
    let refused = daemon.api().json("POST", "/containers/upd/update", &json!({"Memory": 1024}))?;
    ensure!((refused.status, refused.message().as_str()) == (400, "Minimum memory limit allowed is 6MB"));
    let kept =
        daemon.docker(&["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", "upd"])?.ok()?;
    ensure!(kept == "67108864 500000000\n", "{kept}");
    Ok(())
}

#[test]
fn groups_and_devices_are_where_they_were_asked_for() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let machine = Machine::look()?;
    let parent = format!("{}/below", daemon.cgroup_parent());
    let host = json!({"CgroupParent": parent, "DeviceCgroupRules": ["c 241:* rwm"], "PidsLimit": 12,
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "OomScoreAdj": 500, "ShmSize": 8 * MIB});
    start(&daemon, "one", host)?;
    let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "one"])?.ok()?;
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()))?;
    ensure!(groups.lines().any(|line| line.contains(&format!(":{parent}/"))), "{groups}");
    // A device that no driver has: what the cgroup lets through, the kernel does not know.
    let devices = "mknod /ours c 241 5; mknod /other c 242 5; cat /ours 2>&1; cat /other 2>&1; true";
    let got = inside(&daemon, "one", devices)?;
    ensure!(
        got.contains("'/ours': No such device or address")
            && got.contains("'/other': Operation not permitted"),
        "{got}"
    );
    let limits = "ulimit -Sn; ulimit -Hn; cat /proc/1/oom_score_adj; df -m /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2";
    ensure!(inside(&daemon, "one", limits)? == "100\n200\n500\n8");
    let fork = daemon.docker(&["exec", "one", "sh", "-c", "for i in $(seq 20); do sleep 100 & done"])?;
    ensure!(fork.stderr.contains("can't fork"), "{fork:?}");
    let stats =
        daemon.docker(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemPerc}}", "one"])?.ok()?;
    let (count, memory) = stats.split_once(' ').context("two columns")?;
    ensure!((2..=12).contains(&count.parse::<u32>()?) && memory.starts_with("0."), "{stats}");
    check_namespaces(&daemon, &machine)?;
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    // As Docker, Wharf leaves a parent that it was given.
    for entry in
        fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()])
    {
        let below = entry.join(parent.trim_start_matches('/'));
        if below.exists() {
            fs::remove_dir(below)?;
        }
    }
    daemon.stop()
}

fn check_namespaces(daemon: &Daemon, machine: &Machine) -> Result<()> {
    for (name, mode, is_private) in
        [("private", "private", true), ("host", "host", false), ("usual", "", machine.is_v2)]
    {
        start(daemon, name, json!({"CgroupnsMode": mode}))?;
        let inside = inside(daemon, name, "cat /proc/1/cgroup")?;
        let has_path = inside.lines().any(|line| line.contains(daemon.cgroup_parent()));
        ensure!(has_path != is_private, "{name}: {inside}");
        let own = fs::read_link("/proc/self/ns/cgroup")?;
        let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", name])?.ok()?;
        let theirs = fs::read_link(format!("/proc/{}/ns/cgroup", pid.trim()))?;
        ensure!((own != theirs) == is_private, "{name}: {own:?} {theirs:?}");
    }
    Ok(())
}

#[test]
fn realtime_shares_come_from_the_daemon() -> Result<()> {
    const FILE: &str = "cpu.rt_runtime_us";
    let has_realtime = Path::new("/sys/fs/cgroup/cpu").join(FILE).exists();
    let builder = || Daemon::builder().flag("--cpu-rt-runtime=5000");
    if !has_realtime {
        let why = if Machine::look()?.is_v2 {
            "not implemented for cgroup v2"
        } else {
            "not supported by the kernel"
        };
        let refused = Daemon::prepare(builder())?;
        let said = refused.run_to_end()?;
        let wanted = format!("daemon-scoped cpu-rt-period and cpu-rt-runtime are {why}");
        ensure!(said.code == 1 && said.stderr.contains(&wanted), "{said:?}");
        let daemon = Daemon::with_busybox()?;
        let error = start(&daemon, "one", json!({"CpuRealtimePeriod": 1000})).unwrap_err().to_string();
        ensure!(error == "kernel does not support CPU real-time scheduler", "{error}");
        return daemon.stop();
    }
    let daemon = builder().start()?;
    daemon.load(&busybox()?)?;
    start(&daemon, "one", json!({"CpuRealtimeRuntime": 1000, "CpuRealtimePeriod": 500_000}))?;
    let parent = Path::new("/sys/fs/cgroup/cpu").join(daemon.cgroup_parent().trim_start_matches('/'));
    ensure!(fs::read_to_string(parent.join(FILE))? == "5000\n");
    let read = format!("cat /sys/fs/cgroup/cpu/{FILE} /sys/fs/cgroup/cpu/cpu.rt_period_us");
    ensure!(inside(&daemon, "one", &read)? == "1000\n500000");
    let update = json!({"CpuRealtimeRuntime": 2000});
    let answer = daemon.api().json("POST", "/containers/one/update", &update)?;
    ensure!(answer.status == 200, "{}", answer.message());
    ensure!(inside(&daemon, "one", &read)? == "2000\n500000");
    let host = json!({"CpuRealtimeRuntime": 2000, "CpuRealtimePeriod": 1000});
    let error = start(&daemon, "two", host).unwrap_err().to_string();
    ensure!(error == "cpu real-time runtime cannot be higher than cpu real-time period", "{error}");
    daemon.stop()
}

#[test]
fn a_container_writes_no_more_than_its_size() -> Result<()> {
    let refused = Daemon::with_busybox()?;
    let error = start(&refused, "one", json!({"StorageOpt": {"size": "10M"}})).unwrap_err().to_string();
    ensure!(
        error == "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        "{error}"
    );
    let error = start(&refused, "one", json!({"StorageOpt": {"colour": "red"}})).unwrap_err().to_string();
    ensure!(error == "Unknown option colour", "{error}");
    refused.stop()?;
    if lacks_project_quotas()? {
        return Ok(());
    }
    let mut daemon =
        Builder::default().data_with_quotas(128 * MIB).flag("--storage-opt=overlay2.size=8M").start()?;
    daemon.load(&busybox()?)?;
    let write = |mebibytes: u32| {
        format!(
            "dd if=/dev/zero of=/f bs=1M count={mebibytes} 2>&1 | grep -v records; df -m / | tail -1 | awk '{{print $2}}'"
        )
    };
    let none = "--network=none";
    let run = |daemon: &Daemon, flags: &[&str], line: &str| -> Result<String> {
        let args = [&["run", "--rm", none], flags, &["busybox", "sh", "-c", line]].concat();
        Ok(daemon.docker(&args)?.ok()?.trim_end().to_owned())
    };
    // The daemon's size, one of its own, and a second daemon that goes on counting where this one was.
    let small = run(&daemon, &[], &write(20))?;
    ensure!(small.contains("No space left on device") && small.ends_with("\n8"), "{small}");
    daemon
        .docker(&[
            "create",
            "--name=kept",
            none,
            "--storage-opt",
            "size=24M",
            "busybox",
            "sh",
            "-c",
            &write(20),
        ])?
        .ok()?;
    daemon.terminate()?;
    daemon.launch()?;
    let tiny = run(&daemon, &["--storage-opt", "size=4M"], &write(6))?;
    ensure!(tiny.contains("No space left on device") && tiny.ends_with("\n4"), "{tiny}");
    let kept = daemon.docker(&["start", "-a", "kept"])?.ok()?;
    ensure!(!kept.contains("No space") && kept.ends_with("24\n"), "{kept}");
    daemon.stop()
}
