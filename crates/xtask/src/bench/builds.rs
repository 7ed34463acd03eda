//! `cargo xtask bench build`: builds of twelve steps, and contexts of many files and of many bytes, beside docker.io's classic
//! builder and its BuildKit.
//!
//! `--small` takes a hundredth of it and the development build: it proves that the bench works, and its figures are not
//! kept.

use super::{Table, disk::Disk, docker::Docker, document, median};
use crate::build::{self, Profile};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};
use wharf_testkit::{Daemon, NetNs, busybox};

/// The CLI of Debian's docker.io, which has BuildKit's client in it.
const BUILDKIT_CLI: &str = "/usr/bin/docker";

/// How much is built.
struct Load {
    rounds: usize,
    files: usize,
    megabytes: usize,
}

const WHOLE: Load = Load { rounds: 5, files: 20_000, megabytes: 1000 };
const SMALL: Load = Load { rounds: 1, files: 200, megabytes: 10 };

const STEPS: &str = "FROM busybox\nLABEL a=1\nENV B=2\nWORKDIR /w\nCOPY one /w/one\nRUN echo 1 > a\nRUN echo 2 > b\n\
    RUN mkdir c && echo 3 > c/d\nCOPY two /w/two\nRUN cat one two > e\nEXPOSE 80\nCMD [\"sh\"]\n";
const COPY: &str = "FROM busybox\nCOPY . /c/\n";

/// Who builds.
enum Builder<'a> {
    Wharf(&'a Daemon),
    /// With the stock CLI.
    Classic(&'a Docker),
    BuildKit(&'a Docker),
}

/// Measures and writes its section of `docs/performance.md`, unless it is small.
///
/// # Errors
/// When Wharf fails; docker.io is left out where it is not installed.
pub(crate) fn run(small: bool) -> Result<()> {
    let (load, profile) = if small { (SMALL, Profile::Dev) } else { (WHOLE, Profile::Release) };
    build::all(profile)?;
    let disk = Disk::new()?;
    let text = measure(&load, profile, disk.root())?;
    println!("{text}");
    if small { Ok(()) } else { document::put("build", &text) }
}

fn measure(load: &Load, profile: Profile, dir: &Path) -> Result<String> {
    let daemon = Daemon::builder().bin_dir(&profile.dir()).below(dir).start()?;
    daemon.load(&busybox()?)?;
    let docker = if Docker::is_installed() { Some(Docker::with_busybox(&dir.join("docker"))?) } else { None };
    let mut builders = vec![Builder::Wharf(&daemon)];
    if let Some(docker) = &docker {
        builders.push(Builder::Classic(docker));
        if Path::new(BUILDKIT_CLI).exists() {
            builders.push(Builder::BuildKit(docker));
        }
    }
    let names = builders.iter().map(|builder| builder.name().to_owned()).collect();
    let mut table = Table { names, rows: Vec::new() };
    for (what, context) in [
        ("12 steps".to_owned(), steps(dir)?),
        (format!("a context of {} files", load.files), files(dir, load.files)?),
        (format!("a context of {} MB", load.megabytes), bytes(dir, load.megabytes)?),
    ] {
        rounds(&mut table, &builders, load.rounds, &what, &context)?;
    }
    let mut text = format!(
        "## Builds\n\nWritten by `cargo xtask bench build` (release build). Wharf with its own CLI, docker.io's builders with \
         the stock one, all in one run\non one machine; medians of {} rounds, each a whole CLI process. Cold is without any \
         cache, and nothing of the context is\nkept. The ratio says how many times Wharf's figure the other one's is.\n\n",
        load.rounds
    );
    text.push_str(&table.render_table());
    if docker.is_none() {
        text.push_str("\nNot run (not installed): docker.io.\n");
    }
    drop(builders);
    drop(docker);
    daemon.stop()?;
    Ok(text)
}

/// Cold and unchanged builds of one context, the builders in turn.
fn rounds(
    table: &mut Table,
    builders: &[Builder<'_>],
    rounds: usize,
    what: &str,
    context: &str,
) -> Result<()> {
    println!("measuring {what}");
    let (mut cold, mut again) = (vec![Vec::new(); builders.len()], vec![Vec::new(); builders.len()]);
    for _ in 0..rounds {
        for (at, builder) in builders.iter().enumerate() {
            builder.forget()?;
            let timed = |args: &[&str]| -> Result<f64> {
                let start = Instant::now();
                builder.ok(&[&["build", "-q", "-t", "bench"], args, &[context]].concat())?;
                Ok(start.elapsed().as_secs_f64() * 1e3)
            };
            cold[at].push(timed(&["--no-cache"])?);
            // What follows takes the steps of a build that uses the cache.
            timed(&[])?;
            again[at].push(timed(&[])?);
        }
    }
    table.push(&format!("{what}, cold"), "ms", cold.into_iter().map(median).collect());
    table.push(&format!("{what}, unchanged"), "ms", again.into_iter().map(median).collect());
    Ok(())
}

impl Builder<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Wharf(_) => "wharf",
            Self::Classic(_) => "docker.io, classic",
            Self::BuildKit(_) => "docker.io, BuildKit",
        }
    }

    fn ok(&self, args: &[&str]) -> Result<()> {
        match self {
            Self::Wharf(daemon) => daemon.wharf(args)?.ok().map(drop),
            Self::Classic(docker) => {
                let mut command = docker.command(args);
                finish(docker.net(), command.env("DOCKER_BUILDKIT", "0"))
            }
            Self::BuildKit(docker) => {
                let own = docker.command(args);
                let host = own.get_envs().find(|(name, _)| *name == "DOCKER_HOST");
                let host = host.and_then(|(_, value)| value).context("no address of docker.io")?;
                let mut command = Command::new(BUILDKIT_CLI);
                command.args(args).env("DOCKER_HOST", host).env("DOCKER_BUILDKIT", "1");
                finish(docker.net(), &mut command)
            }
        }
    }

    /// Nothing is left of earlier builds.
    fn forget(&self) -> Result<()> {
        self.ok(&["builder", "prune", "-a", "-f"])?;
        self.ok(&["image", "prune", "-f"])
    }
}

fn finish(net: &NetNs, command: &mut Command) -> Result<()> {
    let child = net.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let out = child.wait_with_output()?;
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn context(dir: &Path, name: &str, dockerfile: &str) -> Result<PathBuf> {
    let context = dir.join(name);
    fs::create_dir_all(&context)?;
    fs::write(context.join("Dockerfile"), dockerfile)?;
    Ok(context)
}

fn steps(dir: &Path) -> Result<String> {
    let context = context(dir, "steps", STEPS)?;
    for name in ["one", "two"] {
        fs::write(context.join(name), name)?;
    }
    Ok(context.to_string_lossy().into_owned())
}

/// Files of 2 KiB, a hundred in each directory.
fn files(dir: &Path, count: usize) -> Result<String> {
    let context = context(dir, "files", COPY)?;
    for number in 0..count {
        let parent = context.join(format!("d{}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&parent)?;
        }
        fs::write(parent.join(format!("f{number}")), format!("{number:0>2048}"))?;
    }
    Ok(context.to_string_lossy().into_owned())
}

/// Files of ten megabytes that are not alike.
fn bytes(dir: &Path, megabytes: usize) -> Result<String> {
    let context = context(dir, "bytes", COPY)?;
    for number in 0..megabytes.div_ceil(10) {
        let mut file = fs::File::create(context.join(format!("f{number}")))?;
        for block in 0..10_u64 << 8 {
            let line = format!("{number:>16}{block:>16}");
            file.write_all(line.repeat(4096 / line.len()).as_bytes())?;
        }
    }
    Ok(context.to_string_lossy().into_owned())
}
