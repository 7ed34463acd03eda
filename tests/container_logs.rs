//! `docker logs` of the json-file driver.

use crate::container_lifecycle::run_detached;
use anyhow::Result;
use wharf_testkit::{Daemon, until};

#[test]
fn logs_with_every_option() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done; printf part";
    daemon.docker(&["run", "--network=none", "--name", "ll", "busybox", "sh", "-c", script])?;
    let logs = |args: &[&str]| daemon.docker(&[&["logs"], args, &["ll"]].concat());
    let both = logs(&[])?;
    assert_eq!(
        (both.stdout.as_str(), both.stderr.as_str()),
        ("out1\nout2\nout3\npart", "err1\nerr2\nerr3\n")
    );
    assert_eq!(logs(&["--tail", "1"])?.stdout, "part");
    let stamped = logs(&["-t"])?.stdout;
    let first = stamped.split(' ').next().unwrap_or_default();
    assert!(first.len() == 30 && first.ends_with('Z'), "{stamped}");
    assert_eq!(logs(&["--since", "1h"])?.stdout, both.stdout);
    assert_eq!(logs(&["--until", "1h"])?.stdout, "");
    let future = logs(&["--since", "2099-01-01T00:00:00"])?;
    assert_eq!((future.stdout.as_str(), future.stderr.as_str()), ("", ""));
    daemon.stop()
}

#[test]
fn follow_ends_with_the_container() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(&daemon, "ff", &["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"])?;
    assert_eq!(daemon.docker(&["logs", "-f", "ff"])?.ok()?, "1\n2\n3\n4\n5\n");
    daemon.stop()
}

#[test]
fn long_lines_and_odd_bytes_come_back() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script =
        "head -c 100000 /dev/zero | tr '\\0' y; echo; printf 'tab\\tquote\"back\\\\slash<&>\\001\\n'";
    daemon.docker(&["run", "--network=none", "--name", "ll", "busybox", "sh", "-c", script])?;
    let out = daemon.docker(&["logs", "ll"])?.ok()?;
    assert_eq!(out, format!("{}\ntab\tquote\"back\\slash<&>\u{1}\n", "y".repeat(100_000)));
    daemon.stop()
}

#[test]
fn rotation_keeps_the_newest() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script = "i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done";
    daemon.docker(&[
        "run",
        "--network=none",
        "--name",
        "rr",
        "--log-opt",
        "max-size=20k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "sh",
        "-c",
        script,
    ])?;
    let out = daemon.docker(&["logs", "rr"])?.ok()?;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.last(), Some(&"line2999"));
    let first: usize = lines[0].trim_start_matches("line").parse()?;
    assert!(first > 0 && lines.len() == 3000 - first, "{} lines from {first}", lines.len());
    daemon
        .docker(&["run", "--network=none", "--name", "none", "--log-driver", "none", "busybox", "echo", "x"])?
        .ok()?;
    assert!(
        daemon
            .docker(&["logs", "none"])?
            .stderr
            .contains("configured logging driver does not support reading")
    );
    until("nothing", || Ok(Some(())))?;
    daemon.stop()
}

#[test]
fn lines_carry_the_attributes_that_were_asked_for() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for driver in ["json-file", "local"] {
        let name = format!("attributes-{driver}");
        let run = [
            "run",
            "--name",
            &name,
            "--network=none",
            "--log-driver",
            driver,
            "--log-opt=labels-regex=^com",
            "--log-opt=env=A,B",
            "--log-opt=tag={{.ImageName}}/{{.Name}}",
            "--label=com.x=1",
            "--label=y=2",
            "-e",
            "A=3",
            "-e",
            "C=4",
            "busybox",
            "echo",
            "line",
        ];
        daemon.docker(&run)?.ok()?;
        let logs = daemon.docker(&["logs", "--details", &name])?.ok()?;
        let tag = format!("tag=busybox%2F{name}");
        assert_eq!(logs, format!("A=3,com.x=1,{tag} line\n"), "{driver}");
    }
    let create = |option: &str| daemon.docker(&["create", "--network=none", "--log-opt", option, "busybox"]);
    for (option, said) in [
        ("mode=sometimes", "logger: logging mode not supported: sometimes"),
        ("tag={{.Nope}}", "log opt tag: "),
        ("env-regex=(", "invalid value for env-regex"),
    ] {
        let refused = create(option)?;
        assert!(refused.code == 1 && refused.stderr.contains(said), "{option}: {}", refused.stderr);
    }
    daemon.stop()
}
