//! SIGHUP: what the daemon takes over of its file, and what it tells of it (source of behaviour: moby
//! `daemon/reload.go`).

use anyhow::Result;
use rustix::process::Signal;
use serde_json::{Value, json};
use wharf_testkit::{Daemon, until};

/// Reloads, and gives what the event tells.
fn reload(daemon: &Daemon, config: &Value) -> Result<Value> {
    let before = daemon.events("type", "daemon")?.len();
    daemon.configure(&config.to_string())?;
    daemon.signal(Signal::HUP)?;
    let event = until("the event", || {
        let mut events = daemon.events("type", "daemon")?;
        Ok((events.len() > before).then(|| events.pop()).flatten())
    })?;
    assert_eq!((&event["Type"], &event["Action"]), (&json!("daemon"), &json!("reload")));
    Ok(event)
}

#[test]
fn settings_change_while_it_runs() -> Result<()> {
    let mut daemon = Daemon::builder().config(r#"{"labels": ["a=1"], "debug": true}"#).start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    let info = || Ok::<_, anyhow::Error>(daemon.api().call("GET", "/info")?.json());
    assert_eq!(info()?["Labels"], json!(["a=1"]));
    let runtime = daemon.dir().join("runtime");
    let event = reload(
        &daemon,
        &json!({
            "labels": ["b=2", "c=3"], "debug": false, "max-concurrent-downloads": 7, "shutdown-timeout": 20,
            "default-stop-timeout": 1, "registry-mirrors": ["http://mirror.test"], "features": {"x": true},
            "insecure-registries": ["reg.test:5000"], "runtimes": {"own": {"path": runtime}},
            "default-runtime": "own", "default-shm-size": "32m", "default-ipc-mode": "shareable",
        }),
    )?;
    let told = &event["Actor"]["Attributes"];
    assert_eq!((&event["Actor"]["ID"], &told["name"]), (&info()?["ID"], &info()?["Name"]));
    for (key, value) in [
        ("debug", "false"),
        ("default-ipc-mode", "shareable"),
        ("default-runtime", "own"),
        ("default-shm-size", "33554432"),
        ("default-stop-timeout", "1"),
        ("features", "map[x:true]"),
        ("insecure-registries", r#"["reg.test:5000"]"#),
        ("labels", r#"["b=2","c=3"]"#),
        ("live-restore", "true"),
        ("max-concurrent-downloads", "7"),
        ("max-concurrent-uploads", "5"),
        ("max-download-attempts", "5"),
        ("registry-mirrors", r#"["http://mirror.test/"]"#),
        ("shutdown-timeout", "20"),
    ] {
        assert!(
            told[key].as_str().is_some_and(|t| t.replace('/', "") == value.replace('/', "")),
            "{key}: {told}"
        );
    }
    assert_eq!(told["runtimes"], format!("own:{}", runtime.display()));
    let now = info()?;
    assert_eq!((&now["Labels"], &now["Debug"]), (&json!(["b=2", "c=3"]), &json!(false)));
    assert_eq!((&now["DefaultRuntime"], &now["Runtimes"]["own"]["path"]), (&json!("own"), &json!(runtime)));
    assert!(now["RegistryConfig"]["IndexConfigs"]["reg.test:5000"]["Secure"] == json!(false), "{now}");
    assert!(
        now["RegistryConfig"]["Mirrors"][0].as_str().is_some_and(|m| m.starts_with("http://mirror.test"))
    );
    // What is made from now on is made so.
    daemon.docker(&["create", "--name", "new", "busybox"])?.ok()?;
    let shown = daemon.api().call("GET", "/containers/new/json")?.json()["HostConfig"].clone();
    assert_eq!((&shown["Runtime"], &shown["ShmSize"]), (&json!("own"), &json!(32 << 20)));
    assert_eq!(shown["IpcMode"], "shareable");
    refusals_change_nothing(&daemon)?;
    live_restore_is_taken_over(&mut daemon)?;
    daemon.stop()
}

fn refusals_change_nothing(daemon: &Daemon) -> Result<()> {
    for (bad, error) in [
        (r#"{"labels": ["x=1", "x=2"]}"#, "conflict labels for x=2 and x=1"),
        (r#"{"nosuch": 1}"#, "the following directives don't match any configuration option: nosuch"),
        (r#"{"labels""#, "invalid JSON"),
        (r#"{"runtimes": {}, "default-runtime": "own"}"#, "specified default runtime 'own' does not exist"),
    ] {
        daemon.configure(bad)?;
        daemon.signal(Signal::HUP)?;
        until(error, || Ok(daemon.log().contains(error).then_some(())))?;
        let info = daemon.api().call("GET", "/info")?.json();
        assert_eq!(
            (&info["Labels"], &info["DefaultRuntime"]),
            (&json!(["b=2", "c=3"]), &json!("own")),
            "{bad}"
        );
    }
    Ok(())
}

/// The end of the daemon goes by the settings of the moment, and so does the time that a container gets.
fn live_restore_is_taken_over(daemon: &mut Daemon) -> Result<()> {
    let event = reload(daemon, &json!({"live-restore": false, "default-runtime": "runc"}))?;
    assert_eq!(event["Actor"]["Attributes"]["live-restore"], "false");
    assert_eq!(event["Actor"]["Attributes"]["max-concurrent-downloads"], "3", "the default again");
    assert_eq!(event["Actor"]["Attributes"]["default-stop-timeout"], "1", "still");
    daemon.docker(&["run", "-d", "--network=none", "--name", "cc", "busybox", "sleep", "1000"])?.ok()?;
    // Process 1 ignores SIGTERM unless it asks for it: only the timeout of a second ends it.
    daemon.terminate()?;
    daemon.launch()?;
    let state = daemon.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "cc"])?.ok()?;
    assert_eq!(state, "exited 137\n");
    Ok(())
}
