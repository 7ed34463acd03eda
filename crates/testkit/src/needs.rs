//! Programs of the machine that a test needs, and where they may be missing.

use std::io::Write;

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
