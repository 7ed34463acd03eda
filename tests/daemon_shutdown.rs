//! The end of a daemon: with the machine, without live-restore, by impatient signals; and containers that are stopped
//! without one (source of behaviour: moby `daemon/daemon.go`, Shutdown; `daemon/command/trap`).

use anyhow::Result;
use rustix::process::Signal;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use wharf_testkit::{Daemon, until};

/// Says which signal came.
const TRAPS: &str =
    "trap 'echo term; exit 15' TERM; trap 'echo usr; exit 10' USR1; while :; do sleep 0.02; done";
const DEAF: &str = "trap '' TERM; while :; do sleep 0.02; done";

fn run(daemon: &Daemon, name: &str, options: &[&str], script: &str) -> Result<()> {
    let mut args = vec!["run", "-d", "--network=none", "--name", name];
    args.extend(options);
    args.extend(["busybox", "sh", "-c", script]);
    daemon.docker(&args)?.ok()?;
    // A script that catches signals shows it in its status.
    let pid = inspect(daemon, name, "{{.State.Pid}}")?;
    until("the traps", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mask = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
            u64::from_str_radix(line.trim(), 16).unwrap_or_default()
        };
        let term = 1 << (Signal::TERM.as_raw() - 1);
        Ok(((mask("SigCgt:") | mask("SigIgn:")) & term != 0).then_some(()))
    })
}

fn inspect(daemon: &Daemon, name: &str, format: &str) -> Result<String> {
    Ok(daemon.docker(&["inspect", "-f", format, name])?.ok()?.trim().to_owned())
}

fn state(daemon: &Daemon, name: &str) -> Result<String> {
    inspect(daemon, name, "{{.State.Status}} {{.State.ExitCode}}")
}

/// One of each: what is stopped how, and who comes back.
fn run_all(daemon: &Daemon) -> Result<()> {
    run(daemon, "term", &[], TRAPS)?;
    run(daemon, "usr", &["--stop-signal=USR1"], TRAPS)?;
    run(daemon, "deaf", &["--stop-timeout=1"], DEAF)?;
    run(daemon, "back", &["--restart=unless-stopped"], TRAPS)?;
    run(daemon, "vanishing", &["--rm"], TRAPS)?;
    run(daemon, "frozen", &[], TRAPS)?;
    daemon.docker(&["pause", "frozen"])?.ok().map(drop)
}

/// They were stopped in their own ways, and the next daemon starts who wants it.
fn all_were_stopped(daemon: &Daemon) -> Result<()> {
    for (name, wanted, logged) in [
        ("term", "exited 15", "term\n"),
        ("usr", "exited 10", "usr\n"),
        ("deaf", "exited 137", ""),
        ("back", "running 0", "term\n"),
        ("frozen", "exited 15", "term\n"),
    ] {
        assert_eq!(state(daemon, name)?, wanted, "{name}");
        assert_eq!(daemon.docker(&["logs", name])?.ok()?, logged, "{name}");
    }
    assert_eq!(daemon.api().call("GET", "/containers/vanishing/json")?.status, 404);
    for name in ["term", "usr", "deaf", "frozen", "back"] {
        daemon.docker(&["rm", "-f", name])?.ok()?;
    }
    Ok(())
}

/// A `systemctl` that says this of the machine.
fn systemctl(dir: &Path, says: &str) -> Result<()> {
    let path = dir.join("systemctl");
    fs::write(&path, format!("#!/bin/sh\necho \"$@\" >> {}/asked\necho {says}\n", dir.display()))?;
    Ok(fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?)
}

#[test]
fn containers_are_stopped_with_the_machine() -> Result<()> {
    let programs = std::env::temp_dir().join(format!("wharf-systemctl-{}", std::process::id()));
    fs::create_dir_all(&programs)?;
    systemctl(&programs, "running")?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH")?);
    let mut daemon = Daemon::builder().env("PATH", path).start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    run_all(&daemon)?;
    let pid = inspect(&daemon, "term", "{{.State.Pid}}")?;
    daemon.terminate()?;
    assert_eq!(fs::read_to_string(programs.join("asked"))?, "is-system-running\n");
    daemon.launch()?;
    assert_eq!(inspect(&daemon, "term", "{{.State.Pid}}")?, pid, "the daemon alone ended");

    systemctl(&programs, "stopping")?;
    daemon.terminate()?;
    daemon.launch()?;
    all_were_stopped(&daemon)?;

    // Who says so instead of letting the daemon ask.
    systemctl(&programs, "running")?;
    run_all(&daemon)?;
    let refused = daemon.stop_containers()?;
    assert!(refused.code == 1 && refused.stderr.contains("in use by another daemon"), "{refused:?}");
    assert_eq!(state(&daemon, "term")?, "running 0");
    daemon.terminate()?;
    let stopped = daemon.stop_containers()?;
    assert_eq!((stopped.code, stopped.stdout.as_str()), (0, ""), "{}", stopped.stderr);
    assert_eq!(fs::read_dir(daemon.exec_root().join("containers"))?.count(), 0, "nothing runs");
    assert_eq!(daemon.stop_containers()?.code, 0, "nothing is left to do");
    daemon.launch()?;
    all_were_stopped(&daemon)?;
    daemon.stop()?;
    Ok(fs::remove_dir_all(programs)?)
}

#[test]
fn an_old_style_daemon_stops_and_starts_its_containers() -> Result<()> {
    let mut daemon = Daemon::builder().flag("--live-restore=false").start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    run_all(&daemon)?;
    daemon.terminate()?;
    daemon.launch()?;
    all_were_stopped(&daemon)?;
    // After a crash they are found alive: it is the same, only later.
    run_all(&daemon)?;
    daemon.kill9()?;
    daemon.launch()?;
    all_were_stopped(&daemon)?;
    impatience(&mut daemon)?;
    daemon.stop()
}

/// The third signal ends a daemon that waits for a container without end; the container is lost by nobody.
fn impatience(daemon: &mut Daemon) -> Result<()> {
    for (last, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        run(daemon, "deaf", &["--stop-timeout=-1"], DEAF)?;
        let pid = inspect(daemon, "deaf", "{{.State.Pid}}")?;
        // Two of the same kind at a time count as one.
        let taken = daemon.log().matches("Processing signal '").count();
        for n in 1..=2 {
            daemon.signal(Signal::TERM)?;
            until("a signal taken", || {
                Ok((daemon.log().matches("Processing signal '").count() == taken + n).then_some(()))
            })?;
        }
        daemon.signal(last)?;
        assert_eq!(daemon.wait_for_end()?, Some(code));
        assert!(Path::new("/proc").join(&pid).exists(), "it runs on");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid.parse()?).expect("a pid"),
            Signal::KILL,
        )?;
        daemon.launch()?;
        assert_eq!(state(daemon, "deaf")?, "exited 137");
        daemon.docker(&["rm", "deaf"])?.ok()?;
    }
    Ok(())
}
