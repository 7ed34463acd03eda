//! `cargo xtask bench volumes`: volumes made and filled, and written to, beside docker.io where it is installed.

use super::{Table, disk::Disk, document, median, peers, peers::Peer};
use crate::build::{self, Profile};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use wharf_testkit::{Entry, from_files};

/// Files that are copied into a volume, and the bytes of each.
const FILES: usize = 20_000;
const BYTES: usize = 200;
const CREATES: usize = 100;
const COPIES: usize = 5;
const WRITES: usize = 3;
/// `dd` of so many MB, synced at its end.
const MEGABYTES: usize = 512;

/// Measures and writes its section of `docs/performance.md`.
///
/// # Errors
/// When Wharf fails; docker.io is left out where it is not installed.
pub(crate) fn run() -> Result<()> {
    build::all(Profile::Release)?;
    let disk = Disk::new()?;
    let peers: Vec<Peer> =
        peers::all(Profile::Release, disk.root())?.into_iter().filter(|peer| peer.api().is_some()).collect();
    let number = Cell::new(0);
    let fresh = || {
        number.set(number.get() + 1);
        format!("bench{}", number.get())
    };
    let mut table = Table::new(&peers);
    table.once("`POST /volumes/create`, median", "ms", &peers, |peer| create(peer, &fresh))?;
    table.times("`volume create` + `volume rm`", &peers, |peer| {
        let name = fresh();
        peer.ok(&["volume", "create", &name])?;
        peer.ok(&["volume", "rm", &name])
    })?;
    load_tree(&peers)?;
    table.once(
        &format!("`create -v new:/tree`, {FILES} files in the image's `/tree`"),
        "ms",
        &peers,
        |peer| {
            let samples = (0..COPIES).map(|_| copy_up(peer, &fresh())).collect::<Result<Vec<f64>>>();
            Ok(median(samples?))
        },
    )?;
    for (what, kind) in [("a volume", "volume"), ("a bind", "bind")] {
        let row = format!("{MEGABYTES} MB written and synced to {what}, of what the host takes");
        table.once(&row, "x", &peers, |peer| write(peer, kind, &fresh(), disk.root()))?;
    }
    let text = format!(
        "## Volumes\n\nWritten by `cargo xtask bench volumes` (release build). All engines in one run on one machine. The ratio says how\n\
         many times Wharf's figure the other one's is.\n\n{}",
        table.render_rows()
    );
    println!("{text}");
    document::put("volumes", &text)?;
    peers.into_iter().try_for_each(Peer::stop)
}

fn create(peer: &Peer, fresh: &dyn Fn() -> String) -> Result<f64> {
    let api = peer.api().context("an API")?;
    let mut samples = Vec::new();
    for _ in 0..CREATES {
        let body = json!({ "Name": fresh() });
        let start = Instant::now();
        let made = api.json("POST", "/volumes/create", &body)?;
        samples.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(made.status == 201, "{made:?}");
    }
    Ok(median(samples))
}

fn load_tree(peers: &[Peer]) -> Result<()> {
    let mut files = vec![Entry::dir("tree", 0o755)];
    for dir in 0..FILES / 100 {
        files.push(Entry::dir(&format!("tree/d{dir}"), 0o755));
        files.extend(
            (0..100).map(|file| Entry::file(&format!("tree/d{dir}/f{file}"), 0o644, vec![b'x'; BYTES])),
        );
    }
    let image = from_files("tree:latest", &files, json!({"Cmd": ["/x"]}))?;
    for peer in peers {
        let api = peer.api().context("an API")?;
        let loaded = api.send("POST", "/images/load?quiet=1", "application/x-tar", &image.bytes)?;
        ensure!(loaded.status == 200, "{loaded:?}");
    }
    Ok(())
}

/// Milliseconds of a create that fills a volume.
fn copy_up(peer: &Peer, name: &str) -> Result<f64> {
    let start = Instant::now();
    peer.ok(&["create", "--name", name, "-v", &format!("{name}:/tree"), "tree"])?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    peer.ok(&["rm", name])?;
    peer.ok(&["volume", "rm", name])?;
    Ok(took)
}

/// The time that a container's `dd` takes, as a multiple of what the same on the host takes: medians, in turn.
fn write(peer: &Peer, kind: &str, name: &str, root: &Path) -> Result<f64> {
    let dir = root.join(name);
    fs::create_dir(&dir)?;
    let source = if kind == "bind" { dir.display().to_string() } else { name.to_owned() };
    let mount = format!("{source}:/m");
    peer.ok(&["run", "-d", "--name", name, "--network=none", "-v", &mount, peer.image(), "sleep", "100000"])?;
    let of = |place: &str| {
        format!("busybox dd if=/dev/zero of={place}/f bs=1M count={MEGABYTES} conv=fsync 2>/dev/null")
    };
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for _ in 0..WRITES {
        let start = Instant::now();
        peer.ok(&["exec", name, "sh", "-c", &format!("{} && busybox rm /m/f", of("/m"))])?;
        inside.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let host = Command::new("busybox").args(["sh", "-c", &of(&dir.display().to_string())]).status()?;
        ensure!(host.success(), "dd on the host");
        fs::remove_file(dir.join("f"))?;
        outside.push(start.elapsed().as_secs_f64());
    }
    peer.ok(&["rm", "-f", name])?;
    fs::remove_dir(&dir)?;
    Ok(median(inside) / median(outside))
}
