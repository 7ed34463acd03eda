//! `docker logs`: of every kind of file, whole or damaged, of containers that run, ended or are gone.

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
            "--log-opt=tag={{.ImageName}}/{{lower .Name}}",
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

#[test]
fn what_is_damaged_is_left_out_and_said() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script = "i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done";
    let rotated = ["--log-opt", "max-size=20k", "--log-opt", "max-file=100", "--log-opt", "compress=true"];
    for (name, driver) in [("plain", "json-file"), ("packed", "local")] {
        let args = ["run", "--network=none", "--name", name, "--log-driver", driver];
        daemon.docker(&[&args[..], &rotated, &["busybox", "sh", "-c", script]].concat())?.ok()?;
        let id = daemon.docker(&["inspect", "-f", "{{.Id}}", name])?.ok()?;
        let dir = daemon.data_root().join("containers").join(id.trim());
        let path =
            if driver == "local" { "local-logs/container.log" } else { &format!("{}-json.log", id.trim()) };
        let whole = daemon.docker(&["logs", name])?.ok()?;
        assert_eq!(whole.lines().count(), 3000, "{name}");
        // An older file is cut, the current one hurt in its middle.
        let older = dir.join(format!("{path}.2.gz"));
        let bytes = std::fs::read(&older)?;
        std::fs::write(&older, &bytes[..bytes.len() / 2])?;
        let current = dir.join(path);
        let mut bytes = std::fs::read(&current)?;
        let middle = bytes.len() / 2;
        bytes[middle..middle + 40].fill(0xff);
        std::fs::write(&current, bytes)?;
        let out = daemon.docker(&["logs", name])?;
        let lines: Vec<&str> = out.stdout.lines().collect();
        assert!(lines.len() > 2000 && lines.len() < 3000, "{name}: {} lines", lines.len());
        assert!(lines.iter().all(|line| whole.contains(line)), "{name}: lines that were not written");
        assert_eq!(lines[0], "line0", "{name}");
        // Entries of `local` have a length before them: behind a damaged one nothing is found in that file.
        assert!(driver == "local" || lines.last() == Some(&"line2999"), "{name}");
        let said = "Error grabbing logs: ";
        assert!(out.stderr.contains(said) && out.stderr.contains("damaged and left out"), "{}", out.stderr);
    }
    daemon.stop()
}

#[test]
fn logs_are_found_by_their_words_and_after_their_container() -> Result<()> {
    let daemon = Daemon::builder().flag("--keep-removed-logs=1m").start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    let script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done";
    for (name, flag) in [("gone", "--log-driver=local"), ("terminal", "-t")] {
        let args = ["run", "--network=none", "--rm", "--name", name, flag, "busybox", "sh", "-c", script];
        daemon.docker(&args)?.ok()?;
    }
    let out = daemon.wharf(&["logs", "--grep", "[23]$", "gone"])?;
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (0, "out2\nout3\n", "err2\nerr3\n"));
    assert_eq!(daemon.wharf(&["logs", "--tail=1", "--since=1h", "terminal"])?.ok()?, "err3\r\n");
    let nobody = daemon.wharf(&["logs", "nosuch"])?;
    assert_eq!(nobody.stderr, "Error response from daemon: No such container: nosuch\n");
    daemon.stop()
}

#[test]
fn lines_as_json_and_events_of_an_earlier_daemon() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    daemon.docker(&["run", "--name", "jj", "--network=none", "busybox", "sh", "-c", "echo one"])?.ok()?;
    let api = daemon.api().at("v1.54");
    let json = api.call("GET", "/containers/jj/logs?stdout=1&format=json")?;
    assert_eq!(json.header("content-type"), Some("application/x-ndjson"));
    let line: serde_json::Value = serde_json::from_slice(&json.body)?;
    assert_eq!((&line["Line"], &line["Source"]), (&"one\n".into(), &"stdout".into()));
    let accept = [("Accept", "application/json-seq")];
    let sequence = api.request("GET", "/containers/jj/logs?stdout=1", "", &accept, b"")?;
    assert!(sequence.body.starts_with(b"\x1e{\"Line\":\"one\\n\""));
    assert_eq!(api.call("GET", "/containers/jj/logs?stdout=1&format=x")?.message(), "unsupported log format");

    let actions = |daemon: &Daemon| -> Result<Vec<String>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
        let filter = "%7B%22container%22%3A%5B%22jj%22%5D%7D";
        let events = daemon.api().call("GET", &format!("/events?since=1&until={now}&filters={filter}"))?;
        let text = String::from_utf8(events.body)?;
        let action = |line: &str| Ok(serde_json::from_str::<serde_json::Value>(line)?["Action"].to_string());
        text.lines().map(action).collect()
    };
    let before = actions(&daemon)?;
    assert_eq!(before.first().map(String::as_str), Some("\"create\""));
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!(actions(&daemon)?, before);
    daemon.stop()
}
