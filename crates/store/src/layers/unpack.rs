//! Extracting a layer: files, record and digest in one pass over its archive.

use super::{Layers, record::TAR_SPLIT};
use crate::{
    Error, Result,
    ahead::{Ahead, read_ahead},
    crc64::Crc64,
    files,
    tarsplit::{CHUNK, Recorder},
    union,
};
use flate2::{Compression, write::GzEncoder};
use std::{
    fs::File,
    io::{self, BufRead, BufWriter, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_archive::{Extractor, Header, Kind, Options, Reader, WHITEOUT_PREFIX, Whiteouts};
use wharf_spec::{DiffId, plan::IdMaps};
use wharf_sys::fault;

/// An extracted layer that stands on nothing yet. Dropping it removes it.
pub struct Unpacked {
    layers: Option<Arc<Layers>>,
    record: PathBuf,
    /// Name of its directory below `overlay2`.
    pub cache_id: String,
    /// Digest of the archive.
    pub diff_id: DiffId,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes of the archive.
    pub archive_size: u64,
}

impl Unpacked {
    pub(super) fn record(&self) -> &Path {
        &self.record
    }

    /// It has become a layer.
    pub(super) fn keep(mut self) {
        self.layers = None;
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let Some(layers) = &self.layers else { return };
        let removed = layers.overlay.remove(&self.cache_id).and_then(|()| files::remove_tree(&self.record));
        if let Err(error) = removed {
            tracing::warn!(cache_id = self.cache_id, %error, "could not remove an extracted layer");
        }
    }
}

type RecordFile = Recorder<GzEncoder<BufWriter<File>>>;

impl Layers {
    /// Extracts an uncompressed archive, which is read on a thread of its own.
    ///
    /// # Errors
    /// When the archive is damaged or would leave the layer, or the disk fails. Nothing is left then.
    pub fn unpack(self: &Arc<Self>, archive: impl Read + Send) -> Result<Unpacked> {
        let cache_id = files::random_id();
        let record = self.records.start(&cache_id)?;
        let mut unpacked = Unpacked {
            layers: Some(self.clone()),
            record,
            cache_id,
            diff_id: DiffId(crate::sha256(b"")),
            size: 0,
            archive_size: 0,
        };
        self.overlay.create(&unpacked.cache_id)?;
        let path = unpacked.record.join(TAR_SPLIT);
        // A record is mostly zeros and base64: more effort than this buys little.
        let gzip = GzEncoder::new(BufWriter::new(files::create(&path, 0o644)?), Compression::new(1));
        let diff = files::open_directory(&self.overlay.diff(&unpacked.cache_id))?;
        let ((recorder, extracted), seen) = read_ahead(archive, |archive| {
            let mut pass = Pass::new(archive, &diff, Recorder::new(gzip), self.ids.clone())?;
            while pass.entry()? {}
            pass.finish()
        })?;
        let finished = recorder.into_inner().finish().and_then(|buffer| Ok(buffer.into_inner()?));
        finished.map_err(Error::file("write", path))?;
        unpacked.diff_id = DiffId(seen.digest);
        unpacked.archive_size = seen.bytes;
        unpacked.size = if extracted.replaced { union::tree_size(diff)? } else { extracted.bytes };
        Ok(unpacked)
    }
}

struct Pass {
    reader: Reader<Ahead>,
    extractor: Extractor,
    recorder: RecordFile,
}

impl Pass {
    fn new(archive: Ahead, diff: &OwnedFd, recorder: RecordFile, ids: Option<Arc<IdMaps>>) -> Result<Self> {
        let options = Options { whiteouts: Whiteouts::Overlay, ids, ..Options::default() };
        let extractor = Extractor::new(diff.as_fd(), options)?;
        Ok(Self { reader: Reader::with_raw(archive), extractor, recorder })
    }

    /// Whether there was one.
    fn entry(&mut self) -> Result<bool> {
        let Some(header) = self.reader.next_entry()? else { return Ok(false) };
        fault::point("layer.entry").map_err(Error::file("extract", "a layer's entry"))?;
        self.recorder.segment(&self.reader.take_raw())?;
        if becomes_a_file(&header) {
            let mut data = Checked { data: self.reader.content(), crc: Crc64::default() };
            self.extractor.entry(&header, &mut data)?;
            data.drain()?;
            let crc = data.crc;
            self.recorder.file(&header.name, header.size, crc)?;
        } else {
            self.recorder.file(&header.name, 0, Crc64::default())?;
            let mut data =
                Captured { data: self.reader.content(), recorder: &mut self.recorder, failed: None };
            let extracted = self.extractor.entry(&header, &mut data);
            data.failed.take().map_or(Ok(()), Err)?;
            extracted?;
            data.drain()?;
        }
        Ok(true)
    }

    /// What is after the last entry.
    fn finish(mut self) -> Result<(RecordFile, wharf_archive::Extracted)> {
        self.recorder.segment(&self.reader.take_raw())?;
        let recorder = &mut self.recorder;
        self.reader.drain_tail(CHUNK, |piece| recorder.segment(piece))?;
        Ok((self.recorder, self.extractor.finish()?))
    }
}

/// Whether the data can be read back from the extracted file later.
fn becomes_a_file(header: &Header) -> bool {
    let cleaned = wharf_archive::clean(&header.name);
    let name = cleaned.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    header.kind == Kind::Regular
        && header.sparse.is_none()
        && !name.starts_with(WHITEOUT_PREFIX)
        && name != b"."
}

/// Data of a file, its checksum made in passing.
struct Checked<D> {
    data: D,
    crc: Crc64,
}

impl<D: BufRead> Checked<D> {
    fn drain(&mut self) -> Result<()> {
        drain(self)
    }
}

impl<D: BufRead> BufRead for Checked<D> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.data.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        // The buffer is full up to what is consumed, so this reads nothing.
        if let Ok(buffer) = self.data.fill_buf() {
            self.crc.update(&buffer[..bytes.min(buffer.len())]);
        }
        self.data.consume(bytes);
    }
}

impl<D: BufRead> Read for Checked<D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

/// Data that no file will have, put into the record in passing.
struct Captured<'r, D> {
    data: D,
    recorder: &'r mut RecordFile,
    failed: Option<Error>,
}

impl<D: BufRead> Captured<'_, D> {
    fn drain(mut self) -> Result<()> {
        drain(&mut self)?;
        self.failed.map_or(Ok(()), Err)
    }
}

impl<D: BufRead> BufRead for Captured<'_, D> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.data.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        if let Ok(buffer) = self.data.fill_buf()
            && self.failed.is_none()
        {
            self.failed = self.recorder.segment(&buffer[..bytes.min(buffer.len())]).err();
        }
        self.data.consume(bytes);
    }
}

impl<D: BufRead> Read for Captured<'_, D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

fn read_buffered(data: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
    let buffer = data.fill_buf()?;
    let take = buffer.len().min(into.len());
    into[..take].copy_from_slice(&buffer[..take]);
    data.consume(take);
    Ok(take)
}

fn drain(data: &mut impl BufRead) -> Result<()> {
    loop {
        let length =
            data.fill_buf().map_err(|source| Error::Read { what: "a layer's archive".into(), source })?.len();
        if length == 0 {
            return Ok(());
        }
        data.consume(length);
    }
}
