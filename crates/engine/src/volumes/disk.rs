//! Volumes on disk.

use super::filling;
use crate::{Error, Result, containers::record::write_file};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, os::unix::fs::DirBuilderExt, path::Path};
use wharf_api::{StringMap, time::Time};

/// A volume found on disk.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) options: Option<StringMap>,
    pub(super) created: Time,
}

/// `opts.json` (source: moby `daemon/volume/local/local_unix.go`, optsConfig).
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OptionsFile {
    mount_type: String,
    mount_opts: String,
    mount_device: String,
    quota: Quota,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Quota {
    size: u64,
}

/// Every volume of a directory. Blocks.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn read_all(dir: &Path) -> Result<BTreeMap<String, Found>> {
    let io = |source| Error::Io { step: "read", path: dir.into(), source };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (path, Ok(name)) = (entry.path(), entry.file_name().into_string()) else { continue };
        if !path.join("_data").is_dir() && !path.join("opts.json").is_file() {
            continue;
        }
        if let Err(error) = filling::settle(&path.join("_data")) {
            tracing::warn!(volume = name, %error, "what a crash left of filling a volume stays");
        }
        let created = entry.metadata().and_then(|m| m.modified()).ok();
        let created = created.and_then(|t| jiff::Timestamp::try_from(t).ok()).map_or(Time::ZERO, Time);
        found.insert(name, Found { options: read_options(&path.join("opts.json")), created });
    }
    Ok(found)
}

fn read_options(path: &Path) -> Option<StringMap> {
    let file: OptionsFile = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let mut options = StringMap::new();
    for (key, value) in [("type", file.mount_type), ("o", file.mount_opts), ("device", file.mount_device)] {
        if !value.is_empty() {
            options.insert(key.into(), value);
        }
    }
    if file.quota.size > 0 {
        options.insert("size".into(), file.quota.size.to_string());
    }
    Some(options)
}

/// Makes a volume's directories and options; its data belongs to `owner`. Blocks.
///
/// # Errors
/// When they cannot be made; what was made is removed again.
pub(super) fn make(dir: &Path, options: Option<&StringMap>, owner: Option<(u32, u32)>) -> Result<()> {
    let made = try_make(dir, options, owner);
    if made.is_err() {
        // A leftover without `_data` is no volume.
        fs::remove_dir_all(dir).ok();
    }
    made
}

fn try_make(dir: &Path, options: Option<&StringMap>, owner: Option<(u32, u32)>) -> Result<()> {
    let mkdir = |path: &Path, mode| {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.map_err(|source| Error::Io { step: "make volume", path: path.into(), source })
    };
    mkdir(dir, 0o701)?;
    let data = dir.join("_data");
    mkdir(&data, 0o755)?;
    if let Some((uid, gid)) = owner {
        let chowned = std::os::unix::fs::chown(&data, Some(uid), Some(gid));
        chowned.map_err(|source| Error::Io { step: "chown volume", path: data, source })?;
    }
    let Some(options) = options.filter(|o| !o.is_empty()) else { return Ok(()) };
    let get = |key: &str| options.get(key).cloned().unwrap_or_default();
    let file = OptionsFile {
        mount_type: get("type"),
        mount_opts: get("o"),
        mount_device: get("device"),
        quota: Quota::default(),
    };
    let json =
        serde_json::to_vec(&file).map_err(|source| Error::Encode { what: "options of a volume", source })?;
    write_file(&dir.join("opts.json"), &json, 0o600)
}

/// Removes a volume's directory. Blocks.
///
/// # Errors
/// When something in it cannot be removed.
pub(super) fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { step: "remove volume", path: dir.into(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_survive_the_disk() {
        let dir = std::env::temp_dir().join(format!("wharf-volumes-{}", std::process::id()));
        let options: StringMap = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        make(&dir.join("plain"), None, None).unwrap();
        make(&dir.join("tmp"), Some(&options), None).unwrap();
        fs::create_dir(dir.join("nothing")).unwrap();
        let found = read_all(&dir).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["plain", "tmp"]);
        assert_eq!(found["plain"].options, None);
        assert_eq!(found["tmp"].options, Some(options));
        remove(&dir.join("tmp")).unwrap();
        remove(&dir.join("tmp")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
