//! create, start, stop, kill, restart, pause, rename, rm, ps, wait, prune, events.

use anyhow::Result;
use serde_json::json;
use wharf_testkit::{Daemon, until};

fn inspect(daemon: &Daemon, name: &str, format: &str) -> Result<String> {
    Ok(daemon.docker(&["inspect", "-f", format, name])?.ok()?.trim_end().to_owned())
}

pub(crate) fn run_detached(daemon: &Daemon, name: &str, command: &[&str]) -> Result<String> {
    let mut args = vec!["run", "-d", "--network=none", "--name", name, "busybox"];
    args.extend(command);
    Ok(daemon.docker(&args)?.ok()?.trim().to_owned())
}

#[test]
fn a_life() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let id = run_detached(&daemon, "web", &["sleep", "1000"])?;
    assert_eq!(id.len(), 64);
    assert_eq!(
        daemon.docker(&["ps", "--format", "{{.Names}} {{.Image}} {{.State}} {{.Command}}"])?.ok()?,
        "web busybox running \"sleep 1000\"\n"
    );
    assert_eq!(daemon.api().call("POST", "/containers/web/start")?.status, 304);
    daemon.docker(&["pause", "web"])?.ok()?;
    assert_eq!(
        inspect(&daemon, "web", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}")?,
        "paused true true"
    );
    daemon.docker(&["unpause", "web"])?.ok()?;
    daemon.docker(&["rename", "web", "site"])?.ok()?;
    assert_eq!(inspect(&daemon, "site", "{{.Name}} {{.State.Status}}")?, "/site running");
    daemon.docker(&["restart", "-t", "0", "site"])?.ok()?;
    assert_eq!(inspect(&daemon, "site", "{{.State.Status}}")?, "running");
    daemon.docker(&["stop", "-t", "0", "site"])?.ok()?;
    assert_eq!(
        inspect(&daemon, "site", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}")?,
        "exited 137 0"
    );
    assert_eq!(daemon.api().call("POST", "/containers/site/stop")?.status, 304);
    daemon.docker(&["start", "site"])?.ok()?;
    let refused = daemon.docker(&["rm", "site"])?;
    assert!(
        refused.stderr.contains("container is running: stop the container before removing or force remove"),
        "{}",
        refused.stderr
    );
    daemon.docker(&["rm", "-f", "site"])?.ok()?;
    assert_eq!(daemon.api().call("GET", "/containers/site/json")?.message(), "No such container: site");
    daemon.stop()
}

#[test]
fn stop_sends_the_images_signal_first() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(
        &daemon,
        "tt",
        &["sh", "-c", "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done"],
    )?;
    until("the trap", || Ok(daemon.docker(&["logs", "tt"])?.stdout.contains("ready").then_some(())))?;
    daemon.docker(&["stop", "tt"])?.ok()?;
    assert_eq!(inspect(&daemon, "tt", "{{.State.ExitCode}}")?, "5");
    assert_eq!(daemon.docker(&["logs", "tt"])?.ok()?, "ready\ngot\n");
    daemon.docker(&["start", "tt"])?.ok()?;
    until("the second trap", || {
        Ok((daemon.docker(&["logs", "tt"])?.stdout.matches("ready").count() == 2).then_some(()))
    })?;
    daemon.docker(&["kill", "-s", "TERM", "tt"])?.ok()?;
    assert_eq!(daemon.docker(&["wait", "tt"])?.ok()?, "5\n");
    daemon.stop()
}

#[test]
fn wait_has_three_conditions() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let api = daemon.api();
    api.json(
        "POST",
        "/containers/create?name=ww",
        &json!({"Image": "busybox", "Cmd": ["sh", "-c", "exit 3"], "HostConfig": {"NetworkMode": "none"}}),
    )?;
    assert_eq!(api.call("POST", "/containers/ww/wait")?.json(), json!({"StatusCode": 0}), "not running yet");
    std::thread::scope(|scope| -> Result<()> {
        let next = scope.spawn(|| api.call("POST", "/containers/ww/wait?condition=next-exit"));
        let removed = scope.spawn(|| api.call("POST", "/containers/ww/wait?condition=removed"));
        // The wait must be there before the start; a request has no other sign of having arrived.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(api.call("POST", "/containers/ww/start")?.status, 204);
        assert_eq!(next.join().expect("no panic")?.json()["StatusCode"], 3);
        assert_eq!(api.call("DELETE", "/containers/ww")?.status, 204);
        assert_eq!(removed.join().expect("no panic")?.json()["StatusCode"], 3);
        Ok(())
    })?;
    assert_eq!(api.call("POST", "/containers/ww/wait")?.status, 404);
    daemon.stop()
}

#[test]
fn lists_filter() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(&daemon, "up", &["sleep", "1000"])?;
    daemon.docker(&[
        "run",
        "--network=none",
        "--name",
        "down",
        "--label",
        "k=v",
        "busybox",
        "sh",
        "-c",
        "exit 4",
    ])?;
    let names = |filter: &str| -> Result<String> {
        Ok(daemon.docker(&["ps", "-a", "--format", "{{.Names}}", "-f", filter])?.ok()?.replace('\n', " "))
    };
    assert_eq!(names("status=running")?, "up ");
    assert_eq!(names("exited=4")?, "down ");
    assert_eq!(names("label=k=v")?, "down ");
    assert_eq!(names("label=k")?, "down ");
    assert_eq!(names("name=^u")?, "up ");
    assert_eq!(names("ancestor=busybox")?, "down up ");
    assert_eq!(names("before=down")?, "up ");
    assert_eq!(names("since=up")?, "down ");
    let pruned = daemon.docker(&["container", "prune", "-f"])?.ok()?;
    assert!(pruned.contains("Deleted Containers:"), "{pruned}");
    assert_eq!(names("name=.")?, "up ");
    daemon.stop()
}

#[test]
fn restart_policies() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon
        .docker(&[
            "run",
            "-d",
            "--network=none",
            "--name",
            "ff",
            "--restart",
            "on-failure:2",
            "busybox",
            "sh",
            "-c",
            "echo x; exit 1",
        ])?
        .ok()?;
    until("the last try", || {
        Ok((inspect(&daemon, "ff", "{{.State.Status}} {{.RestartCount}}")? == "exited 2").then_some(()))
    })?;
    assert_eq!(daemon.docker(&["logs", "ff"])?.ok()?, "x\nx\nx\n");
    daemon.stop()
}

#[test]
fn events_tell_the_story() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["run", "--rm", "--network=none", "--name", "ee", "busybox", "true"])?.ok()?;
    // The CLI's `--until 0s` is cut to whole seconds: too early for what happened just now.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let path = format!("/events?since=1&until={until}&filters=%7B%22container%22%3A%5B%22ee%22%5D%7D");
    let events = String::from_utf8(daemon.api().call("GET", &path)?.body)?;
    let action =
        |line: &str| serde_json::from_str(line).map(|event: serde_json::Value| event["Action"].clone());
    let actions = events.lines().map(action).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(actions, ["create", "attach", "start", "die", "destroy"]);
    daemon.stop()
}

#[test]
fn names_collide_and_prefixes_resolve() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let id = run_detached(&daemon, "one", &["sleep", "1000"])?;
    let again = daemon.docker(&["create", "--name", "one", "busybox"])?;
    assert!(
        again
            .stderr
            .contains(&format!("The container name \"/one\" is already in use by container \"{id}\"")),
        "{}",
        again.stderr
    );
    assert_eq!(inspect(&daemon, &id[..12], "{{.Id}}")?, id);
    assert_eq!(inspect(&daemon, &id[..4], "{{.Id}}")?, id);
    daemon.stop()
}

#[test]
fn top_shows_processes() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(&daemon, "tt", &["sleep", "1234"])?;
    let top = daemon.docker(&["top", "tt"])?.ok()?;
    assert!(top.starts_with("UID") && top.contains("sleep 1234"), "{top}");
    daemon.stop()
}
