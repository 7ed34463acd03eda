//! Which OCI runtime makes a container: Wharf's own, or a program of the host by the name it was given with
//! `--add-runtime`.

use crate::{Config, Error, Result, config::CgroupDriver};
use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use wharf_spec::plan::ExternalRuntime;

/// Names of the runtime that needs no adding; both are Wharf's own.
const BUILT_IN: [&str; 2] = ["runc", "io.containerd.runc.v2"];

/// Whether a name means the runtime that needs no adding.
pub(crate) fn is_built_in(name: &str) -> bool {
    BUILT_IN.contains(&name)
}

/// Refuses names that nobody has given to a runtime. Unlike Docker with its containerd, Wharf starts no
/// program just because its name is well-formed (source: moby `daemon/runtime_unix.go`, Get).
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(crate) fn check_runtime(engine: &Config, name: &str) -> Result<()> {
    if is_built_in(name) || name.is_empty() || engine.live.get().runtimes.contains_key(name) {
        return Ok(());
    }
    Err(Error::Invalid(format!("unknown or invalid runtime name: {name}")))
}

/// The runtime of a container that starts; `None` for Wharf's own.
///
/// # Errors
/// As [`check_runtime`]: the daemon may have been told of other runtimes when the container was created. When
/// the program is in no directory of `PATH`.
pub(super) fn runtime(engine: &Config, name: &str, run_dir: &Path) -> Result<Option<ExternalRuntime>> {
    check_runtime(engine, name)?;
    let live = engine.live.get();
    let Some(runtime) = live.runtimes.get(name) else { return Ok(None) };
    let search = std::env::var_os("PATH").unwrap_or_default();
    let path = find(&runtime.path, &search).ok_or_else(|| not_found(&runtime.path, run_dir))?;
    Ok(Some(ExternalRuntime {
        path: path.to_string_lossy().into_owned(),
        args: match engine.cgroup_driver {
            CgroupDriver::Cgroupfs => runtime.args.clone(),
            CgroupDriver::Systemd => [&runtime.args[..], &["--systemd-cgroup".to_owned()]].concat(),
        },
        // Nobody else's business, and gone with the run directory whatever happens.
        root: run_dir.join("runtime").to_string_lossy().into_owned(),
        env: vec![format!("PATH={}", search.to_string_lossy())],
    }))
}

/// A path is taken as it is: whether there is something to run shows when it is run.
pub(super) fn find(program: &Path, search: &OsStr) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return std::path::absolute(program).ok();
    }
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(search).map(|dir| dir.join(program)).find(is_program)
}

/// In the words of Docker with containerd, whose shim looks for the runtime's log and finds none.
fn not_found(program: &Path, run_dir: &Path) -> Error {
    let log = run_dir.join("log.json");
    Error::Start {
        code: 127,
        message: format!(
            "failed to create shim task: OCI runtime create failed: unable to retrieve OCI runtime error (open {}: no such file or directory): exec: {:?}: executable file not found in $PATH: unknown",
            log.display(),
            program.display().to_string(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Reloadable, Runtime};

    fn chosen(path: &str, name: &str) -> Result<Option<ExternalRuntime>> {
        let added = Runtime { path: path.into(), args: vec!["--debug".into()] };
        let live = Reloadable { runtimes: [("x".to_owned(), added)].into(), ..Reloadable::default() };
        let engine = Config { live: live.into(), ..Config::default() };
        runtime(&engine, name, Path::new("/run/c"))
    }

    #[test]
    fn names_choose() {
        for built_in in ["", "runc", "io.containerd.runc.v2"] {
            assert_eq!(chosen("sh", built_in).unwrap(), None);
        }
        let external = chosen("sh", "x").unwrap().unwrap();
        assert!(external.path.starts_with('/') && external.path.ends_with("/sh"), "{}", external.path);
        assert_eq!((external.args, external.root.as_str()), (vec!["--debug".to_owned()], "/run/c/runtime"));
        assert_eq!(chosen("/no/such", "x").unwrap().unwrap().path, "/no/such");
        for unknown in ["/usr/bin/crun", "io.containerd.other.v1"] {
            let wanted = format!("unknown or invalid runtime name: {unknown}");
            assert_eq!(chosen("sh", unknown).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn a_missing_program_is_told_as_docker_does() {
        let Err(Error::Start { code, message }) = chosen("no-such-runtime", "x") else { panic!() };
        assert_eq!(code, 127);
        let end = "exec: \"no-such-runtime\": executable file not found in $PATH: unknown";
        assert!(message.ends_with(end), "{message}");
    }
}
