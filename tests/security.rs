//! What a container may and what it must not be able to do. Known attacks are in `cve_*.rs`.

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
