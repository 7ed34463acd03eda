//! The file with the daemon's process id, and the lock on the data-root
//! (source: moby `pkg/pidfile`).

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Why there can be no daemon here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another daemon has the file.
    #[error(
        "failed to start daemon, ensure docker is not running or delete {}: process with PID {pid} is still running",
        path.display()
    )]
    Running {
        /// The file.
        path: PathBuf,
        /// The other daemon.
        pid: u32,
    },
    /// Another daemon has the data-root.
    #[error("failed to start daemon, the data-root {} is in use by another daemon", .0.display())]
    DataRoot(PathBuf),
    /// A file cannot be worked with.
    #[error("{step} {}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The pid file; removed with this value.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file, unless another process that lives is in it.
    ///
    /// # Errors
    /// [`Error::Running`], or when the file cannot be written.
    pub(crate) fn write(path: &Path) -> Result<Self, Error> {
        let fail = |step| move |source| Error::Io { step, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(fail("make directory of"))?;
        }
        let known = fs::read_to_string(path).unwrap_or_default().trim().parse::<u32>();
        match known {
            Ok(pid) if pid != std::process::id() && is_alive(pid) => {
                return Err(Error::Running { path: path.to_owned(), pid });
            }
            _ => {}
        }
        fs::write(path, std::process::id().to_string()).map_err(fail("write"))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a process of this number runs; a zombie does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The lock on a data-root; held as long as this value.
#[derive(Debug)]
pub(crate) struct RootLock {
    _file: File,
}

impl RootLock {
    /// Locks `<data-root>/wharf.lock`.
    ///
    /// # Errors
    /// [`Error::DataRoot`] when another daemon holds it, whatever its pid file.
    pub(crate) fn take(data_root: &Path) -> Result<Self, Error> {
        let path = data_root.join("wharf.lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|source| Error::Io { step: "open", path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::DataRoot(data_root.to_owned())),
            Err(TryLockError::Error(source)) => Err(Error::Io { step: "lock", path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/d.pid");
        for stale in ["", "nonsense", "4194999"] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, stale).unwrap();
            let file = PidFile::write(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
            drop(file);
            assert!(!path.exists());
        }
        fs::write(&path, "1\n").unwrap();
        let message = PidFile::write(&path).unwrap_err().to_string();
        assert!(message.ends_with("process with PID 1 is still running"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_root_has_one_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RootLock::take(dir.path()).unwrap();
        assert!(matches!(RootLock::take(dir.path()), Err(Error::DataRoot(_))));
        drop(lock);
        RootLock::take(dir.path()).unwrap();
    }
}
