//! Bytes from a blocking writer to an async reader.

use crate::images::ByteStream;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Bytes are gathered up to this size before they are handed over.
const CHUNK: usize = 64 << 10;
/// Chunks under way: a reader that does not read stops the writer.
const DEPTH: usize = 4;

/// The writing end: a `Write` for blocking threads. Dropping it after an error leaves the stream cut off;
/// [`Write::flush`] hands over what is gathered.
pub(crate) struct StreamWriter {
    buffer: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
}

/// A writer and the stream of what is written to it.
pub(crate) fn channel() -> (StreamWriter, ByteStream) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let stream = stream::unfold(receiver, |mut receiver| async {
        let chunk = receiver.recv().await?;
        Some((Ok(chunk), receiver))
    });
    (StreamWriter { buffer: Vec::with_capacity(CHUNK), sender }, stream.boxed())
}

impl Write for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK)));
        self.sender.blocking_send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_written_arrives_in_order() {
        let (mut writer, stream) = channel();
        let thread = std::thread::spawn(move || {
            for n in 0..100_000u32 {
                writer.write_all(&n.to_le_bytes()).unwrap();
            }
            writer.flush().unwrap();
        });
        let chunks: Vec<_> = stream.map(|c| c.unwrap()).collect().await;
        thread.join().unwrap();
        let all = chunks.concat();
        assert_eq!(all.len(), 400_000);
        assert!(all.chunks(4).enumerate().all(|(n, c)| c == (n as u32).to_le_bytes()));
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_stops_the_writer() {
        let (mut writer, stream) = channel();
        drop(stream);
        let written = tokio::task::spawn_blocking(move || writer.write_all(&[0; CHUNK]));
        assert!(written.await.unwrap().is_err());
    }
}
