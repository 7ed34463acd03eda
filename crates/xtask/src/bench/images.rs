//! `cargo xtask bench images`: images in and out, beside docker.io where it is installed.
//!
//! Every sample has a daemon without images, on a file system on which nothing was removed; both engines have the
//! same client, the same image and a registry of the same kind on their own loopback. Medians of few rounds:
//! each moves gigabytes.

use super::{disk::Disk, docker::Docker, document, median, peers::Peer, sample::Sample};
use crate::{build, build::Profile, packages, sh};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use wharf_testkit::{Entry, NetNs, Registry, Tar};

const ROUNDS: usize = 3;
const IMAGES: usize = 500;
const LISTINGS: usize = 15;
const NAME: &str = "127.0.0.1:5000/sample";

/// Rows, in the order of the table: what, unit.
const ROWS: &[(&str, &str)] = &[
    ("pull", "s"),
    ("memory of the daemon during it, peak", "MB"),
    ("push, new layers", "s"),
    ("save to a file", "s"),
    ("load of that file", "s"),
    ("load, all of it present", "s"),
    ("export of a container", "s"),
    ("import of that file", "s"),
    ("`GET /images/json`, 500 images", "ms"),
];

/// Measures and writes its section of `docs/performance.md`.
///
/// # Errors
/// When Wharf fails, or what is needed cannot be installed. docker.io is left out where it is not installed.
pub(crate) fn run() -> Result<()> {
    packages::install(packages::BENCH_IMAGES)?;
    build::all(Profile::Release)?;
    sh::run(sh::cargo().args(["build", "--release", "-p", "wharf-archive", "--example", "unpack"]))?;
    let disk = Disk::new()?;
    let mut bench = Bench::new(disk.root())?;
    for round in 0..ROUNDS {
        println!("round {} of {ROUNDS}", round + 1);
        bench.floors(round)?;
        bench.round(Engine::Wharf, round)?;
        if Docker::is_installed() {
            bench.round(Engine::Docker, round)?;
        }
    }
    let text = bench.render();
    println!("{text}");
    document::put("images", &text)
    // Here, while the disk is still mounted, the daemons end.
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Engine {
    Wharf,
    Docker,
}

struct Bench {
    root: PathBuf,
    sample: Sample,
    /// Its layers as the registry has them.
    blobs: Vec<PathBuf>,
    peers: Vec<Peer>,
    samples: BTreeMap<(&'static str, Engine), Vec<f64>>,
    floor: Vec<f64>,
    igzip: Vec<f64>,
}

impl Bench {
    fn new(root: &Path) -> Result<Self> {
        println!("making the sample image");
        let sample = Sample::make(root)?;
        let net = NetNs::new()?;
        let registry = Registry::start(&net, root)?;
        registry.push_file(&net, &sample.archive, "sample:latest", &["--format", "v2s2"])?;
        let large = |blob: &PathBuf| fs::metadata(blob).is_ok_and(|m| m.len() > 1 << 20);
        let blobs = registry.blobs()?.into_iter().filter(large).collect();
        Ok(Self {
            root: root.to_path_buf(),
            sample,
            blobs,
            peers: Vec::new(),
            samples: BTreeMap::new(),
            floor: Vec::new(),
            igzip: Vec::new(),
        })
    }

    /// Inflate and write, by the project's own code and by the fastest programs there are.
    fn floors(&mut self, round: usize) -> Result<()> {
        let (ours, igzip) = (self.fresh(&format!("floor{round}"))?, self.fresh(&format!("igzip{round}"))?);
        settle()?;
        let mut unpack = Command::new(Profile::Release.dir().join("examples/unpack"));
        let seconds = sh::output(unpack.arg(&ours).args(&self.blobs))?;
        self.floor.push(seconds.trim().parse().context("seconds")?);
        settle()?;
        let start = Instant::now();
        let script =
            r#"mkdir "$0/${1##*/sha256/??/}" -p && igzip -dc "$1" | tar -x -C "$0/${1##*/sha256/??/}""#;
        let mut parallel = Command::new("xargs");
        parallel.args(["-P2", "-n1", "-a"]).arg(self.list()?).args(["sh", "-c", script]).arg(&igzip);
        sh::output(&mut parallel)?;
        self.igzip.push(start.elapsed().as_secs_f64());
        Ok(())
    }

    fn list(&self) -> Result<PathBuf> {
        let path = self.root.join("blobs");
        let lines: Vec<String> = self.blobs.iter().map(|blob| blob.display().to_string()).collect();
        fs::write(&path, lines.join("\n"))?;
        Ok(path)
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    fn start(&self, engine: Engine, name: &str) -> Result<Peer> {
        match engine {
            Engine::Wharf => Peer::wharf_below(&self.fresh(name)?),
            Engine::Docker => Peer::docker_below(&self.fresh(name)?),
        }
    }

    /// Two daemons: one gets the image from the registry and gives it away, one takes it from files.
    fn round(&mut self, engine: Engine, round: usize) -> Result<()> {
        let dir = self.fresh(&format!("{engine:?}-files{round}"))?;
        let file = |name: &str| dir.join(name).display().to_string();
        let (saved, exported) = (file("saved.tar"), file("exported.tar"));

        let first = self.start(engine, &format!("{engine:?}-one{round}"))?;
        let registry = Registry::start(first.net(), &self.root)?;
        first.pids().into_iter().try_for_each(forget_peak)?;
        self.time("pull", engine, || first.ok(&["pull", "-q", NAME]))?;
        let peak = first.pids().into_iter().map(peak).sum();
        self.note("memory of the daemon during it, peak", engine, peak);
        drop(registry);
        self.time("save to a file", engine, || first.ok(&["save", "-o", &saved, NAME]))?;
        first.ok(&["create", "--name", "sample", NAME])?;
        self.time("export of a container", engine, || first.ok(&["export", "-o", &exported, "sample"]))?;
        self.push(engine, &first, &dir)?;

        let second = self.start(engine, &format!("{engine:?}-two{round}"))?;
        self.time("load of that file", engine, || second.ok(&["load", "-q", "-i", &saved]))?;
        self.time("load, all of it present", engine, || second.ok(&["load", "-q", "-i", &saved]))?;
        self.time("import of that file", engine, || second.ok(&["import", &exported, "imported"]))?;
        if round == 0 {
            self.listings(engine, &second, &dir)?;
        }
        self.peers.extend([first, second]);
        // Few files, but large ones: the disk is not endless.
        fs::remove_dir_all(&dir)?;
        Ok(())
    }

    /// To a registry that has nothing.
    fn push(&mut self, engine: Engine, peer: &Peer, dir: &Path) -> Result<()> {
        let _registry = Registry::start(peer.net(), dir)?;
        self.time("push, new layers", engine, || peer.ok(&["push", "-q", NAME]))
    }

    fn listings(&mut self, engine: Engine, peer: &Peer, dir: &Path) -> Result<()> {
        let archive = dir.join("many.tar");
        fs::write(&archive, many()?)?;
        peer.ok(&["load", "-q", "-i", &archive.display().to_string()])?;
        let api = peer.api().context("an API")?;
        for _ in 0..LISTINGS {
            let start = Instant::now();
            let answer = api.call("GET", "/images/json")?;
            self.note("`GET /images/json`, 500 images", engine, start.elapsed().as_secs_f64() * 1e3);
            let images = answer.json().as_array().map_or(0, Vec::len);
            ensure!(images >= IMAGES, "{images} images: {}", answer.message());
        }
        Ok(())
    }

    fn time(&mut self, row: &'static str, engine: Engine, work: impl FnOnce() -> Result<()>) -> Result<()> {
        settle()?;
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{engine:?}: {row}: {seconds:.2} s");
        self.note(row, engine, seconds);
        Ok(())
    }

    fn note(&mut self, row: &'static str, engine: Engine, value: f64) {
        self.samples.entry((row, engine)).or_default().push(value);
    }

    fn figure(&self, row: &'static str, engine: Engine) -> Option<f64> {
        self.samples.get(&(row, engine)).cloned().map(median)
    }

    fn render(&self) -> String {
        let (files, megabytes) = (self.sample.files, self.sample.megabytes);
        let mut text = format!(
            "## Images\n\nWritten by `cargo xtask bench images` (release build): {files} files of `/usr`, {megabytes} MB in 8 \
             gzip layers, a registry on\nloopback, the stock CLI for both. Medians of {ROUNDS} rounds, each on an empty data-root \
             of a fresh ext4. The ratio says how\nmany times Wharf's figure docker.io's is.\n\n\
             | what | wharf | docker.io |\n|---|---|---|\n"
        );
        for (row, unit) in ROWS {
            let Some(ours) = self.figure(row, Engine::Wharf) else { continue };
            let theirs = match self.figure(row, Engine::Docker) {
                Some(theirs) => format!("{theirs:.2} {unit} ({:.1} x)", theirs / ours),
                None => "not run".to_owned(),
            };
            let _ = writeln!(text, "| {row} | {ours:.2} {unit} | {theirs} |");
        }
        let (floor, igzip) = (median(self.floor.clone()), median(self.igzip.clone()));
        let ratio = self.figure("pull", Engine::Wharf).unwrap_or_default() / floor;
        let _ = writeln!(
            text,
            "\nThe floor of the pull, inflating and writing the same layers by the same code without HTTP, digests and records: \
             {floor:.2} s\n(the pull is {ratio:.2} x that). `igzip -dc | tar -x`, two at a time: {igzip:.2} s."
        );
        text
    }
}

/// What an earlier step left to be written must not be measured in this one.
fn settle() -> Result<()> {
    sh::output(&mut Command::new("sync")).map(drop)
}

/// Resets the peak (source: proc(5), `/proc/pid/clear_refs`).
fn forget_peak(pid: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// Megabytes.
fn peak(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// An archive of many images on one layer.
fn many() -> Result<Vec<u8>> {
    let layer = Tar::of(&[Entry::file("file", 0o644, "text")]).bytes();
    let diff_id = wharf_testkit::sha256(&layer);
    let mut entries = vec![Entry::file("layer.tar", 0o644, layer)];
    let mut manifest = Vec::new();
    for number in 0..IMAGES {
        let config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": {"Labels": {"number": number.to_string()}},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
        });
        let name = format!("config{number}.json");
        let tags = [format!("many:{number}")];
        manifest.push(serde_json::json!({"Config": name, "RepoTags": tags, "Layers": ["layer.tar"]}));
        entries.push(Entry::file(&name, 0o644, config.to_string()));
    }
    entries.push(Entry::file("manifest.json", 0o644, serde_json::to_vec(&manifest)?));
    Ok(Tar::of(&entries).bytes())
}
