//! What a daemon may leave behind, and a look for it.

use crate::NetNs;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Everything found that should not be there, one line each.
#[derive(Debug, Default)]
pub struct Leaks(pub Vec<String>);

impl Leaks {
    /// Looks for mounts below `dir`, cgroups below `cgroup_parent` (such as `/wharf-test-1`), and links,
    /// rules and processes of `net`.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn look(dir: &Path, cgroup_parent: &str, net: &NetNs) -> Result<Self> {
        let mut found = Self::default();
        found.mounts(dir)?;
        found.cgroups(cgroup_parent);
        found.processes(net)?;
        found.links(net)?;
        found.rules(net)?;
        Ok(found)
    }

    fn mounts(&mut self, dir: &Path) -> Result<()> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let dir = dir.to_string_lossy();
        // A test may have put the data-root on a file system of its own.
        let data = format!(" {dir}/data ");
        let ours = table.lines().filter(|l| l.contains(&*dir) && !l.contains(&data));
        self.0.extend(ours.map(|l| format!("mount {l}")));
        Ok(())
    }

    fn cgroups(&mut self, parent: &str) {
        for dir in cgroup_dirs(parent) {
            for child in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if child.path().is_dir() {
                    self.0.push(format!("cgroup {}", child.path().display()));
                }
            }
        }
    }

    fn processes(&mut self, net: &NetNs) -> Result<()> {
        let ours = format!("net:[{}]", net.inode()?);
        for pid in pids()? {
            let Ok(theirs) = fs::read_link(format!("/proc/{pid}/ns/net")) else { continue };
            if theirs.to_string_lossy() == ours {
                let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                self.0.push(format!("process {pid} {}", command.trim()));
            }
        }
        Ok(())
    }

    fn links(&mut self, net: &NetNs) -> Result<()> {
        self.0.extend(net.links()?.into_iter().filter(|l| l != "lo").map(|l| format!("link {l}")));
        Ok(())
    }

    fn rules(&mut self, net: &NetNs) -> Result<()> {
        let mut command = std::process::Command::new("nft");
        command.args(["list", "tables"]);
        let out = net.within(|| command.output().context("the package nftables is needed"))?;
        let tables = String::from_utf8_lossy(&out.stdout).into_owned();
        self.0.extend(tables.lines().filter(|l| l.contains("wharf")).map(|l| format!("nftables {l}")));
        Ok(())
    }
}

/// The mounts of each mount namespace that one of these processes, or our own, is in.
pub(crate) fn mount_tables(processes: &[i32]) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut tables = Vec::new();
    let processes = processes.iter().map(ToString::to_string);
    for pid in std::iter::once("self".to_owned()).chain(processes) {
        // Whoever has ended meanwhile has none.
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
        if seen.insert(namespace) {
            tables.extend(fs::read_to_string(format!("/proc/{pid}/mountinfo")));
        }
    }
    tables
}

/// Every process id.
pub(crate) fn pids() -> Result<Vec<i32>> {
    Ok(fs::read_dir("/proc")?.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
}

/// The directories of one cgroup in every hierarchy that has it.
pub(crate) fn cgroup_dirs(path: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let path = path.trim_start_matches('/');
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path().join(path));
    hierarchies.chain([root.join(path)]).filter(|d| d.is_dir()).collect()
}
