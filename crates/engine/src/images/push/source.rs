//! The bytes of a layer as they are sent: its archive, rebuilt and compressed on the way.

use crate::{
    Error, Result,
    images::{ByteStream, StreamWriter, store_error},
};
use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::task::JoinHandle;
use wharf_archive::GzipWriter;
use wharf_spec::Digest;
use wharf_store::{HashingWriter, Layer, Layers};

/// What was made of a layer.
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A layer that is being compressed.
pub(super) struct Source {
    /// The compressed bytes from `skip` on.
    pub(super) stream: ByteStream,
    /// How far the archive is read.
    pub(super) read: Arc<AtomicU64>,
    /// Digest and size of the whole, once all is made: the stream alone does not tell a layer that is whole
    /// from one that could not be read further.
    pub(super) blob: JoinHandle<Result<Blob>>,
}

impl Source {
    /// Begins. The same layer always gives the same bytes, so that those the registry has (`skip`) need not
    /// be kept to go on after a broken connection.
    pub(super) fn start(layers: &Arc<Layers>, layer: &Layer, skip: u64) -> Self {
        let (writer, stream) = StreamWriter::new();
        let read = Arc::new(AtomicU64::new(0));
        let (layers, layer, counter) = (Arc::clone(layers), layer.clone(), Arc::clone(&read));
        let blob = tokio::task::spawn_blocking(move || {
            let out = HashingWriter::new(Skip { out: writer, left: skip });
            make(&layers, &layer, out, &counter)
        });
        Self { stream, read, blob }
    }
}

fn make(
    layers: &Layers,
    layer: &Layer,
    out: HashingWriter<Skip<StreamWriter>>,
    read: &AtomicU64,
) -> Result<Blob> {
    let plain = Counting { out: GzipWriter::new(out), read };
    let mut plain = HashingWriter::new(plain);
    layers.write_tar(layer.chain_id, &mut plain).map_err(store_error)?;
    let (Counting { out: gzip, .. }, found, _) = plain.into_parts();
    if found != layer.diff_id.0 {
        let what = format!("layer {}", layer.chain_id);
        let (expected, actual) = (layer.diff_id.0, found);
        return Err(store_error(wharf_store::Error::DigestMismatch { what, expected, actual }));
    }
    let mut out = gzip.finish().map_err(|error| store_error(error.into()))?;
    out.flush().map_err(|source| Error::Os { step: "compress", source })?;
    let (digest, size) = out.finish();
    Ok(Blob { digest, size })
}

/// Leaves the first bytes out.
struct Skip<W> {
    out: W,
    left: u64,
}

impl<W: Write> Write for Skip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return self.out.write(bytes);
        }
        let skipped = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= skipped as u64;
        Ok(skipped)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Counts what goes through.
struct Counting<'a, W> {
    out: W,
    read: &'a AtomicU64,
}

impl<W: Write> Write for Counting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.read.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_left_out() {
        let mut skip = Skip { out: Vec::new(), left: 5 };
        for piece in [&b"abc"[..], b"defg", b"h"] {
            skip.write_all(piece).unwrap();
        }
        assert_eq!(skip.out, b"fgh");
    }
}
