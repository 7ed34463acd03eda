//! systemd as the maker of control groups. It has to be the init system, on cgroup v2: `cargo xtask vm-test` boots a
//! machine where it is.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::Command;
use wharf_testkit::{Daemon, busybox, lacks_systemd, until};

/// A property of a unit, as systemd sees it.
fn property(unit: &str, name: &str) -> Result<String> {
    let out = Command::new("systemctl").args(["show", "--value", "-p", name, unit]).output()?;
    ensure!(out.status.success(), "{out:?}");
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

struct Running<'a> {
    daemon: &'a Daemon,
    unit: String,
}

impl Running<'_> {
    /// A container by this name that sleeps.
    fn start<'a>(daemon: &'a Daemon, name: &str, flags: &[&str]) -> Result<Running<'a>> {
        let args =
            [&["run", "-d", "--network=none", "--name", name], flags, &["busybox", "sleep", "1000"]].concat();
        let id = daemon.docker(&args)?.ok()?;
        Ok(Running { daemon, unit: format!("docker-{}.scope", id.trim()) })
    }

    fn group(&self, name: &str) -> Result<String> {
        let pid = self.daemon.docker(&["inspect", "-f", "{{.State.Pid}}", name])?.ok()?;
        Ok(fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()))?.trim().to_owned())
    }

    fn ends(&self) -> Result<()> {
        until("the scope's end", || Ok((property(&self.unit, "ActiveState")? == "inactive").then_some(())))?;
        ensure!(property(&self.unit, "LoadState")? == "not-found", "{} is kept", self.unit);
        Ok(())
    }
}

#[test]
fn containers_are_scopes_with_limits_that_survive_a_reload() -> Result<()> {
    if lacks_systemd() {
        return Ok(());
    }
    let daemon = Daemon::builder().in_a_slice().start()?;
    daemon.load(&busybox()?)?;
    let slice = daemon.cgroup_parent().trim_start_matches('/').to_owned();
    let info = daemon.docker(&["info", "-f", "{{.CgroupDriver}} {{.CgroupVersion}}"])?.ok()?;
    ensure!(info == "systemd 2\n", "{info}");
    let flags = ["-m=64m", "--pids-limit=30", "--cpus=0.5", "--cpuset-cpus=0", "--cpu-shares=512"];
    let one = Running::start(&daemon, "one", &flags)?;
    ensure!(one.group("one")? == format!("0::/{slice}/{}", one.unit), "{}", one.group("one")?);
    for (name, value) in [
        ("Slice", slice.as_str()),
        ("Delegate", "yes"),
        ("ActiveState", "active"),
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "67108864"),
        ("TasksMax", "30"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("CPUWeight", "59"),
        ("AllowedCPUs", "0"),
    ] {
        ensure!(property(&one.unit, name)? == value, "{name} is {}", property(&one.unit, name)?);
    }
    let read = "cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max cpu.weight cpuset.cpus; \
        mknod /n c 242 5 2>/dev/null; cat /n 2>&1 | grep -o 'not permitted'";
    let inside = || daemon.docker(&["exec", "one", "sh", "-c", read])?.ok();
    ensure!(inside()? == "67108864\n67108864\n30\n50000 100000\n59\n0\nnot permitted\n", "{}", inside()?);
    daemon.docker(&["update", "-m=128m", "--memory-swap=128m", "one"])?.ok()?;
    ensure!(property(&one.unit, "MemoryMax")? == "134217728");
    let changed = "134217728\n0\n30\n50000 100000\n59\n0\nnot permitted\n";
    ensure!(inside()? == changed, "{}", inside()?);
    let reload = Command::new("systemctl").arg("daemon-reload").status()?;
    ensure!(reload.success() && inside()? == changed, "after a reload: {}", inside()?);
    daemon.docker(&["restart", "-t0", "one"])?.ok()?;
    ensure!(inside()? == changed, "after a restart: {}", inside()?);
    daemon.docker(&["pause", "one"])?.ok()?;
    daemon.docker(&["unpause", "one"])?.ok()?;
    daemon.docker(&["kill", "one"])?.ok()?;
    one.ends()?;
    daemon.stop()
}

#[test]
fn slices_are_nested_and_what_is_none_is_refused() -> Result<()> {
    if lacks_systemd() {
        return Ok(());
    }
    let mut daemon = Daemon::builder().in_a_slice().start()?;
    daemon.load(&busybox()?)?;
    let run = |parent: &str| {
        let parent = format!("--cgroup-parent={parent}");
        daemon.docker(&[
            "run",
            "--rm",
            "--network=none",
            "--cgroupns=host",
            &parent,
            "busybox",
            "cat",
            "/proc/1/cgroup",
        ])
    };
    let nested = run("wharfa-b.slice")?.ok()?;
    ensure!(nested.starts_with("0::/wharfa.slice/wharfa-b.slice/docker-"), "{nested}");
    let system = run("system.slice")?.ok()?;
    ensure!(system.starts_with("0::/system.slice/docker-"), "{system}");
    let wrong = run("/foo")?;
    ensure!(
        wrong
            .stderr
            .contains("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\""),
        "{wrong:?}"
    );
    let none = run("a--b.slice")?;
    ensure!(none.code != 0 && none.stderr.contains("invalid slice name: a--b.slice"), "{none:?}");
    // One process is what one limit of processes leaves room for.
    daemon.docker(&["run", "--rm", "--network=none", "--pids-limit=1", "busybox", "true"])?.ok()?;
    let hog = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let flags =
        ["run", "--name=hog", "--network=none", "-m=16m", "--memory-swap=16m", "busybox", "sh", "-c", hog];
    ensure!(daemon.docker(&flags)?.code == 137);
    let state = daemon.docker(&["inspect", "-f", "{{.State.OOMKilled}} {{.Id}}", "hog"])?.ok()?;
    let id = state.trim().strip_prefix("true ").context(state.clone())?;
    Running { daemon: &daemon, unit: format!("docker-{id}.scope") }.ends()?;
    // A daemon that is killed leaves containers and scopes; the next one ends both.
    let kept = Running::start(&daemon, "kept", &[])?.unit;
    daemon.kill9()?;
    ensure!(property(&kept, "ActiveState")? == "active");
    daemon.launch()?;
    daemon.docker(&["rm", "-f", "kept"])?.ok()?;
    Running { daemon: &daemon, unit: kept }.ends()?;
    daemon.stop()
}
