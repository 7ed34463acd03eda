//! What the API says of a container, held against the kernel and the disk.

use crate::leaks::cgroup_dirs;
use crate::{Daemon, until};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    Kernel,
    Everything,
}

impl Daemon {
    /// Waits until what the API says of a container is so: its record on disk says the same; where it runs, its
    /// process, shim, root and limits are there, frozen or not; where it does not, nothing of that is.
    ///
    /// # Errors
    /// With what is not so.
    pub fn assert_true(&self, name: &str) -> Result<()> {
        self.assert_so(name, Against::Everything)
    }

    /// The same, but for what is on disk: after a write that failed it is what the next daemon puts right.
    ///
    /// # Errors
    /// With what is not so.
    pub fn assert_true_but_for_records(&self, name: &str) -> Result<()> {
        self.assert_so(name, Against::Kernel)
    }

    fn assert_so(&self, name: &str, against: Against) -> Result<()> {
        let mut lie = String::new();
        let looked = until("the API to tell the truth", || {
            match self.held_against_reality(name, against) {
                Ok(()) => return Ok(Some(())),
                Err(error) => lie = format!("{error:#}"),
            }
            Ok(None)
        });
        looked.with_context(|| format!("{name}: {lie}"))
    }

    fn held_against_reality(&self, name: &str, against: Against) -> Result<()> {
        let answer = self.api().call("GET", &format!("/containers/{name}/json"))?;
        if answer.status == 404 {
            return Ok(());
        }
        let told = answer.json();
        let id = told["Id"].as_str().context("an id")?;
        if against == Against::Everything {
            self.is_recorded(id, &told)?;
        }
        match told["State"]["Running"] == true {
            true => self.runs(id, &told),
            false => self.does_not_run(id, &told),
        }
    }

    fn is_recorded(&self, id: &str, told: &Value) -> Result<()> {
        let record = self.data_root().join("containers").join(id).join("config.v2.json");
        let record: Value = serde_json::from_slice(&fs::read(&record)?).context("the record")?;
        for field in ["Running", "Paused", "Restarting", "Dead", "Pid", "ExitCode"] {
            let (api, disk) = (&told["State"][field], &record["State"][field]);
            ensure!(api == disk, "{field} is {api}, on disk {disk}");
        }
        ensure!(told["Name"] == record["Name"], "it is {}, on disk {}", told["Name"], record["Name"]);
        let host = self.data_root().join("containers").join(id).join("hostconfig.json");
        let host: Value = serde_json::from_slice(&fs::read(&host)?).context("the host's record")?;
        ensure!(told["HostConfig"]["Memory"] == host["Memory"], "its limits are others on disk");
        ensure!(
            told["State"]["Running"] == true || !self.run_dir_of(id).exists(),
            "its run directory is there"
        );
        Ok(())
    }

    fn runs(&self, id: &str, told: &Value) -> Result<()> {
        let pid = told["State"]["Pid"].as_i64().context("a pid")?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("its process")?;
        ensure!(groups.contains(id), "process {pid} is in {groups}");
        let shim = fs::read_to_string(self.run_dir_of(id).join("shim.pid")).context("its shim")?;
        let shim = shim.split(' ').next().unwrap_or_default();
        ensure!(Path::new("/proc").join(shim).exists(), "its shim {shim} is gone");
        ensure!(is_mounted(told)?, "its root is not mounted");
        let groups = self.groups(id);
        let frozen = read_first(&groups, &[("freezer.state", "FROZEN"), ("cgroup.freeze", "1")]);
        ensure!(
            frozen == Some(told["State"]["Paused"] == true),
            "frozen: {frozen:?}, paused: {}",
            told["State"]["Paused"]
        );
        let limit = told["HostConfig"]["Memory"].to_string();
        let is_limited = read_first(&groups, &[("memory.limit_in_bytes", &limit), ("memory.max", &limit)]);
        ensure!(limit == "0" || is_limited == Some(true), "its memory is not limited to {limit}");
        Ok(())
    }

    fn does_not_run(&self, id: &str, told: &Value) -> Result<()> {
        ensure!(self.groups(id).is_empty(), "its cgroup is there: {:?}", self.groups(id));
        ensure!(!is_mounted(told)?, "its root is mounted");
        Ok(())
    }

    fn run_dir_of(&self, id: &str) -> PathBuf {
        self.exec_root().join("containers").join(id)
    }

    fn groups(&self, id: &str) -> Vec<PathBuf> {
        cgroup_dirs(&format!("{}/{id}", self.cgroup_parent()))
    }
}

fn is_mounted(told: &Value) -> Result<bool> {
    let merged = told["GraphDriver"]["Data"]["MergedDir"].as_str().context("a root")?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(merged)))
}

/// Whether the first of these files that is in one of these directories holds its text.
fn read_first(directories: &[PathBuf], files: &[(&str, &str)]) -> Option<bool> {
    let mut all = files.iter().flat_map(|file| directories.iter().map(move |dir| (dir, file)));
    all.find_map(|(dir, (name, text))| Some(fs::read_to_string(dir.join(name)).ok()?.trim() == *text))
}
