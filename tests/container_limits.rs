//! What limits do to a container; that they are set is in `container_resources`.

use crate::container_run::sh;
use anyhow::Result;
use wharf_testkit::Daemon;

#[test]
fn too_much_memory_is_killed_and_said() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let hog = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let out = daemon.docker(&[
        "run",
        "--name",
        "hog",
        "--network=none",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        hog,
    ])?;
    assert_eq!(out.code, 137, "{}{}", out.stdout, out.stderr);
    let killed = daemon.docker(&["inspect", "-f", "{{.State.OOMKilled}}", "hog"])?.ok()?;
    assert_eq!(killed, "true\n");
    daemon.stop()
}

#[test]
fn ulimits_and_sysctls() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    assert_eq!(sh(&daemon, &["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn")?, "100\n200");
    assert_eq!(
        sh(&daemon, &["--sysctl", "net.ipv4.ip_default_ttl=42"], "cat /proc/sys/net/ipv4/ip_default_ttl")?,
        "42"
    );
    assert_eq!(sh(&daemon, &["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj")?, "500");
    daemon.stop()
}

#[test]
fn hundreds_of_ports_need_no_higher_limit_and_containers_get_the_daemons() -> Result<()> {
    let daemon = Daemon::builder().descriptors(100).start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    assert_eq!(sh(&daemon, &[], "ulimit -Sn")?, "100");
    let ports = ["run", "-d", "--name", "many", "-p", "20000-20299:20000-20299", "busybox", "sleep", "1000"];
    daemon.docker(&ports)?.ok()?;
    assert_eq!(
        daemon.docker(&["port", "many"])?.ok()?.lines().filter(|l| l.contains("0.0.0.0:")).count(),
        300
    );
    assert_eq!(daemon.docker(&["exec", "many", "sh", "-c", "ulimit -Sn"])?.ok()?, "100\n");
    daemon.docker(&["rm", "-f", "many"])?.ok()?;
    daemon.stop()
}

#[test]
fn devices_are_limited() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let denied = sh(&daemon, &[], "mknod /m b 254 0 && head -c1 /m 2>&1 | tail -1; true")?;
    assert!(denied.contains("Operation not permitted"), "{denied}");
    assert_eq!(
        sh(
            &daemon,
            &["--device", "/dev/null:/dev/mine"],
            "stat -c %t:%T /dev/mine; echo x > /dev/mine && echo ok"
        )?,
        "1:3\nok"
    );
    daemon.stop()
}
