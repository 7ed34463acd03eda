//! Logs of containers that are removed, kept where the daemon was told to (`--keep-removed-logs`): Wharf's own.
//!
//! Files: `<data-root>/removed-logs/<id>/about.json` and the log's files beside it, moved there when the container is
//! removed. The oldest go when they are too old or all are too large together.

use super::{Container, plan};
use crate::{Config, Error, Result};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use wharf_logs::Format;
use wharf_spec::ContainerId;

/// What is known of a log that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    id: ContainerId,
    name: String,
    driver: String,
    pub(super) tty: bool,
    removed: Timestamp,
}

/// A log that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) about: About,
    dir: PathBuf,
}

impl About {
    pub(super) fn of(container: &Container) -> Self {
        let name = container.name().to_string();
        container.with(|state| Self {
            id: container.id.clone(),
            name,
            driver: state.host.log_config.driver.clone(),
            tty: state.record.config.tty,
            removed: Timestamp::now(),
        })
    }
}

impl Kept {
    /// The log's current file.
    pub(super) fn path(&self) -> PathBuf {
        let path = plan::log_path(&self.about.driver, &self.dir, &self.about.id);
        path.unwrap_or_else(|| self.dir.join("none"))
    }

    pub(super) fn format(&self) -> Format {
        if self.about.driver == "json-file" { Format::Json } else { Format::Local }
    }

    /// The same name may have been given to several: the last removed is meant.
    fn is_meant(&self, id_or_name: &str) -> bool {
        self.about.name == id_or_name.trim_start_matches('/')
            || self.about.id.as_str().starts_with(id_or_name)
    }
}

fn directory(config: &Config) -> PathBuf {
    config.data_root.join("removed-logs")
}

/// Moves a container's log out of its directory, if logs are kept. Blocks.
pub(super) fn keep(config: &Config, about: &About, container_dir: &Path) {
    if config.keep_removed_logs == 0 {
        return;
    }
    if let Err(error) = try_keep(config, about, container_dir) {
        tracing::warn!(container = %about.id, %error, "its log is not kept");
    }
    prune(config);
}

fn try_keep(config: &Config, about: &About, container_dir: &Path) -> io::Result<()> {
    let Some(log) = plan::log_path(&about.driver, container_dir, &about.id) else { return Ok(()) };
    let (Some(from), Some(name)) = (log.parent(), log.file_name()) else { return Ok(()) };
    let dir = directory(config).join(about.id.as_str());
    let to = dir.join(from.strip_prefix(container_dir).unwrap_or(Path::new("")));
    fs::create_dir_all(&to)?;
    fs::write(dir.join("about.json"), serde_json::to_vec(about)?)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes()) {
            fs::rename(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The log of a removed container, by id, a part of it, or name. Blocks.
///
/// # Errors
/// `No such container: ...`.
pub(super) fn find(config: &Config, id_or_name: &str) -> Result<Kept> {
    let kept = all(config).into_iter().rev().find(|kept| kept.is_meant(id_or_name));
    kept.filter(|_| !id_or_name.is_empty()).ok_or_else(|| Error::NoSuchContainer(id_or_name.to_owned()))
}

/// Removes what is too old or too much. Blocks.
pub(super) fn prune(config: &Config) {
    let days = i64::from(config.keep_removed_logs_days);
    let oldest = Timestamp::now().checked_sub((days * 24).hours()).unwrap_or(Timestamp::MIN);
    let mut left = config.keep_removed_logs;
    for kept in all(config).into_iter().rev() {
        let size = size_of(&kept.dir);
        if kept.about.removed >= oldest && size <= left {
            left -= size;
        } else if let Err(error) = fs::remove_dir_all(&kept.dir) {
            tracing::warn!(path = %kept.dir.display(), %error, "log of a removed container stays");
        }
    }
}

/// All, the oldest first. What is none is left alone.
fn all(config: &Config) -> Vec<Kept> {
    let entries = fs::read_dir(directory(config)).into_iter().flatten().flatten();
    let read = |dir: PathBuf| {
        let about = serde_json::from_slice(&fs::read(dir.join("about.json")).ok()?).ok()?;
        Some(Kept { about, dir })
    };
    let mut all: Vec<Kept> = entries.filter_map(|entry| read(entry.path())).collect();
    all.sort_by_key(|kept| kept.about.removed);
    all
}

fn size_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            _ => entry.metadata().map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_within_size_and_age() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            data_root: dir.path().into(),
            keep_removed_logs: 2500,
            keep_removed_logs_days: 1,
            ..Config::default()
        };
        let about = |n: u8, hours: i64| About {
            id: ContainerId::from_random([n; 32]),
            name: "web".into(),
            driver: "local".into(),
            tty: false,
            removed: Timestamp::now() - hours.hours(),
        };
        for (n, hours) in [(1, 30), (2, 3), (3, 2), (4, 1)] {
            let about = about(n, hours);
            let from = dir.path().join(format!("c{n}"));
            fs::create_dir_all(from.join("local-logs")).unwrap();
            fs::write(from.join("local-logs/container.log"), [n; 600]).unwrap();
            fs::write(from.join("local-logs/container.log.1.gz"), [n; 200]).unwrap();
            keep(&config, &about, &from);
        }
        // The first is too old, the second too much.
        assert_eq!(all(&config).len(), 2);
        let kept = find(&config, "web").unwrap();
        assert_eq!(
            (kept.about.id.clone(), kept.format()),
            (ContainerId::from_random([4; 32]), Format::Local)
        );
        assert_eq!(fs::read(kept.path()).unwrap(), [4; 600]);
        let third = ContainerId::from_random([3; 32]);
        assert_eq!(find(&config, &third.as_str()[..12]).unwrap().about.id, third);
        assert_eq!(find(&config, "nosuch").unwrap_err().to_string(), "No such container: nosuch");
        config.keep_removed_logs = 0;
        prune(&config);
        assert!(all(&config).is_empty());
    }
}
