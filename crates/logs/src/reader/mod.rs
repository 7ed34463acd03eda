//! The reading side: entries of a log from its older files to its current one, and on as it grows.

mod files;
mod frames;
mod source;
mod tail;
mod watch;

use crate::entry::{Entry, Format, Partial, Stream};
use crate::error::Error;
use crate::time::key;
use crate::{json, local};
use files::LogFiles;
use frames::{Frames, Taken};
use rustix::fd::BorrowedFd;
use source::Source;
use std::collections::VecDeque;
use std::path::PathBuf;
use watch::Watch;
use wharf_spec::shim::Timestamp;

/// What to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The log's path, that of the current file.
    pub path: PathBuf,
    /// How it is written.
    pub format: Format,
    /// Only the last so many entries (before `since` and `until` are applied, as in Docker).
    pub tail: Option<u64>,
    /// Entries before the first that is not older than this are left out.
    pub since: Option<Timestamp>,
    /// Reading ends at the first entry younger than this.
    pub until: Option<Timestamp>,
    /// Whether to go on at the end.
    pub follow: Follow,
}

/// What happens at the end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Reading ends.
    No,
    /// [`Next::Pending`] until more is written, over rotations.
    Yes,
}

/// What [`Reader::poll_next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// An entry.
    Entry(Entry<'a>),
    /// Nothing now: wait for [`Reader::wakeup`] to become readable, then ask again.
    Pending,
    /// There is nothing more and there will not be.
    End,
}

/// Reads a log. Blocking only in reading files; it does not wait for entries.
#[derive(Debug)]
pub struct Reader {
    options: ReadOptions,
    /// Files still to be read after the present one, the oldest first.
    waiting: VecDeque<Source>,
    present: Option<Source>,
    frames: Frames,
    scratch: Scratch,
    watch: Option<Watch>,
    /// `since` was reached.
    started: bool,
    /// Entries up to this time were read before, from a file that is no longer to be found: it was compressed.
    read_through: Option<Timestamp>,
    damaged: u64,
    /// The last file that was left ended in the middle of an entry.
    torn_end: bool,
}

/// Where an entry ended: reading can go on there, in another process too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The file's device and inode; `None` in a compressed file.
    pub inode: Option<(u64, u64)>,
    /// Bytes from the file's start.
    pub offset: u64,
    /// The entry's time.
    pub time: Timestamp,
}

/// The entry that was read last.
#[derive(Debug)]
enum Scratch {
    Json(json::Decoded),
    Local(local::Decoded),
}

enum Step {
    Entry,
    Pending,
    End,
}

/// See [`Reader::at_end_of_current`].
enum AtEnd {
    /// It is still the current file.
    Wait,
    /// There may be more after all.
    ReadAgain,
    /// It is done with.
    Leave,
}

impl Reader {
    /// Opens the files and finds the first entry asked for. A log that was never written to is empty.
    ///
    /// # Errors
    /// A file exists but cannot be opened or read.
    pub fn open(options: ReadOptions) -> Result<Reader, Error> {
        // Watched before looking, so that nothing written in between is missed.
        let watch = match options.follow {
            Follow::Yes => Watch::new(&options.path),
            Follow::No => None,
        };
        let files = LogFiles::open(&options)?;
        let waiting = tail::sources(files, &options)?;
        let scratch = match options.format {
            Format::Json => Scratch::Json(json::Decoded::default()),
            Format::Local => Scratch::Local(local::Decoded::default()),
        };
        let frames = Frames::new(options.format);
        let started = options.since.is_none();
        Ok(Reader {
            options,
            waiting,
            present: None,
            frames,
            scratch,
            watch,
            started,
            read_through: None,
            damaged: 0,
            torn_end: false,
        })
    }

    /// As [`Reader::open`], going on after an entry that was read before. Where its file is compressed or gone by
    /// now, what is younger than the entry is read.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_after(options: ReadOptions, position: Position) -> Result<Reader, Error> {
        let mut reader = Reader::open(options)?;
        let found = reader.waiting.iter().position(|source| position.inode == Some(source.inode()));
        let resumed = found.is_some_and(|at| {
            reader.waiting.drain(..at);
            reader.waiting[0].resume(position.offset, reader.options.format)
        });
        if !resumed {
            reader.read_through = Some(position.time);
        }
        Ok(reader)
    }

    /// Where the entry ended that was read last.
    pub fn position(&self) -> Position {
        let place = self.present.as_ref().and_then(Source::plain_position);
        let (inode, offset) = match place {
            Some((inode, at)) => (Some(inode), at - self.frames.left() as u64),
            None => (None, 0),
        };
        Position { inode, offset, time: self.scratch.time() }
    }

    /// The next entry.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn poll_next(&mut self) -> Result<Next<'_>, Error> {
        if let Some(watch) = &self.watch {
            watch.drain_if_waited();
        }
        loop {
            match self.step()? {
                Step::Pending => {
                    if let Some(watch) = &mut self.watch {
                        watch.wait_next();
                    }
                    return Ok(Next::Pending);
                }
                Step::End => return Ok(Next::End),
                Step::Entry => {}
            }
            if self.is_too_late() {
                self.stop();
                return Ok(Next::End);
            }
            if self.is_wanted() {
                break;
            }
        }
        Ok(Next::Entry(self.scratch.entry()))
    }

    /// Becomes readable when it is worth asking again after [`Next::Pending`] (inotify). `None` when the
    /// kernel gave no watch (their number is limited): ask again every now and then instead.
    pub fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(Watch::fd)
    }

    /// Nothing will be written any more: what is there is still read, then comes [`Next::End`].
    pub fn finish(&mut self) {
        self.options.follow = Follow::No;
    }

    /// Entries that were skipped because their bytes are damaged, torn ends of files included.
    pub fn damaged(&self) -> u64 {
        self.damaged + self.frames.damaged()
    }

    /// Whether the last file ended in the middle of an entry: of a log that is still written to, that is an entry on
    /// its way, and no damage.
    pub fn is_end_torn(&self) -> bool {
        self.torn_end
    }

    fn stop(&mut self) {
        self.options.follow = Follow::No;
        self.waiting.clear();
        self.present = None;
        self.frames.clear();
    }

    fn is_too_late(&self) -> bool {
        self.options.until.is_some_and(|until| key(self.scratch.time()) > key(until))
    }

    /// Once an entry is young enough all later ones are, whatever their time: clocks may be set back.
    fn is_wanted(&mut self) -> bool {
        if let Some(read) = self.read_through {
            if key(self.scratch.time()) <= key(read) {
                return false;
            }
            self.read_through = None;
        }
        self.started |= self.options.since.is_some_and(|since| key(self.scratch.time()) >= key(since));
        self.started
    }

    /// Reads one entry into the scratch, filtered by nothing.
    fn step(&mut self) -> Result<Step, Error> {
        loop {
            match self.frames.take() {
                Taken::Frame(range) => {
                    if self.scratch.decode(self.frames.bytes(range)).is_some() {
                        return Ok(Step::Entry);
                    }
                    self.damaged += 1;
                }
                Taken::NeedMore => match self.read_more()? {
                    Some(step) => return Ok(step),
                    None => continue,
                },
            }
        }
    }

    /// Gets more bytes from the present or the next file; `None` when there are some.
    fn read_more(&mut self) -> Result<Option<Step>, Error> {
        loop {
            let Some(present) = &mut self.present else {
                match self.waiting.pop_front() {
                    Some(next) => self.present = Some(next),
                    None => return self.reopen(),
                }
                continue;
            };
            let count = present.read_into(&mut self.frames).map_err(|source| self.read_error(source))?;
            if count > 0 {
                return Ok(None);
            }
            let is_last = self.waiting.is_empty();
            if is_last && self.options.follow == Follow::Yes {
                match self.at_end_of_current()? {
                    AtEnd::Wait => return Ok(Some(Step::Pending)),
                    AtEnd::ReadAgain => continue,
                    AtEnd::Leave => {}
                }
            }
            // A broken compressed file ends in a torn entry, or between two.
            let is_broken = self.present.as_ref().is_some_and(Source::is_broken);
            self.torn_end = self.frames.end_of_file();
            self.damaged += u64::from(is_broken && !self.torn_end);
            self.present = None;
            if is_last && self.options.follow == Follow::No {
                return Ok(Some(Step::End));
            }
        }
    }

    /// What to do at the end of the file that was the current one when it was opened.
    fn at_end_of_current(&mut self) -> Result<AtEnd, Error> {
        let Some(present) = &mut self.present else { return Ok(AtEnd::Leave) };
        if present.was_seen_replaced() {
            // It was read to its end after that: nobody writes to it any more.
            let (newer, is_found) = LogFiles::after(&self.options, present)?;
            self.waiting.extend(newer);
            if !is_found {
                self.read_through = Some(self.scratch.time());
            }
            return Ok(AtEnd::Leave);
        }
        if !files::is_current(&self.options.path, present) {
            present.see_replaced();
            // What was written between our last read and the rotation is read first.
            return Ok(AtEnd::ReadAgain);
        }
        if present.follow_shrinking() {
            // What is left in there was the start of an entry that is gone.
            self.frames.clear();
            return Ok(AtEnd::ReadAgain);
        }
        Ok(AtEnd::Wait)
    }

    /// Without any file: there was none yet, or the rotation that replaced it was just under way.
    fn reopen(&mut self) -> Result<Option<Step>, Error> {
        if self.options.follow == Follow::No {
            return Ok(Some(Step::End));
        }
        match LogFiles::open_current(&self.options.path)? {
            Some(current) => self.waiting.push_back(current),
            None => return Ok(Some(Step::Pending)),
        }
        Ok(None)
    }

    fn read_error(&self, source: std::io::Error) -> Error {
        Error::Read { path: self.options.path.clone(), source }
    }
}

impl Scratch {
    fn decode(&mut self, bytes: &[u8]) -> Option<()> {
        match self {
            Scratch::Json(json) => json::decode(bytes, json),
            Scratch::Local(local) => local::decode(bytes, local),
        }
    }

    fn time(&self) -> Timestamp {
        let time = match self {
            Scratch::Json(json) => json.time,
            Scratch::Local(local) => local.time,
        };
        time.unwrap_or(Timestamp { seconds: 0, nanos: 0 })
    }

    fn entry(&self) -> Entry<'_> {
        let time = self.time();
        let (stream, line, partial, attrs): (_, _, Option<&Partial>, _) = match self {
            Scratch::Json(json) => (json.stream, &json.line, None, &json.attrs),
            Scratch::Local(local) => (local.stream, &local.line, local.partial.as_ref(), &local.attrs),
        };
        Entry { stream: stream.unwrap_or(Stream::Stdout), time, line, partial, attrs }
    }
}

#[cfg(test)]
mod tests;
