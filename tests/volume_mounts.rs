//! What is mounted of volumes, images and the host, and how: seen from inside the container.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use wharf_testkit::{Daemon, Entry, Output, from_files};

fn data(daemon: &Daemon, volume: &str) -> PathBuf {
    daemon.data_root().join("volumes").join(volume).join("_data")
}

/// Runs a line of shell with these arguments.
fn sh(daemon: &Daemon, args: &[&str], line: &str) -> Result<Output> {
    daemon.docker(&[&["run", "--rm", "--network=none"], args, &["busybox", "sh", "-c", line]].concat())
}

#[test]
fn volumes_with_options_are_mounts() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let source = daemon.dir().join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("f"), "host\n")?;
    let device = format!("device={}", source.display());
    let volumes: [(&str, &[&str]); 3] = [
        ("tmp", &["type=tmpfs", "device=tmpfs", "o=size=1m,mode=1750,uid=7,nosuid,noexec"]),
        ("ro", &["type=none", &device, "o=bind,ro,noexec,nodev"]),
        ("rw", &["type=none", &device, "o=bind"]),
    ];
    for (name, options) in volumes {
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option]).collect();
        daemon.docker(&[&["volume", "create"], &options[..], &[name]].concat())?.ok()?;
    }
    let seen = sh(
        &daemon,
        &["-v", "tmp:/m"],
        "stat -c '%a %u' /m; df -k /m | awk 'END{print $2}'; grep ' /m ' /proc/mounts",
    )?;
    let seen = seen.ok()?;
    assert!(seen.starts_with("1750 7\n1024\n") && seen.contains("nosuid,noexec"), "{seen}");
    let seen = sh(&daemon, &["-v", "ro:/m"], "cat /m/f; touch /m/x; grep ' /m ' /proc/mounts")?;
    assert!(seen.stdout.starts_with("host\n") && seen.stderr.contains("Read-only file system"), "{seen:?}");
    assert!(seen.stdout.contains("ro,nodev,noexec"), "{seen:?}");
    sh(&daemon, &["-v", "rw:/m"], "echo new > /m/n")?.ok()?;
    assert_eq!(fs::read_to_string(source.join("n"))?, "new\n");
    // A copy into a container that does not run mounts it too, and what it copies stays.
    daemon.docker(&["create", "--name", "one", "-v", "rw:/m", "busybox"])?.ok()?;
    fs::write(daemon.dir().join("copied"), "copied\n")?;
    daemon.docker(&["cp", &daemon.dir().join("copied").display().to_string(), "one:/m/"])?.ok()?;
    assert_eq!(fs::read_to_string(source.join("copied"))?, "copied\n");
    assert_eq!(daemon.docker(&["exec", "one", "true"])?.code, 1);
    assert_eq!(fs::read_dir(data(&daemon, "rw"))?.count(), 0, "it is unmounted again");
    daemon.docker(&["rm", "one"])?.ok()?;
    // The host's files outlive the volume.
    daemon.docker(&["volume", "rm", "tmp", "ro", "rw"])?.ok()?;
    assert_eq!(fs::read_to_string(source.join("f"))?, "host\n");
    daemon.stop()
}

#[test]
fn a_volume_with_options_is_filled_where_it_is_mounted() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let source = daemon.dir().join("source");
    fs::create_dir(&source)?;
    let device = format!("device={}", source.display());
    daemon.docker(&["volume", "create", "-o", "type=none", "-o", &device, "-o", "o=bind", "bound"])?.ok()?;
    let files = [Entry::dir("tree", 0o755), Entry::file("tree/f", 0o644, "image")];
    daemon.load(&from_files("tree:latest", &files, json!({"Cmd": ["/x"]}))?)?;
    daemon.docker(&["create", "-v", "bound:/tree", "tree"])?.ok()?;
    assert_eq!(fs::read_dir(data(&daemon, "bound"))?.count(), 0);
    let names: Vec<_> = fs::read_dir(&source)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    assert_eq!(names, ["f"]);
    daemon.stop()
}

#[test]
fn mounts_that_fail_are_told_in_dockers_words() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let cases: [(&[&str], &str); 4] = [
        (
            &["type=nosuchfs", "device=dev", "o=ro,password=secret"],
            "failed to mount local volume: mount dev:{}, flags: 0x1, data: password=********: no such device",
        ),
        (
            &["type=none", "device=/no/such", "o=bind"],
            "failed to mount local volume: mount /no/such:{}, flags: 0x1000: no such file or directory",
        ),
        (
            &["type=nfs", "device=:/x", "o=addr=no.such.invalid"],
            "error resolving passed in network volume address: lookup no.such.invalid: no such host",
        ),
        (
            &["type=tmpfs", "device=tmpfs", "o=nonsense"],
            "failed to mount local volume: mount tmpfs:{}, data: nonsense: invalid argument",
        ),
    ];
    for (number, (options, why)) in cases.into_iter().enumerate() {
        let name = format!("v{number}");
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option]).collect();
        daemon.docker(&[&["volume", "create"], &options[..], &[&name]].concat())?.ok()?;
        let run = sh(&daemon, &["-v", &format!("{name}:/nosuch")], "true")?;
        let path = data(&daemon, &name).display().to_string();
        let told = format!("error while mounting volume '{path}': {}", why.replace("{}", &path));
        assert!(run.stderr.contains(&told), "{} should have {told}", run.stderr);
        assert!(run.code > 0);
    }
    assert_eq!(daemon.docker(&["ps", "-aq"])?.ok()?, "");
    daemon.stop()
}

#[test]
fn parts_of_volumes() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["volume", "create", "vol"])?.ok()?;
    let dir = data(&daemon, "vol");
    fs::create_dir_all(dir.join("a/b"))?;
    fs::write(dir.join("a/b/f"), "deep\n")?;
    fs::write(dir.join("file"), "alone\n")?;
    symlink("a/b", dir.join("inner"))?;
    symlink("../../../..", dir.join("outer"))?;
    let part = |path: &str| format!("--mount=type=volume,src=vol,dst=/m,volume-subpath={path}");
    assert_eq!(sh(&daemon, &[&part("a/b")], "ls /m; cat /m/f; echo x > /m/new")?.ok()?, "f\ndeep\n");
    assert_eq!(fs::read_to_string(dir.join("a/b/new"))?, "x\n");
    assert_eq!(sh(&daemon, &[&part("inner")], "cat /m/f")?.ok()?, "deep\n");
    assert_eq!(sh(&daemon, &[&part("file")], "cat /m")?.ok()?, "alone\n");
    let readonly = format!("{},readonly", part("a"));
    assert!(sh(&daemon, &[&readonly], "touch /m/x")?.stderr.contains("Read-only file system"));
    let base = dir.display();
    let refused = [
        ("outer", format!("path concatenation escapes the base directory, base: {base}, subpath: outer")),
        ("none", format!("cannot access path {base}/none: lstat {base}/none: no such file or directory")),
        (
            "../x",
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume"
                .into(),
        ),
        (
            "/a",
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume"
                .into(),
        ),
    ];
    for (path, why) in refused {
        let run = sh(&daemon, &[&part(path)], "true")?;
        assert!(run.code != 0 && run.stderr.contains(&why), "{path}: {run:?}");
    }
    // A copy goes to the part, of a container that runs and of one that does not.
    daemon.docker(&["create", "--name", "one", &part("a"), "busybox", "sleep", "1000"])?.ok()?;
    let source = daemon.dir().join("copied");
    fs::write(&source, "1")?;
    let source = source.display().to_string();
    daemon.docker(&["cp", &source, "one:/m/first"])?;
    daemon.docker(&["start", "one"])?.ok()?;
    daemon.docker(&["cp", &source, "one:/m/second"])?.ok()?;
    assert!(dir.join("a/second").exists() && !dir.join("second").exists());
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    daemon.stop()
}

/// While containers start, somebody turns a directory of the volume into a link to the host's root and back.
#[test]
fn a_part_that_becomes_a_link_stays_inside() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["volume", "create", "vol"])?.ok()?;
    let dir = data(&daemon, "vol");
    fs::create_dir(dir.join("part"))?;
    fs::write(dir.join("part/f"), "inside")?;
    let line = "cd /v; while :; do mv part away; ln -s / part; rm part; mv away part; done";
    let swapper = ["run", "-d", "--name", "swapper", "-v", "vol:/v", "busybox", "sh", "-c", line];
    daemon.docker(&swapper)?.ok()?;
    let (mut inside, mut refused) = (0, 0);
    for _ in 0..40 {
        let mount = "--mount=type=volume,src=vol,dst=/m,volume-subpath=part";
        let run = sh(&daemon, &[mount], "ls /m")?;
        match run.stdout.as_str() {
            "f\n" => inside += 1,
            "" => refused += 1,
            other => anyhow::bail!("a container saw {other}"),
        }
    }
    wharf_testkit::figure(&format!("{inside} containers got the part, {refused} none"));
    daemon.docker(&["rm", "-f", "swapper"])?.ok()?;
    daemon.stop()
}

#[test]
fn images_are_mounted() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let files = [
        Entry::dir("tree", 0o755),
        Entry::file("tree/f", 0o644, "of the image\n"),
        Entry::symlink("out", "/etc"),
    ];
    daemon.load(&from_files("data:1", &files, json!({}))?)?;
    daemon.load(&from_files("never:latest", &[Entry::file("n", 0o644, "x")], json!({}))?)?;
    let mount = "--mount=type=image,src=data:1,dst=/m";
    assert_eq!(
        sh(&daemon, &[mount], "cat /m/tree/f; touch /m/x 2>&1 | grep -o Read-only")?.ok()?,
        "of the image\nRead-only\n"
    );
    let part = "--mount=type=image,src=data:1,dst=/m,image-subpath=tree";
    assert_eq!(sh(&daemon, &[part], "ls /m")?.ok()?, "f\n");
    assert_eq!(
        sh(&daemon, &["--mount=type=image,src=busybox,dst=/m,image-subpath=bin"], "ls /m/busybox")?.ok()?,
        "/m/busybox\n"
    );
    let escape = sh(&daemon, &["--mount=type=image,src=data:1,dst=/m,image-subpath=out"], "true")?;
    assert!(escape.stderr.contains("path concatenation escapes the base directory"), "{escape:?}");
    let body = json!({"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "image", "Source": "nosuch", "Target": "/m"}]}});
    let missing = daemon.api().at("v1.51").json("POST", "/containers/create", &body)?;
    assert_eq!((missing.status, missing.message().as_str()), (404, "No such image: nosuch:latest"));
    // What is mounted is in use, by a container that runs and by one that does not, after a crash as well.
    let run = ["run", "-d", "--name", "one", "--network=none", mount, "busybox", "sleep", "1000"];
    daemon.docker(&run)?.ok()?;
    let shown: Value =
        serde_json::from_str(&daemon.docker(&["inspect", "-f", "{{json .Mounts}}", "one"])?.ok()?)?;
    assert_eq!(
        (&shown[0]["Type"], &shown[0]["Name"], &shown[0]["RW"]),
        (&json!("image"), &json!("data:1"), &json!(false))
    );
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!(daemon.docker(&["exec", "one", "cat", "/m/tree/f"])?.ok()?, "of the image\n");
    let used = daemon.docker(&["rmi", "data:1"])?;
    assert!(used.code == 1 && used.stderr.contains("is using its referenced image"), "{used:?}");
    let forced = daemon.docker(&["rmi", "-f", "data:1"])?;
    assert_eq!(forced.ok()?, "Untagged: data:1\n", "it loses its name only");
    assert_eq!(daemon.docker(&["cp", "one:/m/tree/f", "-"])?.code, 0);
    daemon.docker(&["restart", "-t0", "one"])?.ok()?;
    assert_eq!(daemon.docker(&["exec", "one", "cat", "/m/tree/f"])?.ok()?, "of the image\n");
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    assert!(daemon.docker(&["image", "prune", "-f"])?.ok()?.contains("deleted: sha256:"));
    daemon.stop()
}

/// Mounts on the host are made in a tmpfs that is shared, seen by nobody else.
#[test]
fn propagation_needs_a_shared_source() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let top = daemon.dir().join("top");
    fs::create_dir(&top)?;
    let shell = |line: &str| -> Result<()> {
        let done = Command::new("sh").arg("-ec").arg(line).current_dir(&top).status()?;
        ensure!(done.success(), "{line}");
        Ok(())
    };
    shell("mount -t tmpfs top . && mount --make-private .")?;
    let outcome = propagate(&daemon, &top.display().to_string(), &shell);
    let unmounted = shell("cd .. && umount -R top");
    outcome?;
    unmounted?;
    daemon.stop()
}

fn propagate(daemon: &Daemon, top: &str, shell: &dyn Fn(&str) -> Result<()>) -> Result<()> {
    shell("cd .. && cd top && mkdir d late")?;
    let bind = |mode: &str| format!("{top}/d:/m:{mode}");
    for (mode, kind) in [
        ("shared", "a shared"),
        ("rshared", "a shared"),
        ("slave", "a shared or slave"),
        ("rslave", "a shared or slave"),
    ] {
        let run = sh(daemon, &["-v", &bind(mode)], "true")?;
        let told = format!("path {top}/d is mounted on {top} but it is not {kind} mount");
        assert!(run.stderr.contains(&told), "{mode}: {run:?}");
    }
    shell("cd .. && cd top && mount --make-shared .")?;
    // What the host mounts later comes into a slave, and not into a private one.
    for (name, mode) in [("slave", "rslave"), ("private", "rprivate")] {
        daemon.docker(&["run", "-d", "--name", name, "-v", &bind(mode), "busybox", "sleep", "1000"])?.ok()?;
    }
    shell("cd .. && cd top && mkdir d/sub && mount -t tmpfs sub d/sub && touch d/sub/late")?;
    assert_eq!(daemon.docker(&["exec", "slave", "ls", "/m/sub"])?.ok()?, "late\n");
    assert_eq!(daemon.docker(&["exec", "private", "ls", "/m/sub"])?.ok()?, "");
    // What a shared one mounts is seen on the host.
    let shared = bind("rshared");
    let run = ["run", "--rm", "--privileged", "-v", &shared, "busybox", "sh", "-c"];
    daemon
        .docker(&[&run[..], &["mkdir /m/own && mount -t tmpfs own /m/own && touch /m/own/made"]].concat())?
        .ok()?;
    shell("cd .. && cd top && test -e d/own/made && umount d/own")?;
    // Read-only holds for what is below, unless that is not wanted.
    let lines = [
        ("", "Read-only file system"),
        (",bind-recursive=readonly,bind-propagation=rprivate", "Read-only file system"),
        (",bind-recursive=writable", ""),
        (",bind-recursive=disabled", "Read-only file system"),
    ];
    for (extra, expected) in lines {
        let mount = format!("--mount=type=bind,src={top}/d,dst=/m,ro{extra}");
        let told = sh(daemon, &[&mount], "touch /m/sub/x")?.stderr;
        assert!(
            if expected.is_empty() { told.is_empty() } else { told.contains(expected) },
            "{extra}: {told}"
        );
    }
    daemon.docker(&["rm", "-f", "slave", "private"])?.ok()?;
    Ok(())
}

#[test]
fn options_that_contradict_are_refused() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let start = |mount: Value| -> Result<(u16, String)> {
        let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "Mounts": [mount]}});
        let made = daemon.api().json("POST", "/containers/create", &body)?;
        if made.status != 201 {
            return Ok((made.status, made.message()));
        }
        let id = made.json()["Id"].as_str().unwrap_or_default().to_owned();
        let started = daemon.api().call("POST", &format!("/containers/{id}/start"))?;
        daemon.api().call("DELETE", &format!("/containers/{id}?force=1"))?;
        Ok((started.status, if started.status == 204 { String::new() } else { started.message() }))
    };
    let bind = |read_only: bool, options: Value| json!({"Type": "bind", "Source": "/etc", "Target": "/m", "ReadOnly": read_only, "BindOptions": options});
    let tmpfs =
        |options: Value| json!({"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"Options": options}});
    let (alone, forced) = ("ReadOnlyNonRecursive", "ReadOnlyForceRecursive");
    let root = daemon.data_root().display().to_string();
    let cases = [
        (
            bind(false, json!({alone: true})),
            500,
            "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive",
        ),
        (
            bind(false, json!({forced: true})),
            500,
            "mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive",
        ),
        (
            bind(true, json!({alone: true, forced: true})),
            500,
            "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        ),
        (bind(true, json!({forced: true})), 204, ""),
        (tmpfs(json!([["noexec"]])), 204, ""),
        (tmpfs(json!([["noexec", "x"]])), 500, "invalid tmpfs option [\"noexec\" \"x\"]"),
        (tmpfs(json!([["size", "1"]])), 400, "invalid mount config for type \"tmpfs\": invalid option: size"),
        (tmpfs(json!([[]])), 400, "invalid mount config for type \"tmpfs\": invalid option array length"),
        (
            json!({"Type": "bind", "Source": root, "Target": "/m", "BindOptions": {"Propagation": "private"}}),
            400,
            "must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root",
        ),
        (
            json!({"Type": "npipe", "Source": "x", "Target": "/m"}),
            400,
            "invalid mount config for type \"npipe\": mount type unknown",
        ),
        (
            json!({"Type": "cluster", "Source": "x", "Target": "/m"}),
            400,
            "invalid mount config for type \"cluster\": mount type unknown",
        ),
    ];
    for (mount, status, told) in cases {
        let (found, message) = start(mount.clone())?;
        assert!(found == status && message.contains(told), "{mount}: {found} {message}");
    }
    // What holds the daemon's own mounts lets them go.
    let mount = json!({"Type": "bind", "Source": root, "Target": "/m"});
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Mounts": [mount]}});
    let id = daemon.api().json("POST", "/containers/create", &body)?.json()["Id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let shown = daemon.docker(&["inspect", "-f", "{{(index .Mounts 0).Propagation}}", &id])?;
    assert_eq!(shown.ok()?, "rslave\n");
    daemon.stop()
}

#[test]
fn starts_and_ends_with_volumes_are_told() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["run", "--name", "one", "--network=none", "-v", "vol:/v:ro", "busybox", "true"])?.ok()?;
    let id = daemon.docker(&["inspect", "-f", "{{.Id}}", "one"])?.ok()?;
    let told = daemon.events("volume", "vol")?;
    let actions: Vec<&str> = told.iter().filter_map(|event| event["Action"].as_str()).collect();
    assert_eq!(actions, ["create", "mount", "unmount"]);
    let of_mount = &told[1]["Actor"]["Attributes"];
    assert_eq!(
        *of_mount,
        json!({"driver": "local", "container": id.trim(), "destination": "/v", "read/write": "false", "propagation": ""})
    );
    assert_eq!(told[2]["Actor"]["Attributes"], json!({"driver": "local", "container": id.trim()}));
    daemon.stop()
}
