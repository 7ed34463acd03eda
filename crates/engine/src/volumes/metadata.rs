//! `volumes/metadata.db`: what Docker notes of volumes (source: moby `daemon/volume/service/db.go`).
//!
//! One bucket, `volumes`; a key is a volume's name, a value JSON with `Name`, `Driver`, `Labels` and `Options`.

use super::driver::LOCAL;
use crate::{Result, database::Database};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};
use wharf_api::StringMap;
use wharf_spec::to_go_json;
use wharf_store::bolt::{Bucket, Entry};

const BUCKET: &str = "volumes";
const FILE: &str = "metadata.db";
const MODE: u32 = 0o600;
/// Where builds before 0.1 kept labels.
const EARLIER: &str = "metadata.json";

/// The open file.
pub(super) struct Metadata(Database);

/// What is noted of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Empty is `local`.
    pub(super) driver: String,
    pub(super) labels: Option<StringMap>,
    pub(super) options: Option<StringMap>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Record {
    name: String,
    driver: String,
    labels: Option<StringMap>,
    options: Option<StringMap>,
}

impl Metadata {
    /// Opens the file of a directory of volumes; gives what is noted. Blocks.
    pub(super) fn open(dir: &Path) -> Result<(Self, BTreeMap<String, Noted>)> {
        let (database, root) = Database::open(&dir.join(FILE), MODE)?;
        let mut noted = earlier_builds(&dir.join(EARLIER));
        for (name, value) in root.bucket(BUCKET).into_iter().flat_map(Bucket::values) {
            match serde_json::from_slice::<Record>(value) {
                Ok(Record { driver, labels, options, .. }) => {
                    noted.insert(name.into(), Noted { driver, labels, options });
                }
                Err(error) => tracing::error!(volume = name, %error, "labels of a volume cannot be read"),
            }
        }
        let metadata = Self(database);
        if dir.join(EARLIER).exists() {
            metadata.save(|| noted.clone())?;
            metadata.sync()?;
            // One that stays is read again, and changes nothing.
            let _ = std::fs::remove_file(dir.join(EARLIER));
        }
        Ok((metadata, noted))
    }

    /// Writes what `noted` says when the file's turn has come. Blocks.
    pub(super) fn save(&self, noted: impl FnOnce() -> BTreeMap<String, Noted>) -> Result<()> {
        self.0.change(|root| update(root.bucket_mut(BUCKET), &noted()))
    }

    /// Waits until it is on the disk. Blocks.
    pub(super) fn sync(&self) -> Result<()> {
        self.0.sync()
    }

    /// Lets another daemon have the file. Blocks.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

fn update(bucket: &mut Bucket, noted: &BTreeMap<String, Noted>) {
    let read = |entry: &Entry| match entry {
        Entry::Value(value) => serde_json::from_slice::<Record>(value).ok(),
        Entry::Bucket(_) => None,
    };
    bucket.entries.retain(|name, entry| {
        let known = std::str::from_utf8(name).is_ok_and(|name| noted.contains_key(name));
        // What cannot be read is somebody's nevertheless.
        known || read(entry).is_none()
    });
    for (name, noted) in noted {
        let record = Record {
            name: name.clone(),
            // Docker wrote no driver before it had others.
            driver: if noted.driver.is_empty() { LOCAL.into() } else { noted.driver.clone() },
            labels: noted.labels.clone(),
            options: noted.options.clone(),
        };
        let same = bucket.entries.get(name.as_bytes()).and_then(read).is_some_and(|old| old == record);
        if !same {
            let json = to_go_json(&record);
            bucket.entries.insert(name.clone().into_bytes(), Entry::Value(json));
        }
    }
}

fn earlier_builds(path: &Path) -> BTreeMap<String, Noted> {
    let Ok(bytes) = std::fs::read(path) else { return BTreeMap::new() };
    let labels: BTreeMap<String, Option<StringMap>> =
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "labels of volumes cannot be read");
            BTreeMap::new()
        });
    let noted = |(name, labels)| (name, Noted { labels, ..Noted::default() });
    labels.into_iter().map(noted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(key: &str) -> Option<StringMap> {
        Some([(key.to_owned(), "<1>".to_owned())].into())
    }

    #[test]
    fn what_is_noted_survives_with_what_others_wrote_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(EARLIER), r#"{"old":{"a":"<1>"},"none":null}"#).unwrap();
        let (metadata, noted) = Metadata::open(dir.path()).unwrap();
        assert_eq!(noted["old"].labels, labels("a"));
        assert!(!dir.path().join(EARLIER).exists());
        assert!(Metadata::open(dir.path()).is_err(), "one daemon at a time");
        metadata
            .0
            .change(|root| {
                let plugin = r#"{"Name":"far","Driver":"nfs","Labels":null,"Options":null,"New":1}"#;
                let bucket = root.bucket_mut(BUCKET);
                bucket.entries.insert(b"far".to_vec(), Entry::Value(plugin.into()));
                let kept = r#"{"Name":"kept","Driver":"local","Labels":null,"Options":null,"New":1}"#;
                bucket.entries.insert(b"kept".to_vec(), Entry::Value(kept.into()));
            })
            .unwrap();
        let options = labels("o");
        let new = [
            ("new".to_owned(), Noted { driver: LOCAL.into(), labels: labels("b"), options: options.clone() }),
            ("kept".to_owned(), Noted::default()),
            ("far".to_owned(), Noted { driver: "nfs".into(), ..Noted::default() }),
        ];
        metadata.save(|| new.into()).unwrap();
        metadata.close();
        let (again, noted) = Metadata::open(dir.path()).unwrap();
        assert_eq!(noted.keys().collect::<Vec<_>>(), ["far", "kept", "new"]);
        assert_eq!(noted["new"], Noted { driver: LOCAL.into(), labels: labels("b"), options });
        assert_eq!(noted["far"].driver, "nfs");
        again
            .0
            .change(|root| {
                let values: BTreeMap<_, _> = root.bucket(BUCKET).unwrap().values().collect();
                let text = |name: &str| std::str::from_utf8(values[name]).unwrap();
                assert!(text("far").contains(r#""New":1"#) && text("kept").contains(r#""New":1"#));
                let new = r#"{"Name":"new","Driver":"local","Labels":{"b":"\u003c1\u003e"},"Options":{"o":"\u003c1\u003e"}}"#;
                assert_eq!(text("new"), new);
            })
            .unwrap();
    }
}
