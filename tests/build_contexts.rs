//! Contexts that the daemon keeps: what travels, what is built from, who may name them.

use anyhow::{Context as _, Result, ensure};
use std::{fs, path::Path};
use wharf_testkit::{Daemon, until};

const FILE: &str = "FROM busybox\nCOPY . /c/\n";

fn write(root: &Path, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    Ok(fs::write(path, text)?)
}

/// Builds plainly; gives how much of the context travelled, and all that was shown.
fn build(daemon: &Daemon, args: &[&str]) -> Result<(String, String)> {
    let out = daemon.wharf(&[&["build", "--network=none", "--progress=plain"], args].concat())?;
    ensure!(out.code == 0, "{out:?}");
    let sent = out.stderr.lines().find_map(|line| line.split_once("transferring context: "));
    let sent = sent.with_context(|| format!("no context in {}", out.stderr))?.1.replace(" done", "");
    Ok((sent, out.stderr))
}

fn list(daemon: &Daemon, image: &str) -> Result<Vec<String>> {
    let found = daemon.wharf(&["run", "--rm", "--network=none", image, "find", "/c", "-type", "f"])?.ok()?;
    let mut names: Vec<String> = found.lines().map(|line| line.replace("/c/", "")).collect();
    names.sort();
    Ok(names)
}

/// Builds until nothing travels any more: what was changed a moment ago travels again.
fn settle(daemon: &Daemon, args: &[&str]) -> Result<String> {
    until("a context that does not travel", || {
        let (sent, shown) = build(daemon, args)?;
        Ok((sent == "0B").then_some(shown))
    })
}

#[test]
fn what_is_unchanged_does_not_travel_again() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = daemon.dir().join("ctx");
    write(&dir, "Dockerfile", FILE)?;
    write(&dir, "big", vec![7; 3 << 20])?;
    write(&dir, "sub/a", "one")?;
    write(&dir, "sub/gone", "x")?;
    write(&dir, "ignored", "x")?;
    write(&dir, ".dockerignore", "ignored\nDockerfile\n.dockerignore\n")?;
    let path = dir.to_string_lossy().into_owned();
    let args = ["-t", "one", &path];
    let (sent, _) = build(&daemon, &args)?;
    ensure!(sent.contains("MB"), "{sent}");
    assert_eq!(list(&daemon, "one")?, ["big", "sub/a", "sub/gone"]);
    let shown = settle(&daemon, &args)?;
    ensure!(shown.matches("CACHED").count() == 1, "{shown}");
    write(&dir, "sub/a", "two")?;
    fs::remove_file(dir.join("sub/gone"))?;
    let (sent, _) = build(&daemon, &args)?;
    ensure!(sent.ends_with("kB"), "only what has changed travels: {sent}");
    assert_eq!(list(&daemon, "one")?, ["big", "sub/a"]);
    let cat = ["run", "--rm", "--network=none", "one", "cat", "/c/sub/a"];
    assert_eq!(daemon.wharf(&cat)?.ok()?, "two");
    // What is built is what an archive of the same files is built to.
    settle(&daemon, &args)?;
    let tar = ["-C", &path, "-c", "--owner=0", "--group=0", "--exclude=ignored", "."];
    let archive = std::process::Command::new("tar").args(tar).output()?.stdout;
    let whole = daemon.wharf_stdin(&["build", "--network=none", "-"], &archive)?;
    ensure!(whole.code == 0 && whole.stderr.contains("CACHED"), "{whole:?}");
    daemon.stop()
}

#[test]
fn contexts_outlive_the_daemon_and_are_sent_again_where_they_do_not() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let dir = daemon.dir().join("ctx");
    write(&dir, "Dockerfile", FILE)?;
    write(&dir, "data", vec![1; 1 << 20])?;
    let path = dir.to_string_lossy().into_owned();
    let args = ["-t", "one", &path];
    settle(&daemon, &args)?;
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!(build(&daemon, &args)?.0, "0B");
    let usage: serde_json::Value = serde_json::from_str(
        &daemon.wharf(&["system", "df", "-v", "--format", "{{json .BuildCache}}"])?.ok()?,
    )?;
    ensure!(usage.to_string().contains("source.local"), "{usage}");
    let pruned = daemon.wharf(&["builder", "prune", "-f", "--filter", "type=source.local"])?.ok()?;
    ensure!(!pruned.contains("Total reclaimed space: 0B"), "{pruned}");
    let (sent, _) = build(&daemon, &args)?;
    ensure!(sent.contains("MB"), "the daemon has lost it: {sent}");
    assert_eq!(list(&daemon, "one")?, ["Dockerfile", "data"]);
    daemon.stop()
}

#[test]
fn nobody_names_what_another_client_sent() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = daemon.dir().join("ctx");
    write(&dir, "Dockerfile", FILE)?;
    write(&dir, "secret", "s")?;
    settle(&daemon, &["-t", "one", &dir.to_string_lossy()])?;
    let kept: Vec<String> = fs::read_dir(daemon.data_root().join("builder/contexts"))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(kept.len(), 1);
    // Neither what the daemon calls it nor a path is an id.
    for id in [kept[0].as_str(), "../../../etc", &"0".repeat(64)] {
        let headers = [("X-Wharf-Build-Context", id), ("X-Wharf-Build-Context-From", id)];
        let response = daemon.api().request("POST", "/build/context", "application/x-tar", &headers, b"")?;
        ensure!(matches!(response.status, 400 | 409), "{id}: {response:?}");
    }
    daemon.stop()
}

#[test]
fn other_contexts_have_names() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let (dir, other) = (daemon.dir().join("ctx"), daemon.dir().join("other"));
    write(
        &dir,
        "Dockerfile",
        "FROM base\nCOPY --from=other a /c/a\nRUN --network=none --mount=type=bind,from=other,target=/m,rw cp /m/b /c/b; touch /m/new; test ! -e /m/drop\nCOPY --from=stand-in /bin/true /c/true\n",
    )?;
    for name in ["a", "b", "drop"] {
        write(&other, name, name)?;
    }
    write(&other, ".dockerignore", "drop\n")?;
    let other = format!("other={}", other.display());
    let path = dir.to_string_lossy().into_owned();
    let args = [
        "--build-context",
        &other,
        "--build-context",
        "base=docker-image://busybox",
        "--build-context",
        "stand-in=docker-image://busybox:latest",
        "-t",
        "one",
        &path,
    ];
    build(&daemon, &args)?;
    assert_eq!(list(&daemon, "one")?, ["a", "b", "true"]);
    let shown = settle(&daemon, &args)?;
    assert_eq!(shown.matches("CACHED").count(), 3, "{shown}");
    write(&daemon.dir().join("other"), "a", "changed")?;
    let (_, shown) = build(&daemon, &args)?;
    ensure!(!shown.contains("CACHED [2/4]"), "{shown}");
    let bad = daemon.wharf(&["build", "--build-context", "x", &path])?;
    assert_eq!(bad.stderr, "ERROR: invalid context value: x, expected key=value\n");
    daemon.stop()
}
