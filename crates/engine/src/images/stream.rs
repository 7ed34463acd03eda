//! Between a client's byte stream and work that blocks.

use super::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use std::io::{self, Read, Write};
use tokio::{runtime::Handle, sync::mpsc};

/// Pieces of this size go to a client; a few of them may wait for it.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// Reads a stream from a thread that may block.
pub(crate) struct StreamReader {
    stream: ByteStream,
    piece: Bytes,
    runtime: Handle,
}

impl StreamReader {
    /// Made in async code, used outside of it.
    pub(crate) fn new(stream: ByteStream) -> Self {
        Self { stream, piece: Bytes::new(), runtime: Handle::current() }
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
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let take = self.piece.len().min(into.len());
        into[..take].copy_from_slice(&self.piece.split_to(take));
        Ok(take)
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
