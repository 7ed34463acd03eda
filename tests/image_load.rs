//! load, list, inspect, history, tag, rmi.

use anyhow::Result;
use serde_json::json;
use wharf_testkit::{Daemon, Entry, busybox, from_files};

#[test]
fn an_image_is_loaded_into_dockers_layout() -> Result<()> {
    let daemon = Daemon::start()?;
    let image = busybox()?;
    let archive = daemon.dir().join("busybox.tar");
    std::fs::write(&archive, &image.bytes)?;
    let out = daemon.docker(&["load", "-i", &archive.to_string_lossy()])?.ok()?;
    assert!(out.ends_with("Loaded image: busybox:latest\n"), "{out}");
    assert_eq!(
        daemon.docker(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"])?.ok()?,
        format!("busybox:latest {}\n", image.id)
    );
    let root = daemon.data_root().join("image/overlay2");
    let hex = image.id.trim_start_matches("sha256:");
    assert!(root.join("imagedb/content/sha256").join(hex).is_file());
    let repositories: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join("repositories.json"))?)?;
    assert_eq!(repositories["Repositories"]["busybox"]["busybox:latest"], image.id.as_str());
    let layers: Vec<_> = std::fs::read_dir(root.join("layerdb/sha256"))?.flatten().collect();
    assert_eq!(layers.len(), 1);
    let cache_id = std::fs::read_to_string(layers[0].path().join("cache-id"))?;
    let layer = daemon.data_root().join("overlay2").join(&cache_id);
    assert!(layer.join("diff/bin/busybox").is_file());
    let link = std::fs::read_to_string(layer.join("link"))?;
    assert_eq!(
        std::fs::read_link(daemon.data_root().join("overlay2/l").join(link))?,
        std::path::Path::new("..").join(&cache_id).join("diff")
    );
    daemon.stop()
}

#[test]
fn tags_and_removal() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["tag", "busybox", "local/copy:v1"])?.ok()?;
    assert_eq!(daemon.docker(&["images", "-q", "--filter", "reference=local/*"])?.ok()?.lines().count(), 1);
    daemon.docker(&["create", "--name", "user", "--network=none", "local/copy:v1"])?.ok()?;
    let kept = daemon.docker(&["rmi", "local/copy:v1"])?;
    assert_eq!(kept.ok()?, "Untagged: local/copy:v1\n");
    let refused = daemon.docker(&["rmi", "busybox"])?;
    assert!(
        refused.stderr.contains("conflict: unable to remove repository reference \"busybox\" (must force)"),
        "{}",
        refused.stderr
    );
    daemon.docker(&["rm", "user"])?.ok()?;
    let removed = daemon.docker(&["rmi", "busybox"])?.ok()?;
    assert!(removed.starts_with("Untagged: busybox:latest\nDeleted: sha256:"), "{removed}");
    assert_eq!(std::fs::read_dir(daemon.data_root().join("image/overlay2/layerdb/sha256"))?.count(), 0);
    let overlay: Vec<_> =
        std::fs::read_dir(daemon.data_root().join("overlay2"))?.flatten().map(|e| e.file_name()).collect();
    assert_eq!(overlay, ["l"]);
    daemon.stop()
}

#[test]
fn a_hostile_layer_stays_inside_or_is_refused() -> Result<()> {
    let daemon = Daemon::start()?;
    let outside = daemon.dir().join("outside");
    let absolute = outside.to_string_lossy().into_owned();
    let up = format!("../../../../../../../../..{absolute}");
    for (name, files) in [
        ("dotdot", vec![Entry::file(&up, 0o644, "x")]),
        ("absolute", vec![Entry::file(&absolute, 0o644, "x")]),
        (
            "through-link",
            vec![Entry::symlink("l", &daemon.dir().to_string_lossy()), Entry::file("l/outside", 0o644, "x")],
        ),
        (
            "hardlink",
            vec![Entry::hardlink(
                "h",
                &format!("../../../../../../../..{}/daemon.log", daemon.dir().display()),
            )],
        ),
    ] {
        let image = from_files(&format!("{name}:latest"), &files, json!({}))?;
        let answer = daemon.api().send("POST", "/images/load?quiet=1", "application/x-tar", &image.bytes)?;
        assert!(!outside.exists(), "{name} wrote outside: {}", String::from_utf8_lossy(&answer.body));
    }
    daemon.stop()
}

#[test]
fn garbage_is_refused_and_changes_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let answer = daemon.api().send(
        "POST",
        "/images/load?quiet=1",
        "application/x-tar",
        &b"this is not a tar archive".repeat(40),
    )?;
    assert!(answer.status >= 400 || String::from_utf8_lossy(&answer.body).contains("errorDetail"));
    let mut image = busybox()?;
    let middle = image.bytes.len() / 2;
    image.bytes[middle] ^= 1;
    let answer = daemon.api().send("POST", "/images/load?quiet=1", "application/x-tar", &image.bytes)?;
    assert!(
        answer.status >= 400 || String::from_utf8_lossy(&answer.body).contains("errorDetail"),
        "a damaged layer was accepted"
    );
    assert_eq!(daemon.docker(&["images", "-q"])?.ok()?, "");
    let left = std::fs::read_dir(daemon.data_root().join("overlay2")).map(|d| d.count()).unwrap_or(1);
    assert_eq!(left, 1, "only the folder of links is left");
    daemon.stop()
}

#[test]
fn images_survive_a_restart() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!(
        daemon.docker(&["run", "--rm", "--network=none", "busybox", "echo", "still"])?.ok()?,
        "still\n"
    );
    daemon.stop()
}
