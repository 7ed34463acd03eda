//! `cargo xtask test`: everything, from a fresh Debian machine on.

use crate::{build, packages, sh, tidy, vm_test};
use anyhow::Result;

/// What runs again on the other kernel each time: what depends most on the kernel and its cgroups. All of it runs
/// with `cargo xtask vm-test`; emulation makes that several times as long.
const IN_THE_VM: &[&str] = &["container_limits", "container_run", "security"];

/// Where the end-to-end tests note what was not run, or only in part (`wharf_testkit::NOT_RUN`).
const NOT_RUN: &str = "target/not-run.txt";
/// Where they note what they measured (`wharf_testkit::FIGURES`).
const FIGURES: &str = "target/figures.txt";

/// What is asked for.
#[derive(Debug, Default)]
struct Wanted<'a> {
    /// Engines to compare with are installed.
    oracles: bool,
    /// Everything is tried, however long it takes.
    full: bool,
    /// Only end-to-end tests whose names contain one of these.
    filter: Vec<&'a str>,
}

/// Installs what is missing, then runs tidy, the unit and sandbox tests, the end-to-end tests, and some of these
/// again in a virtual machine with cgroup v2. With a filter: only end-to-end tests whose names contain it.
///
/// # Errors
/// When anything fails.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let mut wanted = Wanted::default();
    for arg in args {
        match *arg {
            "--oracle" => wanted.oracles = true,
            "--full" => wanted.full = true,
            filter => wanted.filter.push(filter),
        }
    }
    packages::install(packages::TEST)?;
    if wanted.oracles {
        packages::install(packages::ORACLES)?;
    }
    let filter = &wanted.filter;
    if filter.is_empty() {
        tidy::run()?;
        sh::run(sh::cargo().args(["test", "--workspace", "--exclude", "wharf-tests"]))?;
    }
    // After every other build: a plain build would overwrite the static shim.
    build::all(build::Profile::Dev)?;
    build::static_binary(build::Profile::Dev, "hello-web", "hello-web")?;
    end_to_end(&wanted)?;
    if filter.is_empty() {
        vm_test::run(IN_THE_VM)?;
    }
    Ok(())
}

fn end_to_end(wanted: &Wanted<'_>) -> Result<()> {
    let [not_run, figures] = [NOT_RUN, FIGURES].map(|path| sh::workspace().join(path));
    for path in [&not_run, &figures] {
        let _ = std::fs::remove_file(path);
    }
    let mut tests = sh::cargo();
    tests.args(["test", "-p", "wharf-tests", "--"]).args(&wanted.filter);
    tests.env("WHARF_NOT_RUN", &not_run).env("WHARF_FIGURES", &figures);
    if wanted.full {
        tests.env("WHARF_FULL", "1");
    }
    let outcome = sh::run(&mut tests);
    let [not_run, figures] = [not_run, figures].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    print!("{figures}{not_run}");
    for (beginning, what) in [
        ("not run:", "tests counted as ok above were not run; with --oracle they are"),
        ("in part:", "tests counted as ok above were run in part; with --full they are run as a whole"),
    ] {
        let count = not_run.lines().filter(|line| line.starts_with(beginning)).count();
        if count > 0 {
            println!("{count} {what}");
        }
    }
    outcome
}
