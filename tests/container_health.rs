//! Health checks: what they find, what is told of it, and what becomes of them when a container is frozen, stopped, or
//! loses its daemon (source of behaviour: moby `daemon/health.go`).

use anyhow::Result;
use serde_json::{Value, json};
use wharf_testkit::{Daemon, until};

/// Makes and starts a container with this check; durations are in milliseconds.
fn run(daemon: &Daemon, name: &str, check: &Value) -> Result<()> {
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": check, "HostConfig": {"NetworkMode": "none"},
    });
    let made = daemon.api().at("v1.55").json("POST", &format!("/containers/create?name={name}"), &body)?;
    assert_eq!(made.status, 201, "{}", made.message());
    assert_eq!(daemon.api().call("POST", &format!("/containers/{name}/start"))?.status, 204);
    Ok(())
}

fn ms(n: i64) -> i64 {
    n * 1_000_000
}

fn health(daemon: &Daemon, name: &str) -> Result<Value> {
    Ok(daemon.api().call("GET", &format!("/containers/{name}/json"))?.json()["State"]["Health"].clone())
}

fn until_health(daemon: &Daemon, name: &str, status: &str) -> Result<Value> {
    let mut last = Value::Null;
    let reached = until("a health", || {
        last = health(daemon, name)?;
        Ok((last["Status"] == status).then(|| last.clone()))
    });
    reached.map_err(|e| e.context(format!("{name} is not {status}: {last}")))
}

fn ps(daemon: &Daemon, filter: &str) -> Result<String> {
    daemon.docker(&["ps", "-a", "--format", "{{.Names}} {{.Status}}", "-f", filter])?.ok()
}

/// The actions of a container's events from one on.
fn actions_from(daemon: &Daemon, name: &str, first: &str) -> Result<Vec<String>> {
    let events = daemon.events("container", name)?;
    let actions = events.iter().filter_map(|e| e["Action"].as_str().map(str::to_owned));
    Ok(actions.skip_while(|action| !action.starts_with(first)).collect())
}

#[test]
fn checks_tell_how_a_container_is() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let shell = "[ -e /ok ] || { echo no; exit 7; }; echo yes";
    let often = json!({"Test": ["CMD-SHELL", shell], "Interval": ms(50), "Retries": 2});
    run(&daemon, "web", &often)?;
    let sick = until_health(&daemon, "web", "unhealthy")?;
    assert!(sick["FailingStreak"].as_i64() >= Some(2), "{sick}");
    assert_eq!((&sick["Log"][0]["ExitCode"], &sick["Log"][0]["Output"]), (&json!(7), &json!("no\n")));
    assert!(ps(&daemon, "health=unhealthy")?.ends_with(" (unhealthy)\n"));
    let told = actions_from(&daemon, "web", "exec_create")?;
    let probe = [
        format!("exec_create: /bin/sh -c {shell}"),
        format!("exec_start: /bin/sh -c {shell}"),
        "exec_die".into(),
    ];
    assert_eq!(told[..3], probe);
    daemon.docker(&["exec", "web", "touch", "/ok"])?.ok()?;
    let well = until_health(&daemon, "web", "healthy")?;
    assert_eq!(well["FailingStreak"], 0);
    until("five good results", || {
        let log = health(&daemon, "web")?["Log"].clone();
        let log = log.as_array().cloned().unwrap_or_default();
        assert!(log.len() <= 5, "{log:?}");
        Ok((log.len() == 5 && log.iter().all(|r| r["Output"] == "yes\n" && r["ExitCode"] == 0)).then_some(()))
    })?;
    let changes: Vec<_> = actions_from(&daemon, "web", "start")?;
    let changes: Vec<_> = changes.iter().filter(|a| a.starts_with("health_status")).collect();
    assert_eq!(changes, ["health_status: unhealthy", "health_status: healthy"]);
    assert!(ps(&daemon, "health=healthy")?.ends_with(" (healthy)\n"));
    frozen_and_stopped(&daemon)?;
    a_crash(&mut daemon)?;
    daemon.stop()
}

/// As in Docker, a frozen or ended container counts as unhealthy, and nothing tells so.
fn frozen_and_stopped(daemon: &Daemon) -> Result<()> {
    daemon.docker(&["pause", "web"])?.ok()?;
    assert_eq!(health(daemon, "web")?["Status"], "unhealthy");
    assert!(ps(daemon, "name=web")?.ends_with(" (Paused)\n"));
    daemon.docker(&["unpause", "web"])?.ok()?;
    until_health(daemon, "web", "healthy")?;
    let told: Vec<_> = actions_from(daemon, "web", "pause")?;
    let told: Vec<_> = told.iter().filter(|a| !a.starts_with("exec_")).take(3).collect();
    assert_eq!(told, ["pause", "unpause", "health_status: healthy"]);
    daemon.docker(&["stop", "-t", "0", "web"])?.ok()?;
    let ended = health(daemon, "web")?;
    assert_eq!((&ended["Status"], ended["Log"].as_array().map(Vec::len)), (&json!("unhealthy"), Some(5)));
    daemon.docker(&["start", "web"])?.ok()?;
    until_health(daemon, "web", "healthy").map(drop)
}

/// Checks go on after a daemon's crash, from the start.
fn a_crash(daemon: &mut Daemon) -> Result<()> {
    // The only check so far was good; the next is far away.
    let rare = json!({"Test": ["CMD", "true"], "Interval": ms(600_000), "StartPeriod": ms(600_000),
        "StartInterval": ms(50)});
    run(daemon, "rare", &rare)?;
    until_health(daemon, "rare", "healthy")?;
    run(daemon, "frozen", &json!({"Test": ["CMD", "true"], "Interval": ms(50)}))?;
    until_health(daemon, "frozen", "healthy")?;
    daemon.docker(&["pause", "frozen"])?.ok()?;
    daemon.kill9()?;
    daemon.launch()?;
    let log = health(daemon, "rare")?["Log"].clone();
    assert!(
        !log.as_array().map_or(&[][..], Vec::as_slice).is_empty(),
        "what was found before is kept: {log}"
    );
    until("a new health", || {
        let told = daemon.events("container", "rare")?;
        Ok(told.iter().any(|e| e["Action"] == "health_status: healthy").then_some(()))
    })?;
    until_health(daemon, "web", "healthy")?;
    assert_eq!(health(daemon, "frozen")?["Status"], "unhealthy");
    daemon.docker(&["unpause", "frozen"])?.ok()?;
    until_health(daemon, "frozen", "healthy").map(drop)
}

#[test]
fn checks_that_go_wrong() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let cases = [
        (
            "hangs",
            json!({"Test": ["CMD-SHELL", "echo so far; exec sleep 4321"], "Timeout": ms(250)}),
            json!(-1),
            "Health check exceeded timeout (250ms): so far\n",
        ),
        (
            "silent",
            json!({"Test": ["CMD", "sleep", "4321"], "Timeout": ms(250)}),
            json!(-1),
            "Health check exceeded timeout (250ms)",
        ),
        (
            "missing",
            json!({"Test": ["CMD", "nosuch"]}),
            json!(-1),
            "exec: \"nosuch\": executable file not found in $PATH: unknown",
        ),
        ("killed", json!({"Test": ["CMD-SHELL", "echo k; kill -9 $$"]}), json!(137), "k\n"),
        ("errors", json!({"Test": ["CMD-SHELL", "echo o; echo e >&2; exit 2"]}), json!(2), "o\ne\n"),
    ];
    for (name, check, ..) in &cases {
        let mut check = check.clone();
        check["Interval"] = json!(ms(50));
        run(&daemon, name, &check)?;
    }
    run(
        &daemon,
        "talks",
        &json!({"Test": ["CMD-SHELL", "head -c 5000 /dev/zero | tr '\\0' x; exit 1"], "Interval": ms(50)}),
    )?;
    let lenient = json!({"Test": ["CMD", "false"], "Interval": ms(600_000), "StartPeriod": ms(600_000),
        "StartInterval": ms(50), "Retries": 1});
    run(&daemon, "lenient", &lenient)?;
    run(&daemon, "none", &json!({"Test": ["NONE"]}))?;
    for (name, _, code, output) in &cases {
        let sick = until_health(&daemon, name, "unhealthy")?;
        let last = &sick["Log"][0];
        assert_eq!(&last["ExitCode"], code, "{name}: {sick}");
        assert!(last["Output"].as_str().unwrap_or_default().ends_with(output), "{name}: {sick}");
        assert!(sick["FailingStreak"].as_i64() >= Some(3), "{name}: {sick}");
    }
    let talk = until_health(&daemon, "talks", "unhealthy")?["Log"][0]["Output"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert_eq!((talk.len(), talk.ends_with("x...")), (4096 + 3, true), "{talk}");
    // Probes that were given up are gone: there is never more than the one under way.
    let top = daemon.docker(&["top", "silent"])?.ok()?;
    assert!(top.matches("sleep 4321").count() <= 1, "{top}");
    until("results that do not count yet", || {
        let health = health(&daemon, "lenient")?;
        assert_eq!((&health["Status"], &health["FailingStreak"]), (&json!("starting"), &json!(0)));
        Ok((health["Log"].as_array().map_or(0, Vec::len) >= 3).then_some(()))
    })?;
    assert!(ps(&daemon, "health=starting")?.contains(" (health: starting)"));
    assert_eq!(health(&daemon, "none")?, Value::Null);
    assert!(ps(&daemon, "health=none")?.starts_with("none Up "));
    daemon.stop()
}
