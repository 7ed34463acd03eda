//! Volumes of a plugin: Docker's plugin protocol, a plugin that fails, one that is dead.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use wharf_testkit::{Daemon, Entry, VolumePlugin, from_files, until};

fn methods(plugin: &VolumePlugin) -> Vec<String> {
    let asks = |method: &String| {
        !method.ends_with("Get") && !method.ends_with("Capabilities") && !method.ends_with("List")
    };
    plugin.calls().into_iter().map(|(method, _)| method).filter(asks).collect()
}

#[test]
fn a_plugin_has_volumes() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let plugin = VolumePlugin::start(&daemon, "has")?;
    let driver = "has";
    let created =
        daemon.docker(&["volume", "create", "-d", driver, "-o", "size=big", "--label", "a=b", "far"])?;
    assert_eq!(created.ok()?, "far\n");
    let calls = plugin.calls();
    assert_eq!(calls[0], ("Plugin.Activate".to_owned(), Value::Null));
    let create = calls.iter().find(|(method, _)| method == "VolumeDriver.Create").context("a create")?;
    assert_eq!(create.1, json!({"Name": "far", "Opts": {"size": "big"}}));
    let shown: Value = serde_json::from_str(&daemon.docker(&["volume", "inspect", "far"])?.ok()?)?;
    let place = plugin.files("far").display().to_string();
    let expected = json!([{"CreatedAt": "2026-01-02T03:04:05Z", "Driver": driver, "Labels": {"a": "b"},
        "Mountpoint": place, "Name": "far", "Options": {"size": "big"}, "Scope": "global", "Status": {"mood": "good"}}]);
    assert_eq!(shown, expected);
    plugin.calls();

    it_is_mounted_while_containers_run(&mut daemon, &plugin, &place)?;
    one_that_ends_unseen_is_unmounted(&mut daemon, &plugin)?;
    daemon.docker(&["volume", "rm", "far"])?.ok()?;
    assert_eq!(plugin.users("far"), None);
    daemon.stop()
}

fn it_is_mounted_while_containers_run(daemon: &mut Daemon, plugin: &VolumePlugin, place: &str) -> Result<()> {
    let run = ["run", "-d", "--name", "one", "--network=none", "-v", "far:/m", "busybox", "sleep", "1000"];
    daemon.docker(&run)?.ok()?;
    let id = daemon
        .docker(&[
            "inspect",
            "-f",
            "{{.Id}} {{(index .Mounts 0).Source}} {{(index .Mounts 0).Driver}}",
            "one",
        ])?
        .ok()?;
    assert_eq!(id.trim().split_once(' ').map(|(_, rest)| rest.to_owned()), Some(format!("{place} has")));
    daemon.docker(&["exec", "one", "sh", "-c", "echo hello > /m/f"])?.ok()?;
    assert_eq!(fs::read_to_string(plugin.files("far").join("f"))?, "hello\n");
    assert_eq!(plugin.users("far").map(|users| users.len()), Some(1));
    let used = daemon.docker(&["volume", "rm", "far"])?;
    assert!(used.stderr.contains("volume is in use"), "{used:?}");
    assert_eq!(methods(plugin), ["VolumeDriver.Mount"]);

    // The daemon's crash changes nothing for it; the container's end unmounts it, of the new daemon.
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!(daemon.docker(&["exec", "one", "cat", "/m/f"])?.ok()?, "hello\n");
    assert_eq!(daemon.docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"])?.ok()?, "has far\n");
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    assert_eq!(plugin.users("far"), Some(Vec::new()));
    assert_eq!(methods(plugin), ["Plugin.Activate", "VolumeDriver.Unmount"]);
    Ok(())
}

/// While there is no daemon: it is done by the next.
fn one_that_ends_unseen_is_unmounted(daemon: &mut Daemon, plugin: &VolumePlugin) -> Result<()> {
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "two",
            "--network=none",
            "-v",
            "far:/m",
            "busybox",
            "sleep",
            "1000",
        ])?
        .ok()?;
    let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "two"])?.ok()?;
    daemon.kill9()?;
    let pid = rustix::process::Pid::from_raw(pid.trim().parse()?).context("a pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    daemon.launch()?;
    until("an end", || Ok(plugin.users("far").is_some_and(|users| users.is_empty()).then_some(())))?;
    daemon.docker(&["rm", "two"])?.ok()?;
    Ok(())
}

#[test]
fn containers_bring_volumes_of_a_plugin_and_fill_them() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let plugin = VolumePlugin::start(&daemon, "brings")?;
    let files = [Entry::dir("tree", 0o755), Entry::file("tree/f", 0o644, "image")];
    daemon.load(&from_files("tree:latest", &files, json!({"Cmd": ["/x"]}))?)?;
    daemon.docker(&["create", "--volume-driver", "brings", "-v", "own:/tree", "tree"])?.ok()?;
    assert_eq!(fs::read_to_string(plugin.files("own").join("f"))?, "image");
    assert_eq!(fs::read_dir(plugin.files("own"))?.count(), 1);
    assert_eq!(plugin.users("own"), Some(Vec::new()), "it is unmounted again");
    let mount = "--mount=type=volume,dst=/m,volume-driver=brings,volume-opt=a=b";
    daemon.docker(&["run", "--rm", "--network=none", mount, "busybox", "touch", "/m/x"])?.ok()?;
    // The anonymous one is gone with its container.
    assert_eq!(daemon.docker(&["volume", "ls", "-q"])?.ok()?, "own\n");
    let names = daemon.docker(&["info", "-f", "{{.Plugins.Volume}}"])?.ok()?;
    assert_eq!(names, "[brings local]\n");
    // A volume that only the plugin knows, by its name.
    let stranger = plugin.files("stranger");
    fs::create_dir(&stranger)?;
    daemon.docker(&["volume", "create", "-d", "brings", "second"])?.ok()?;
    let taken = daemon.docker(&["volume", "create", "-d", "local", "second"])?;
    let told = "create second: driver 'brings' already has volume 'second': volume name must be unique";
    assert!(taken.code == 1 && taken.stderr.contains(told), "{taken:?}");
    daemon.stop()
}

#[test]
fn a_plugin_that_fails_is_quoted() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let plugin = VolumePlugin::start(&daemon, "fails")?;
    plugin.fail("VolumeDriver.Create", Some("no room"));
    let create = ["volume", "create", "-d", "fails", "vol"];
    let refused = daemon.docker(&create)?;
    assert_eq!(refused.stderr, "Error response from daemon: create vol: no room\n");
    assert_eq!(daemon.docker(&["volume", "ls", "-q"])?.ok()?, "");
    plugin.fail("VolumeDriver.Create", None);
    daemon.docker(&create)?.ok()?;
    plugin.fail("VolumeDriver.Mount", Some("no network"));
    let run = ["run", "--name", "one", "--network=none", "-v", "vol:/nosuch", "busybox", "true"];
    let refused = daemon.docker(&run)?;
    assert!(
        refused.stderr.contains("error while mounting volume '") && refused.stderr.contains("': no network"),
        "{refused:?}"
    );
    daemon.docker(&["rm", "one"])?.ok()?;
    plugin.fail("VolumeDriver.List", Some("cannot list"));
    let listed = daemon.api().call("GET", "/volumes")?.json();
    assert_eq!(listed["Volumes"][0]["Name"], "vol", "what is known is shown");
    assert_eq!(listed["Warnings"], json!(["list fails: cannot list"]));
    plugin.fail("VolumeDriver.Remove", Some("busy"));
    let refused = daemon.docker(&["volume", "rm", "vol"])?;
    assert_eq!(refused.stderr, "Error response from daemon: remove vol: busy\n");
    let forced = daemon.docker(&["volume", "rm", "-f", "vol"])?;
    assert!(forced.stderr.contains("remove vol: busy"), "{forced:?}");
    plugin.fail("VolumeDriver.List", None);
    daemon.stop()
}

/// Nobody listens: it is tried for half a minute, and nothing else waits.
#[test]
fn a_dead_plugin_holds_up_nobody_else() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let mut plugin = VolumePlugin::start(&daemon, "dead")?;
    daemon.docker(&["volume", "create", "-d", "dead", "far"])?.ok()?;
    plugin.die();
    let (asked, other) = std::thread::scope(|scope| {
        let asked = scope
            .spawn(|| daemon.docker(&["run", "--rm", "--network=none", "-v", "far:/m", "busybox", "true"]));
        let other =
            daemon.docker(&["run", "--rm", "--network=none", "-v", "near:/m", "busybox", "echo", "ran"]);
        let is_first = !asked.is_finished();
        (asked.join().expect("no panic"), other.map(|output| (output, is_first)))
    });
    let (other, is_first) = other?;
    assert_eq!(other.ok()?, "ran\n");
    assert!(is_first, "it did not wait for the dead plugin: {asked:?}");
    let asked = asked?;
    assert!(asked.stderr.contains("connect: connection refused"), "{asked:?}");
    // It is back, and all is well.
    plugin.listen()?;
    daemon.docker(&["run", "--rm", "--network=none", "-v", "far:/m", "busybox", "true"])?.ok()?;
    daemon.docker(&["volume", "rm", "far"])?.ok()?;
    daemon.stop()
}
