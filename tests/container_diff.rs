//! diff: what a container added, changed and deleted, as docker tells it.

use anyhow::Result;
use serde_json::json;
use wharf_testkit::Daemon;

/// What diff says of a container in which a script ran, in the order of paths.
fn diff(daemon: &Daemon, image: &str, script: &str) -> Result<Vec<String>> {
    daemon.ran("cc", image, script)?;
    let out = daemon.docker(&["diff", "cc"])?.ok()?;
    assert_eq!(daemon.wharf(&["diff", "cc"])?.ok()?, out, "both CLIs");
    daemon.docker(&["rm", "cc"])?.ok()?;
    let lines: Vec<String> = out.lines().map(str::to_owned).collect();
    for (at, line) in lines.iter().enumerate() {
        // A directory stands before what is in it.
        let below = format!("{}/", &line[2..]);
        assert!(!lines[..at].iter().any(|other| other[2..].starts_with(&below)), "{lines:?}");
    }
    let mut sorted = lines;
    sorted.sort_by(|a, b| a[2..].cmp(&b[2..]));
    Ok(sorted)
}

#[test]
fn every_kind_of_change_has_its_letter() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for (what, script, wanted) in [
        ("nothing", "true", &[][..]),
        (
            "files",
            "echo x > /new; echo y >> /etc/passwd; rm /etc/group",
            &["C /etc", "D /etc/group", "C /etc/passwd", "A /new"],
        ),
        ("a directory with contents", "mkdir -p /a/b; touch /a/b/c", &["A /a", "A /a/b", "A /a/b/c"]),
        ("a deleted directory", "rm -rf /usr", &["D /usr"]),
        ("a mode only", "chmod 600 /etc/passwd", &["C /etc", "C /etc/passwd"]),
        ("a directory's mode only", "chmod 700 /root", &["C /root"]),
        ("an owner only", "chown 33:33 /etc/group", &["C /etc", "C /etc/group"]),
        ("a time only", "touch -d 2001-01-01 /etc/group", &["C /etc", "C /etc/group"]),
        ("a file read", "cat /etc/passwd > /dev/null", &[]),
        ("a file made and removed", "touch /t; rm /t; touch /tmp/t; rm /tmp/t", &[]),
        ("a directory made and removed", "mkdir /tmp/d; rmdir /tmp/d", &[]),
        ("a file for a directory", "rm -rf /usr; touch /usr", &["C /usr"]),
        (
            "a directory for a file",
            "rm /etc/group; mkdir /etc/group; touch /etc/group/x",
            &["C /etc", "C /etc/group", "A /etc/group/x"],
        ),
        ("a link for a file", "rm /etc/group; ln -s passwd /etc/group", &["C /etc", "C /etc/group"]),
        ("a hard link", "ln /etc/passwd /etc/again", &["C /etc", "A /etc/again"]),
        ("a file moved", "mv /etc/passwd /moved", &["C /etc", "D /etc/passwd", "A /moved"]),
        ("special files", "mkfifo /p; mknod /n c 1 3", &["A /n", "A /p"]),
        (
            "a hidden file deleted twice",
            "rm /etc/group; touch /etc/group; rm /etc/group",
            &["C /etc", "D /etc/group"],
        ),
        (
            "names that look like deletions",
            "touch /.wh.x; mkdir /.wh..wh..opq",
            &["A /.wh..wh..opq", "A /.wh.x"],
        ),
        ("what docker mounts", "echo x > /etc/hosts; echo y > /dev/shm/y", &[]),
    ] {
        assert_eq!(diff(&daemon, "busybox", script)?, wanted, "{what}");
    }
    daemon.stop()
}

#[test]
fn hardlinks_of_the_image_are_told_apart() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    // One of many names of the program: only that one is copied up.
    let lines = diff(&daemon, "busybox", "touch -d 2001-01-01 /bin/ls")?;
    assert_eq!(lines, ["C /bin", "C /bin/ls"]);
    daemon.stop()
}

#[test]
fn layers_of_the_image_count_as_one() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.ran("aa", "busybox", "rm -rf /usr; mkdir -p /opt/x; echo 1 > /opt/x/f; rm /etc/group")?;
    daemon.docker(&["commit", "aa", "two"])?.ok()?;
    daemon.docker(&["rm", "aa"])?.ok()?;
    let script = "mkdir /usr; touch /usr/n; echo 2 > /opt/x/f; rm -rf /opt/x; mkdir /opt/x; touch /etc/group";
    let lines = diff(&daemon, "two", script)?;
    assert_eq!(lines, ["C /etc", "A /etc/group", "C /opt", "C /opt/x", "D /opt/x/f", "A /usr", "A /usr/n"]);
    daemon.stop()
}

#[test]
fn a_running_container_and_one_that_is_not_there() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "cc",
            "--network=none",
            "busybox",
            "sh",
            "-c",
            "touch /now; exec sleep 1000",
        ])?
        .ok()?;
    wharf_testkit::until("the file", || {
        Ok(daemon.docker(&["diff", "cc"])?.ok()?.contains("A /now").then_some(()))
    })?;
    assert_eq!(daemon.docker(&["diff", "cc"])?.ok()?, "A /now\n");
    let answer = daemon.api().call("GET", "/containers/cc/changes")?;
    assert_eq!(answer.json(), json!([{"Path": "/now", "Kind": 1}]));
    let (docker, wharf) = (daemon.docker(&["diff", "nosuch"])?, daemon.wharf(&["diff", "nosuch"])?);
    assert_eq!((wharf.code, wharf.stderr), (docker.code, docker.stderr));
    daemon.docker(&["create", "--name", "new", "--network=none", "busybox", "true"])?.ok()?;
    assert_eq!(daemon.api().call("GET", "/containers/new/changes")?.json(), serde_json::Value::Null);
    daemon.stop()
}
