//! Containers outlive the daemon: SIGTERM, kill -9, exits meanwhile, and a shim that is killed.

use crate::container_lifecycle::run_detached;
use anyhow::Result;
use wharf_testkit::{Daemon, until};

const COUNT: &str = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";

fn restart(daemon: &mut Daemon, how: &str) -> Result<()> {
    if how == "kill -9" {
        daemon.kill9()?
    } else {
        daemon.terminate()?
    }
    // Lines must be written while no daemon is there.
    std::thread::sleep(std::time::Duration::from_millis(200));
    daemon.launch()
}

#[test]
fn everything_works_on_a_container_of_an_earlier_daemon() -> Result<()> {
    for how in ["SIGTERM", "kill -9"] {
        let mut daemon = Daemon::with_busybox()?;
        run_detached(&daemon, "cc", &["sh", "-c", COUNT])?;
        restart(&mut daemon, how)?;
        let status = daemon.docker(&["inspect", "-f", "{{.State.Status}}", "cc"])?.ok()?;
        assert_eq!(status, "running\n", "{how}");
        let numbers: Vec<usize> =
            daemon.docker(&["logs", "cc"])?.ok()?.lines().map(|l| l.parse().unwrap_or(usize::MAX)).collect();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "{how}: a line was lost or doubled");
        assert_eq!(daemon.docker(&["exec", "cc", "echo", "hi"])?.ok()?, "hi\n", "{how}");
        let next = numbers.len();
        until("lines after the restart", || {
            Ok((daemon.docker(&["logs", "--tail", "1", "cc"])?.stdout.trim().parse::<usize>()? > next + 5)
                .then_some(()))
        })?;
        let mut attached =
            daemon.net().spawn(&mut daemon.cli_command("docker", &["attach", "--no-stdin", "cc"]))?;
        // Its first byte shows that it is attached.
        std::io::Read::read_exact(attached.stdout.as_mut().expect("a pipe"), &mut [0])?;
        daemon.docker(&["stop", "-t", "0", "cc"])?.ok()?;
        assert_eq!(attached.wait_with_output()?.status.code(), Some(137), "{how}");
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn an_exit_without_a_daemon_is_known_later() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let trigger = daemon.dir().join("trigger");
    std::fs::create_dir(&trigger)?;
    let bind = format!("{}:/t", trigger.display());
    let script = "while [ ! -e /t/go ]; do sleep 0.02; done; echo last; exit 42";
    daemon
        .docker(&["run", "-d", "--network=none", "--name", "cc", "-v", &bind, "busybox", "sh", "-c", script])?
        .ok()?;
    let pid: i32 = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "cc"])?.ok()?.trim().parse()?;
    daemon.kill9()?;
    std::fs::write(trigger.join("go"), "")?;
    until("the container's end", || {
        Ok((!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()))
    })?;
    daemon.launch()?;
    assert_eq!(daemon.docker(&["wait", "cc"])?.ok()?, "42\n");
    let state = daemon.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "cc"])?.ok()?;
    assert_eq!(state, "exited 42\n");
    assert_eq!(daemon.docker(&["logs", "cc"])?.ok()?, "last\n");
    daemon.stop()
}

#[test]
fn a_killed_shim_is_a_dead_container_and_no_leak() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let id = run_detached(&daemon, "cc", &["sleep", "1000"])?;
    let text = std::fs::read_to_string(daemon.exec_root().join("containers").join(&id).join("shim.pid"))?;
    let shim: i32 = text.split_whitespace().next().unwrap_or_default().parse()?;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(shim).expect("a pid"),
        rustix::process::Signal::KILL,
    )?;
    let state = until("the report", || {
        let state = daemon
            .docker(&["inspect", "-f", "{{.State.Status}} {{.State.Running}} {{.State.Error}}", "cc"])?
            .ok()?;
        Ok((!state.starts_with("running")).then_some(state))
    })?;
    assert!(state.contains("false") && state.contains("shim"), "{state}");
    daemon.docker(&["rm", "cc"])?.ok()?;
    daemon.stop()
}

#[test]
fn a_killed_zygote_is_replaced() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(&daemon, "old", &["sleep", "1000"])?;
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid()))?;
    for pid in children.split_whitespace() {
        let pid = rustix::process::Pid::from_raw(pid.parse()?).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    }
    until("a new container", || {
        Ok((daemon.docker(&["run", "--rm", "--network=none", "busybox", "true"])?.code == 0).then_some(()))
    })?;
    assert_eq!(daemon.docker(&["exec", "old", "echo", "alive"])?.ok()?, "alive\n");
    daemon.stop()
}

#[test]
fn an_old_style_daemon_stops_its_containers() -> Result<()> {
    let mut daemon = Daemon::builder().flag("--live-restore=false").start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    run_detached(&daemon, "cc", &["sleep", "1000"])?;
    daemon.terminate()?;
    daemon.launch()?;
    let state = daemon.docker(&["inspect", "-f", "{{.State.Status}}", "cc"])?.ok()?;
    assert_eq!(state, "exited\n");
    daemon.stop()
}
