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
    say(NOT_RUN, &format!("not run: {}: {why}", test()));
}

/// The variable with which `cargo xtask test --full` asks for everything.
pub const FULL: &str = "WHARF_FULL";

/// Whether tests are to try everything, however long it takes.
pub fn is_full() -> bool {
    std::env::var_os(FULL).is_some()
}

/// What the calling test does: all of it with `--full`, else a part, and then it says so and is counted.
pub fn amount(all: usize, part: usize) -> usize {
    if is_full() {
        return all;
    }
    run_in_part(&format!("{part} of {all}"));
    part
}

/// The calling test leaves something to `--full`: it says so, and `cargo xtask test` counts it.
pub fn run_in_part(what: &str) {
    say(NOT_RUN, &format!("in part: {}: {what}; all with --full", test()));
}

/// The variable that names a file to which tests write what they measured.
pub const FIGURES: &str = "WHARF_FIGURES";

/// Tells what a test has measured. Figures are for reading: nothing is asserted of times.
pub fn figure(text: &str) {
    say(FIGURES, &format!("figure: {}: {text}", test()));
}

fn test() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Past the test harness, which keeps what a good test prints to itself, and to the file of this variable.
fn say(variable: &str, line: &str) {
    let line = format!("{line}\n");
    // Nobody hears a failure.
    let _ = std::io::stdout().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(variable) {
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
