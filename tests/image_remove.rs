//! tag, rmi, prune, images and system df: docker's rules and words, the same by both CLIs.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wharf_testkit::{Daemon, Entry, from_files};

fn id(daemon: &Daemon, image: &str) -> Result<String> {
    Ok(daemon.docker(&["image", "inspect", "-f", "{{.Id}}", image])?.ok()?.trim().to_owned())
}

/// A small image of its own layer.
fn load(daemon: &Daemon, name: &str) -> Result<String> {
    let image =
        from_files(name, &[Entry::file("f", 0o644, name)], json!({"Cmd": ["/f"], "Labels": {"of": name}}))?;
    daemon.load(&image)?;
    Ok(image.id)
}

/// busybox, and two images committed on each other.
fn with_family() -> Result<(Daemon, String, String)> {
    let daemon = Daemon::with_busybox()?;
    for (from, to) in [("busybox", "parent:v1"), ("parent:v1", "child:v1")] {
        daemon
            .docker(&[
                "run",
                "--name",
                "made",
                "--network=none",
                from,
                "sh",
                "-c",
                &format!("echo {to} >> /made"),
            ])?
            .ok()?;
        daemon.docker(&["commit", "-c", &format!("LABEL name={to}"), "made", to])?.ok()?;
        daemon.docker(&["rm", "made"])?.ok()?;
    }
    let (parent, child) = (id(&daemon, "parent:v1")?, id(&daemon, "child:v1")?);
    Ok((daemon, parent, child))
}

#[test]
fn families_go_together() -> Result<()> {
    let (daemon, parent, child) = with_family()?;
    let short = |id: &str| id[7..19].to_owned();
    let refused = daemon.docker(&["rmi", &short(&parent)])?;
    assert_eq!(
        refused.stderr,
        format!(
            "Error response from daemon: conflict: unable to delete {} (cannot be forced) - image has dependent child images\n",
            short(&parent)
        )
    );
    let ours = daemon.wharf(&["rmi", "-f", &short(&parent)])?;
    assert_eq!((ours.code, ours.stderr), (refused.code, refused.stderr));
    // Without its name the parent is hidden, and goes with its last child.
    assert_eq!(daemon.docker(&["rmi", "parent:v1"])?.ok()?, "Untagged: parent:v1\n");
    assert_eq!(daemon.docker(&["images", "-q", "--no-trunc"])?.ok()?.lines().count(), 2);
    ensure!(daemon.docker(&["images", "-aq", "--no-trunc"])?.ok()?.contains(&parent));
    let removed = daemon.docker(&["rmi", "child:v1"])?.ok()?;
    let lines: Vec<&str> = removed.lines().collect();
    assert_eq!((lines[0], lines[1]), ("Untagged: child:v1", format!("Deleted: {child}").as_str()));
    ensure!(lines.contains(&format!("Deleted: {parent}").as_str()) && lines.len() == 5, "{removed}");
    assert_eq!(std::fs::read_dir(daemon.data_root().join("image/overlay2/layerdb/sha256"))?.count(), 1);
    daemon.stop()
}

#[test]
fn no_prune_keeps_parents() -> Result<()> {
    let (daemon, parent, _) = with_family()?;
    daemon.docker(&["rmi", "parent:v1"])?.ok()?;
    daemon.docker(&["rmi", "--no-prune", "child:v1"])?.ok()?;
    assert_eq!(daemon.docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"])?.ok()?.trim(), parent);
    let pruned = daemon.docker(&["image", "prune", "-f"])?.ok()?;
    ensure!(pruned.starts_with(&format!("Deleted Images:\ndeleted: {parent}\n")), "{pruned}");
    ensure!(pruned.trim_end().ends_with('B') && pruned.contains("\nTotal reclaimed space: "), "{pruned}");
    assert_eq!(daemon.docker(&["image", "prune", "-f"])?.ok()?, "Total reclaimed space: 0B\n");
    daemon.stop()
}

#[test]
fn containers_and_names_keep_images() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let image = id(&daemon, "busybox")?;
    let short = image[7..19].to_owned();
    daemon.docker(&["run", "-d", "--name", "runs", "--network=none", "busybox", "sleep", "1000"])?.ok()?;
    let container = daemon.docker(&["ps", "-q"])?.ok()?.trim().to_owned();
    let says = |args: &[&str], wanted: &str| -> Result<()> {
        let (docker, wharf) = (daemon.docker(args)?, daemon.wharf(args)?);
        assert_eq!(
            (docker.code, docker.stderr.as_str()),
            (1, format!("Error response from daemon: {wanted}\n").as_str()),
            "{args:?}"
        );
        assert_eq!((wharf.code, wharf.stderr), (docker.code, docker.stderr));
        Ok(())
    };
    let in_use = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {container} is using its referenced image {short}"
    );
    says(&["rmi", "busybox"], &in_use)?;
    let running = format!(
        "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {container}"
    );
    says(&["rmi", &short], &running)?;
    says(&["rmi", "-f", &short], &running)?;
    daemon.docker(&["kill", "runs"])?.ok()?;
    says(
        &["rmi", &short],
        &format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {container}"
        ),
    )?;
    daemon.docker(&["rm", "runs"])?.ok()?;
    daemon.docker(&["tag", "busybox", "other:v1"])?.ok()?;
    says(
        &["rmi", &short],
        &format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        ),
    )?;
    says(&["rmi", "nosuch"], "No such image: nosuch:latest")?;
    let forced = daemon.docker(&["rmi", "-f", &short])?.ok()?;
    ensure!(
        forced.starts_with(&format!("Untagged: busybox:latest\nUntagged: other:v1\nDeleted: {image}\n")),
        "{forced}"
    );
    daemon.stop()
}

#[test]
fn a_stopped_container_outlives_its_image_by_force() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["run", "--name", "stopped", "--network=none", "busybox", "true"])?.ok()?;
    let out = daemon.docker(&["rmi", "-f", "busybox"])?;
    ensure!(out.code == 0 && out.stdout.starts_with("Untagged: busybox:latest\nDeleted: sha256:"), "{out:?}");
    // Its layers stay as long as the container.
    assert_eq!(daemon.docker(&["start", "-a", "stopped"])?.code, 0);
    assert_eq!(std::fs::read_dir(daemon.data_root().join("image/overlay2/layerdb/sha256"))?.count(), 1);
    daemon.docker(&["rm", "stopped"])?.ok()?;
    assert_eq!(std::fs::read_dir(daemon.data_root().join("image/overlay2/layerdb/sha256"))?.count(), 0);
    daemon.stop()
}

#[test]
fn filters_choose_images() -> Result<()> {
    let daemon = Daemon::start()?;
    for name in ["one:v1", "two:v1", "local/three:v2"] {
        load(&daemon, name)?;
    }
    daemon.docker(&["tag", "one:v1", "local/one:latest"])?.ok()?;
    let nameless = load(&daemon, "gone:v1")?;
    load(&daemon, "gone:v2")?;
    daemon.docker(&["rmi", "--no-prune", "gone:v2"])?.ok()?;
    // The name moves away and leaves an image without one.
    let other = from_files("gone:v1", &[Entry::file("g", 0o644, "other")], json!({}))?;
    daemon.load(&other)?;
    let names = |filters: &[&str]| -> Result<Vec<String>> {
        let mut args = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        args.extend(filters.iter().flat_map(|f| ["--filter", f]));
        // Docker's CLI has the repositories of an image in no order.
        let sorted = |out: String| {
            let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let lines = sorted(daemon.docker(&args)?.ok()?);
        assert_eq!(sorted(daemon.wharf(&args)?.ok()?), lines, "both CLIs");
        Ok(lines)
    };
    assert_eq!(names(&["reference=*:v1"])?, ["gone:v1", "one:v1", "two:v1"]);
    assert_eq!(names(&["reference=local/*"])?, ["local/one:latest", "local/three:v2"]);
    assert_eq!(names(&["reference=one", "reference=docker.io/library/two"])?, ["one:v1", "two:v1"]);
    assert_eq!(names(&["dangling=true"])?, ["<none>:<none>"]);
    assert_eq!(names(&["dangling=false"])?.len(), 5);
    assert_eq!(names(&["label=of=two:v1"])?, ["two:v1"]);
    assert_eq!(names(&["label=of", "reference=local/*"])?, ["local/one:latest", "local/three:v2"]);
    assert_eq!(names(&["before=one:v1"])?, [""; 0]);
    assert_eq!(names(&["since=one:v1"])?, [""; 0]);
    assert_eq!(names(&["until=24h"])?.len(), 6);
    assert_eq!(daemon.docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"])?.ok()?.trim(), nameless);
    for args in [
        &["images", "-f", "nosuch=1"][..],
        &["images", "-f", "before=nosuch"],
        &["images", "-f", "dangling=maybe"],
        &["images", "-f", "until=never"],
        &["image", "prune", "-f", "--filter", "nosuch=1"],
        &["image", "prune", "-f", "--filter", "until=1h", "--filter", "until=2h"],
    ] {
        let (docker, wharf) = (daemon.docker(args)?, daemon.wharf(args)?);
        ensure!(docker.code == 1 && docker.stderr.starts_with("Error response from daemon: "), "{docker:?}");
        assert_eq!((wharf.code, wharf.stderr), (docker.code, docker.stderr), "{args:?}");
    }
    prune(&daemon).and_then(|()| daemon.stop())
}

/// Labels spare images or choose them.
fn prune(daemon: &Daemon) -> Result<()> {
    daemon.docker(&["create", "--name", "user", "--network=none", "two:v1"])?.ok()?;
    let left = || -> Result<Vec<String>> {
        let mut lines: Vec<String> = daemon
            .docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?
            .ok()?
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        Ok(lines)
    };
    daemon.wharf(&["image", "prune", "-f", "--filter", "until=2020-01-01"])?.ok()?;
    assert_eq!(left()?.len(), 6);
    let out = daemon.wharf(&["image", "prune", "-f", "-a", "--filter", "label=of=local/three:v2"])?.ok()?;
    ensure!(out.starts_with("Deleted Images:\nuntagged: local/three:v2\ndeleted: sha256:"), "{out}");
    daemon.docker(&["image", "prune", "-f", "-a", "--filter", "label!=of=one:v1"])?.ok()?;
    assert_eq!(left()?, ["local/one:latest", "one:v1", "two:v1"]);
    daemon.docker(&["image", "prune", "-f", "-a"])?.ok()?;
    assert_eq!(left()?, ["two:v1"], "what a container uses stays");
    daemon.docker(&["rm", "user"])?.ok().map(drop)
}

// tidy: long, because it is a table of commands.
#[test]
fn both_clis_show_images_alike() -> Result<()> {
    let (daemon, _, child) = with_family()?;
    daemon.docker(&["tag", "child:v1", "child:v2"])?.ok()?;
    load(&daemon, "gone:v1")?;
    daemon.load(&from_files("gone:v1", &[Entry::file("g", 0o644, "x")], json!({}))?)?;
    daemon.docker(&["create", "--name", "uses", "--network=none", "child:v1", "true"])?.ok()?;
    daemon.docker(&["volume", "create", "data"])?.ok()?;
    let mut compared = 0;
    for args in [
        &["images"][..],
        &["images", "-a"],
        &["images", "--digests"],
        &["images", "--no-trunc"],
        &["images", "-q"],
        &["images", "child"],
        &["images", "nosuch"],
        &[
            "images",
            "--format",
            "{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}} {{.Size}} {{.CreatedSince}} {{.SharedSize}} {{.UniqueSize}} {{.VirtualSize}}",
        ],
        &["images", "--format", "table {{.ID}}\t{{.Tag}}"],
        &["images", "--tree"],
        &["images", "--tree", "-a"],
        &["images", "--tree", "child"],
        &["images", "--tree", "-q"],
        &["images", "--tree", "--no-trunc"],
        &["images", "--tree", "--digests"],
        &["images", "--tree", "--format", "json"],
        &["image", "ls", "-f", "label=name=child:v1"],
        &["history", "child:v1"],
        &["history", "--no-trunc", "child:v1"],
        &["history", "-q", &child],
        &["history", "-H=false", "child:v1"],
        &["history", "--format", "json", "child:v1"],
        &["history", "nosuch"],
        &["history", "--platform", "linux/s390x", "child:v1"],
        &["image", "inspect", "child:v1"],
        &["image", "inspect", "-f", "{{json .RootFS.Layers}}", "child:v1", "nosuch"],
        &["image", "inspect", "--platform", "linux/s390x", "child:v1"],
        &["image", "inspect", "--platform", "a/b/c/d", "child:v1"],
        &["history", "--platform", "a/b/c/d", "child:v1"],
        &["rmi", "--platform", "a/b/c/d", "child:v1"],
        &["load", "--platform", "a/b/c/d"],
        &["system", "df"],
        &["system", "df", "-v"],
        &["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"],
        &["system", "df", "--format", "json"],
        &["system", "df", "-v", "--format", "{{json .Images}}{{json .Volumes}}{{json .BuildCache}}"],
        &[
            "system",
            "df",
            "-v",
            "--format",
            "{{range .Images}}{{.Repository}} {{.ID}} {{.UniqueSize}}\n{{end}}{{len .Containers}}",
        ],
        &["tag", "nosuch", "x"],
        &["tag", "child:v1", "Bad/Name"],
        &["tag", "child:v1", "x@sha256:0000000000000000000000000000000000000000000000000000000000000000"],
        &["tag", "child:v1"],
        &["commit", "nosuch"],
        &["commit", "uses", "Bad/Name"],
        &["commit", "-c", "NOPE", "uses"],
        &["commit"],
        &["diff"],
        &["save", "-o", "/tmp", "child:v1"],
        &["export", "-o", "/nosuch/x", "uses"],
        &["import", "/nosuch/file"],
        &["import", "-", "Bad/Name"],
        &["load", "-i", "/nosuch/file"],
        &["save"],
        &["rmi"],
        &["image", "prune", "nosuch"],
    ] {
        let (docker, wharf) = daemon.both_clis(args)?;
        assert_eq!(wharf, docker, "{args:?}");
        compared += 1;
    }
    println!("{compared} commands compared with docker's CLI");
    daemon.docker(&["rm", "uses"])?.ok()?;
    daemon.stop()
}

#[test]
fn disk_usage_counts_each_layer_once() -> Result<()> {
    let (daemon, ..) = with_family()?;
    daemon.docker(&["create", "--name", "uses", "--network=none", "child:v1", "true"])?.ok()?;
    let old = daemon.api().at("v1.51").call("GET", "/system/df")?.json();
    let images: Vec<&Value> = old["Images"].as_array().into_iter().flatten().collect();
    let find = |name: &str| {
        images.iter().find(|image| image["RepoTags"] == json!([name])).copied().cloned().unwrap_or_default()
    };
    let (base, child) = (find("busybox:latest"), find("child:v1"));
    let size = |image: &Value, key: &str| image[key].as_i64().unwrap_or(-1);
    assert_eq!(size(&base, "SharedSize"), size(&base, "Size"), "all of it is in its children as well");
    // `parent:v1` and then `child:v1` on a line each.
    assert_eq!(size(&child, "Size") - size(&child, "SharedSize"), "parent:v1\nchild:v1\n".len() as i64);
    assert_eq!(size(&child, "Containers"), 1);
    assert_eq!(old["LayersSize"], size(&child, "Size"));
    let new = daemon.api().at("v1.52").call("GET", "/system/df?verbose=1")?.json();
    let usage = &new["ImageUsage"];
    assert_eq!(usage["TotalCount"], 3);
    assert_eq!((&usage["ActiveCount"], &usage["TotalSize"]), (&json!(1), &old["LayersSize"]));
    assert_eq!(usage["Items"].as_array().map(Vec::len), Some(3));
    assert_eq!(new.get("Images"), None);
    daemon.docker(&["rm", "uses"])?.ok()?;
    daemon.stop()
}
