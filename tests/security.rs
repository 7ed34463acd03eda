//! What a container must not be able to do. The rows of the CVE list that concern what is built.

use crate::container_run::sh;
use anyhow::Result;
use wharf_testkit::Daemon;

#[test]
fn capabilities_are_dockers_default() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let status = sh(&daemon, &[], "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status | tr -d '\\t '")?;
    assert_eq!(
        status,
        "CapInh:0000000000000000\nCapPrm:00000000a80425fb\nCapEff:00000000a80425fb\nCapBnd:00000000a80425fb\n\
         CapAmb:0000000000000000\nNoNewPrivs:0\nSeccomp:2"
    );
    assert_eq!(
        sh(&daemon, &["--cap-drop", "ALL"], "grep CapEff /proc/self/status | cut -f2")?,
        "0000000000000000"
    );
    assert_eq!(
        sh(
            &daemon,
            &["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"],
            "grep CapBnd /proc/self/status | cut -f2"
        )?,
        "0000000000001000"
    );
    assert_eq!(sh(&daemon, &["-u", "user"], "grep CapEff /proc/self/status | cut -f2")?, "0000000000000000");
    assert_eq!(
        sh(&daemon, &["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | cut -f2")?,
        "1"
    );
    assert_eq!(
        sh(&daemon, &["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status | cut -f2")?,
        "0"
    );
    daemon.stop()
}

#[test]
fn masked_and_readonly_paths() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    assert_eq!(
        sh(
            &daemon,
            &[],
            "cat /proc/kcore | wc -c; cat /proc/keys | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | wc -w"
        )?,
        "0\n0\n0"
    );
    let denied = sh(
        &daemon,
        &[],
        "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity; do echo x 2>/dev/null > $f && echo $f; done; true",
    )?;
    assert_eq!(denied, "");
    let sysfs = sh(&daemon, &[], "touch /sys/kernel/x 2>&1; mount -o remount,rw /proc/sys 2>&1; true")?;
    assert!(sysfs.contains("Read-only file system"), "{sysfs}");
    daemon.stop()
}

#[test]
fn no_descriptor_leaks_in() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    // The shell opens /proc/self/fd itself: 0, 1, 2 and that one.
    assert_eq!(sh(&daemon, &[], "ls /proc/self/fd | tr '\\n' ' '")?, "0 1 2 3");
    for n in [3, 5, 7, 8, 9, 10, 16] {
        let cwd = format!("/proc/self/fd/{n}");
        let out = daemon.docker(&["run", "--rm", "--network=none", "-w", &cwd, "busybox", "pwd"])?;
        assert_ne!(out.code, 0, "{cwd} as working directory: {}", out.stdout);
    }
    daemon.stop()
}

#[test]
fn mounts_over_proc_and_sys_are_refused() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for target in ["/proc", "/proc/sys/kernel"] {
        let out = daemon.docker(&[
            "run",
            "--rm",
            "--network=none",
            "-v",
            &format!("/tmp:{target}"),
            "busybox",
            "true",
        ])?;
        assert_ne!(out.code, 0, "a bind over {target} was accepted");
    }
    daemon.stop()
}

#[test]
fn root_directories_that_are_links_are_not_followed() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let busybox = std::fs::read("/bin/busybox")?;
    for link in ["proc", "sys", "dev"] {
        let files = [
            wharf_testkit::Entry::dir("host", 0o755),
            wharf_testkit::Entry::symlink(link, "/host"),
            wharf_testkit::Entry::file("busybox", 0o755, busybox.clone()),
        ];
        let name = format!("link-{link}:latest");
        daemon.load(&wharf_testkit::from_files(&name, &files, serde_json::json!({}))?)?;
        let out =
            daemon.docker(&["run", "--rm", "--network=none", &name, "/busybox", "ls", "-A", "/host"])?;
        // Docker refuses; our init layer puts a real directory in the link's place. Never is the link followed.
        assert!(out.code != 0 || out.stdout.is_empty(), "the link /{link} was followed: {}", out.stdout);
    }
    daemon.stop()
}

#[test]
fn the_shim_cannot_be_overwritten_from_inside() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let shim = wharf_testkit::bin_dir().join("wharf-shim");
    let before = std::fs::read(&shim)?;
    let attack = "for p in /proc/[0-9]*/exe; do echo x 2>/dev/null >> $p; done; true";
    sh(&daemon, &["--pid=host", "--privileged"], "true")?;
    sh(&daemon, &[], attack)?;
    assert!(before == std::fs::read(&shim)?, "wharf-shim was changed");
    daemon.stop()
}

#[test]
fn user_numbers_do_not_overflow_to_root() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for user in ["4294967296", "2147483648", "-1", " 0", "root\n"] {
        let out = daemon.docker(&["run", "--rm", "--network=none", "-u", user, "busybox", "id", "-u"])?;
        assert_ne!(out.code, 0, "user {user:?} ran as {}", out.stdout);
    }
    daemon.stop()
}

#[test]
fn privileged_grants_what_the_daemon_has() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let own = std::fs::read_to_string("/proc/self/status")?;
    let own = own.lines().find_map(|l| l.strip_prefix("CapEff:\t")).unwrap_or_default().to_owned();
    assert_eq!(sh(&daemon, &["--privileged"], "grep CapEff /proc/self/status | cut -f2")?, own);
    assert_eq!(
        sh(
            &daemon,
            &["--privileged"],
            "mount -t tmpfs none /mnt 2>/dev/null || { mkdir /mnt && mount -t tmpfs none /mnt; } && echo ok"
        )?,
        "ok"
    );
    daemon.stop()
}
