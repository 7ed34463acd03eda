//! `docker exec`.

use crate::container_lifecycle::run_detached;
use anyhow::Result;
use wharf_testkit::Daemon;

#[test]
fn exec_in_all_its_ways() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(&daemon, "cc", &["sleep", "1000"])?;
    let exec = |args: &[&str]| daemon.docker(&[&["exec"], args].concat());
    let out = exec(&["cc", "sh", "-c", "echo o; echo e >&2; exit 3"])?;
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (3, "o\n", "e\n"));
    assert_eq!(
        exec(&["-u", "user", "-w", "/tmp", "-e", "A=b", "cc", "sh", "-c", "id -un; pwd; echo $A $HOME"])?
            .ok()?,
        "user\n/tmp\nb /home\n"
    );
    assert_eq!(exec(&["-t", "cc", "sh", "-c", "test -t 0 && tty"])?.ok()?, "/dev/pts/0\r\n");
    assert_eq!(daemon.docker_stdin(&["exec", "-i", "cc", "cat"], b"through\n")?.ok()?, "through\n");
    assert_eq!(exec(&["cc", "cat", "/proc/1/comm"])?.ok()?, "sleep\n", "it is in the pid namespace");
    let caps = exec(&["--privileged", "cc", "grep", "CapEff", "/proc/self/status"])?.ok()?;
    assert!(!caps.contains("00000000a80425fb"), "{caps}");
    let caps = exec(&["cc", "grep", "-E", "CapEff|CapInh|Seccomp:", "/proc/self/status"])?.ok()?;
    assert_eq!(caps, "CapInh:\t0000000000000000\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n");
    assert_eq!(exec(&["-d", "cc", "touch", "/made"])?.code, 0);
    wharf_testkit::until(
        "the detached exec",
        || Ok((exec(&["cc", "ls", "/made"])?.code == 0).then_some(())),
    )?;
    assert_eq!(exec(&["cc", "nosuch"])?.code, 127);
    assert_eq!(exec(&["cc", "/etc"])?.code, 126);
    assert_eq!(exec(&["cc", "sh", "-c", "kill -9 $$"])?.code, 137);
    for n in [3, 7, 10] {
        assert_ne!(exec(&["-w", &format!("/proc/self/fd/{n}"), "cc", "pwd"])?.code, 0);
    }
    daemon.docker(&["pause", "cc"])?.ok()?;
    assert!(exec(&["cc", "true"])?.stderr.contains("is paused, unpause the container before exec"));
    daemon.docker(&["unpause", "cc"])?.ok()?;
    daemon.docker(&["stop", "-t0", "cc"])?.ok()?;
    assert!(exec(&["cc", "true"])?.stderr.contains("is not running"));
    daemon.stop()
}

#[test]
fn a_hundred_in_a_row_leak_no_descriptor() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(&daemon, "cc", &["sleep", "1000"])?;
    let descriptors =
        || Ok::<_, anyhow::Error>(std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count());
    daemon.docker(&["exec", "cc", "true"])?.ok()?;
    let before = descriptors()?;
    for _ in 0..100 {
        let created = daemon.api().json(
            "POST",
            "/containers/cc/exec",
            &serde_json::json!({"Cmd": ["true"], "AttachStdout": true}),
        )?;
        let id = created.json()["Id"].as_str().unwrap_or_default().to_owned();
        let started =
            daemon.api().json("POST", &format!("/exec/{id}/start"), &serde_json::json!({"Detach": false}))?;
        assert_eq!(started.status, 200);
    }
    wharf_testkit::until("closed descriptors", || Ok((descriptors()? <= before + 2).then_some(())))?;
    daemon.stop()
}
