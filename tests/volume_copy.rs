//! New volumes get what the image has at their place: the whole of it, or nothing.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use wharf_testkit::{Archive, Daemon, Entry, Pass, from_files, from_layers};

/// An image whose `/tree` has everything that a file can have, made with GNU tar.
fn image(dir: &Path) -> Result<Archive> {
    let root = dir.join("root");
    let tree = root.join("tree");
    fs::create_dir_all(tree.join("sub/deep"))?;
    fs::write(tree.join("file"), "content")?;
    fs::hard_link(tree.join("file"), tree.join("sub/again"))?;
    symlink("file", tree.join("link"))?;
    symlink("/etc/shadow", tree.join("sub/outward"))?;
    fs::write(tree.join("sub/set"), "x")?;
    ensure!(Command::new("mkfifo").arg(tree.join("pipe")).status()?.success());
    let modes = [
        ("", 0o1770),
        ("file", 0o640),
        ("sub", 0o2711),
        ("sub/deep", 0o500),
        ("sub/set", 0o4755),
        ("pipe", 0o622),
    ];
    for (name, mode) in modes {
        chown(tree.join(name), Some(33), Some(44))?;
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode))?;
    }
    for (name, value) in [("file", "of a file"), ("sub", "of a directory"), ("", "of all")] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(tree.join(name), "user.note", value.as_bytes(), flags)?;
    }
    let layer = dir.join("layer.tar");
    let tar = ["--xattrs", "--numeric-owner", "--mtime=@1000000000", "-cf"];
    ensure!(Command::new("tar").args(tar).arg(&layer).arg("-C").arg(&root).arg("tree").status()?.success());
    from_layers("tree:latest", &[fs::read(layer)?], json!({"Cmd": ["/x"]}))
}

/// Everything about what is in a directory, and about itself, a line each.
fn facts(dir: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(inside) = todo.pop() {
        let path = dir.join(&inside);
        let found = fs::symlink_metadata(&path)?;
        let content = match found.file_type() {
            kind if kind.is_symlink() => fs::read_link(&path)?.display().to_string(),
            kind if kind.is_file() => fs::read_to_string(&path)?,
            _ => String::new(),
        };
        let mut note = [0; 64];
        let noted = rustix::fs::lgetxattr(&path, OsStr::new("user.note"), &mut note[..]).unwrap_or(0);
        // The directory itself gets entries while it is filled: its time says when.
        let time = if inside.as_os_str().is_empty() { 0 } else { found.mtime() };
        lines.push(format!(
            "{} {:o} {}:{} links {} at {time} {content:?} {:?}",
            inside.display(),
            found.mode(),
            found.uid(),
            found.gid(),
            if found.is_dir() { 0 } else { found.nlink() },
            String::from_utf8_lossy(&note[..noted])
        ));
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                todo.push(inside.join(entry?.file_name()));
            }
        }
    }
    lines.sort();
    Ok(lines)
}

fn data(daemon: &Daemon, volume: &str) -> PathBuf {
    daemon.data_root().join("volumes").join(volume).join("_data")
}

#[test]
fn files_are_copied_with_all_they_have() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon.load(&image(daemon.dir())?)?;
    let expected = facts(&daemon.dir().join("root/tree"))?;
    let expected: Vec<String> = expected
        .iter()
        .map(|line| {
            let (before, after) = line.split_once(" at ").unwrap_or((line, ""));
            let (time, rest) = after.split_once(' ').unwrap_or((after, ""));
            format!("{before} at {} {rest}", if time == "0" { "0" } else { "1000000000" })
        })
        .collect();
    daemon.docker(&["create", "--name", "one", "-v", "vol:/tree", "tree"])?.ok()?;
    assert_eq!(facts(&data(&daemon, "vol"))?, expected);
    // One that has something in it is left as it is, in whatever way it is asked for.
    daemon.docker(&["volume", "create", "own"])?.ok()?;
    fs::write(data(&daemon, "own").join("mine"), "")?;
    let kept = facts(&data(&daemon, "own"))?;
    for args in [&["-v", "own:/tree"][..], &["--mount", "type=volume,src=own,dst=/tree"]] {
        daemon.docker(&[&["create"], args, &["tree"]].concat())?.ok()?;
        assert_eq!(facts(&data(&daemon, "own"))?, kept);
    }
    for (name, args) in
        [("n1", "-v=n1:/tree:nocopy"), ("n2", "--mount=type=volume,src=n2,dst=/tree,volume-nocopy")]
    {
        daemon.docker(&["create", args, "tree"])?.ok()?;
        assert_eq!(fs::read_dir(data(&daemon, name))?.count(), 0, "{args}");
    }
    // A part of the image's directory, and what is not there.
    daemon.docker(&["create", "-v", "part:/tree/sub", "-v", "none:/tree/none", "tree"])?.ok()?;
    assert_eq!(fs::metadata(data(&daemon, "part"))?.mode() & 0o7777, 0o2711);
    assert_eq!(fs::read_dir(data(&daemon, "none"))?.count(), 0);
    daemon.stop()
}

#[test]
fn a_volume_is_no_file_and_links_lead_nowhere() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let secret = daemon.dir().join("secret");
    fs::create_dir(&secret)?;
    fs::write(secret.join("f"), "of the host")?;
    let files = [
        Entry::dir("real", 0o750),
        Entry::file("real/f", 0o644, "kept"),
        Entry::symlink("inner", "/real"),
        Entry::symlink("outer", &format!("/../../../../../..{}", secret.display())),
        Entry::file("plain", 0o644, "x"),
    ];
    daemon.load(&from_files("links:latest", &files, json!({"Cmd": ["/x"]}))?)?;
    daemon.load(&from_files("over:latest", &files, json!({"Cmd": ["/x"], "Volumes": {"/plain": {}}}))?)?;
    // A link of the image is followed inside of its root, where there is no such directory.
    daemon.docker(&["create", "-v", "inner:/inner", "-v", "outer:/outer", "links"])?.ok()?;
    assert_eq!(fs::read_to_string(data(&daemon, "inner").join("f"))?, "kept");
    assert_eq!(fs::read_dir(data(&daemon, "outer"))?.count(), 0);
    let over = daemon.docker(&["create", "--name", "over", "over"])?;
    assert!(
        over.code == 1 && over.stderr.contains("cannot mount volume over existing file, file exists"),
        "{over:?}"
    );
    assert_eq!(daemon.docker(&["ps", "-aqf", "name=over"])?.ok()?, "");
    assert_eq!(daemon.docker(&["volume", "ls", "-qf", "dangling=true"])?.ok()?, "");
    daemon.stop()
}

#[test]
fn creates_at_once_fill_a_volume_once() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon.load(&image(daemon.dir())?)?;
    for round in 0..5 {
        let mount = format!("v{round}:/tree");
        let api = daemon.api();
        std::thread::scope(|scope| {
            let creates: Vec<_> = (0..6)
                .map(|_| {
                    let body = json!({"Image": "tree", "HostConfig": {"Binds": [mount]}});
                    let api = &api;
                    scope.spawn(move || api.json("POST", "/containers/create", &body))
                })
                .collect();
            for create in creates {
                let made = create.join().expect("no panic")?;
                ensure!(made.status == 201, "{made:?}");
            }
            Ok(())
        })?;
        let lines = facts(&data(&daemon, &format!("v{round}")))?;
        assert_eq!(lines.len(), 9, "{lines:#?}");
    }
    daemon.stop()
}

/// Every step of filling a volume, with how it breaks off.
const BREAKS: [(&str, usize, &str, bool); 6] = [
    ("volume.fill", 1, "enospc", false),
    ("volume.fill", 1, "kill", false),
    ("volume.filled", 1, "kill", true),
    ("volume.moved", 1, "kill", true),
    ("volume.moved", 3, "kill", true),
    ("create.saved", 1, "kill", true),
];

#[test]
fn a_kill_in_the_copy_leaves_nothing_or_all() -> Result<()> {
    let mut daemon = Daemon::start()?;
    daemon.load(&image(daemon.dir())?)?;
    daemon.docker(&["create", "-v", "whole:/tree", "tree"])?.ok()?;
    let whole = facts(&data(&daemon, "whole"))?;
    for (point, pass, how, is_whole) in BREAKS {
        let faults = daemon.faults()?;
        let what = format!("{point} {pass} {how}");
        faults.arm(&Pass::from((point.to_owned(), pass)), how)?;
        let created = daemon.docker(&["create", "--name", "one", "-v", "vol:/tree", "tree"])?;
        ensure!(faults.fired(), "{what}: it did not strike");
        ensure!(created.code != 0, "{what}: {created:?}");
        faults.disarm()?;
        if how == "kill" {
            daemon.wait_for_death()?;
            daemon.launch()?;
        }
        let dir = data(&daemon, "vol");
        let left = if dir.exists() { facts(&dir)? } else { Vec::new() };
        let expected = if is_whole { &whole[..] } else { &left[..left.len().min(1)] };
        assert_eq!(left, expected, "{what}");
        if let Some(above) = dir.parent().filter(|above| above.exists()) {
            let beside: Vec<_> =
                fs::read_dir(above)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
            assert_eq!(beside, ["_data"], "{what}");
        }
        daemon.docker(&["rm", "-f", "one"])?;
        daemon.docker(&["create", "--name", "one", "-v", "vol:/tree", "tree"])?.ok().context(what.clone())?;
        assert_eq!(facts(&dir)?, whole, "{what}");
        daemon.docker(&["rm", "one"])?.ok()?;
        daemon.docker(&["volume", "rm", "vol"])?.ok()?;
    }
    daemon.stop()
}
