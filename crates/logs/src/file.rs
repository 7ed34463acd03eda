//! A log file that is appended to and rotated (source: moby `daemon/logger/loggerutils/logfile.go`).

use crate::compress::{Compression, Progress, compressed_name};
use crate::entry::Format;
use crate::error::Error;
use crate::local;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wharf_spec::plan::LogFile;
use wharf_spec::shim::Timestamp;

/// How far back the end of the last whole line is looked for: longer than any line can be.
const REPAIR_WINDOW: u64 = 1024 * 1024;

/// The current file and its older brothers.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    /// `None` after it could not be made again at a rotation; every append tries again.
    file: Option<File>,
    size: u64,
    max_size: Option<u64>,
    max_files: u32,
    compress: bool,
    compression: Option<Compression>,
}

impl RotatingFile {
    /// Opens for appending, cutting off a torn last entry.
    pub(crate) fn open(log: &LogFile, format: Format) -> Result<RotatingFile, Error> {
        let path = PathBuf::from(&log.path);
        let file = open_append(&path).map_err(|source| Error::Open { path: path.clone(), source })?;
        let size = repair(&file, format).map_err(|source| Error::Repair { path: path.clone(), source })?;
        let max_files = log.max_files.max(1);
        let compress = log.compress && max_files > 1;
        let mut it = RotatingFile {
            path,
            file: Some(file),
            size,
            max_size: log.max_size,
            max_files,
            compress,
            compression: None,
        };
        if compress {
            // Left behind by a writer that was killed.
            it.start_compression(None);
        }
        Ok(it)
    }

    /// Whether the next entry goes to a new file, `pending` bytes being on their way to this one.
    pub(crate) fn is_full(&self, pending: usize) -> bool {
        self.max_size.is_some_and(|max| self.size + pending as u64 >= max)
    }

    /// Appends whole entries: all of them, or none when there is an error.
    pub(crate) fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open_append(&self.path)?),
        };
        let mut written = 0;
        while written < entries.len() {
            match file.write(&entries[written..]) {
                Ok(0) => return Err(take_back(file, written, io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(take_back(file, written, error)),
            }
        }
        self.size += entries.len() as u64;
        Ok(())
    }

    /// Starts a new current file. `last_entry`: the time of the last entry in the old one. Errors of
    /// renaming leave the old entries to be overwritten, as in Docker; a new file that cannot be made shows
    /// in the next append.
    pub(crate) fn rotate(&mut self, last_entry: Option<Timestamp>) {
        self.finish_compression();
        self.file = None;
        self.size = 0;
        if self.max_files < 2 {
            // A reader may be at work in it, so it is not truncated.
            let _ = std::fs::remove_file(&self.path);
        } else {
            self.shift();
        }
        self.file = open_append(&self.path).ok();
        if let Some(file) = &self.file {
            // Only if renaming failed is there anything to cut off.
            let _ = file.set_len(0);
        }
        if self.compress {
            self.start_compression(last_entry);
        }
    }

    /// The oldest goes, the others move up, the current becomes `.1`.
    fn shift(&self) {
        for extension in ["", ".gz"] {
            let _ = std::fs::remove_file(numbered(&self.path, self.max_files - 1, extension));
        }
        for number in (1..self.max_files - 1).rev() {
            for extension in ["", ".gz"] {
                let _ = std::fs::rename(
                    numbered(&self.path, number, extension),
                    numbered(&self.path, number + 1, extension),
                );
            }
        }
        let _ = std::fs::rename(&self.path, numbered(&self.path, 1, ""));
    }

    fn start_compression(&mut self, last_entry: Option<Timestamp>) {
        self.compression = Compression::start(&numbered(&self.path, 1, ""), last_entry).ok();
    }

    /// Does a bit of what can wait.
    pub(crate) fn compress_some(&mut self) -> Progress {
        let Some(compression) = &mut self.compression else { return Progress::Done };
        match compression.step() {
            Ok(Progress::More) => return Progress::More,
            Ok(Progress::Done) => self.compression = None,
            Err(_) => self.compression.take().into_iter().for_each(Compression::abandon),
        }
        Progress::Done
    }

    pub(crate) fn finish_compression(&mut self) {
        while self.compress_some() == Progress::More {}
    }
}

/// After a failed write: the part of it that is in the file would be a torn entry.
fn take_back(file: &File, written: usize, error: io::Error) -> io::Error {
    if let Ok(metadata) = file.metadata() {
        // If even this fails, the reader skips the torn entry.
        let _ = file.set_len(metadata.len().saturating_sub(written as u64));
    }
    error
}

/// `<path>.<number><extension>`
pub(crate) fn numbered(path: &Path, number: u32, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    match extension {
        "" => name.into(),
        _ => compressed_name(Path::new(&name)),
    }
}

/// Appending, so that a file emptied by somebody else (`truncate -s 0`) goes on from its start.
fn open_append(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

/// Cuts off what a crash left of an entry; returns the size.
fn repair(file: &File, format: Format) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let whole = match format {
        Format::Json => whole_lines(file, size)?,
        Format::Local => whole_frames(file, size)?,
    };
    if whole < size {
        file.set_len(whole)?;
    }
    Ok(whole)
}

/// Where the last newline ends. Without one near the end this is not our doing, and it is left alone.
fn whole_lines(file: &File, size: u64) -> io::Result<u64> {
    let mut last = [b'\n'; 1];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last == *b"\n" {
        return Ok(size);
    }
    let start = size.saturating_sub(REPAIR_WINDOW);
    let mut tail = vec![0; (size - start) as usize];
    file.read_exact_at(&mut tail, start)?;
    Ok(match memchr::memrchr(b'\n', &tail) {
        Some(at) => start + at as u64 + 1,
        None if start == 0 => 0,
        None => size,
    })
}

/// Where the last whole frame ends: seen at the end, else by walking from the start.
fn whole_frames(file: &File, size: u64) -> io::Result<u64> {
    if last_frame_start(file, size)?.is_some() || size == 0 {
        return Ok(size);
    }
    let mut reader = io::BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let mut whole = 0;
    let mut head = [0; 4];
    while reader.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes(head);
        let mut foot = [0; 4];
        if length as usize > local::MAX_MESSAGE
            || reader.seek_relative(i64::from(length)).is_err()
            || reader.read_exact(&mut foot).is_err()
            || foot != head
        {
            break;
        }
        whole += u64::from(length) + local::FRAME_EXTRA as u64;
    }
    Ok(whole)
}

/// Where the frame that ends at `end` starts, if one ends there.
pub(crate) fn last_frame_start(file: &File, end: u64) -> io::Result<Option<u64>> {
    let mut foot = [0; 4];
    let Some(foot_at) = end.checked_sub(4) else { return Ok(None) };
    file.read_exact_at(&mut foot, foot_at)?;
    let length = u32::from_be_bytes(foot);
    let start = foot_at.checked_sub(4 + u64::from(length));
    let (Some(start), false) = (start, length == 0 || length as usize > local::MAX_MESSAGE) else {
        return Ok(None);
    };
    let mut head = [0; 4];
    file.read_exact_at(&mut head, start)?;
    Ok((head == foot).then_some(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_fit_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"whole\nto").unwrap();
        let file = open_append(&path).unwrap();
        let error = take_back(&file, 2, io::ErrorKind::StorageFull.into());
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole\n");
    }
}
