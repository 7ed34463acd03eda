//! A full disk: errors in Docker's words, nothing left, and everything works again when there is room.

use anyhow::{Result, ensure};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;
use wharf_testkit::{Archive, Daemon, Entry, Inventory, Registry, busybox, from_files, lacks, until};

const SIZE: u64 = 24 << 20;
const FULL: &str = "no space left on device";

/// An image that is larger than the disk, and does not compress.
fn large() -> Result<Archive> {
    let mut noise = 1u64;
    let bytes = |_| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.to_be_bytes()[0]
    };
    let data: Vec<u8> = (0..SIZE + (8 << 20)).map(bytes).collect();
    from_files(
        "large:latest",
        &[Entry::file("small", 0o644, "x"), Entry::file("big", 0o644, data)],
        json!({}),
    )
}

/// Lets a file grow until the disk is full.
fn fill(filler: &Path) -> Result<()> {
    let mut file = fs::File::options().create(true).append(true).open(filler)?;
    let block = vec![1; 4096];
    while file.write_all(&block).is_ok() {}
    Ok(())
}

/// Free blocks of the data-root's file system.
fn free(daemon: &Daemon) -> Result<u64> {
    Ok(rustix::fs::statvfs(daemon.data_root())?.f_bfree)
}

/// Waits until as much is free as was, but for the lines that a log of events or a cache may have.
fn comes_back(daemon: &Daemon, before: (u64, &Inventory)) -> Result<()> {
    until("the space to come back", || {
        let enough = free(daemon)? + 16 >= before.0;
        Ok((enough && Inventory::of(daemon)? == *before.1).then_some(()))
    })
}

#[test]
fn an_image_that_does_not_fit_is_refused_and_leaves_nothing() -> Result<()> {
    if lacks(&["docker-registry", "skopeo"]) {
        return Ok(());
    }
    let mut daemon = Daemon::builder().data_size(SIZE).start()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    let large = large()?;
    registry.push(daemon.net(), &large, "large:latest", &[])?;
    let empty = Inventory::of(&daemon)?;
    let before = (free(&daemon)?, &empty);
    let name = format!("{}/large", Registry::ADDRESS);
    let pulled = daemon.docker(&["pull", &name])?;
    ensure!(pulled.code == 1, "{pulled:?}");
    ensure!(
        pulled.stderr.contains("failed to register layer: write") && pulled.stderr.contains(FULL),
        "{pulled:?}"
    );
    comes_back(&daemon, before)?;
    let loaded = daemon.docker_stdin(&["load"], &large.bytes)?;
    ensure!(loaded.code == 1 && loaded.stderr.contains(FULL), "{loaded:?}");
    comes_back(&daemon, before)?;
    let imported = daemon.docker_stdin(&["import", "-", "large"], &large.bytes)?;
    ensure!(imported.code == 1 && imported.stderr.contains(FULL), "{imported:?}");
    comes_back(&daemon, before)?;
    drop(registry);
    daemon.load(&from_files("fits:latest", &[Entry::file("a", 0o644, "a")], json!({}))?)?;
    daemon.docker(&["rmi", "fits"])?.ok()?;
    daemon.terminate()?;
    daemon.assert_whole()?;
    daemon.assert_clean()
}

#[test]
fn a_container_that_does_not_fit_is_refused_and_leaves_nothing() -> Result<()> {
    let daemon = Daemon::builder().data_size(SIZE).start()?;
    daemon.load(&busybox()?)?;
    let empty = Inventory::of(&daemon)?;
    let filler = daemon.data_root().join("filler");
    fill(&filler)?;
    let created = daemon.docker(&["create", "--name", "one", "--network=none", "busybox"])?;
    ensure!(created.code == 1 && created.stderr.contains(FULL), "{created:?}");
    until("everything to be taken back", || Ok((Inventory::of(&daemon)? == empty).then_some(())))?;
    ensure!(daemon.docker(&["ps", "-aq"])?.ok()?.is_empty());
    // What was taken back has made room.
    fill(&filler)?;
    let tagged = daemon.docker(&["tag", "busybox", "other"])?;
    ensure!(tagged.code == 1 && tagged.stderr.contains(FULL), "{tagged:?}");
    fs::remove_file(&filler)?;
    daemon.docker(&["create", "--name", "one", "--network=none", "busybox"])?.ok()?;
    daemon.stop()
}
