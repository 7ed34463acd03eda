//! `docker cp` with the stock CLI, and `/containers/{id}/archive` below it.

use anyhow::Result;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use wharf_testkit::{Daemon, Entry, Output, Tar};

/// A container named `box` that runs until it is killed.
fn running(daemon: &Daemon, flags: &[&str]) -> Result<()> {
    let mut args = vec!["run", "-d", "--name", "box", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sleep", "1000"]);
    daemon.docker(&args)?.ok().map(drop)
}

/// What a shell line in `box` prints.
fn inside(daemon: &Daemon, line: &str) -> Result<String> {
    Ok(daemon.docker(&["exec", "box", "sh", "-c", line])?.ok()?.trim_end().to_owned())
}

fn cp(daemon: &Daemon, from: &str, to: &str) -> Result<Output> {
    daemon.docker(&["cp", "--quiet", from, to])
}

/// A folder of the host to copy from and to.
fn folder(daemon: &Daemon) -> Result<std::path::PathBuf> {
    let dir = daemon.dir().join("copies");
    fs::create_dir_all(dir.join("tree/deep"))?;
    fs::write(dir.join("file"), "from the host")?;
    fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o640))?;
    fs::write(dir.join("tree/deep/leaf"), "leaf")?;
    std::os::unix::fs::symlink("deep/leaf", dir.join("tree/link"))?;
    Ok(dir)
}

fn text(dir: &Path, name: &str) -> Result<String> {
    Ok(fs::read_to_string(dir.join(name))?)
}

#[test]
fn files_and_directories_go_both_ways() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = folder(&daemon)?;
    let host = |name: &str| dir.join(name).display().to_string();
    running(&daemon, &["-v", "data:/data", "--tmpfs", "/scratch"])?;
    cp(&daemon, &host("file"), "box:/tmp")?.ok()?;
    cp(&daemon, &host("file"), "box:/tmp/renamed")?.ok()?;
    cp(&daemon, &host("tree"), "box:/tmp")?.ok()?;
    cp(&daemon, &format!("{}/.", host("tree")), "box:/tmp/tree/content")?.ok()?;
    assert_eq!(inside(&daemon, "cat /tmp/file /tmp/renamed")?, "from the hostfrom the host");
    assert_eq!(inside(&daemon, "stat -c %a /tmp/file")?, "640");
    assert_eq!(
        inside(&daemon, "readlink /tmp/tree/link; cat /tmp/tree/link /tmp/tree/content/deep/leaf")?,
        "deep/leaf\nleafleaf"
    );
    // What is mounted is seen as the container sees it.
    for mounted in ["/data", "/scratch"] {
        cp(&daemon, &host("file"), &format!("box:{mounted}/put"))?.ok()?;
        assert_eq!(inside(&daemon, &format!("cat {mounted}/put"))?, "from the host", "{mounted}");
        cp(&daemon, &format!("box:{mounted}/put"), &host("back"))?.ok()?;
        assert_eq!(text(&dir, "back")?, "from the host");
    }
    inside(&daemon, "mkdir -p /srv/a/b && echo one > /srv/a/b/one && ln -s a/b /srv/way")?;
    cp(&daemon, "box:/srv/a", &host("out"))?.ok()?;
    assert_eq!(text(&dir, "out/b/one")?, "one\n");
    cp(&daemon, "box:/srv/way", &host("link"))?.ok()?;
    assert_eq!(fs::read_link(dir.join("link"))?, Path::new("a/b"));
    daemon.docker(&["cp", "-L", "box:/srv/way", &host("followed")])?.ok()?;
    assert_eq!(text(&dir, "followed/one")?, "one\n");

    daemon.docker(&["kill", "box"])?.ok()?;
    cp(&daemon, &host("file"), "box:/srv/a/stopped")?.ok()?;
    cp(&daemon, "box:/srv/a/stopped", &host("again"))?.ok()?;
    assert_eq!(text(&dir, "again")?, "from the host");
    cp(&daemon, "box:/data/put", &host("volume"))?.ok()?;
    assert_eq!(text(&dir, "volume")?, "from the host");
    daemon.docker(&["start", "box"])?.ok()?;
    assert_eq!(inside(&daemon, "cat /srv/a/stopped")?, "from the host");
    daemon.stop()
}

#[test]
fn archives_go_through_pipes_and_keep_owners_when_asked() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    running(&daemon, &["--user", "1000:1000"])?;
    let tar = Tar::of(&[
        Entry::dir("in", 0o755).owned(33, 33),
        Entry::file("in/x", 0o600, "piped").owned(33, 33),
        Entry::symlink("in/l", "x"),
    ]);
    daemon.docker_stdin(&["cp", "-", "box:/tmp"], &tar.bytes())?.ok()?;
    let stat = |path: &str| daemon.docker(&["exec", "-u", "0", "box", "stat", "-c", "%u:%g %a", path])?.ok();
    assert_eq!(stat("/tmp/in/x")?, "33:33 600\n");
    daemon.docker_stdin(&["cp", "-a", "-", "box:/home"], &tar.bytes())?.ok()?;
    assert_eq!(stat("/home/in/x")?, "1000:1000 600\n");
    let out = daemon.docker(&["cp", "box:/tmp/in", "-"])?.ok()?;
    for (name, content) in [("in/", ""), ("in/x", "piped"), ("in/l", "")] {
        let at =
            out.match_indices(name).find(|(at, _)| at % 512 == 0 && out[at + name.len()..].starts_with('\0'));
        let (at, _) = at.unwrap_or_else(|| panic!("no {name}"));
        assert!(out[at + 512..].starts_with(content), "{name}");
    }
    daemon.stop()
}

#[test]
fn what_is_missing_or_no_directory_is_told() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = folder(&daemon)?;
    running(&daemon, &["-v", "data:/ro:ro"])?;
    for (from, to, code, said) in [
        ("box:/nosuch", "/tmp/x", 1, "Could not find the file /nosuch in container box"),
        ("nobody:/etc", "/tmp/x", 1, "No such container: nobody"),
        ("FILE", "box:/no/such/", 1, "no such directory"),
        ("FILE", "box:/no/such", 1, "Could not find the file /no in container box"),
        ("FILE", "box:/ro", 1, "mounted volume is marked read-only"),
        ("TREE", "box:/etc/passwd", 1, "cannot copy directory"),
    ] {
        let from = from.replace("FILE", &dir.join("file").display().to_string());
        let from = from.replace("TREE", &dir.join("tree").display().to_string());
        let out = cp(&daemon, &from, to)?;
        assert_eq!(out.code, code, "{from} {to}");
        assert!(out.stderr.contains(said), "{from} {to}: {}", out.stderr);
    }
    let tar = Tar::of(&[Entry::file("passwd/x", 0o644, "x")]).bytes();
    let put = |path: &str| {
        daemon.api().send("PUT", &format!("/containers/box/archive?{path}"), "application/x-tar", &tar)
    };
    let refused = put("path=/etc&noOverwriteDirNonDir=1")?;
    assert_eq!(refused.status, 500, "{}", refused.message());
    assert_eq!(inside(&daemon, "test -f /etc/passwd && echo a file")?, "a file");
    assert_eq!(put("path=/etc/passwd")?.status, 400);
    let read_only =
        ["run", "-d", "--name", "ro", "--network=none", "--read-only", "busybox", "sleep", "1000"];
    daemon.docker(&read_only)?.ok()?;
    let out = cp(&daemon, &dir.join("file").display().to_string(), "ro:/tmp")?;
    assert!(out.stderr.contains("container rootfs is marked read-only"), "{}", out.stderr);
    daemon.stop()
}

#[test]
fn nothing_leads_out_of_the_container() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = folder(&daemon)?;
    let secret = dir.join("file");
    let marked = dir.join("marked");
    running(&daemon, &[])?;
    let up = "../".repeat(40);
    inside(
        &daemon,
        &format!(
            "ln -s {0} /tmp/absolute; ln -s {up}{0} /tmp/relative; ln -s / /tmp/root; ln -s /proc/1/root /tmp/magic",
            dir.display()
        ),
    )?;
    for state in ["running", "stopped"] {
        for from in ["/tmp/absolute/file", "/tmp/relative/file", &format!("/{up}{}", secret.display())] {
            let out = cp(&daemon, &format!("box:{from}"), &dir.join("stolen").display().to_string())?;
            assert!(
                out.code != 0 && out.stderr.contains("Could not find the file"),
                "{state} {from}: {}",
                out.stderr
            );
        }
        // These lead to the container's own root.
        for own in ["/tmp/root/etc/passwd", &format!("/tmp/{up}etc/passwd")] {
            cp(&daemon, &format!("box:{own}"), &dir.join("own").display().to_string())?.ok()?;
            assert!(text(&dir, "own")?.contains("user:x:1000"), "{state} {own}");
        }
        let out = cp(&daemon, "box:/tmp/magic/etc/passwd", &dir.join("magic").display().to_string())?;
        if out.code == 0 {
            assert!(text(&dir, "magic")?.contains("user:x:1000"), "{state}");
        }
        let inner = marked.strip_prefix("/")?.display().to_string();
        for entries in [
            vec![Entry::file(&format!("{up}{inner}"), 0o644, "x")],
            vec![Entry::file(&format!("/{inner}"), 0o644, "x")],
            vec![Entry::symlink("way", &dir.display().to_string()), Entry::file("way/marked", 0o644, "x")],
            vec![
                Entry { mode: 0o644, ..Entry::hardlink("hard", &format!("{up}{}", secret.display())) },
                Entry::file("hard", 0o644, "overwritten"),
            ],
        ] {
            let tar = Tar::of(&entries).bytes();
            // Refused or put inside: what counts is the host.
            daemon.api().send("PUT", "/containers/box/archive?path=/tmp", "application/x-tar", &tar)?;
            assert!(!marked.exists(), "{state}: {entries:?}");
            assert_eq!(text(&dir, "file")?, "from the host", "{state}: {entries:?}");
        }
        if state == "running" {
            daemon.docker(&["kill", "box"])?.ok()?;
        }
    }
    daemon.stop()
}
