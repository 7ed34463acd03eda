//! Programs of the machine that a test needs, and where they may be missing.

use std::io::Write;
use std::path::Path;

/// Whether the calling test must be skipped because one of these programs is missing: only in the virtual
/// machine of `cargo xtask vm-test` (`WHARF_VM=1`), which counts the lines written here. Anywhere else the
/// answer is no, and a missing program fails the test that starts it.
pub fn lacks(programs: &[&str]) -> bool {
    if std::env::var_os("WHARF_VM").is_none() {
        return false;
    }
    let Some(missing) = programs.iter().find(|p| !is_on_path(p)) else { return false };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not by println!, which the test harness keeps to itself when a test succeeds. Nobody hears a failure.
    let _ = writeln!(std::io::stdout(), "skipped: {test}: no {missing} here");
    true
}

/// The variable that names a file to which tests that were not run write a line each.
pub const NOT_RUN: &str = "WHARF_NOT_RUN";

/// Whether the calling test cannot be run because an engine that it compares with is not installed: only
/// `cargo xtask test --oracle` installs these. Such a test says so, and `cargo xtask test` counts it.
pub fn lacks_oracle(program: &str) -> bool {
    if is_on_path(program) || lacks(&[program]) {
        return !is_on_path(program);
    }
    not_run(&format!("no {program} here"));
    true
}

/// Whether the calling test cannot be run because systemd is not the init system of this machine, or the machine has
/// cgroup v1. Such a test says so, and `cargo xtask test` counts it; in the virtual machine it is run later.
pub fn lacks_systemd() -> bool {
    let is_there = Path::new("/run/systemd/system").is_dir();
    if is_there && Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return false;
    }
    not_run("systemd does not make control groups here");
    true
}

pub(crate) fn not_run(why: &str) {
    let thread = std::thread::current();
    let line = format!("not run: {}: {why}\n", thread.name().unwrap_or("a test"));
    // Nobody hears a failure.
    let _ = std::io::stdout().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(NOT_RUN) {
        let file = std::fs::File::options().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(is_on_path("sh"));
        assert!(!is_on_path("no-such-program-of-wharf"));
        assert!(!is_on_path("."), "a folder is no program");
    }
}
