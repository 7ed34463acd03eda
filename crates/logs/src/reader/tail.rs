//! Finds the last N entries without reading what comes before them: backwards in blocks through plain
//! files; compressed files have to be counted from their start.

use super::files::LogFiles;
use super::frames::{Frames, Taken};
use super::source::Source;
use super::{Follow, ReadOptions};
use crate::entry::Format;
use crate::error::Error;
use crate::file::last_frame_start;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 64 * 1024;

/// The files to read, set to where reading starts.
pub(super) fn sources(files: LogFiles, options: &ReadOptions) -> Result<VecDeque<Source>, Error> {
    let Some(tail) = options.tail else { return Ok(files.sources.into()) };
    let read_error = |source| Error::Read { path: options.path.clone(), source };
    let mut wanted = tail;
    let mut out = VecDeque::new();
    for (age, source) in files.sources.into_iter().rev().enumerate() {
        // The current file stays in any case: there reading goes on when following.
        let is_followed = age == 0 && options.follow == Follow::Yes;
        if wanted == 0 && !is_followed {
            break;
        }
        let (source, found) = start_at_tail(source, wanted, options.format).map_err(read_error)?;
        wanted -= found;
        out.push_front(source);
    }
    Ok(out)
}

/// Sets a source to its last `wanted` entries; returns how many it has of them.
fn start_at_tail(mut source: Source, wanted: u64, format: Format) -> io::Result<(Source, u64)> {
    let backwards = match (source.as_plain()?, format) {
        (Some((file, end)), Format::Json) => Some(lines_backwards(file, end, wanted)?),
        (Some((file, end)), Format::Local) => frames_backwards(file, end, wanted)?,
        (None, _) => None,
    };
    if let Some((offset, found)) = backwards {
        source.seek(offset);
        return Ok((source, found));
    }
    let (source, count) = count_entries(source, format)?;
    let mut source = source.rewind()?;
    source.skip = count.saturating_sub(wanted);
    Ok((source, count.min(wanted)))
}

/// Where the last `wanted` lines before `end` start, and how many there are. A line without its newline
/// does not count.
fn lines_backwards(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut block = vec![0; BLOCK as usize];
    let mut at = end;
    // The newline that ends the last line is not where that line starts.
    let mut newlines = 0;
    while at > 0 {
        let start = at.saturating_sub(BLOCK);
        let bytes = &mut block[..(at - start) as usize];
        file.read_exact_at(bytes, start)?;
        for newline in memchr::memrchr_iter(b'\n', bytes) {
            if newlines == wanted {
                return Ok((start + newline as u64 + 1, wanted));
            }
            newlines += 1;
        }
        at = start;
    }
    Ok((0, newlines))
}

/// The same for frames; `None` when the end is not that of a frame.
fn frames_backwards(file: &File, end: u64, wanted: u64) -> io::Result<Option<(u64, u64)>> {
    let mut at = end;
    for found in 0..wanted {
        if at == 0 {
            return Ok(Some((0, found)));
        }
        match last_frame_start(file, at)? {
            Some(start) => at = start,
            None => return Ok(None),
        }
    }
    Ok(Some((at, wanted)))
}

fn count_entries(mut source: Source, format: Format) -> io::Result<(Source, u64)> {
    let mut frames = Frames::new(format);
    let mut count = 0;
    while source.read_into(&mut frames)? > 0 {
        while let Taken::Frame(_) = frames.take() {
            count += 1;
        }
    }
    Ok((source, count))
}
