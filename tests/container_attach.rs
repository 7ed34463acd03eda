//! attach: several clients, half-close, detach keys, resize.

use crate::container_lifecycle::run_detached;
use anyhow::Result;
use std::io::{Read, Write};
use wharf_testkit::{Daemon, until};

#[test]
fn several_clients_see_the_output() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon
        .docker(&[
            "run",
            "-d",
            "-i",
            "--network=none",
            "--name",
            "aa",
            "busybox",
            "sh",
            "-c",
            "read x; echo got $x",
        ])?
        .ok()?;
    let mut watcher =
        daemon.net().spawn(&mut daemon.cli_command("docker", &["attach", "--no-stdin", "aa"]))?;
    let mut writer = daemon.net().spawn(&mut daemon.cli_command("docker", &["attach", "aa"]))?;
    // An attached client gives no sign: both must be there before the line that ends the container.
    std::thread::sleep(std::time::Duration::from_millis(500));
    writer.stdin.as_mut().expect("a pipe").write_all(b"word\n")?;
    let mut seen = String::new();
    watcher.stdout.take().expect("a pipe").read_to_string(&mut seen)?;
    assert_eq!(seen, "got word\n");
    assert_eq!(String::from_utf8(writer.wait_with_output()?.stdout)?, "got word\n");
    watcher.wait()?;
    daemon.stop()
}

#[test]
fn a_client_that_leaves_harms_nobody() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(&daemon, "aa", &["sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"])?;
    for _ in 0..5 {
        let mut client =
            daemon.net().spawn(&mut daemon.cli_command("docker", &["attach", "--no-stdin", "aa"]))?;
        let mut byte = [0];
        client.stdout.as_mut().expect("a pipe").read_exact(&mut byte)?;
        client.kill()?;
        client.wait()?;
    }
    let before = daemon.docker(&["logs", "aa"])?.ok()?.lines().count();
    until("more lines", || {
        Ok((daemon.docker(&["logs", "aa"])?.ok()?.lines().count() > before).then_some(()))
    })?;
    daemon.stop()
}

#[test]
fn a_tty_can_be_resized_before_and_after() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["run", "-dt", "--network=none", "--name", "tt", "busybox", "sh"])?.ok()?;
    assert_eq!(daemon.api().call("POST", "/containers/tt/resize?h=33&w=101")?.status, 200);
    let size = daemon.docker(&["exec", "tt", "sh", "-c", "stty size < /dev/pts/0"])?.ok()?;
    assert_eq!(size, "33 101\n");
    daemon.stop()
}

#[test]
fn megabytes_through_attach_are_whole() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script = "head -c 20000000 /dev/zero | tr '\\0' z";
    let out = daemon.docker(&[
        "run",
        "--rm",
        "--network=none",
        "--log-driver=none",
        "busybox",
        "sh",
        "-c",
        script,
    ])?;
    assert_eq!(out.stdout.len(), 20_000_000);
    daemon.stop()
}
