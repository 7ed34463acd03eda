//! Mounts whose files have sensible owners: mapped ids, volumes given to the container's user, warnings.

use anyhow::{Result, ensure};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use wharf_testkit::{Daemon, Entry, from_files};

fn owner(path: &Path) -> Result<(u32, u32)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.uid(), found.gid()))
}

/// A folder of the host with a file, both of user 1234 and group 1235.
fn sources(daemon: &Daemon, name: &str) -> Result<String> {
    let dir = daemon.dir().join(name);
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), "x")?;
    for path in [dir.clone(), dir.join("file")] {
        chown(&path, Some(1234), Some(1235))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(dir.display().to_string())
}

/// User, options of the mount, owners as the container sees file and new file, and as the host sees the new one.
const MAPPED: [(&str, &str, &str, (u32, u32)); 6] = [
    ("0:0", "idmap", "0:0 0:0", (1234, 1235)),
    ("1000:33", "idmap", "1000:33 1000:33", (1234, 1235)),
    ("0:0", "rw,idmap,rprivate", "0:0 0:0", (1234, 1235)),
    ("0:0", "idmap=uids=1234-0-1;gids=1235-0-1", "0:0 0:0", (1234, 1235)),
    ("7:8", "idmap=uids=1234-7-1#5-5-1;gids=1235-8-1", "7:8 7:8", (1234, 1235)),
    ("0:0", "", "1234:1235 0:0", (0, 0)),
];

#[test]
fn ids_of_binds_and_volumes_are_mapped() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let line = "stat -c %u:%g /m/file; touch /m/new && stat -c %u:%g /m/new";
    for (number, (user, options, inside, outside)) in MAPPED.into_iter().enumerate() {
        let source = sources(&daemon, &format!("source{number}"))?;
        let bind = format!("{source}:/m{}{options}", if options.is_empty() { "" } else { ":" });
        let name = format!("c{number}");
        let seen = daemon.docker(&[
            "run",
            "--name",
            &name,
            "--network=none",
            "--user",
            user,
            "-v",
            &bind,
            "busybox",
            "sh",
            "-c",
            line,
        ])?;
        assert_eq!(seen.ok()?.split_whitespace().collect::<Vec<_>>().join(" "), inside, "{options}");
        assert_eq!(owner(&Path::new(&source).join("new"))?, outside, "{options}");
        let recorded = daemon.docker(&[
            "inspect",
            "-f",
            "{{json .HostConfig.Binds}} {{(index .Mounts 0).Mode}}",
            &name,
        ])?;
        assert_eq!(recorded.ok()?, format!("[\"{bind}\"] {options}\n"));
    }
    // Others stay themselves: only the two change places.
    let source = sources(&daemon, "exchange")?;
    let line = "cd /m; touch a b c; chown 33 a; chown 1234 b; stat -c %u a b c";
    let bind = format!("{source}:/m:idmap");
    let run = ["run", "--rm", "--network=none", "-v", &bind, "busybox", "sh", "-c", line];
    assert_eq!(daemon.docker(&run)?.ok()?, "33\n1234\n0\n");
    for (name, uid) in [("a", 33), ("b", 0), ("c", 1234)] {
        assert_eq!(owner(&Path::new(&source).join(name))?.0, uid, "{name}");
    }
    // A volume for a user who does not own it.
    let run = ["run", "--rm", "--network=none", "-u", "1000", "-v", "vol:/v:idmap", "busybox", "sh", "-c"];
    daemon.docker(&[&run[..], &["echo x > /v/f && stat -c %u /v/f"]].concat())?.ok()?;
    assert_eq!(owner(&daemon.data_root().join("volumes/vol/_data/f"))?.0, 0);
    // After a restart of container and daemon it is as before.
    daemon.docker(&["start", "-a", "c0"])?.ok()?;
    assert_eq!(owner(&daemon.dir().join("source0/new"))?, (1234, 1235));
    assert_errors(&daemon)?;
    assert_structured(&daemon)?;
    daemon.stop()
}

fn assert_errors(daemon: &Daemon) -> Result<()> {
    for (bind, text) in [
        ("/sys/kernel:/m:idmap=uids=0-1-1", "does not support idmapped mounts"),
        ("/tmp:/m:idmap=nonsense", "invalid mode: idmap=nonsense: \"nonsense\" is not uids=... or gids=..."),
        ("/tmp:/m:idmap=uids=0-1-2#1-9-1", "an id is mapped twice"),
        ("/tmp:/m:idmap,idmap", "invalid mode: idmap,idmap"),
        ("/tmp:/m:U", "U is for volumes"),
        ("/tmp:/m:what", "invalid mode: what"),
    ] {
        let refused = daemon.docker(&["run", "--rm", "--network=none", "-v", bind, "busybox", "true"])?;
        ensure!(refused.code != 0 && refused.stderr.contains(text), "{bind}: {}", refused.stderr);
    }
    Ok(())
}

/// `--mount` of our own CLI; clients of Docker see fields that they do not know.
fn assert_structured(daemon: &Daemon) -> Result<()> {
    let source = sources(daemon, "structured")?;
    let mount = format!("type=bind,src={source},dst=/m,idmap");
    let args =
        ["run", "--name", "structured", "--network=none", "--mount", &mount, "busybox", "touch", "/m/new"];
    daemon.wharf(&args)?.ok()?;
    assert_eq!(owner(&Path::new(&source).join("new"))?, (1234, 1235));
    let mounts =
        daemon.api().call("GET", "/containers/structured/json")?.json()["HostConfig"]["Mounts"].clone();
    assert_eq!(mounts[0]["BindOptions"], json!({"IDMap": "auto"}));
    ensure!(daemon.docker(&["inspect", "structured"])?.ok()?.contains(&source), "the stock CLI reads it");
    let args = [
        "run",
        "--rm",
        "--network=none",
        "-u",
        "33:33",
        "--mount",
        "src=given,dst=/v,volume-chown",
        "busybox",
    ];
    daemon.wharf(&[&args[..], &["touch", "/v/f"]].concat())?.ok()?;
    assert_eq!(owner(&daemon.data_root().join("volumes/given/_data"))?, (33, 33));
    Ok(())
}

#[test]
fn volumes_are_given_to_the_containers_user_once() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let files = [
        Entry::dir("data", 0o750),
        Entry::file("data/f", 0o640, "x").owned(7, 7),
        Entry::dir("bin", 0o755),
        Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?),
    ];
    daemon.load(&from_files("filled:latest", &files, json!({"User": "1000:33"}))?)?;
    let run = |volume: &str, command: &[&str]| {
        let args = ["run", "--rm", "--network=none", "-v", volume, "filled", "/bin/busybox"];
        daemon.docker(&[&args[..], command].concat())?.ok()
    };
    let stat = ["stat", "-c", "%u:%g:%a", "/data", "/data/f"];
    assert_eq!(run("one:/data:U", &stat)?, "1000:33:750\n1000:33:640\n");
    run("one:/data:U", &["touch", "/data/own"])?;
    // It is not empty any more: whoever owns it now keeps it.
    chown(daemon.data_root().join("volumes/one/_data/f"), Some(5), Some(5))?;
    assert_eq!(run("one:/data:U", &stat)?, "1000:33:750\n5:5:640\n");
    assert_eq!(run("two:/data", &stat[..4])?, "0:0:750\n");
    assert_eq!(owner(&daemon.data_root().join("volumes/two/_data/f"))?, (7, 7));
    assert_eq!(run("three:/elsewhere:U,nocopy", &["stat", "-c", "%u:%g", "/elsewhere"])?, "1000:33\n");
    daemon.stop()
}

/// User, source's mode, further options, what the warning says; none where it is empty.
const WARNED: [(&str, u32, &str, &str); 9] = [
    ("", 0o700, "", ""),
    ("root", 0o700, "", ""),
    ("1234", 0o755, "", ""),
    ("1000", 0o777, "", ""),
    ("1000", 0o755, ":ro", ""),
    ("1000", 0o755, ":idmap", ""),
    ("1000:1235", 0o775, "", ""),
    ("1000:33", 0o755, "", "The container's user 1000:33 cannot write to /m: on the host "),
    ("www-data", 0o755, "", "(chown 33:33 "),
];

#[test]
fn binds_that_cannot_be_written_are_told() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let source = sources(&daemon, "source")?;
    for (user, mode, options, text) in WARNED {
        fs::set_permissions(&source, fs::Permissions::from_mode(mode))?;
        let body = json!({"Image": "busybox", "User": user, "HostConfig": {"Binds": [format!("{source}:/m{options}")]}});
        let answer = daemon.api().json("POST", "/containers/create", &body)?.json();
        let warnings = answer["Warnings"].as_array().cloned().unwrap_or_default();
        let told = warnings.iter().filter_map(|w| w.as_str()).collect::<Vec<_>>().join("\n");
        ensure!(
            told.is_empty() == text.is_empty() && told.contains(text),
            "{user} {mode:o} {options}: {answer}"
        );
    }
    // What will be made belongs to root.
    let missing = format!("{}/missing:/m", daemon.dir().display());
    let told = daemon.docker(&["create", "-u", "1000", "-v", &missing, "busybox"])?;
    ensure!(told.stderr.contains("WARNING") && told.stderr.contains("belongs to 0:0"), "{}", told.stderr);
    // A file is mostly there to be read.
    let file = format!("{source}/file:/f");
    assert_eq!(daemon.docker(&["create", "-u", "1000", "-v", &file, "busybox"])?.stderr, "");
    daemon.stop()
}
