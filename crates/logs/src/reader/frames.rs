//! Cuts a stream of bytes into entries, skipping what is damaged.

use crate::entry::Format;
use crate::local::{self, Frame};
use std::io;
use std::ops::Range;

/// A line longer than this is no entry: 16 KiB of text and generous attributes.
const MAX_LINE: usize = 1024 * 1024;

/// A window on the file.
#[derive(Debug)]
pub(super) struct Frames {
    format: Format,
    buffer: Vec<u8>,
    /// What of the buffer is not yet taken.
    start: usize,
    /// Up to here there is no newline (json).
    searched: usize,
    /// In the middle of something damaged: bytes up to the next entry belong to it.
    in_damage: bool,
    skip: u64,
    damaged: u64,
}

/// What [`Frames::take`] found.
#[derive(Debug)]
pub(super) enum Taken {
    /// An entry's text, without its frame.
    Frame(Range<usize>),
    /// The next entry is not whole yet.
    NeedMore,
}

impl Frames {
    pub(super) fn new(format: Format) -> Frames {
        Frames { format, buffer: Vec::new(), start: 0, searched: 0, in_damage: false, skip: 0, damaged: 0 }
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Bytes that are not yet taken.
    pub(super) fn left(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.start = 0;
        self.searched = 0;
        self.in_damage = false;
        self.skip = 0;
    }

    /// The next `count` entries are passed over.
    pub(super) fn skip(&mut self, count: u64) {
        self.skip += count;
    }

    /// A file ended: what is left is a torn entry. Whether there was one.
    pub(super) fn end_of_file(&mut self) -> bool {
        let is_torn = self.start < self.buffer.len() && !self.in_damage;
        self.damaged += u64::from(is_torn);
        self.clear();
        is_torn
    }

    /// Adds up to `size` bytes from `read`; returns how many.
    pub(super) fn fill(
        &mut self,
        size: usize,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + size, 0);
        let result = read(&mut self.buffer[length..]);
        self.buffer.truncate(length + *result.as_ref().unwrap_or(&0));
        result
    }

    /// The next entry.
    pub(super) fn take(&mut self) -> Taken {
        loop {
            let taken = match self.format {
                Format::Json => self.take_line(),
                Format::Local => self.take_message(),
            };
            match taken {
                Taken::Frame(_) if self.skip > 0 => self.skip -= 1,
                other => return other,
            }
        }
    }

    fn take_line(&mut self) -> Taken {
        loop {
            let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                self.drop_endless_line();
                return Taken::NeedMore;
            };
            let line = self.start..self.searched + at;
            self.start = line.end + 1;
            self.searched = self.start;
            if !std::mem::take(&mut self.in_damage) {
                return Taken::Frame(line);
            }
        }
    }

    fn drop_endless_line(&mut self) {
        if self.buffer.len() - self.start > MAX_LINE {
            self.start = self.buffer.len();
            self.enter_damage();
        }
    }

    fn take_message(&mut self) -> Taken {
        loop {
            match local::frame_at(&self.buffer[self.start..]) {
                Frame::Whole(size) if !self.in_damage || self.is_message(size) => {
                    let message = self.start + 4..self.start + size - 4;
                    self.start += size;
                    self.searched = self.start;
                    self.in_damage = false;
                    return Taken::Frame(message);
                }
                // In damage a plausible length is no reason to wait for more than there can be.
                Frame::Incomplete => return Taken::NeedMore,
                Frame::Whole(_) | Frame::Damaged => {
                    self.enter_damage();
                    self.start += 1;
                    self.searched = self.start;
                }
            }
        }
    }

    /// Whether a frame found in the middle of damage is more than two equal numbers.
    fn is_message(&self, size: usize) -> bool {
        local::decode(&self.buffer[self.start + 4..self.start + size - 4], &mut local::Decoded::default())
            .is_some()
    }

    fn enter_damage(&mut self) {
        if !self.in_damage {
            self.in_damage = true;
            self.damaged += 1;
        }
    }
}
