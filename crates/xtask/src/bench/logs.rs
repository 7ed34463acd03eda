//! `cargo xtask bench logs`: what comes out of containers and goes in, beside docker.io and podman where they are
//! installed: logs, attach, stdin, cp, stats.
//!
//! `--small` takes a hundredth of the bytes and the development build: it proves that the bench works, and its
//! figures are not kept.

use super::{Table, document, peers, peers::Peer};
use crate::build::{self, Profile};
use anyhow::{Context, Result};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// How much is moved.
struct Load {
    /// Through logs, attach and stdin.
    megabytes: u64,
    /// In the log whose end is read.
    large_log: u64,
    /// A file that is copied.
    file: u64,
    containers: usize,
    watch: Duration,
}

const WHOLE: Load =
    Load { megabytes: 500, large_log: 5000, file: 100, containers: 100, watch: Duration::from_secs(20) };
const SMALL: Load =
    Load { megabytes: 5, large_log: 50, file: 1, containers: 5, watch: Duration::from_secs(3) };

const ROUNDS: usize = 3;
/// Of commands that take milliseconds.
const QUICK_ROUNDS: usize = 15;

/// Measures and writes its section of `docs/performance.md`, unless it is small.
///
/// # Errors
/// When Wharf fails; a peer that cannot be started is left out and said to be.
pub(crate) fn run(small: bool) -> Result<()> {
    let (load, profile) = if small { (SMALL, Profile::Dev) } else { (WHOLE, Profile::Release) };
    build::all(profile)?;
    let dir = PathBuf::from(format!("/var/tmp/wharf-bench-logs-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure(&load, profile, &dir);
    std::fs::remove_dir_all(&dir)?;
    let text = measured?;
    println!("{text}");
    if small { Ok(()) } else { document::put("logs", &text) }
}

fn measure(load: &Load, profile: Profile, dir: &Path) -> Result<String> {
    let peers = peers::all(profile, dir)?;
    let mut table = Table::new(&peers);
    logs(&mut table, &peers, load)?;
    attach(&mut table, &peers, load, dir)?;
    large_log(&mut table, &peers, load)?;
    copies(&mut table, &peers, load, dir)?;
    stats(&mut table, &peers, load)?;
    let mut head = String::from(
        "## Out of containers and in\n\nWritten by `cargo xtask bench logs` (release build). All engines in one run on one \
         machine; medians, each a whole CLI process.\nThe ratio says how many times Wharf's figure the other one's is. Logs \
         have no limit here (`max-size=-1`, which is Docker's default).\n\n",
    );
    head.push_str(&table.render_rows());
    peers.into_iter().try_for_each(Peer::stop)?;
    Ok(head)
}

/// A shell line that writes so many megabytes in lines of 100 bytes.
fn writer(megabytes: u64) -> String {
    format!("yes {} | head -c {}", "x".repeat(99), megabytes * 1_000_000)
}

/// `run` and its flags, with a log that has no limit.
fn run_unlimited<'a>(peer: &Peer, flags: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["run"];
    if peer.is_wharf() {
        args.extend(["--log-opt", "max-size=-1"]);
    }
    args.extend(["--network=none"]);
    args.extend(flags);
    args
}

fn logs(table: &mut Table, peers: &[Peer], load: &Load) -> Result<()> {
    let (mb, script) = (load.megabytes, writer(load.megabytes));
    let write = |peer: &Peer| {
        // One that is left over from the round before.
        let _ = peer.ok(&["rm", "-f", "target"]);
        let image = peer.image();
        peer.ok(&run_unlimited(peer, &["-d", "--name", "target", image, "sh", "-c", &script]))?;
        peer.ok(&["wait", "target"])
    };
    table.rounds(ROUNDS, &format!("{mb} MB of 100-byte lines to the default log"), peers, write)?;
    let read = |peer: &Peer| peer.run(&["logs", "target"], Stdio::null(), Stdio::null());
    table.rounds(ROUNDS, "the same read back with `logs`", peers, read)?;
    peers.iter().try_for_each(|peer| peer.ok(&["rm", "-f", "target"]))
}

fn attach(table: &mut Table, peers: &[Peer], load: &Load, dir: &Path) -> Result<()> {
    let (mb, script) = (load.megabytes, writer(load.megabytes));
    for (name, driver) in [("none", Some("--log-driver=none")), ("default", None)] {
        table.rounds(ROUNDS, &format!("attach, {mb} MB, log {name}"), peers, |peer| {
            let image = peer.image();
            let mut args = match driver {
                Some(driver) => vec!["run", "--network=none", driver],
                None => run_unlimited(peer, &[]),
            };
            args.extend(["--rm", image, "sh", "-c", &script]);
            peer.run(&args, Stdio::null(), Stdio::null())
        })?;
    }
    let input = dir.join("input");
    File::create(&input)?.set_len(mb * 1_000_000)?;
    table.rounds(ROUNDS, &format!("stdin, {mb} MB"), peers, |peer| {
        let args = ["run", "-i", "--rm", "--network=none", "--log-driver=none", peer.image(), "sh", "-c"];
        let stdin = Stdio::from(File::open(&input)?);
        peer.run(&[&args[..], &["cat > /dev/null"]].concat(), stdin, Stdio::null())
    })
}

fn large_log(table: &mut Table, peers: &[Peer], load: &Load) -> Result<()> {
    let script = writer(load.large_log);
    for peer in peers {
        let image = peer.image();
        peer.ok(&run_unlimited(peer, &["-d", "--name", "target", image, "sh", "-c", &script]))?;
        peer.ok(&["wait", "target"])?;
    }
    let what = format!("`logs --tail 10` of {} MB", load.large_log);
    let tail = |peer: &Peer| peer.run(&["logs", "--tail", "10", "target"], Stdio::null(), Stdio::null());
    table.rounds(QUICK_ROUNDS, &what, peers, tail)?;
    peers.iter().try_for_each(|peer| peer.ok(&["rm", "-f", "target"]))
}

fn copies(table: &mut Table, peers: &[Peer], load: &Load, dir: &Path) -> Result<()> {
    let (file, back) = (dir.join("file"), dir.join("back"));
    std::io::copy(
        &mut std::io::Read::take(File::open("/dev/urandom")?, load.file * 1_000_000),
        &mut File::create(&file)?,
    )?;
    let (file, back) = (file.to_str().context("a path")?, back.to_str().context("a path")?);
    for peer in peers {
        peer.ok(&["run", "-d", "--name", "target", "--network=none", peer.image(), "sleep", "100000"])?;
    }
    table.rounds(QUICK_ROUNDS, &format!("cp, {} MB into a container", load.file), peers, |peer| {
        peer.ok(&["cp", file, &peer.named("target", ":/file")])
    })?;
    table.rounds(QUICK_ROUNDS, &format!("cp, {} MB out of it", load.file), peers, |peer| {
        peer.ok(&["cp", &peer.named("target", ":/file"), back])
    })?;
    peers.iter().try_for_each(|peer| peer.ok(&["rm", "-f", "target"]))
}

fn stats(table: &mut Table, peers: &[Peer], load: &Load) -> Result<()> {
    let names: Vec<String> = (0..load.containers).map(|n| format!("m{n}")).collect();
    let what = format!("stats of {} containers, the daemon's CPU time", load.containers);
    // One engine after the other: what runs beside costs processor time too.
    table.once(&what, "% of one core", peers, |peer| {
        for name in &names {
            // Podman waits for it when it removes a container.
            let at_once = "--stop-timeout=0";
            peer.ok(&[
                "run",
                "-d",
                at_once,
                "--name",
                name,
                "--network=none",
                peer.image(),
                "sleep",
                "100000",
            ])?;
        }
        let mut watcher = peer.spawn(&["stats"], Stdio::null(), Stdio::null())?;
        std::thread::sleep(Duration::from_secs(2));
        let (before, start) = (peer.cpu_seconds(), Instant::now());
        std::thread::sleep(load.watch);
        let used = peer.cpu_seconds() - before;
        let share = used / start.elapsed().as_secs_f64() * 100.0;
        watcher.kill()?;
        watcher.wait()?;
        let args: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        peer.ok(&args)?;
        Ok(share)
    })
}
