//! `--add-runtime`, `--default-runtime`, `--runtime`: containers made by Debian's crun and runc. The other direction
//! is in `runtime_guest.rs`.

use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;
use wharf_testkit::{Daemon, Output, busybox, lacks, lacks_oracle, until};

/// crun refuses machines with controllers in both cgroup versions: there it is run, as an option of the file,
/// without the second one in sight.
const WITHOUT_V2: &str = "umount /sys/fs/cgroup/unified && exec /usr/bin/crun \"$@\"";

fn daemon(flags: &[&str]) -> Result<Daemon> {
    let controllers =
        std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    let builder = match controllers.trim() {
        "" => Daemon::builder().flag("--add-runtime=crun=/usr/bin/crun"),
        _ => {
            let args = json!(["--mount", "sh", "-c", WITHOUT_V2, "crun"]);
            let crun = json!({"path": "unshare", "runtimeArgs": args});
            Daemon::builder().config(json!({"runtimes": {"crun": crun}}).to_string())
        }
    };
    let daemon = flags.iter().fold(builder, |builder, flag| builder.flag(*flag)).start()?;
    daemon.load(&busybox()?)?;
    Ok(daemon)
}

fn run(daemon: &Daemon, args: &[&str]) -> Result<Output> {
    daemon.docker(&[&["run", "--runtime=crun", "--network=none"], args].concat())
}

/// A container that sleeps, by the name `cc`.
fn sleeper(daemon: &Daemon, flags: &[&str]) -> Result<String> {
    let args = [&["-d", "--name=cc"], flags, &["busybox", "sleep", "1000"]].concat();
    Ok(run(daemon, &args)?.ok()?.trim().to_owned())
}

fn inspect(daemon: &Daemon, format: &str) -> Result<String> {
    Ok(daemon.docker(&["inspect", "-f", format, "cc"])?.ok()?.trim_end().to_owned())
}

/// What crun keeps of a container.
fn state_file(daemon: &Daemon, id: &str) -> PathBuf {
    daemon.exec_root().join("containers").join(id).join("runtime").join(id).join("status")
}

#[test]
fn crun_runs_what_is_asked_for() -> Result<()> {
    if lacks(&["crun"]) {
        return Ok(());
    }
    let daemon = daemon(&[])?;
    let out = run(&daemon, &["--rm", "busybox", "sh", "-c", "echo o; echo e >&2; exit 3"])?;
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (3, "o\n", "e\n"));
    let out = daemon.docker_stdin(
        &["run", "--rm", "-i", "--runtime=crun", "--network=none", "busybox", "cat"],
        b"through\n",
    )?;
    assert_eq!(out.ok()?, "through\n");
    assert_eq!(run(&daemon, &["--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"])?.code, 137);
    let script = "id -u; pwd; hostname; cat /t/file; grep -E '^(CapEff|Seccomp):' /proc/self/status";
    let volume = format!("{}:/t:ro", daemon.dir().display());
    std::fs::write(daemon.dir().join("file"), "of the host\n")?;
    let args = ["--rm", "-u1000", "-w/new/dir", "-hname", "-v", &volume, "busybox", "sh", "-c", script];
    let wanted = "1000\n/new/dir\nname\nof the host\nCapEff:\t0000000000000000\n\
        Seccomp:\t2\n";
    assert_eq!(run(&daemon, &args)?.ok()?, wanted);
    let signals =
        run(&daemon, &["--rm", "busybox", "grep", "-E", "^Sig(Ign|Blk):", "/proc/self/status"])?.ok()?;
    assert_eq!(signals, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    let devices =
        "head -c1 /dev/mem 2>&1; mknod /m c 1 1 && head -c1 /m 2>&1 >/dev/null | grep -o 'not permitted'";
    assert!(run(&daemon, &["--rm", "busybox", "sh", "-c", devices])?.stdout.ends_with("not permitted\n"));
    let privileged = ["--rm", "--privileged", "busybox", "sh", "-c", "mknod /z c 1 5 && head -c1 /z | wc -c"];
    assert_eq!(run(&daemon, &privileged)?.ok()?, "1\n");
    let init = ["--rm", "--init", "busybox", "sh", "-c", "cat /proc/1/comm; exit 4"];
    let out = run(&daemon, &init)?;
    assert_eq!((out.code, out.stdout.as_str()), (4, "docker-init\n"), "{}", out.stderr);
    daemon.stop()
}

#[test]
fn crun_has_networks_and_limits() -> Result<()> {
    if lacks(&["crun"]) {
        return Ok(());
    }
    let daemon = daemon(&[])?;
    let out = daemon.docker(&["run", "--rm", "--runtime=crun", "busybox", "ip", "-o", "link"])?.ok()?;
    assert!(out.contains("eth0"), "{out}");
    let host =
        daemon.docker(&["run", "--rm", "--runtime=crun", "--net=host", "busybox", "ip", "-o", "link"])?;
    assert!(host.ok()?.contains("docker0"));
    // Above what a daemon without CAP_SYS_RESOURCE may give: left out with a warning, or given. More than this the
    // kernel gives nobody.
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open")?;
    let files = format!("--ulimit=nofile={}", most.trim());
    let id = sleeper(&daemon, &["--memory=64m", "--pids-limit=50", &files, "--oom-score-adj=-900"])?;
    let stats =
        daemon.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "cc"])?.ok()?;
    assert!(stats.contains("/ 64MiB 1"), "{stats}");
    daemon.docker(&["update", "--memory=128m", "--memory-swap=256m", "cc"])?.ok()?;
    let stats = daemon.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "cc"])?.ok()?;
    assert!(stats.contains("/ 128MiB"), "{stats}");
    assert!(state_file(&daemon, &id).exists(), "crun made it");
    daemon.stop()
}

#[test]
fn crun_gives_terminals() -> Result<()> {
    if lacks(&["crun"]) {
        return Ok(());
    }
    let daemon = daemon(&[])?;
    let out = run(&daemon, &["--rm", "-t", "busybox", "sh", "-c", "test -t 0 && tty; exit 5"])?;
    assert_eq!((out.code, out.stdout.as_str()), (5, "/dev/pts/0\r\n"), "{}", out.stderr);
    let id = sleeper(&daemon, &["-t"])?;
    assert_eq!(daemon.api().call("POST", &format!("/containers/{id}/resize?h=40&w=100"))?.status, 200);
    let size = daemon.docker(&["exec", "cc", "stty", "-F", "/dev/pts/0", "size"])?.ok()?;
    assert_eq!(size, "40 100\n");
    assert_eq!(daemon.docker(&["exec", "-t", "cc", "sh", "-c", "test -t 1 && tty"])?.ok()?, "/dev/pts/1\r\n");
    daemon.stop()
}

#[test]
fn crun_execs() -> Result<()> {
    if lacks(&["crun"]) {
        return Ok(());
    }
    let daemon = daemon(&[])?;
    sleeper(&daemon, &[])?;
    let exec = |args: &[&str]| daemon.docker(&[&["exec"], args].concat());
    let out = exec(&["cc", "sh", "-c", "echo o; echo e >&2; exit 3"])?;
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (3, "o\n", "e\n"));
    let as_user = ["-u", "user", "-w", "/tmp", "-e", "A=b", "cc", "sh", "-c", "id -un; pwd; echo $A $HOME"];
    assert_eq!(exec(&as_user)?.ok()?, "user\n/tmp\nb /home\n");
    assert_eq!(daemon.docker_stdin(&["exec", "-i", "cc", "cat"], b"through\n")?.ok()?, "through\n");
    assert_eq!(exec(&["cc", "cat", "/proc/1/comm"])?.ok()?, "sleep\n");
    assert_eq!(exec(&["-d", "cc", "touch", "/made"])?.code, 0);
    until("the detached exec", || Ok((exec(&["cc", "ls", "/made"])?.code == 0).then_some(())))?;
    let missing = exec(&["cc", "nosuch"])?;
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    assert_eq!(exec(&["cc", "/etc/passwd"])?.code, 126);
    daemon.docker(&["pause", "cc"])?.ok()?;
    assert_eq!(inspect(&daemon, "{{.State.Status}}")?, "paused");
    assert!(exec(&["cc", "true"])?.stderr.contains("is paused, unpause the container before exec"));
    daemon.docker(&["unpause", "cc"])?.ok()?;
    assert_eq!(exec(&["cc", "true"])?.code, 0);
    daemon.stop()
}

#[test]
fn crun_containers_stop_and_start_and_outlive_the_daemon() -> Result<()> {
    if lacks(&["crun"]) {
        return Ok(());
    }
    let mut daemon = daemon(&[])?;
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    run(&daemon, &["-d", "--name=cc", "busybox", "sh", "-c", script])?.ok()?;
    let logs = |daemon: &Daemon| daemon.docker(&["logs", "cc"])?.ok();
    until("the first line", || Ok((logs(&daemon)? == "ready\n").then_some(())))?;
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!(inspect(&daemon, "{{.State.Status}} {{.HostConfig.Runtime}}")?, "running crun");
    daemon.docker(&["stop", "cc"])?.ok()?;
    assert_eq!(inspect(&daemon, "{{.State.Status}} {{.State.ExitCode}}")?, "exited 7");
    assert_eq!(logs(&daemon)?, "ready\nbye\n");
    daemon.docker(&["start", "cc"])?.ok()?;
    daemon.docker(&["kill", "cc"])?.ok()?;
    assert_eq!(daemon.docker(&["wait", "cc"])?.ok()?, "137\n");
    daemon.stop()
}

#[test]
fn failures_have_dockers_codes() -> Result<()> {
    if lacks(&["crun"]) {
        return Ok(());
    }
    let daemon = daemon(&["--add-runtime=gone=/no/such/runtime", "--add-runtime=lost=no-such-runtime"])?;
    let missing = run(&daemon, &["busybox", "nosuch"])?;
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    assert!(missing.stderr.contains("OCI runtime create failed: "), "{}", missing.stderr);
    assert!(missing.stderr.contains("`nosuch`"), "in crun's words: {}", missing.stderr);
    assert_eq!(run(&daemon, &["busybox", "/etc/passwd"])?.code, 126);
    let with = |runtime: &str| {
        daemon.docker(&["run", &format!("--runtime={runtime}"), "--network=none", "busybox", "true"])
    };
    let gone = with("gone")?;
    assert_eq!(gone.code, 127);
    assert!(gone.stderr.contains("fork/exec /no/such/runtime: no such file or directory"), "{}", gone.stderr);
    let lost = with("lost")?;
    assert_eq!(lost.code, 127);
    let wanted = "exec: \"no-such-runtime\": executable file not found in $PATH";
    assert!(lost.stderr.contains(wanted), "{}", lost.stderr);
    for unknown in ["other", "/usr/bin/crun"] {
        let out = with(unknown)?;
        let wanted = format!("unknown or invalid runtime name: {unknown}");
        assert!(out.code == 125 && out.stderr.contains(&wanted), "{}", out.stderr);
    }
    daemon.stop()
}

#[test]
fn a_default_runtime_is_used_and_told() -> Result<()> {
    if lacks(&["crun"]) {
        return Ok(());
    }
    let daemon = daemon(&["--default-runtime=crun"])?;
    let info = daemon.api().call("GET", "/info")?.json();
    assert_eq!(info["DefaultRuntime"], "crun");
    assert!(info["Runtimes"]["crun"]["path"].is_string());
    assert!(info["Runtimes"]["runc"].is_object() && info["Runtimes"]["io.containerd.runc.v2"].is_object());
    let args = ["run", "-d", "--name=cc", "--network=none", "busybox", "sleep", "1000"];
    let id = daemon.docker(&args)?.ok()?.trim().to_owned();
    assert_eq!(inspect(&daemon, "{{.HostConfig.Runtime}}")?, "crun");
    assert!(state_file(&daemon, &id).exists(), "crun made it");
    let built_in = ["run", "-d", "--runtime=runc", "--network=none", "busybox", "sleep", "1000"];
    let id = daemon.docker(&built_in)?.ok()?.trim().to_owned();
    assert!(!state_file(&daemon, &id).exists(), "it is Wharf's own");
    daemon.stop()
}

#[test]
fn runc_runs_what_is_asked_for() -> Result<()> {
    if lacks_oracle("runc") {
        return Ok(());
    }
    let daemon = Daemon::builder().flag("--add-runtime=debian=runc").start()?;
    daemon.load(&busybox()?)?;
    let run = |args: &[&str]| daemon.docker(&[&["run", "--runtime=debian"], args].concat());
    let out = run(&["--rm", "busybox", "sh", "-c", "echo o; echo e >&2; exit 3"])?;
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (3, "o\n", "e\n"));
    let line = "id -u; pwd; hostname; grep -E '^(CapEff|Seccomp):' /proc/self/status";
    let args = ["--rm", "-u1000", "-w/new/dir", "-hname", "busybox", "sh", "-c", line];
    assert_eq!(run(&args)?.ok()?, "1000\n/new/dir\nname\nCapEff:\t0000000000000000\nSeccomp:\t2\n");
    assert_eq!(run(&["--rm", "-t", "busybox", "tty"])?.ok()?, "/dev/pts/0\r\n");
    run(&["-d", "--name=cc", "--memory=64m", "--pids-limit=50", "busybox", "sleep", "1000"])?.ok()?;
    assert_eq!(daemon.docker(&["exec", "cc", "cat", "/proc/1/comm"])?.ok()?, "sleep\n");
    assert_eq!(daemon.docker(&["exec", "cc", "nosuch"])?.code, 127);
    daemon.docker(&["pause", "cc"])?.ok()?;
    daemon.docker(&["unpause", "cc"])?.ok()?;
    daemon.docker(&["update", "--memory=128m", "--memory-swap=256m", "cc"])?.ok()?;
    let usage = ["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "cc"];
    assert!(daemon.docker(&usage)?.ok()?.contains("/ 128MiB 1"));
    daemon.docker(&["stop", "-t0", "cc"])?.ok()?;
    assert_eq!(
        inspect(&daemon, "{{.State.Status}} {{.State.ExitCode}} {{.HostConfig.Runtime}}")?,
        "exited 137 debian"
    );
    daemon.stop()
}
