//! `cargo xtask test`: everything, from a fresh Debian machine on.

use crate::{build, packages, sh, tidy, vm_test};
use anyhow::Result;

/// What runs again on the other kernel each time: what depends most on the kernel and its cgroups. All of it runs
/// with `cargo xtask vm-test`; emulation makes that several times as long.
const IN_THE_VM: &[&str] = &["container_run", "container_limits", "security"];

/// Where the end-to-end tests note those that were not run (`wharf_testkit::NOT_RUN`).
const NOT_RUN: &str = "target/not-run.txt";

/// Whether engines to compare with are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oracles {
    Install,
    AsTheyAre,
}

/// Installs what is missing, then runs tidy, the unit and sandbox tests, the end-to-end tests, and some of these
/// again in a virtual machine with cgroup v2. With a filter: only end-to-end tests whose names contain it.
///
/// # Errors
/// When anything fails.
pub(crate) fn run(filter: &[&str], oracles: Oracles) -> Result<()> {
    packages::install(packages::TEST)?;
    if oracles == Oracles::Install {
        packages::install(packages::ORACLES)?;
    }
    if filter.is_empty() {
        tidy::run()?;
        sh::run(sh::cargo().args(["test", "--workspace", "--exclude", "wharf-tests"]))?;
    }
    // After every other build: a plain build would overwrite the static shim.
    build::all(build::Profile::Dev)?;
    build::static_binary(build::Profile::Dev, "hello-web", "hello-web")?;
    end_to_end(filter)?;
    if filter.is_empty() {
        vm_test::run(IN_THE_VM)?;
    }
    Ok(())
}

fn end_to_end(filter: &[&str]) -> Result<()> {
    let not_run = sh::workspace().join(NOT_RUN);
    let _ = std::fs::remove_file(&not_run);
    let mut tests = sh::cargo();
    tests.args(["test", "-p", "wharf-tests", "--"]).args(filter).env("WHARF_NOT_RUN", &not_run);
    sh::run(&mut tests)?;
    let lines = std::fs::read_to_string(&not_run).unwrap_or_default();
    if !lines.is_empty() {
        print!("{lines}");
        println!("{} tests counted as ok above were not run; with --oracle they are", lines.lines().count());
    }
    Ok(())
}
