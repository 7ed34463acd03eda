//! What a running daemon has of the machine: to see that it is the same before and after.

use crate::leaks::{cgroup_dirs, mount_tables, pids};
use crate::{Daemon, Inventory, until};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Mounts in every namespace, interfaces, rules, processes, cgroups, the daemon's descriptors, files of both roots:
/// how many of each kind, whatever their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footprint(BTreeMap<String, usize>);

impl Footprint {
    /// Looks.
    ///
    /// # Errors
    /// When /proc cannot be read, or the daemon does not run.
    pub fn of(daemon: &Daemon) -> Result<Self> {
        let mut found = Self::default();
        let processes = processes(daemon)?;
        found.mounts(daemon.dir(), &processes);
        for dir in cgroup_dirs(daemon.cgroup_parent()) {
            found.files("cgroup", &dir, |path| path.is_dir());
        }
        found.files("file", &daemon.exec_root(), |_| true);
        found.files("file", &daemon.data_root().join("wharf"), |_| true);
        for (directory, count) in Inventory::of(daemon)?.counts() {
            found.add(format!("files in data/{directory}"), count);
        }
        for pid in &processes {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.add(format!("process {}", name.trim()), 1);
        }
        found.network(daemon)?;
        found.descriptors(daemon.pid())?;
        Ok(found)
    }

    /// The same, when it has come to rest: a daemon does things in the background.
    ///
    /// # Errors
    /// As [`Self::of`], or when it does not come to rest.
    pub fn at_rest(daemon: &Daemon) -> Result<Self> {
        let (mut last, mut same) = (Self::of(daemon)?, 0);
        until("a daemon at rest", || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let now = Self::of(daemon)?;
            same = if now == last { same + 1 } else { 0 };
            last = now;
            Ok((same > 5).then_some(()))
        })?;
        Ok(last)
    }

    /// Waits until there is no more than this of anything.
    ///
    /// # Errors
    /// With what is too much.
    pub fn comes_back(&self, daemon: &Daemon) -> Result<()> {
        let mut left = Vec::new();
        until("everything to be given back", || {
            left = Self::of(daemon)?.beyond(self);
            Ok(left.is_empty().then_some(()))
        })
        .with_context(|| format!("left behind: {left:#?}"))
    }

    fn beyond(&self, before: &Self) -> Vec<String> {
        let more = self.0.iter().filter_map(|(kind, count)| {
            let had = before.0.get(kind).copied().unwrap_or_default();
            (*count > had).then(|| format!("{kind}: {count} instead of {had}"))
        });
        more.collect()
    }

    fn add(&mut self, kind: String, count: usize) {
        if count > 0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    fn mounts(&mut self, dir: &Path, processes: &[i32]) {
        let dir = dir.to_string_lossy();
        for table in mount_tables(processes) {
            for line in table.lines().filter(|line| line.contains(&*dir)) {
                let point = line.split(' ').nth(4).unwrap_or_default();
                self.add(format!("mount {}", without_ids(point)), 1);
            }
        }
    }

    fn files(&mut self, kind: &str, dir: &Path, wanted: fn(&Path) -> bool) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if wanted(&path) {
                self.add(format!("{kind} {}", without_ids(&path.to_string_lossy())), 1);
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.files(kind, &path, wanted);
            }
        }
    }

    fn network(&mut self, daemon: &Daemon) -> Result<()> {
        for link in daemon.net().links()? {
            let kind = if link.starts_with("veth") { "veth" } else { &link };
            self.add(format!("interface {kind}"), 1);
        }
        let mut command = Command::new("nft");
        command.args(["list", "ruleset"]);
        let out = daemon.net().within(|| command.output().context("the package nftables is needed"))?;
        // Elements of a set or map are on few lines.
        let rules = String::from_utf8_lossy(&out.stdout).replace(',', "\n");
        rules.lines().for_each(|rule| self.add(format!("rule {}", without_ids(rule.trim())), 1));
        Ok(())
    }

    fn descriptors(&mut self, pid: u32) -> Result<()> {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            // A namespace that an earlier daemon made is known by its file.
            let is_namespace = target.parent().is_some_and(|dir| dir.ends_with("exec/netns"));
            let kind = if is_namespace { "net:[*]".into() } else { without_ids(&target.to_string_lossy()) };
            self.add(format!("descriptor {kind}"), 1);
        }
        Ok(())
    }
}

/// Those in its network namespace, and those in its containers' cgroups.
fn processes(daemon: &Daemon) -> Result<Vec<i32>> {
    let net = format!("net:[{}]", daemon.net().inode()?);
    let groups = format!(":{}/", daemon.cgroup_parent());
    let is_its = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link.as_os_str() == &*net)
            || fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(&groups))
    };
    Ok(pids()?.into_iter().filter(is_its).collect())
}

/// Long hexadecimal words and numbers are ids.
fn without_ids(text: &str) -> String {
    let mut all = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_number = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
        let is_id = bare.len() >= 8 && bare.bytes().all(|b| b.is_ascii_hexdigit());
        match is_number || is_id || bare.starts_with("veth") || is_link(bare) {
            true => all += &word.replacen(bare, "*", 1),
            false => all += word,
        }
    }
    all
}

/// The names of links in `overlay2/l`.
fn is_link(word: &str) -> bool {
    word.len() == 26 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_left_out() {
        assert_eq!(without_ids("/a/0123456789abcdef-removing/shim.sock"), "/a/*-removing/shim.sock");
        assert_eq!(without_ids("socket:[4711]"), "socket:[*]");
        assert_eq!(without_ids("iifname vethabc123 accept"), "iifname * accept");
    }

    #[test]
    fn only_more_is_a_leak() {
        let of = |list: &[(&str, usize)]| Footprint(list.iter().map(|(k, n)| ((*k).into(), *n)).collect());
        let (before, after) = (of(&[("a", 1), ("b", 2)]), of(&[("b", 3), ("c", 1)]));
        assert_eq!(after.beyond(&before), ["b: 3 instead of 2", "c: 1 instead of 0"]);
        assert!(before.beyond(&before).is_empty());
    }
}
