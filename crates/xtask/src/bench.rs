//! `cargo xtask bench run`: what a `run` costs, beside docker.io and podman where they are installed.
//!
//! All engines run in one pass, in turn, each in a network namespace and on a data root of its own, with the
//! same image, and Docker and Wharf with the same client. Figures are medians; what counts are the ratios.

pub(crate) mod builds;
mod disk;
mod docker;
mod document;
pub(crate) mod images;
pub(crate) mod logs;
mod peers;
mod sample;
pub(crate) mod volumes;

use crate::build::{self, Profile};
use anyhow::{Result, ensure};
use disk::Disk;
use peers::Peer;
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;
use wharf_testkit::{Daemon, busybox};

const ROUNDS: usize = 15;
const MANY: usize = 100;
const AT_ONCE: usize = 8;

/// Measures and writes its section of `docs/performance.md`.
///
/// # Errors
/// When Wharf fails; a peer that cannot be started is left out and said to be.
pub(crate) fn run() -> Result<()> {
    build::all(Profile::Release)?;
    let disk = Disk::new()?;
    let peers = peers::all(Profile::Release, disk.root())?;
    let mut table = Table::new(&peers);
    table.once("daemon, just started, PSS", "MB", &peers, |peer| Ok(peer.daemon_pss()))?;
    for network in ["bridge", "none", "host"] {
        let flag = format!("--network={network}");
        table.times(&format!("`run --rm busybox true`, {network}"), &peers, |peer| {
            peer.ok(&["run", "--rm", &flag, peer.image(), "true"])
        })?;
    }
    for peer in &peers {
        peer.ok(&["run", "-d", "--name", "target", "--network=none", peer.image(), "sleep", "100000"])?;
    }
    table.times("`exec true`", &peers, |peer| peer.ok(&["exec", "target", "true"]))?;
    table.times("`pause` + `unpause`", &peers, |peer| {
        peer.ok(&["pause", "target"])?;
        peer.ok(&["unpause", "target"])
    })?;
    table.times("`restart -t 0`", &peers, |peer| peer.ok(&["restart", "-t", "0", "target"]))?;
    for peer in &peers {
        peer.ok(&["rm", "-f", "target"])?;
    }
    table.once("daemon, idle after these rounds, PSS", "MB", &peers, |peer| Ok(peer.daemon_pss()))?;
    table.once(&format!("{MANY} x `run -d`, one after the other"), "s", &peers, |peer| {
        let start = Instant::now();
        for n in 0..MANY {
            peer.ok(&["run", "-d", "--name", &format!("m{n}"), peer.image(), "sleep", "100000"])?;
        }
        Ok(start.elapsed().as_secs_f64())
    })?;
    table.once("per running container, PSS outside of it", "MB", &peers, |peer| {
        Ok(peer.shim_pss() / MANY as f64)
    })?;
    peers.iter().try_for_each(remove_many)?;
    table.once(&format!("{MANY} x `run -d`, {AT_ONCE} at a time"), "s", &peers, |peer| {
        let start = Instant::now();
        run_at_once(peer)?;
        let took = start.elapsed().as_secs_f64();
        remove_many(peer)?;
        Ok(took)
    })?;
    let text = format!("{}\n{}", table.render(), daemon_start(disk.root())?);
    println!("{text}");
    document::put("run", &text)?;
    peers.into_iter().try_for_each(Peer::stop)
}

fn remove_many(peer: &Peer) -> Result<()> {
    let names: Vec<String> = (0..MANY).map(|n| format!("m{n}")).collect();
    let args: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
    peer.ok(&args)
}

fn run_at_once(peer: &Peer) -> Result<()> {
    let numbers: Vec<usize> = (0..MANY).collect();
    for some in numbers.chunks(AT_ONCE) {
        let clients = some.iter().map(|n| {
            let args = ["run", "-d", "--name", &format!("m{n}"), peer.image(), "sleep", "100000"];
            peer.spawn(&args, Stdio::null(), Stdio::null())
        });
        for mut client in clients.collect::<Result<Vec<_>>>()? {
            ensure!(client.wait()?.success(), "{}: a run failed", peer.name());
        }
    }
    Ok(())
}

/// Wharf alone: from its start to its first answer, and from SIGTERM to its end, with stopped containers.
fn daemon_start(root: &Path) -> Result<String> {
    println!("measuring the daemon's start");
    let mut daemon = Daemon::builder().bin_dir(&Profile::Release.dir()).below(root).start()?;
    daemon.load(&busybox()?)?;
    for _ in 0..MANY {
        let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
        let made = daemon.api().json("POST", "/containers/create", &body)?.json();
        let id = made["Id"].as_str().unwrap_or_default();
        daemon.api().call("POST", &format!("/containers/{id}/start"))?;
        daemon.api().call("POST", &format!("/containers/{id}/wait"))?;
    }
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let start = Instant::now();
        daemon.terminate()?;
        stops.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        daemon.launch()?;
        starts.push(start.elapsed().as_secs_f64() * 1e3);
    }
    daemon.stop()?;
    let (start, stop) = (median(starts), median(stops));
    Ok(format!(
        "The daemon with {MANY} stopped containers: {start:.0} ms to its first answer, {stop:.0} ms to its end.\n"
    ))
}

/// One column a peer, the first one is the reference of the ratios.
struct Table {
    names: Vec<String>,
    rows: Vec<(String, &'static str, Vec<f64>)>,
}

impl Table {
    fn new(peers: &[Peer]) -> Self {
        Self { names: peers.iter().map(|p| p.name().to_owned()).collect(), rows: Vec::new() }
    }

    fn times(&mut self, what: &str, peers: &[Peer], work: impl Fn(&Peer) -> Result<()>) -> Result<()> {
        self.rounds(ROUNDS, what, peers, work)
    }

    /// The median of several rounds, the peers in turn so that a noisy moment hits all of them.
    fn rounds(
        &mut self,
        rounds: usize,
        what: &str,
        peers: &[Peer],
        work: impl Fn(&Peer) -> Result<()>,
    ) -> Result<()> {
        println!("measuring {what}");
        let mut samples = vec![Vec::new(); peers.len()];
        for peer in peers {
            work(peer)?;
        }
        for _ in 0..rounds {
            for (peer, samples) in peers.iter().zip(&mut samples) {
                let start = Instant::now();
                work(peer)?;
                samples.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        self.push(what, "ms", samples.into_iter().map(median).collect());
        Ok(())
    }

    fn once(
        &mut self,
        what: &str,
        unit: &'static str,
        peers: &[Peer],
        work: impl Fn(&Peer) -> Result<f64>,
    ) -> Result<()> {
        println!("measuring {what}");
        let values = peers.iter().map(work).collect::<Result<_>>()?;
        self.push(what, unit, values);
        Ok(())
    }

    /// Says what was measured at once: what fails later does not take it away.
    fn push(&mut self, what: &str, unit: &'static str, values: Vec<f64>) {
        println!("    {values:.2?} {unit}");
        self.rows.push((what.to_owned(), unit, values));
    }

    fn render(&self) -> String {
        let mut text = String::from(
            "## Running\n\nWritten by `cargo xtask bench run` (release build). All engines in one run on one machine, each\n\
             on an ext4 of the bench's own; medians of 15 rounds, each a whole CLI process. The ratio says how many times Wharf's figure the other one's is.\n\n",
        );
        text.push_str(&self.render_rows());
        text
    }

    fn render_rows(&self) -> String {
        let mut text = self.render_table();
        let missing: Vec<&str> =
            peers::KNOWN.iter().copied().filter(|k| !self.names.iter().any(|n| n == k)).collect();
        if !missing.is_empty() {
            let _ = writeln!(text, "\nNot run (not installed): {}.", missing.join(", "));
        }
        text
    }

    fn render_table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "| what | {} |", self.names.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(self.names.len()));
        for (what, unit, values) in &self.rows {
            let cells = values.iter().enumerate().map(|(i, value)| match i {
                0 => format!("{value:.2} {unit}"),
                _ => format!("{value:.2} {unit} ({:.1} x)", value / values[0]),
            });
            let _ = writeln!(text, "| {what} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
        text
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
