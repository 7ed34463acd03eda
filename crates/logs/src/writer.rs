//! The writing side: output of a container in, entries in files out.

use crate::compress::Progress;
use crate::entry::{Format, Stream};
use crate::error::Error;
use crate::file::RotatingFile;
use crate::json::{self, Newline};
use crate::local;
use crate::split::{Piece, Splitter};
use crate::time;
use wharf_spec::plan::{Log, LogFile};
use wharf_spec::shim::Timestamp;

/// Entries are written at the latest when this many bytes of them wait.
const FLUSH_AT: usize = 128 * 1024;

/// Writes a container's output to its log. One write per call of [`Writer::write`], not per line.
#[derive(Debug)]
pub struct Writer {
    stdout: Splitter,
    stderr: Splitter,
    sink: Sink,
}

/// Whether [`Writer::upkeep`] wants to be called again soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// There is more to do.
    More,
    /// Nothing waits.
    Done,
}

impl Writer {
    /// Opens the log that a plan asks for; `None` for [`Log::None`].
    ///
    /// # Errors
    /// The file cannot be opened or its torn end cannot be repaired.
    pub fn open(log: &Log) -> Result<Option<Writer>, Error> {
        match log {
            Log::None => Ok(None),
            Log::JsonFile(file) => Writer::open_format(file, Format::Json).map(Some),
            Log::Local(file) => Writer::open_format(file, Format::Local).map(Some),
            Log::Buffered { log, .. } => Writer::open(log),
        }
    }

    fn open_format(log: &LogFile, format: Format) -> Result<Writer, Error> {
        let encoder = match format {
            Format::Json => Encoder::Json(json::Encoder::new(&log.attrs)),
            Format::Local => Encoder::Local(local::Encoder::new(&log.attrs)),
        };
        let file = RotatingFile::open(log, format)?;
        let sink = Sink { file, encoder, pending: Vec::new(), pending_text: 0, lost: 0, last_entry: None };
        Ok(Writer { stdout: Splitter::default(), stderr: Splitter::default(), sink })
    }

    /// Takes output that was read at `now`. Entries made of it get `now` and one nanosecond more each, so
    /// that times never say another order than the file. An unfinished line is held back.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        let sink = &mut self.sink;
        let splitter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut clock = Clock { now, count: 0 };
        splitter.write(bytes, || clock.tick(), |piece| sink.append(stream, &piece));
        sink.flush();
    }

    /// A stream is closed: what it held back is written.
    pub fn finish(&mut self, stream: Stream, now: Timestamp) {
        let sink = &mut self.sink;
        let splitter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        splitter.finish(|| now, |piece| sink.append(stream, &piece));
        sink.flush();
    }

    /// Bytes of output that could not be written because the disk was full or failed.
    pub fn lost(&self) -> u64 {
        self.sink.lost
    }

    /// Does a millisecond of work that can wait for a quiet moment: compressing rotated files.
    pub fn upkeep(&mut self) -> Upkeep {
        match self.sink.file.compress_some() {
            Progress::More => Upkeep::More,
            Progress::Done => Upkeep::Done,
        }
    }

    /// Gives memory back when a container has been quiet for a while.
    pub fn shrink(&mut self) {
        self.sink.pending = Vec::new();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sink.flush();
        self.sink.file.finish_compression();
    }
}

struct Clock {
    now: Timestamp,
    count: u32,
}

impl Clock {
    fn tick(&mut self) -> Timestamp {
        let time = time::later_by(self.now, self.count);
        self.count = self.count.saturating_add(1).min(999_999_999);
        time
    }
}

#[derive(Debug)]
enum Encoder {
    Json(json::Encoder),
    Local(local::Encoder),
}

#[derive(Debug)]
struct Sink {
    file: RotatingFile,
    encoder: Encoder,
    /// Encoded entries.
    pending: Vec<u8>,
    /// Bytes of output in `pending`.
    pending_text: u64,
    lost: u64,
    last_entry: Option<Timestamp>,
}

impl Sink {
    fn append(&mut self, stream: Stream, piece: &Piece<'_>) {
        if self.file.is_full(self.pending.len()) {
            self.flush();
            self.file.rotate(self.last_entry);
        }
        let newline = if piece.ends_line() { Newline::Yes } else { Newline::No };
        match &mut self.encoder {
            Encoder::Json(json) => json.append(stream, piece.text, newline, piece.time, &mut self.pending),
            Encoder::Local(local) => {
                local.append(stream, piece.text, piece.partial, piece.time, &mut self.pending)
            }
        }
        self.pending_text += piece.text.len() as u64 + u64::from(newline == Newline::Yes);
        self.last_entry = Some(piece.time);
        if self.pending.len() >= FLUSH_AT {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if self.file.append(&self.pending).is_err() {
            self.lost += self.pending_text;
        }
        self.pending.clear();
        self.pending_text = 0;
    }
}
