//! Images under faults: each step of pull, load, import and removal fails, or the daemon dies there.

use anyhow::{Result, ensure};
use serde_json::json;
use wharf_testkit::{Archive, Daemon, Entry, Registry, Response, Struck, Tar, from_layers, lacks};

/// Two layers, few files: each is a point.
fn image(name: &str) -> Result<Archive> {
    let bottom = Tar::of(&[Entry::dir("etc", 0o755), Entry::file("etc/a", 0o644, "bottom")]).bytes();
    let top = Tar::of(&[Entry::file("etc/b", 0o644, "top"), Entry::file("etc/.wh.a", 0o644, "")]).bytes();
    from_layers(name, &[bottom, top], json!({"Cmd": ["/none"]}))
}

/// A stream's errors are in it.
fn succeeded(answer: &Response) -> Result<()> {
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status < 300 && !text.contains("errorDetail"), "{} {text}", answer.status);
    Ok(())
}

fn load(daemon: &Daemon) -> Result<()> {
    let image = image("app:v1")?;
    succeeded(&daemon.api().send("POST", "/images/load?quiet=1", "application/x-tar", &image.bytes)?)
}

fn import(daemon: &Daemon) -> Result<()> {
    let layer = Tar::of(&[Entry::file("a", 0o644, "a")]).bytes();
    // Each import has another time, and so is another image: one that is there already is the second try's.
    if daemon.api().call("GET", "/images/app:v1/json")?.status == 200 {
        return Ok(());
    }
    succeeded(&daemon.api().send(
        "POST",
        "/images/create?fromSrc=-&repo=app&tag=v1",
        "application/x-tar",
        &layer,
    )?)
}

fn remove(daemon: &Daemon) -> Result<()> {
    succeeded(&daemon.api().call("DELETE", "/images/app:v1")?)
}

/// As a second try does it.
fn remove_if_there(daemon: &Daemon) -> Result<()> {
    match daemon.api().call("DELETE", "/images/app:v1")? {
        answer if answer.status == 404 => Ok(()),
        answer => succeeded(&answer),
    }
}

fn survives(mut daemon: Daemon, struck: &Struck<'_>) -> Result<()> {
    for what in ["enospc", "kill"] {
        struck.survives(&mut daemon, what)?;
    }
    daemon.terminate()?;
    daemon.assert_whole()?;
    daemon.assert_clean()
}

#[test]
fn load_is_whole_or_nothing() -> Result<()> {
    survives(Daemon::start()?, &Struck { work: &load, undo: &remove })
}

#[test]
fn import_is_whole_or_nothing() -> Result<()> {
    // What is visible tells of the image's time.
    let daemon = Daemon::start()?;
    let struck = Struck { work: &import, undo: &remove };
    survives(daemon, &struck)
}

#[test]
fn removal_is_whole_or_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    load(&daemon)?;
    survives(daemon, &Struck { work: &remove_if_there, undo: &load })
}

#[test]
fn pull_is_whole_or_nothing() -> Result<()> {
    if lacks(&["docker-registry", "skopeo"]) {
        return Ok(());
    }
    let mut daemon = Daemon::start()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    registry.push(daemon.net(), &image("app:v1")?, "app:v1", &[])?;
    let name = format!("{}/app", Registry::ADDRESS);
    let pull = |daemon: &Daemon| {
        succeeded(&daemon.api().call("POST", &format!("/images/create?fromImage={name}&tag=v1"))?)
    };
    let undo = |daemon: &Daemon| succeeded(&daemon.api().call("DELETE", &format!("/images/{name}:v1"))?);
    let struck = Struck { work: &pull, undo: &undo };
    for what in ["enospc", "kill"] {
        struck.survives(&mut daemon, what)?;
    }
    drop(registry);
    daemon.terminate()?;
    daemon.assert_whole()?;
    daemon.assert_clean()
}
