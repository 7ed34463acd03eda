//! The environment of a process: the last of several values counts, and there is a HOME (source: runc
//! `libcontainer/env.go`).

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::collections::HashSet;
use std::ffi::CString;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use wharf_spec::user;
use wharf_sys::path::Root;

/// The environment as execve takes it, and the PATH in it.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) all: Vec<CString>,
    pub(super) path: String,
}

/// Checks and completes an environment. Called inside the container's root.
pub(super) fn prepare(given: &[String], uid: u32) -> Result<Environment> {
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(given.len() + 1);
    let (mut path, mut home) = (String::new(), false);
    for pair in given.iter().rev() {
        let refuse = |problem: &str| Error::refused("invalid environment variable", problem);
        let (name, value) = pair.split_once('=').ok_or_else(|| refuse("missing '='"))?;
        if name.is_empty() {
            return Err(refuse("name cannot be empty"));
        }
        if !seen.insert(name) {
            continue;
        }
        match name {
            "HOME" if value.is_empty() => continue,
            "HOME" => home = true,
            "PATH" => path = value.to_owned(),
            _ => {}
        }
        all.push(CString::new(pair.as_str()).map_err(|_| refuse("contains nul byte (\\x00)"))?);
    }
    all.reverse();
    if !home {
        let home = home_of(uid).unwrap_or_else(|| "/".to_owned());
        all.push(CString::new(format!("HOME={home}")).unwrap_or_else(|_| c"HOME=/".to_owned()));
    }
    Ok(Environment { all, path })
}

/// The user's home in the container's passwd file; `None` for every reason not to know it.
fn home_of(uid: u32) -> Option<String> {
    let root = Root::open(Path::new("/")).ok()?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = std::fs::File::from(root.open_file(Path::new("/etc/passwd"), flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut lines = BufReader::new(file.take(user::MAX_FILE as u64));
    let lines: &mut dyn BufRead = &mut lines;
    let found = user::resolve(&uid.to_string(), Some(lines), None).ok()?;
    Some(found.home).filter(|home| !home.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(env: &Environment) -> Vec<&str> {
        env.all.iter().map(|word| word.to_str().unwrap()).collect()
    }

    #[test]
    fn last_value_counts_and_home_is_added() {
        let given = ["A=1", "PATH=/x", "A=2", "HOME=", "PATH=/bin:/usr/bin"].map(str::to_owned);
        let env = prepare(&given, 0).unwrap();
        assert_eq!(words(&env), ["A=2", "PATH=/bin:/usr/bin", "HOME=/root"]);
        assert_eq!(env.path, "/bin:/usr/bin");
        let env = prepare(&["HOME=/h".to_owned()], 0).unwrap();
        assert_eq!(words(&env), ["HOME=/h"]);
        assert_eq!(words(&prepare(&[], 4_000_000).unwrap()), ["HOME=/"]);
        for bad in ["NOEQUALS", "=x", "A=\0"] {
            assert!(prepare(&[bad.to_owned()], 0).is_err(), "{bad:?}");
        }
    }
}
