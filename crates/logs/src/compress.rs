//! Compression of rotated files to `<file>.gz`, in small steps between which the shim does its real work
//! (source of the form: moby `daemon/logger/loggerutils/logfile.go`, compressFile). The gzip header's extra
//! field holds the time of the last entry, so that readers can skip files that are too old.

use crate::time;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use wharf_spec::shim::Timestamp;

/// Bytes of the file that one step takes: about a millisecond.
const STEP: usize = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Extra {
    #[serde(rename = "lastTime")]
    last_time: String,
}

/// A file on its way to being compressed.
#[derive(Debug)]
pub(crate) struct Compression {
    path: PathBuf,
    source: File,
    encoder: GzEncoder<File>,
}

/// How far a step came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

impl Compression {
    /// Starts; nothing is lost if it never ends: readers prefer the uncompressed file.
    pub(crate) fn start(path: &Path, last_entry: Option<Timestamp>) -> io::Result<Compression> {
        let source = File::open(path)?;
        let target = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(compressed_name(path))?;
        let last_time = last_entry.map_or_else(|| "0001-01-01T00:00:00Z".into(), time::format_rfc3339_nano);
        let extra = serde_json::to_vec(&Extra { last_time })?;
        let encoder = flate2::GzBuilder::new().extra(extra).write(target, flate2::Compression::default());
        Ok(Compression { path: path.into(), source, encoder })
    }

    /// Takes the next bytes; after the last the original is removed.
    pub(crate) fn step(&mut self) -> io::Result<Progress> {
        let mut buffer = [0u8; 8 * 1024];
        for _ in 0..STEP / buffer.len() {
            let count = self.source.read(&mut buffer)?;
            if count == 0 {
                self.encoder.try_finish()?;
                std::fs::remove_file(&self.path)?;
                return Ok(Progress::Done);
            }
            self.encoder.write_all(&buffer[..count])?;
        }
        Ok(Progress::More)
    }

    /// Removes the half-made file; the original stays.
    pub(crate) fn abandon(self) {
        // If it cannot be removed it is harmless: readers prefer the original, and it is rewritten.
        let _ = std::fs::remove_file(compressed_name(&self.path));
    }
}

pub(crate) fn compressed_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// The time of the last entry, from a gzip header's extra field.
pub(crate) fn last_time(extra: &[u8]) -> Option<Timestamp> {
    let extra: Extra = serde_json::from_slice(extra).ok()?;
    let time = time::parse_rfc3339_nano(&extra.last_time)?;
    // Go's zero time: not known.
    (time.seconds > -62_135_596_800).then_some(time)
}
