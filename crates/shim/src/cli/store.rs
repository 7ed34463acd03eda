//! What is known of containers between two invocations: a directory each below the root.
//!
//! `state.json` is replaced as a whole and read without a lock: hooks ask for the state while `create` still
//! holds the lock. Commands that change a container hold a record lock (fcntl(2)) on `lock` beside it: other
//! than a flock(2) it does not pass to the container's process, which is forked while it is held.

use super::error::{CliError, CliResult};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use wharf_runtime::oci;
use wharf_spec::plan::Plan;
use wharf_sys::cgroup::{Cgroup, Hierarchies};
use wharf_sys::process;

const STATE: &str = "state.json";
const LOCK: &str = "lock";
/// A created container's process waits at this fifo.
const GATE: &str = "exec.fifo";

/// The state directory of all containers.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
    /// Nobody has named it.
    is_default: bool,
}

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// Of this file's form.
    pub(super) version: u32,
    /// RFC 3339, with nanoseconds.
    pub(super) created: String,
    /// Root file system, for people.
    pub(super) rootfs: String,
    /// The main process as the host sees it.
    pub(super) pid: i32,
    /// When it started: pid and start time together are one process only.
    pub(super) start_time: u64,
    /// What it was made from.
    pub(super) plan: Plan,
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container that there is.
#[derive(Debug)]
pub(super) struct Container {
    dir: PathBuf,
    pub(super) id: String,
    pub(super) record: Record,
}

/// Held while a command works on a container alone.
#[derive(Debug)]
pub(super) struct Locked {
    _file: OwnedFd,
}

/// A directory made for a container that is about to be; gone again when dropped before [`Nascent::keep`].
#[derive(Debug)]
pub(super) struct Nascent {
    dir: PathBuf,
    kept: bool,
    _lock: Locked,
}

impl Store {
    /// One that the caller has named.
    pub(super) fn at(root: PathBuf) -> Self {
        Self { root, is_default: false }
    }

    /// One that nobody has named.
    pub(super) fn default_at(root: PathBuf) -> Self {
        Self { root, is_default: true }
    }

    /// Takes a name for a new container.
    pub(super) fn reserve(&self, id: &str) -> CliResult<Nascent> {
        check_id(id)?;
        let mut private = std::fs::DirBuilder::new();
        let made = private.recursive(true).mode(0o700).create(&self.root);
        made.map_err(|source| CliError::io(format!("mkdir {}", self.root.display()), source))?;
        let dir = self.root.join(id);
        match std::fs::DirBuilder::new().mode(0o711).create(&dir) {
            Ok(()) => Ok(Nascent { kept: false, _lock: lock(&dir)?, dir }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(CliError::Exists),
            Err(source) => Err(CliError::io(format!("mkdir {}", dir.display()), source)),
        }
    }

    /// Looks a container up.
    pub(super) fn load(&self, id: &str) -> CliResult<Container> {
        check_id(id)?;
        let dir = self.root.join(id);
        let path = dir.join(STATE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(CliError::NotExist),
            Err(source) => return Err(CliError::io(format!("open {}", path.display()), source)),
        };
        let record = serde_json::from_slice(&bytes)
            .map_err(|error| CliError::text(format!("{}: {error}", path.display())))?;
        Ok(Container { dir, id: id.to_owned(), record })
    }

    /// Every container's id, sorted. The default root need not be there yet (source: runc `list.go`).
    pub(super) fn ids(&self) -> CliResult<Vec<String>> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && self.is_default => return Ok(Vec::new()),
            Err(source) => return Err(CliError::io(format!("open {}", self.root.display()), source)),
        };
        let mut ids: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes what a `create` that was killed has left: a directory without a state.
    pub(super) fn remove_leftover(&self, id: &str) -> CliResult<()> {
        check_id(id)?;
        let dir = self.root.join(id);
        if dir.join(STATE).exists() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(CliError::io(format!("remove {}", dir.display()), error))
            }
            _ => Ok(()),
        }
    }
}

impl Nascent {
    /// Where its gate is to be made.
    pub(super) fn gate(&self) -> PathBuf {
        self.dir.join(GATE)
    }

    /// The container is there from now on.
    pub(super) fn keep(&mut self, record: &Record) -> CliResult<()> {
        write(&self.dir, record)?;
        self.kept = true;
        Ok(())
    }

    /// It is not, after all.
    pub(super) fn abandon(&mut self) {
        self.kept = false;
    }
}

impl Drop for Nascent {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing more can be done; the next `delete` tries again.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Container {
    /// Works on it alone from now on; waits for others.
    pub(super) fn lock(&self) -> CliResult<Locked> {
        lock(&self.dir)
    }

    /// Of its directory.
    pub(super) fn dir_metadata(&self) -> CliResult<std::fs::Metadata> {
        std::fs::metadata(&self.dir)
            .map_err(|source| CliError::io(format!("stat {}", self.dir.display()), source))
    }

    /// Where its process waits when it is created and not started.
    pub(super) fn gate(&self) -> PathBuf {
        self.dir.join(GATE)
    }

    /// Its control group, which need not exist any more.
    pub(super) fn cgroup(&self) -> CliResult<Cgroup> {
        Ok(Hierarchies::detect()?.group(&self.record.plan.cgroup.path)?)
    }

    /// Whether the main process is there: not ended, not a zombie, not another one with the same number.
    pub(super) fn is_alive(&self) -> bool {
        let (pid, started) = (self.record.pid, self.record.start_time);
        pid > 0 && process::start_time(pid).is_ok_and(|time| time == started) && !is_zombie(pid)
    }

    pub(super) fn status(&self) -> CliResult<Status> {
        if !self.is_alive() {
            return Ok(Status::Stopped);
        }
        if self.gate().exists() {
            return Ok(Status::Created);
        }
        Ok(if is_frozen(&self.cgroup()?) { Status::Paused } else { Status::Running })
    }

    /// The state document.
    pub(super) fn state(&self) -> CliResult<oci::State> {
        let status = self.status()?;
        let pid = if status == Status::Stopped { 0 } else { self.record.pid };
        let mut state = oci::State::new(&self.id, status.word(), pid, &self.record.plan.bundle);
        state.annotations = self.record.plan.annotations.iter().cloned().collect();
        Ok(state)
    }

    /// Replaces `state.json`.
    pub(super) fn save(&self) -> CliResult<()> {
        write(&self.dir, &self.record)
    }

    /// Removes the directory.
    pub(super) fn forget(&self) -> CliResult<()> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(CliError::io("unable to remove container state dir", error))
            }
            _ => Ok(()),
        }
    }
}

fn write(dir: &Path, record: &Record) -> CliResult<()> {
    let json = serde_json::to_vec(record).map_err(|error| CliError::text(error.to_string()))?;
    Ok(wharf_sys::fs::replace_file(&dir.join(STATE), &json, Mode::from_raw_mode(0o600))?)
}

fn lock(dir: &Path) -> CliResult<Locked> {
    let path = dir.join(LOCK);
    let failed = |errno: Errno| CliError::io(format!("lock {}", path.display()), errno.into());
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|errno| match errno {
        Errno::NOENT => CliError::NotExist,
        other => failed(other),
    })?;
    rustix::io::retry_on_intr(|| rustix::fs::fcntl_lock(&file, FlockOperation::LockExclusive))
        .map_err(failed)?;
    Ok(Locked { _file: file })
}

/// What runc takes as an id: letters, digits, `_+-.`, and no name with a meaning for the file system.
fn check_id(id: &str) -> CliResult<()> {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_+-.".contains(&c);
    if id.is_empty() || !id.bytes().all(good) || id == "." || id == ".." {
        return Err(CliError::InvalidId);
    }
    Ok(())
}

fn is_zombie(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// Whether a group is stopped (`pause`): `freezer.state` on v1, `cgroup.freeze` on v2.
fn is_frozen(group: &Cgroup) -> bool {
    let Some(dir) = group.dir("freezer") else { return false };
    let file = if group.version() == 1 { "freezer.state" } else { "cgroup.freeze" };
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    matches!(text.trim(), "FROZEN" | "FREEZING" | "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_runc() {
        for good in ["a", "0", "a_b+c-d.e", "...", "A"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "../x"] {
            assert!(matches!(check_id(bad), Err(CliError::InvalidId)), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_taken_once_and_free_when_creation_fails() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::at(root.path().join("deep/root"));
        let first = store.reserve("c1").unwrap();
        assert!(matches!(store.reserve("c1"), Err(CliError::Exists)));
        assert!(matches!(store.load("c1"), Err(CliError::NotExist)), "not there before it is kept");
        drop(first);
        assert!(store.ids().unwrap().is_empty());
        let again = store.reserve("c1").unwrap();
        assert_eq!(store.ids().unwrap(), ["c1"]);
        drop(again);
        assert!(matches!(store.load("../c1"), Err(CliError::InvalidId)));
    }

    #[test]
    fn an_ended_process_is_a_zombie_until_it_is_reaped() {
        let mut child = std::process::Command::new("/bin/busybox").arg("true").spawn().unwrap();
        let pidfd = process::pidfd_open(child.id() as i32).unwrap();
        wharf_sys::event::wait_readable(&pidfd, None).unwrap();
        assert!(is_zombie(child.id() as i32));
        child.wait().unwrap();
        assert!(is_zombie(child.id() as i32), "gone is no better");
        assert!(!is_zombie(std::process::id() as i32));
    }
}
