//! Reading ahead: a stream is inflated and hashed on a thread of its own while the last pieces are still being
//! written, so that a single layer has work for two processors.

use crate::{Error, Hashing, Result};
use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
};
use wharf_spec::Digest;

/// Large enough that handing over costs nothing, small enough to stay in a cache.
const PIECE: usize = 256 << 10;
/// Pieces under way: one being filled, one waiting, one being read.
const PIECES: usize = 3;

/// What was read: digest and number of bytes.
pub(crate) struct Seen {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// Does some work with a stream that is read ahead. What was seen of the stream is all of it if the work read to
/// its end.
///
/// # Errors
/// Those of the work; errors of the stream go through the work.
pub(crate) fn read_ahead<T>(
    source: impl Read + Send,
    work: impl FnOnce(Ahead) -> Result<T>,
) -> Result<(T, Seen)> {
    let (full, pieces) = sync_channel(PIECES);
    let (empty, spare) = channel();
    for _ in 0..PIECES {
        // The other end is here.
        let _ = empty.send(Vec::new());
    }
    let ahead = Ahead { pieces, empty, piece: Piece::default(), ended: false };
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("read ahead".into());
        let reader = reader.spawn_scoped(scope, move || fill(source, &full, &spare));
        let reader = reader.map_err(|source| Error::Read { what: "a layer's archive".into(), source })?;
        let done = work(ahead);
        // The work has dropped its end: the reader stops at the next piece at the latest.
        let seen = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((done?, seen))
    })
}

/// Reads until the end, an error, or until nobody wants more.
fn fill(source: impl Read, full: &SyncSender<io::Result<Vec<u8>>>, spare: &Receiver<Vec<u8>>) -> Seen {
    let mut source = Hashing::new(source);
    while let Ok(mut buffer) = spare.recv() {
        buffer.resize(PIECE, 0);
        let read = read_full(&mut source, &mut buffer);
        let is_last = !matches!(read, Ok(length) if length > 0);
        let piece = read.map(|length| {
            buffer.truncate(length);
            buffer
        });
        if full.send(piece).is_err() || is_last {
            break;
        }
    }
    let (digest, bytes) = source.finish();
    Seen { digest, bytes }
}

/// As much as there is, at most the buffer; less only at the end.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match source.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What came before the error is not worth keeping.
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    at: usize,
}

/// The end that is read.
pub(crate) struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    piece: Piece,
    ended: bool,
}

impl Read for Ahead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.at == self.piece.bytes.len() && !self.ended {
            let used = std::mem::take(&mut self.piece);
            if !used.bytes.is_empty() {
                // The reader may have come to its end.
                let _ = self.empty.send(used.bytes);
            }
            let stopped = || Err(io::Error::other("the stream is not read any more"));
            let bytes = self.pieces.recv().unwrap_or_else(|_| stopped())?;
            self.ended = bytes.is_empty();
            self.piece = Piece { bytes, at: 0 };
        }
        let left = &self.piece.bytes[self.piece.at..];
        let take = left.len().min(into.len());
        into[..take].copy_from_slice(&left[..take]);
        self.piece.at += take;
        Ok(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: impl Read + Send) -> (io::Result<Vec<u8>>, Seen) {
        let (read, seen) = read_ahead(source, |mut ahead| {
            let mut all = Vec::new();
            Ok(ahead.read_to_end(&mut all).map(|_| all))
        })
        .unwrap();
        (read, seen)
    }

    #[test]
    fn streams_come_through_whole() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (read, seen) = read(bytes.as_slice());
            assert!(read.unwrap() == bytes);
            assert_eq!((seen.digest, seen.bytes), (crate::sha256(&bytes), length as u64));
        }
    }

    #[test]
    fn errors_come_where_they_happened() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let bytes = vec![1; 2 * PIECE];
        let (read, _) = read(bytes.as_slice().chain(Broken));
        assert_eq!(read.unwrap_err().to_string(), "broken");
    }

    #[test]
    fn work_that_gives_up_ends_the_reader() {
        let endless = io::repeat(0);
        let given_up = || Error::Read { what: "it".into(), source: io::Error::other("given up") };
        let result: Result<((), Seen)> = read_ahead(endless, |mut ahead| {
            ahead.read_exact(&mut [0; 10]).unwrap();
            Err(given_up())
        });
        assert!(result.is_err());
    }
}
