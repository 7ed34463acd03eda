//! From the async body of a layer to the extractor, which blocks.

use bytes::Bytes;
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

/// Pieces that may wait for the extractor; the client reads at most 256 KiB at once.
const WAITING: usize = 8;

enum Piece {
    Bytes(Bytes),
    End,
}

/// The end that is fed.
pub(super) struct Feed {
    pieces: mpsc::Sender<Piece>,
    eaten: Arc<AtomicU64>,
}

/// The end that is read, from a thread that may block.
pub(super) struct Source {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
    eaten: Arc<AtomicU64>,
}

/// Whether there is anybody to feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    Yes,
    /// The reader gave up.
    Refused,
}

/// Both ends.
pub(super) fn pair() -> (Feed, Source) {
    let (sender, pieces) = mpsc::channel(WAITING);
    let eaten = Arc::new(AtomicU64::new(0));
    let source = Source { pieces, piece: Bytes::new(), ended: false, eaten: Arc::clone(&eaten) };
    (Feed { pieces: sender, eaten }, source)
}

impl Feed {
    /// Waits while the reader is behind.
    pub(super) async fn give(&self, bytes: Bytes) -> Fed {
        self.send(Piece::Bytes(bytes)).await
    }

    /// All was given, and it is what it should be. Without this the reader meets an error.
    pub(super) async fn end(&self) -> Fed {
        self.send(Piece::End).await
    }

    /// Bytes that were read so far.
    pub(super) fn eaten(&self) -> u64 {
        self.eaten.load(Ordering::Relaxed)
    }

    async fn send(&self, piece: Piece) -> Fed {
        if self.pieces.send(piece).await.is_ok() { Fed::Yes } else { Fed::Refused }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.piece = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::other("the download was given up")),
            }
        }
        let take = self.piece.len().min(into.len());
        into[..take].copy_from_slice(&self.piece.split_to(take));
        self.eaten.fetch_add(take as u64, Ordering::Relaxed);
        Ok(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(source: Source) -> io::Result<Vec<u8>> {
        let mut source = source;
        let work = move || {
            let mut all = Vec::new();
            source.read_to_end(&mut all).map(|_| all)
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    #[tokio::test]
    async fn only_an_end_that_was_said_is_one() {
        let (feed, source) = pair();
        let reader = tokio::spawn(read(source));
        feed.give(Bytes::from_static(b"ab")).await;
        feed.give(Bytes::from_static(b"c")).await;
        assert_eq!(feed.end().await, Fed::Yes);
        assert_eq!(reader.await.unwrap().unwrap(), b"abc");
        assert_eq!(feed.eaten(), 3);
        assert_eq!(feed.give(Bytes::from_static(b"d")).await, Fed::Refused);

        let (feed, source) = pair();
        feed.give(Bytes::from_static(b"ab")).await;
        drop(feed);
        assert!(read(source).await.is_err());
    }
}
