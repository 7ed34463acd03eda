//! Between a client's byte stream and work that blocks.

use super::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use std::{
    io::{self, Read, Write},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::AbortOnDropHandle;

/// Pieces of this size go to a client or come from it; a few of them may wait.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(1);

/// Reads a stream from a thread that may block.
///
/// A client sends pieces of 32 KiB. To hand each to another thread costs more than to read it, so a task beside
/// the connection's collects them.
pub(crate) struct StreamReader {
    batches: mpsc::Receiver<io::Result<Batch>>,
    batch: Batch,
    piece: Bytes,
    _collector: AbortOnDropHandle<()>,
}

/// Pieces in the order they are taken, each as it came.
type Batch = std::collections::VecDeque<Bytes>;

impl StreamReader {
    /// Made in async code, used outside of it.
    pub(crate) fn new(stream: ByteStream) -> Self {
        let (sender, batches) = mpsc::channel(WAITING);
        let collector = AbortOnDropHandle::new(tokio::spawn(collect(stream, sender)));
        Self { batches, batch: Batch::new(), piece: Bytes::new(), _collector: collector }
    }

    /// Does something with the stream, and then reads what is left of it: a client that still sends does not hear
    /// what became of it.
    pub(crate) fn exhausted_by<T, E>(
        mut self,
        work: impl FnOnce(&mut Self) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let done = work(&mut self);
        // It may be the stream itself that failed.
        let _ = io::copy(&mut self, &mut io::sink());
        done
    }
}

impl Read for StreamReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if let Some(piece) = self.batch.pop_front() {
                self.piece = piece;
            } else {
                match self.batches.blocking_recv() {
                    None => return Ok(0),
                    Some(batch) => self.batch = batch?,
                }
            }
        }
        let take = self.piece.len().min(into.len());
        into[..take].copy_from_slice(&self.piece.split_to(take));
        Ok(take)
    }
}

/// Batches of a stream, until it ends or nobody wants more.
async fn collect(mut stream: ByteStream, batches: mpsc::Sender<io::Result<Batch>>) {
    while let Some(first) = stream.next().await {
        let (mut batch, mut bytes, mut failed) = (Batch::new(), 0, None);
        let mut next = Some(first);
        while let Some(piece) = next.take() {
            match piece {
                Ok(piece) => {
                    bytes += piece.len();
                    batch.push_back(piece);
                }
                Err(error) => failed = Some(error),
            }
            if bytes < PIECE && failed.is_none() {
                next = timeout(LINGER, stream.next()).await.unwrap_or_default();
            }
        }
        let is_last = failed.is_some();
        for batch in [Some(Ok(batch)), failed.map(Err)].into_iter().flatten() {
            if batches.send(batch).await.is_err() {
                return;
            }
        }
        if is_last {
            return;
        }
    }
}

/// Writes to a stream from a thread that may block. A client that left is a broken pipe.
pub(crate) struct StreamWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl StreamWriter {
    /// Both ends.
    pub(crate) fn new() -> (Self, ByteStream) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let next = |mut receiver: mpsc::Receiver<_>| async move { Some((receiver.recv().await?, receiver)) };
        (Self { sender, buffer: BytesMut::new() }, stream::unfold(receiver, next).boxed())
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) {
        // Nobody to tell when the client left.
        let _ = self.sender.blocking_send(Err(io::Error::other(error)));
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            // Once a piece, and not in steps that each copy what there is.
            self.buffer.reserve(PIECE);
        }
        let take = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..take]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(pieces: Vec<io::Result<Bytes>>) -> (Vec<u8>, Option<String>) {
        let mut reader = StreamReader::new(stream::iter(pieces).boxed());
        let work = move || {
            let mut all = Vec::new();
            let error = reader.read_to_end(&mut all).err();
            (all, error.map(|error| error.to_string()))
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    #[tokio::test]
    async fn pieces_come_in_their_order_and_errors_where_they_were() {
        let piece = |at: usize| Bytes::from(vec![at as u8; at * 1000]);
        let whole: Vec<u8> = (0..200).flat_map(piece).collect();
        assert_eq!(read((0..200).map(|at| Ok(piece(at))).collect()).await, (whole.clone(), None));
        let broken = (0..200).map(|at| Ok(piece(at))).chain([Err(io::Error::other("broken"))]);
        assert_eq!(read(broken.collect()).await, (whole, Some("broken".into())));
        assert_eq!(read(Vec::new()).await, (Vec::new(), None));
    }

    #[tokio::test]
    async fn what_came_is_not_kept_back_for_more() {
        let (sender, receiver) = mpsc::channel(1);
        let pieces = stream::unfold(receiver, |mut receiver: mpsc::Receiver<_>| async move {
            Some((receiver.recv().await?, receiver))
        });
        let mut reader = StreamReader::new(pieces.boxed());
        sender.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
        // The sender is still there: the stream has no end yet.
        let work = move || reader.read(&mut [0; 100]).unwrap();
        assert_eq!(tokio::task::spawn_blocking(work).await.unwrap(), 5);
        drop(sender);
    }
}
