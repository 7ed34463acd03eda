//! Files of bbolt, the database in which Docker keeps volumes and networks.
//!
//! Entry points: [`BoltFile`] for a file that is held while a daemon runs; [`decode`] and [`encode`] for its
//! bytes.
//!
//! A file is read whole into a [`Bucket`] and written whole from one: these files are small, and a file that is
//! made anew has neither free pages nor half-done transactions. What is written has the simplest form that bbolt
//! reads: both meta pages valid, an empty list of free pages, every bucket with pages of its own.
//!
//! Format (source: bbolt `internal/common/{meta,page,bucket}.go`, `tx.go`, `db.go`): pages of one size. Page 0 and
//! page 1 are the meta pages, of which the valid one with the higher transaction counts. A tree of branch and
//! leaf pages is a bucket; a leaf's value may be another bucket: the number of its root page, or, with number 0,
//! the page itself behind that. What does not fit into a page goes on in the pages that follow.

mod file;
mod layout;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use file::{BoltFile, Damage, Opened, Pending};
pub use read::decode;
pub use write::encode;

use std::collections::BTreeMap;

/// A bucket: what is in it, in the order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bucket {
    /// bbolt's counter for its users.
    pub sequence: u64,
    /// Values and buckets. A key has 1 to 32768 bytes.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Bytes.
    Value(Vec<u8>),
    /// A bucket.
    Bucket(Bucket),
}

impl Bucket {
    /// The bucket of this name; `None` when there is none.
    pub fn bucket(&self, name: &str) -> Option<&Self> {
        match self.entries.get(name.as_bytes()) {
            Some(Entry::Bucket(bucket)) => Some(bucket),
            _ => None,
        }
    }

    /// The bucket of this name, made if missing; a value of that name gives way.
    pub fn bucket_mut(&mut self, name: &str) -> &mut Self {
        let entry = self.entries.entry(name.into()).or_insert_with(|| Entry::Bucket(Self::default()));
        if matches!(entry, Entry::Value(_)) {
            *entry = Entry::Bucket(Self::default());
        }
        match entry {
            Entry::Bucket(bucket) => bucket,
            Entry::Value(_) => unreachable!("replaced above"),
        }
    }

    /// The values whose keys are text, in order.
    pub fn values(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().filter_map(|(key, entry)| match entry {
            Entry::Value(value) => Some((std::str::from_utf8(key).ok()?, value.as_slice())),
            Entry::Bucket(_) => None,
        })
    }
}
