//! Past events on disk: lines of JSON, appended in the order they happened by one thread, off everybody's path.
//!
//! Files: `<data-root>/events.jsonl` and, once that is full, `events.jsonl.1` before it. Together they hold at most
//! twice [`FULL`] bytes; what is older than [`KEPT`] is not shown, and goes with its file.

use jiff::Timestamp;
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_api::event::Message;

/// A file of this size is full.
const FULL: u64 = 8 << 20;
/// How long events are kept, in nanoseconds: a day.
const KEPT: i64 = 24 * 3600 * 1_000_000_000;
/// Longer lines are none of ours.
const LINE_MAX: u64 = 1 << 20;

/// The files, for the one who writes.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Journal {
    /// Opens the current file; a line torn by a crash is ended.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = append_to(path)?;
        let mut size = file.metadata()?.len();
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1)?;
        }
        if last != *b"\n" {
            (&file).write_all(b"\n")?;
            size += 1;
        }
        let journal = Self { path: path.to_owned(), file, size };
        journal.forget_old();
        Ok(journal)
    }

    /// Adds events; what a full disk cuts short is a torn line, which is passed over.
    pub(super) fn append(&mut self, events: &[Arc<Message>]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event.as_ref())?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    /// Starts a new file once this one is full. Whoever reads holds the old ones open.
    pub(super) fn rotate_if_full(&mut self) -> io::Result<()> {
        if self.size >= FULL { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, older(&self.path))?;
        self.file = append_to(&self.path)?;
        self.size = 0;
        Ok(())
    }

    /// What is written by now.
    pub(super) fn on_disk(&self) -> OnDisk {
        OnDisk { path: self.path.clone(), size: self.size }
    }

    fn forget_old(&self) {
        let older = older(&self.path);
        let modified = fs::metadata(&older).and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|time| Timestamp::try_from(time).is_ok_and(|time| nanos(time) < oldest())) {
            // It is tried again at the next start.
            let _ = fs::remove_file(&older);
        }
    }
}

/// What is written, for those who read.
#[derive(Debug)]
pub(super) struct OnDisk {
    path: PathBuf,
    size: u64,
}

impl OnDisk {
    /// The files as they are, to be read up to here.
    pub(super) fn open(&self) -> Past {
        let files = [(self.path.clone(), self.size), (older(&self.path), u64::MAX)];
        let open = |(path, size): (PathBuf, u64)| Some(BufReader::new(File::open(path).ok()?.take(size)));
        Past { files: files.into_iter().filter_map(open).collect() }
    }
}

/// Past events being read.
#[derive(Debug)]
pub(super) struct Past {
    /// The next last.
    files: Vec<BufReader<io::Take<File>>>,
}

impl Past {
    /// The next events from a time on, at most so many; none at the end. Blocks.
    pub(super) fn next(&mut self, from: i64, most: usize) -> Vec<Arc<Message>> {
        let from = from.max(oldest());
        let mut events = Vec::new();
        let mut line = Vec::new();
        while events.len() < most {
            let Some(file) = self.files.last_mut() else { break };
            line.clear();
            // What cannot be read is passed over with its file: the rest is better than nothing.
            if !file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                self.files.pop();
                continue;
            }
            if let Ok(event) = serde_json::from_slice::<Message>(&line)
                && event.time_nano >= from
            {
                events.push(Arc::new(event));
            }
        }
        events
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o600).open(path)
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

fn oldest() -> i64 {
    nanos(Timestamp::now()) - KEPT
}

pub(super) fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, time_nano: i64) -> Arc<Message> {
        Arc::new(Message { action: action.into(), time_nano, ..Message::default() })
    }

    fn actions(journal: &Journal, from: i64) -> Vec<String> {
        let mut past = journal.on_disk().open();
        let mut all = Vec::new();
        loop {
            let some = past.next(from, 2);
            if some.is_empty() {
                return all;
            }
            all.extend(some.iter().map(|event| event.action.clone()));
        }
    }

    #[test]
    fn events_outlive_whoever_wrote_them_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let now = nanos(Timestamp::now());
        let mut journal = Journal::open(&path).unwrap();
        journal
            .append(&[event("old", now - KEPT - 1), event("one", now - 2), event("two", now - 1)])
            .unwrap();
        (&journal.file).write_all(b"{\"torn").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&[event("three", now)]).unwrap();
        assert_eq!(actions(&journal, 0), ["one", "two", "three"]);
        assert_eq!(actions(&journal, now), ["three"]);
        // Read as it was, whatever is written then.
        let mut past = journal.on_disk().open();
        journal.rotate().unwrap();
        journal.append(&[event("four", now + 1)]).unwrap();
        assert_eq!(past.next(0, 10).len(), 3);
        assert_eq!(actions(&journal, 0), ["one", "two", "three", "four"]);
        journal.rotate().unwrap();
        assert_eq!(actions(&journal, 0), ["four"]);
    }
}
