//! `cargo xtask fuzz`: the targets of `fuzz/` with libFuzzer.
//!
//! cargo-fuzz wants a nightly toolchain for its address sanitizer. There is no unsafe code in what is fuzzed, so
//! coverage is all that is needed, and LLVM's pass for that can be asked for on the stable toolchain as well.

use crate::{packages, sh};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// What cargo-fuzz passes too (source: cargo-fuzz `src/project.rs`), without the sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Named, so that the flags are not for build scripts and macros.
const TRIPLE: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

const SECONDS: u64 = 60;

/// Builds the targets and runs one, or all. What is found stays in `fuzz/artifacts`, what is learned in
/// `fuzz/corpus`.
///
/// # Errors
/// When a target finds something, or cannot be built.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let targets = targets()?;
    let (chosen, seconds) = match args {
        [] => (targets, SECONDS),
        [seconds] if seconds.parse::<u64>().is_ok() => (targets, seconds.parse()?),
        [target] => (vec![(*target).to_owned()], SECONDS),
        [target, seconds] => (vec![(*target).to_owned()], seconds.parse().context("SECONDS is a number")?),
        _ => bail!("cargo xtask fuzz [TARGET] [SECONDS]"),
    };
    packages::install(packages::FUZZ)?;
    let directory = sh::workspace().join("target/fuzz");
    let mut build = sh::cargo();
    build.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE]);
    sh::run(build.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &directory))?;
    for target in chosen {
        run_one(&directory.join(TRIPLE).join("release"), &target, seconds)?;
    }
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("fuzz/fuzz_targets")? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn run_one(programs: &Path, target: &str, seconds: u64) -> Result<()> {
    let program = programs.join(target);
    ensure!(program.is_file(), "there is no fuzz target {target}");
    let corpus = Path::new("fuzz/corpus").join(target);
    let artifacts = Path::new("fuzz/artifacts").join(target);
    for directory in [&corpus, &artifacts] {
        std::fs::create_dir_all(directory)?;
    }
    let mut command = std::process::Command::new(&program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    // A bound on memory is part of the promise.
    command.args(["-rss_limit_mb=512", "-timeout=20", "-max_len=65536", "-print_final_stats=1"]);
    sh::run(command.arg(&corpus).arg(Path::new("fuzz/seeds").join(target)))
}
