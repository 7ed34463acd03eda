//! Containers under faults: each step of create and removal fails, or the daemon dies there.

use anyhow::{Result, ensure};
use serde_json::json;
use wharf_testkit::{Daemon, Entry, Struck, from_files};

fn daemon() -> Result<Daemon> {
    let daemon = Daemon::start()?;
    let files = [Entry::dir("etc", 0o755), Entry::file("etc/passwd", 0o644, "root:x:0:0::/:/sh\n")];
    daemon.load(&from_files("app:latest", &files, json!({"Cmd": ["/none"]}))?)?;
    Ok(daemon)
}

fn create(daemon: &Daemon) -> Result<()> {
    let request = json!({"Image": "app", "HostConfig": {"NetworkMode": "none"}, "Volumes": {"/data": {}}});
    let answer = daemon.api().json("POST", "/containers/create?name=one", &request)?;
    // The first try may have come far enough.
    ensure!(matches!(answer.status, 201 | 409), "{} {}", answer.status, answer.message());
    Ok(())
}

fn remove(daemon: &Daemon) -> Result<()> {
    let answer = daemon.api().call("DELETE", "/containers/one?v=1")?;
    ensure!(answer.status == 204, "{} {}", answer.status, answer.message());
    // A daemon that dies between a container's volume and its record leaves the volume, as Docker's does: nothing
    // tells it from one that `rm` without `-v` left on purpose. Pruning is what gives its space back.
    let answer = daemon.api().call("POST", "/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D")?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.message());
    Ok(())
}

fn remove_if_there(daemon: &Daemon) -> Result<()> {
    let answer = daemon.api().call("DELETE", "/containers/one?v=1")?;
    ensure!(matches!(answer.status, 204 | 404), "{} {}", answer.status, answer.message());
    Ok(())
}

fn survives(mut daemon: Daemon, struck: &Struck<'_>) -> Result<()> {
    for what in ["enospc", "kill"] {
        struck.survives(&mut daemon, what)?;
    }
    daemon.terminate()?;
    daemon.assert_whole()
}

#[test]
fn create_is_whole_or_nothing() -> Result<()> {
    survives(daemon()?, &Struck { work: &create, undo: &remove })
}

#[test]
fn removal_is_whole_or_nothing() -> Result<()> {
    let daemon = daemon()?;
    create(&daemon)?;
    survives(daemon, &Struck { work: &remove_if_there, undo: &create })
}

#[test]
fn commit_is_whole_or_nothing() -> Result<()> {
    let mut daemon = daemon()?;
    create(&daemon)?;
    // A second try makes another image: one that is there already is the second try's.
    let commit = |daemon: &Daemon| {
        if daemon.api().call("GET", "/images/app:committed/json")?.status == 200 {
            return Ok(());
        }
        let answer = daemon.api().json("POST", "/commit?container=one&repo=app&tag=committed", &json!({}))?;
        ensure!(answer.status == 201, "{} {}", answer.status, answer.message());
        Ok(())
    };
    let undo = |daemon: &Daemon| {
        let answer = daemon.api().call("DELETE", "/images/app:committed")?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.message());
        Ok(())
    };
    let struck = Struck { work: &commit, undo: &undo };
    for what in ["enospc", "kill"] {
        struck.survives(&mut daemon, what)?;
    }
    remove(&daemon)?;
    daemon.terminate()?;
    daemon.assert_whole()?;
    daemon.assert_clean()
}
