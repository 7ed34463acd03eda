//! Which volumes go, which stay, and who uses them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use wharf_testkit::{Daemon, from_files};

/// Names of named volumes, and how many there are without a name.
fn volumes(daemon: &Daemon) -> Result<(BTreeSet<String>, usize)> {
    let names = daemon.docker(&["volume", "ls", "-q"])?.ok()?;
    let (anonymous, named): (Vec<&str>, Vec<&str>) = names.lines().partition(|name| name.len() == 64);
    Ok((named.into_iter().map(str::to_owned).collect(), anonymous.len()))
}

fn named(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn containers_take_only_their_anonymous_volumes_with_them() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let files = [wharf_testkit::Entry::file("x", 0o755, "")];
    daemon.load(&from_files(
        "volumes:latest",
        &files,
        json!({"Cmd": ["/x"], "Volumes": {"/declared": {}}}),
    )?)?;
    let host = daemon.dir().join("host");
    fs::create_dir(&host)?;
    fs::write(host.join("f"), "")?;
    let bind = format!("{}:/host", host.display());
    let all = ["-v", "kept:/named", "-v", "/anonymous", "-v", &bind, "--mount", "type=volume,dst=/mounted"];
    let create =
        |name: &str| daemon.docker(&[&["create", "--name", name], &all[..], &["volumes"]].concat())?.ok();
    create("first")?;
    assert_eq!(volumes(&daemon)?, (named(&["kept"]), 3));
    daemon.docker(&["rm", "first"])?.ok()?;
    assert_eq!(volumes(&daemon)?, (named(&["kept"]), 3), "without -v they stay");
    daemon.docker(&["volume", "prune", "-f"])?.ok()?;
    create("second")?;
    // One that another uses stays until the other goes.
    daemon.docker(&["create", "--name", "user", "--volumes-from", "second", "busybox"])?.ok()?;
    daemon.docker(&["rm", "-v", "second"])?.ok()?;
    assert_eq!(volumes(&daemon)?, (named(&["kept"]), 3));
    daemon.docker(&["rm", "-v", "user"])?.ok()?;
    assert_eq!(volumes(&daemon)?, (named(&["kept"]), 0));
    // `--rm` takes them as `rm -v` does.
    let run = [
        "run",
        "--rm",
        "--network=none",
        "-v",
        "kept:/named",
        "-v",
        "/anonymous",
        "-v",
        &bind,
        "busybox",
        "true",
    ];
    daemon.docker(&run)?.ok()?;
    assert_eq!(volumes(&daemon)?, (named(&["kept"]), 0));
    assert!(host.join("f").exists());
    daemon.stop()
}

#[test]
fn several_containers_volumes_are_taken_over() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let run = |args: &[&str]| daemon.docker(&[&["run", "--network=none"], args].concat());
    // Containers that hold data only, and never run again.
    run(&[
        "--name",
        "one",
        "-v",
        "/a",
        "-v",
        "/both",
        "busybox",
        "sh",
        "-c",
        "echo 1 > /a/f; echo 1 > /both/f",
    ])?
    .ok()?;
    run(&[
        "--name",
        "two",
        "-v",
        "/b",
        "-v",
        "/both",
        "busybox",
        "sh",
        "-c",
        "echo 2 > /b/f; echo 2 > /both/f",
    ])?
    .ok()?;
    let line =
        "cat /a/f /b/f /both/f; touch /a/x 2>/dev/null || echo a is read-only; touch /b/x && echo b is not";
    let seen =
        run(&["--rm", "--volumes-from", "one:ro", "--volumes-from", "two", "busybox", "sh", "-c", line])?;
    assert_eq!(seen.ok()?, "1\n2\n2\na is read-only\nb is not\n", "the last one counts");
    // What the container itself is given counts more than what it takes over.
    let seen = run(&["--rm", "--volumes-from", "one", "-v", "fresh:/a", "busybox", "ls", "/a"])?;
    assert_eq!(seen.ok()?, "");
    let seen = run(&["--rm", "--volumes-from", "one", "-v", "/a", "busybox", "ls", "/a"])?;
    assert_eq!(seen.ok()?, "f\n", "but for a volume without a name");
    let wrong = [
        ("nosuch", "No such container: nosuch"),
        ("one:nonsense", "invalid mode: nonsense"),
        ("one:ro,nocopy", "invalid mode: ro,nocopy"),
    ];
    for (from, told) in wrong {
        let refused = run(&["--volumes-from", from, "busybox", "true"])?;
        assert!(refused.code == 125 && refused.stderr.contains(told), "{from}: {refused:?}");
    }
    daemon.stop()
}

#[test]
fn what_is_used_stays() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["volume", "create", "--label", "keep=yes", "used"])?.ok()?;
    daemon.docker(&["volume", "create", "--label", "keep=no", "free"])?.ok()?;
    let id = daemon.docker(&["create", "-v", "used:/v", "-v", "/anonymous", "busybox"])?.ok()?;
    daemon.docker(&["run", "--name", "gone", "-v", "/left", "--network=none", "busybox", "true"])?.ok()?;
    daemon.docker(&["rm", "gone"])?.ok()?;
    for args in [&["volume", "rm", "used"][..], &["volume", "rm", "-f", "used"]] {
        let refused = daemon.docker(args)?;
        let told = format!("Error response from daemon: remove used: volume is in use - [{}]", id.trim());
        assert_eq!((refused.code, refused.stderr.trim()), (1, told.as_str()));
    }
    // By default what has a name stays.
    let pruned = daemon.docker(&["volume", "prune", "-f"])?.ok()?;
    assert!(pruned.contains("Deleted Volumes:") && pruned.contains("Total reclaimed space: 0B"), "{pruned}");
    assert_eq!(volumes(&daemon)?, (named(&["free", "used"]), 1));
    let none = daemon.docker(&["volume", "prune", "-af", "--filter", "label=keep=yes"])?.ok()?;
    assert_eq!(none, "Total reclaimed space: 0B\n");
    daemon.docker(&["volume", "prune", "-af", "--filter", "label!=keep=yes"])?.ok()?;
    assert_eq!(volumes(&daemon)?, (named(&["used"]), 1));
    assert_eq!(daemon.docker(&["volume", "ls", "-qf", "dangling=true"])?.ok()?, "");
    let missing = daemon.docker(&["volume", "rm", "nosuch"])?;
    assert_eq!(missing.stderr, "Error response from daemon: get nosuch: no such volume\n");
    daemon.docker(&["volume", "rm", "-f", "nosuch"])?.ok()?;
    daemon.stop()
}

#[test]
fn volumes_are_made_once_and_with_valid_names() -> Result<()> {
    let daemon = Daemon::start()?;
    let create = |body: Value| daemon.api().json("POST", "/volumes/create", &body);
    let first = create(json!({"Name": "vol", "Labels": {"a": "1"}}))?;
    let again = create(json!({"Name": "vol", "Labels": {"a": "2"}}))?;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(again.json()["Labels"], json!({"a": "1"}), "the first one is there");
    let wrong = [
        (
            json!({"Name": "x"}),
            400,
            "create x: volume name is too short, names should be at least two alphanumeric characters",
        ),
        (
            json!({"Name": "../x"}),
            400,
            "create ../x: \"../x\" includes invalid characters for a local volume name, only",
        ),
        (
            json!({"Name": "vol", "Driver": "nosuch"}),
            404,
            "create vol: error looking up volume plugin nosuch: plugin \"nosuch\" not found",
        ),
        (
            json!({"Name": "opt", "DriverOpts": {"nosuch": "1"}}),
            400,
            "create opt: invalid option: \"nosuch\"",
        ),
        (
            json!({"Name": "opt", "DriverOpts": {"type": "tmpfs"}}),
            400,
            "create opt: missing required option: \"device\"",
        ),
        (
            json!({"Name": "opt", "DriverOpts": {"size": "1g"}}),
            400,
            "create opt: quota size requested but no quota support",
        ),
    ];
    for (body, status, told) in wrong {
        let answer = create(body.clone())?;
        ensure!(answer.status == status && answer.message().starts_with(told), "{body}: {answer:?}");
    }
    assert_eq!(volumes(&daemon)?, (named(&["vol"]), 0));
    daemon.stop()
}

#[test]
fn a_hundred_containers_share_a_volume() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let api = daemon.api();
    let line = "until [ -e /v/go ]; do sleep .1; done; echo $HOSTNAME >> /v/all";
    let ids = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let api = &api;
                scope.spawn(move || {
                    (0..25)
                        .map(|number| {
                            let host = format!("h{worker}x{number}");
                            let body = json!({"Image": "busybox", "Hostname": host, "Cmd": ["sh", "-c", line],
                                "HostConfig": {"NetworkMode": "none", "Binds": ["shared:/v"]}});
                            let made = api.json("POST", "/containers/create", &body)?;
                            let id = made.json()["Id"].as_str().unwrap_or_default().to_owned();
                            let started = api.call("POST", &format!("/containers/{id}/start"))?;
                            ensure!(started.status == 204, "{started:?}");
                            Ok(id)
                        })
                        .collect::<Result<Vec<String>>>()
                })
            })
            .collect();
        let all: Result<Vec<Vec<String>>> =
            workers.into_iter().map(|w| w.join().expect("no panic")).collect();
        Ok::<_, anyhow::Error>(all?.concat())
    })?;
    let users = daemon.docker(&["volume", "rm", "shared"])?.stderr;
    assert_eq!(users.matches(", ").count(), 99, "{users}");
    let dir = daemon.data_root().join("volumes/shared/_data");
    fs::write(dir.join("go"), "")?;
    for id in &ids {
        assert_eq!(api.call("POST", &format!("/containers/{id}/wait"))?.json()["StatusCode"], 0);
    }
    let written: BTreeSet<String> = fs::read_to_string(dir.join("all"))?.lines().map(str::to_owned).collect();
    assert_eq!(written.len(), 100);
    for id in &ids {
        assert_eq!(api.call("DELETE", &format!("/containers/{id}"))?.status, 204);
    }
    daemon.docker(&["volume", "rm", "shared"])?.ok()?;
    daemon.stop()
}

#[test]
fn creates_and_removals_at_once_agree() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let api = daemon.api();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let api = &api;
                scope.spawn(move || {
                    for round in 0..25 {
                        // All want the same names, at the same time.
                        let name = format!("v{}", round % 3);
                        let made = api.json(
                            "POST",
                            "/volumes/create",
                            &json!({"Name": name, "Labels": {"w": worker.to_string()}}),
                        )?;
                        ensure!(made.status == 201, "{made:?}");
                        let removed = api.call("DELETE", &format!("/volumes/{name}"))?;
                        ensure!(matches!(removed.status, 204 | 404), "{removed:?}");
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    assert_eq!(volumes(&daemon)?, (BTreeSet::new(), 0));
    daemon.docker(&["volume", "create", "--label", "a=b", "last"])?.ok()?;
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!(volumes(&daemon)?, (named(&["last"]), 0));
    assert_eq!(daemon.docker(&["volume", "inspect", "-f", "{{.Labels.a}}", "last"])?.ok()?, "b\n");
    daemon.stop()
}
