//! Control groups, version 1 and 2 behind one type.
//!
//! [`Hierarchies::detect`] finds what this machine has: if any v1 controller is mounted, v1 is used (also in
//! the hybrid layout with an empty v2 beside it), otherwise v2. [`Cgroup`] is one group: a directory in each
//! v1 hierarchy, or one in the v2 tree.
//!
//! Files on disk: the group's own directories below the mounted hierarchies; nothing outside a group's path
//! is written, except `cgroup.subtree_control` of its ancestors on v2 and missing `cpuset` values of new
//! ancestors on v1.
//!
//! Sources: the kernel's admin-guide/cgroup-v1 and cgroup-v2.rst; conversions between Docker's v1 words and
//! v2 as in opencontainers/cgroups (`utils.go`, `fs/`, `fs2/`).

mod detect;
mod devices;
mod file;
mod oom;
mod stats;
mod v1;
mod v2;

pub use oom::OomWatch;
pub use stats::{BlkioEntry, CpuStats, MemoryStats, PidsStats, Stats};
pub use v2::settings as v2_settings;

use crate::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_spec::plan::Resources;

/// One mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers, such as `cpu`, `cpuacct`; a named one is `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
}

/// The control group hierarchies of this machine that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchies {
    /// Version 1: one tree for each set of controllers.
    V1(Vec<Hierarchy>),
    /// Version 2: the mount point of the one tree.
    V2(PathBuf),
}

/// A control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Relative to each hierarchy's root, without a leading slash.
    path: String,
    dirs: Dirs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Dirs {
    V1(Vec<v1::Dir>),
    V2(PathBuf),
}

/// How a process gets into a group.
#[derive(Debug)]
pub enum Join {
    /// v1: the process writes `0` to each of these `tasks` files itself. Moving the calling thread alone
    /// spares the kernel the wait (about 10 ms) that moving a process through `cgroup.procs` costs; a process
    /// with one thread is moved whole by it.
    Tasks(Vec<OwnedFd>),
    /// v2: the directory, for [`crate::process::CloneOptions::into_cgroup`].
    Directory(OwnedFd),
}

impl Join {
    /// The directory to be born in, on v2.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Join::Directory(fd) => Some(fd.as_fd()),
            Join::Tasks(_) => None,
        }
    }

    /// Moves the calling process, which must have one thread, into the group; nothing to do on v2, where it
    /// was born there.
    pub fn enter_v1(&self) -> Result<()> {
        let Join::Tasks(files) = self else { return Ok(()) };
        for file in files {
            rustix::io::write(file, b"0").map(drop).on("write", || crate::mount::describe(file.as_fd()))?;
        }
        Ok(())
    }
}

/// Something that could not be set because this machine does not have it.
pub type Warning = String;

impl Hierarchies {
    /// Looks at this process's mounts.
    pub fn detect() -> Result<Hierarchies> {
        detect::from_mounts(&crate::mount::mountinfo()?)
    }

    /// The group at `path`, which need not exist. `..` and empty paths are refused.
    pub fn group(&self, path: &str) -> Result<Cgroup> {
        let path = detect::checked_path(path)?;
        let dirs = match self {
            Hierarchies::V1(all) => {
                Dirs::V1(all.iter().map(|hierarchy| v1::Dir::new(hierarchy, &path)).collect())
            }
            Hierarchies::V2(root) => Dirs::V2(root.join(&path)),
        };
        Ok(Cgroup { path, dirs })
    }

    /// Makes the group at `path`, with its ancestors. EEXIST when it exists and has processes in it. On v2
    /// the controllers are handed down from the root; what cannot be handed down is a warning.
    pub fn create(&self, path: &str) -> Result<(Cgroup, Vec<Warning>)> {
        let group = self.group(path)?;
        let made = match &group.dirs {
            Dirs::V1(dirs) => v1::create(dirs).map(|()| Vec::new()),
            Dirs::V2(dir) => match self {
                Hierarchies::V2(root) => v2::create(root, dir),
                Hierarchies::V1(_) => Ok(Vec::new()),
            },
        };
        match made {
            Ok(warnings) => Ok((group, warnings)),
            Err(error) => {
                // Half a group is no use; one that has processes is not ours and refuses rmdir.
                let _ = group.rmdir();
                Err(error)
            }
        }
    }

    /// Makes the groups down to `path` and gives each a share of realtime processes, in microseconds; 0 leaves what
    /// there is. On v1 only.
    pub fn share_realtime(&self, path: &str, period: i64, runtime: i64) -> Result<()> {
        match self {
            Hierarchies::V1(all) => v1::share_realtime(all, &detect::checked_path(path)?, period, runtime),
            Hierarchies::V2(_) => Err(Error::malformed("realtime groups", "cgroup v2 has none")),
        }
    }

    /// The group a process is in, as `/proc/<pid>/cgroup` tells it.
    pub fn of_process(&self, pid: i32) -> Result<Cgroup> {
        let file = format!("/proc/{pid}/cgroup");
        let text = std::fs::read_to_string(&file).on("read", || file.clone())?;
        detect::of_process(self, &text).ok_or_else(|| Error::malformed(file, "names no group"))
    }

    /// Which controllers there are, such as `memory`, `cpu`, `pids`.
    pub fn controllers(&self) -> Vec<String> {
        match self {
            Hierarchies::V1(all) => all.iter().flat_map(|hierarchy| hierarchy.controllers.clone()).collect(),
            Hierarchies::V2(root) => {
                let text = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
                text.split_ascii_whitespace().map(str::to_owned).collect()
            }
        }
    }
}

impl Cgroup {
    /// Its path relative to the hierarchies' roots, with a leading slash.
    pub fn path(&self) -> String {
        format!("/{}", self.path)
    }

    /// Groups below it, which exist: for one controller each, or with `None` for all others. A controller that is
    /// not there is an error; on v2 there is one tree and no controller may be named.
    pub fn below(&self, chosen: &[(Option<String>, String)]) -> Result<Cgroup> {
        let all = chosen.iter().find(|(controller, _)| controller.is_none()).map_or("", |(_, path)| path);
        let with = |path: &str| format!("{}/{path}", self.path).trim_end_matches('/').to_owned();
        let dirs = match &self.dirs {
            Dirs::V2(dir) => {
                if let Some((Some(name), _)) = chosen.iter().find(|(controller, _)| controller.is_some()) {
                    return Err(Error::malformed(
                        format!("cgroup controller {name}"),
                        "cgroup v2 has one tree",
                    ));
                }
                Dirs::V2(dir.join(all))
            }
            Dirs::V1(dirs) => {
                let named = chosen.iter().filter_map(|(controller, _)| controller.as_deref());
                if let Some(name) = named.into_iter().find(|name| !dirs.iter().any(|dir| dir.has(name))) {
                    return Err(Error::malformed(format!("unknown controller {name}"), "in SubCgroupPaths"));
                }
                let path_of = |dir: &v1::Dir| {
                    let own = chosen.iter().find(|(name, _)| name.as_ref().is_some_and(|name| dir.has(name)));
                    own.map_or(all, |(_, path)| path)
                };
                Dirs::V1(dirs.iter().map(|dir| dir.joined(path_of(dir))).collect())
            }
        };
        Ok(Cgroup { path: with(all), dirs })
    }

    /// Version 1 or 2.
    pub fn version(&self) -> u8 {
        match self.dirs {
            Dirs::V1(_) => 1,
            Dirs::V2(_) => 2,
        }
    }

    /// The directory that holds a controller's files (`memory`, `cpu`, ...), on v2 the only one.
    pub fn dir(&self, controller: &str) -> Option<&Path> {
        match &self.dirs {
            Dirs::V1(dirs) => dirs.iter().find(|dir| dir.has(controller)).map(|dir| dir.path.as_path()),
            Dirs::V2(dir) => Some(dir),
        }
    }

    /// All its directories with the controllers of each (none named on v2).
    pub fn all_dirs(&self) -> Vec<(Vec<String>, PathBuf)> {
        match &self.dirs {
            Dirs::V1(dirs) => dirs.iter().map(|dir| (dir.controllers.clone(), dir.path.clone())).collect(),
            Dirs::V2(dir) => vec![(Vec::new(), dir.clone())],
        }
    }

    /// Sets limits; what is `None` or empty stays as it is. Controllers and files this machine lacks are
    /// warnings.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<Warning>> {
        match &self.dirs {
            Dirs::V1(dirs) => v1::apply(dirs, resources),
            Dirs::V2(dir) => v2::apply(dir, resources),
        }
    }

    /// Opens what a new process needs to get in.
    pub fn open_join(&self) -> Result<Join> {
        match &self.dirs {
            Dirs::V1(dirs) => v1::open_tasks(dirs).map(Join::Tasks),
            Dirs::V2(dir) => file::open_dir(dir).map(Join::Directory),
        }
    }

    /// Moves a process in from outside (`cgroup.procs`).
    pub fn add(&self, pid: i32) -> Result<()> {
        for (_, dir) in self.all_dirs() {
            file::write(&dir, "cgroup.procs", &pid.to_string())?;
        }
        Ok(())
    }

    /// The processes in the group itself (not in groups below), as this pid namespace numbers them.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let dirs = self.all_dirs();
        let Some((_, dir)) = dirs.iter().find(|(_, dir)| dir.exists()) else { return Ok(Vec::new()) };
        processes_in(dir)
    }

    /// The processes in the group and in all groups below it.
    pub fn all_processes(&self) -> Result<Vec<i32>> {
        let dirs = self.all_dirs();
        let Some((_, dir)) = dirs.iter().find(|(_, dir)| dir.exists()) else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for dir in tree_of(dir) {
            all.extend(processes_in(&dir)?);
        }
        Ok(all)
    }

    /// Signals every process in the group and below, again for those that appeared meanwhile.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        for pid in self.all_processes()? {
            match crate::process::kill(pid, signal) {
                Err(error) if error.is(Errno::SRCH) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Kills every process in the group and below: `cgroup.kill` on v2 (kernel 5.14), else rounds of SIGKILL
    /// until none is left, frozen ones thawed. Returns once the signals are sent; the processes may take a
    /// moment to end.
    pub fn kill_all(&self) -> Result<()> {
        if let Dirs::V2(dir) = &self.dirs
            && file::write(dir, "cgroup.kill", "1").is_ok()
        {
            return Ok(());
        }
        for _ in 0..KILL_ROUNDS {
            self.signal_all(libc::SIGKILL)?;
            // A frozen process of v1 does not die.
            let _ = self.thaw();
            if self.all_processes()?.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Stops every process in the group; returns when all have stopped. Left thawed when that fails.
    pub fn freeze(&self) -> Result<()> {
        let frozen = match &self.dirs {
            Dirs::V1(_) => v1::freeze(self.freezer_dir()?),
            Dirs::V2(dir) => v2::freeze(dir),
        };
        frozen.inspect_err(|_| {
            // The first error is the one to tell.
            let _ = self.thaw();
        })
    }

    /// Lets them run again.
    pub fn thaw(&self) -> Result<()> {
        match &self.dirs {
            Dirs::V1(_) => file::write(self.freezer_dir()?, "freezer.state", "THAWED"),
            Dirs::V2(dir) => file::write(dir, "cgroup.freeze", "0"),
        }
    }

    fn freezer_dir(&self) -> Result<&Path> {
        self.dir("freezer")
            .ok_or_else(|| Error::malformed("cgroup", "this machine has no freezer controller"))
    }

    /// How often the kernel has killed a process of the group for memory.
    pub fn oom_kills(&self) -> Result<u64> {
        oom::kills(self)
    }

    /// Something to wait on that becomes readable when memory runs out.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        oom::watch(self)
    }

    /// What the group uses now. Parts whose controller is missing are zero.
    pub fn stats(&self) -> Result<Stats> {
        match &self.dirs {
            Dirs::V1(_) => stats::read_v1(self),
            Dirs::V2(dir) => stats::read_v2(dir),
        }
    }

    /// Whether it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.all_dirs().iter().any(|(_, dir)| dir.exists())
    }

    /// Kills what is left in it and removes it with all groups below. Processes that are just ending keep it
    /// busy for a moment: tried again for a second, then EBUSY. A group that is gone is fine.
    pub fn remove(&self) -> Result<()> {
        let mut wait = Duration::from_micros(250);
        for _ in 0..REMOVE_TRIES {
            match self.rmdir() {
                Err(error) if error.is(Errno::BUSY) => {}
                other => return other,
            }
            self.kill_all()?;
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(50));
        }
        self.rmdir()
    }

    /// Removes its directories, deepest first; all of them are tried, the first error is told.
    fn rmdir(&self) -> Result<()> {
        let mut result = Ok(());
        for (_, dir) in self.all_dirs() {
            let removed = tree_of(&dir).into_iter().rev().try_for_each(|dir| remove_dir(&dir));
            result = result.and(removed);
        }
        result
    }
}

/// Rounds of SIGKILL; each waits a millisecond.
const KILL_ROUNDS: usize = 100;
/// Tries of rmdir; together a bit more than a second.
const REMOVE_TRIES: usize = 28;

fn remove_dir(dir: &Path) -> Result<()> {
    match rustix::fs::rmdir(dir) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::call("rmdir", dir.display().to_string(), errno)),
    }
}

/// A group's directory and all below it, parents before children. A vanished directory is an empty tree.
fn tree_of(dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(dir) = all.get(next).cloned() {
        next += 1;
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let children = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        all.extend(children.map(|entry| entry.path()));
    }
    all
}

fn processes_in(dir: &Path) -> Result<Vec<i32>> {
    match file::read(dir, "cgroup.procs") {
        Ok(text) => Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect()),
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::NODEV) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
