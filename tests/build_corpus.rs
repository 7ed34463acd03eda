//! Dockerfiles of every instruction and trap, built by Debian's docker.io and by us: what is printed, files, modes,
//! owners, configs and histories are the same.
//!
//! What docker.io 20.10 makes of them stands in `build_corpus/expected`. It is written anew by
//! `WHARF_RECORD=1 cargo xtask test --oracle build_corpus::docker_io`, after a look at what changes. Where we do otherwise,
//! as later Dockers do or with a reason, `build_corpus/differences.txt` says line by line how, and why.

mod case;
mod facts;
mod tree;

use anyhow::{Context, Result, ensure};
use case::Case;
use facts::Engine;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wharf_testkit::{Daemon, DockerIo, NetNs, Output, busybox, figure, lacks, lacks_oracle};

const GROUPS: [&str; 9] = ["from", "copy", "add", "ignore", "run", "env", "meta", "syntax", "buildkit"];
/// What is asked for of the daemon, so that both are asked for the same: the newest of docker.io.
const API: &str = "1.41";

/// Debian's CLI, which knows BuildKit without a plugin.
const BUILDKIT_CLI: &str = "/usr/bin/docker";

fn run(net: &NetNs, mut command: Command, dir: &Path) -> Result<Output> {
    command.current_dir(dir).stdin(Stdio::null()).env("DOCKER_API_VERSION", API);
    let out = net.spawn(&mut command)?.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output { code: out.status.code().unwrap_or(-1), stdout: text(&out.stdout), stderr: text(&out.stderr) })
}

impl Engine for Daemon {
    fn build(&self, dir: &Path, args: &[&str], _by_buildkit: bool) -> Result<Output> {
        let mut command = self.cli_command("docker", args);
        command.env("DOCKER_BUILDKIT", "0");
        run(self.net(), command, dir)
    }

    fn ask(&self, args: &[&str]) -> Result<Output> {
        run(self.net(), self.cli_command("docker", args), self.dir())
    }
}

impl Engine for DockerIo {
    fn build(&self, dir: &Path, args: &[&str], by_buildkit: bool) -> Result<Output> {
        let mut command = self.cli_command(if by_buildkit { BUILDKIT_CLI } else { "docker" }, args);
        command.env("DOCKER_BUILDKIT", if by_buildkit { "1" } else { "0" });
        run(self.net(), command, dir)
    }

    fn ask(&self, args: &[&str]) -> Result<Output> {
        run(self.net(), self.cli_command("docker", args), Path::new("/"))
    }
}

/// Directories of the corpus, gone with this.
struct Contexts(PathBuf);

impl Contexts {
    fn new(name: &str) -> Result<Self> {
        let dir = PathBuf::from(format!("/var/tmp/wharf-corpus-{}-{name}", std::process::id()));
        std::fs::create_dir_all(dir.join("tree"))?;
        tree::make(&dir.join("tree"))?;
        Ok(Self(dir))
    }

    /// The facts of a case, built in a context of its own.
    fn build(&self, engine: &impl Engine, case: &Case) -> Result<String> {
        let dir = self.0.join(&case.name);
        ensure!(Command::new("cp").arg("-a").arg(self.0.join("tree")).arg(&dir).status()?.success());
        case.write(&dir)?;
        let facts = facts::of(engine, case, &dir);
        std::fs::remove_dir_all(&dir)?;
        facts.with_context(|| case.name.clone())
    }
}

impl Drop for Contexts {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Names of cases and what is told of each.
type Facts = Vec<(String, String)>;

fn build_all(engine: &impl Engine, group: &str, contexts: &Contexts) -> Result<Facts> {
    let cases = case::read(group)?;
    cases.iter().map(|case| Ok((case.name.clone(), contexts.build(engine, case)?))).collect()
}

/// The lines of what was found that are not as expected; empty if all are.
fn difference(expected: &str, found: &str) -> String {
    let only = |a: &str, b: &str, sign: &str| -> String {
        let lines = a.lines().filter(|line| !b.lines().any(|other| other == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    let lines = only(expected, found, "-") + &only(found, expected, "+");
    if lines.is_empty() && expected != found { "in another order\n".to_owned() } else { lines }
}

/// All cases that came out otherwise than expected, but for differences that are `known`.
fn differences(expected: &Facts, found: &Facts, known: &Facts) -> String {
    let of = |facts: &Facts, name: &str| {
        facts.iter().find(|(other, _)| other == name).map_or(String::new(), |(_, text)| text.clone())
    };
    let differ = |(name, found): &(String, String)| {
        let difference = difference(&of(expected, name), found);
        (difference != of(known, name)).then(|| format!("=== {name}\n{difference}"))
    };
    found.iter().filter_map(differ).collect()
}

/// Our builder against what stands in the files.
fn ours_is_as_expected(group: &str) -> Result<()> {
    if lacks(&["docker", "bzip2", "xz"]) {
        return Ok(());
    }
    let daemon = Daemon::with_busybox()?;
    let contexts = Contexts::new(group)?;
    let found = build_all(&daemon, group, &contexts)?;
    let expected = case::expected(group)?;
    let differences = differences(&expected, &found, &case::known()?);
    ensure!(found.len() == expected.len(), "{} cases, {} expected", found.len(), expected.len());
    ensure!(differences.is_empty(), "- docker.io, + ours\n{differences}");
    daemon.stop()
}

macro_rules! groups {
    ($($name:ident: $group:literal,)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            ours_is_as_expected($group)
        }
    )*};
}

groups! {
    stages_and_bases_are_dockers: "from",
    copies_are_dockers: "copy",
    additions_are_dockers: "add",
    ignored_files_are_dockers: "ignore",
    commands_are_dockers: "run",
    variables_are_dockers: "env",
    configs_are_dockers: "meta",
    syntax_is_dockers: "syntax",
    mounts_are_buildkits: "buildkit",
}

#[test]
fn docker_io_builds_what_is_expected() -> Result<()> {
    if lacks_oracle("dockerd") {
        return Ok(());
    }
    let contexts = Contexts::new("oracle")?;
    let (mut count, mut wrong) = (0, String::new());
    for group in GROUPS {
        // Each on a daemon of its own, as ours: builds of one may use the cache of another.
        let root = contexts.0.join("root");
        std::fs::create_dir(&root)?;
        let docker = DockerIo::start(&root)?;
        docker.load(&busybox()?)?;
        let found = build_all(&docker, group, &contexts)?;
        docker.stop()?;
        std::fs::remove_dir_all(&root)?;
        count += found.len();
        if std::env::var_os("WHARF_RECORD").is_some() {
            case::record(group, &found)?;
        }
        wrong.push_str(&differences(&case::expected(group)?, &found, &Facts::new()));
    }
    figure(&format!("{count} Dockerfiles built by docker.io came out as is expected of ours"));
    ensure!(wrong.is_empty(), "- expected, + docker.io\n{wrong}");
    Ok(())
}
