//! One file of a log being read.

use super::frames::Frames;
use crate::entry::Format;
use crate::file::last_frame_start;
use flate2::read::MultiGzDecoder;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes asked of the file at a time.
const READ_SIZE: usize = 128 * 1024;
/// More than the writer writes at once.
const LARGEST_WRITE: u64 = 1024 * 1024;

/// A file, by its identity and not its name: rotation renames it while we read.
#[derive(Debug)]
pub(crate) struct Source {
    inode: (u64, u64),
    kind: Kind,
    replaced: bool,
    /// Entries left out at the start.
    pub(super) skip: u64,
}

#[derive(Debug)]
enum Kind {
    Plain { file: File, at: u64, limit: Option<u64> },
    Gzip { decoder: Box<MultiGzDecoder<File>>, is_broken: bool },
}

impl Source {
    /// A plain file, from its start to `limit` or wherever it ends.
    pub(super) fn plain(file: File, metadata: &Metadata, limit: Option<u64>) -> Source {
        Source { inode: inode(metadata), kind: Kind::Plain { file, at: 0, limit }, replaced: false, skip: 0 }
    }

    /// A compressed file.
    pub(super) fn gzip(file: File, metadata: &Metadata) -> Source {
        let kind = Kind::Gzip { decoder: Box::new(MultiGzDecoder::new(file)), is_broken: false };
        Source { inode: inode(metadata), kind, replaced: false, skip: 0 }
    }

    pub(super) fn inode(&self) -> (u64, u64) {
        self.inode
    }

    /// The file and where its readable part ends, unless it is compressed.
    pub(super) fn as_plain(&self) -> io::Result<Option<(&File, u64)>> {
        match &self.kind {
            Kind::Plain { file, limit, .. } => {
                let end = match limit {
                    Some(limit) => *limit,
                    None => file.metadata()?.len(),
                };
                Ok(Some((file, end)))
            }
            Kind::Gzip { .. } => Ok(None),
        }
    }

    /// A plain file's identity, and up to where it was read.
    pub(super) fn plain_position(&self) -> Option<((u64, u64), u64)> {
        match self.kind {
            Kind::Plain { at, .. } => Some((self.inode, at)),
            Kind::Gzip { .. } => None,
        }
    }

    /// A compressed file that could not be read to its end.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.kind, Kind::Gzip { is_broken: true, .. })
    }

    /// Goes on at `offset`, if an entry ends there: another file may have got the inode.
    pub(super) fn resume(&mut self, offset: u64, format: Format) -> bool {
        let Kind::Plain { file, at, .. } = &mut self.kind else { return false };
        let mut before = [0];
        let is_end = offset == 0
            || match format {
                Format::Json => file.read_exact_at(&mut before, offset - 1).is_ok() && before == *b"\n",
                Format::Local => last_frame_start(file, offset).is_ok_and(|start| start.is_some()),
            };
        if is_end {
            *at = offset;
        }
        is_end
    }

    /// Reading a plain file goes on at `offset`.
    pub(super) fn seek(&mut self, offset: u64) {
        if let Kind::Plain { at, .. } = &mut self.kind {
            *at = offset;
        }
    }

    /// Starts again from the beginning.
    pub(super) fn rewind(self) -> io::Result<Source> {
        let kind = match self.kind {
            Kind::Plain { file, limit, .. } => Kind::Plain { file, at: 0, limit },
            Kind::Gzip { decoder, .. } => {
                let mut file = decoder.into_inner();
                io::Seek::rewind(&mut file)?;
                Kind::Gzip { decoder: Box::new(MultiGzDecoder::new(file)), is_broken: false }
            }
        };
        Ok(Source { kind, ..self })
    }

    /// The extra field of a compressed file's header.
    pub(super) fn gzip_extra(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Gzip { decoder, .. } => decoder.header()?.extra(),
            Kind::Plain { .. } => None,
        }
    }

    /// Adds bytes to `frames`; 0 at the end.
    pub(super) fn read_into(&mut self, frames: &mut Frames) -> io::Result<usize> {
        let skip = std::mem::take(&mut self.skip);
        if skip > 0 {
            frames.skip(skip);
        }
        let kind = &mut self.kind;
        frames.fill(READ_SIZE, |buffer| {
            loop {
                match kind.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => return other,
                }
            }
        })
    }

    /// Whether the file became shorter than what was read of it. A little shorter: the writer took back
    /// an entry that the disk had no room for, and goes on there. Else somebody emptied the file in place
    /// (`truncate -s 0`), and what comes now starts at 0.
    pub(super) fn follow_shrinking(&mut self) -> bool {
        let Kind::Plain { file, at, .. } = &mut self.kind else { return false };
        let Ok(size) = file.metadata().map(|m| m.len()) else { return false };
        if size >= *at {
            return false;
        }
        *at = if *at - size <= LARGEST_WRITE { size } else { 0 };
        true
    }

    pub(super) fn see_replaced(&mut self) {
        self.replaced = true;
    }

    pub(super) fn was_seen_replaced(&self) -> bool {
        self.replaced
    }
}

impl Kind {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Kind::Plain { file, at, limit } => {
                let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(*at));
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let count = file.read_at(&mut buffer[..most], *at)?;
                *at += count as u64;
                Ok(count)
            }
            Kind::Gzip { decoder, is_broken } => match decoder.read(buffer) {
                // A compressed file that is damaged or cut short: what it holds is read, the rest is lost.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::UnexpectedEof
                            | io::ErrorKind::InvalidInput
                            | io::ErrorKind::InvalidData
                    ) =>
                {
                    *is_broken = true;
                    Ok(0)
                }
                other => other,
            },
        }
    }
}

pub(super) fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
