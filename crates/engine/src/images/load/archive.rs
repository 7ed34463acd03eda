//! Reading the archive once: small files into memory, layers into the store, the rest aside.

use super::{Report, invalid};
use crate::{
    Error, Result,
    images::{Inner, store_error},
};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek, Write},
};
use wharf_archive::{Decompressor, Header, Kind, Reader, clean};
use wharf_spec::{DiffId, Digest};
use wharf_store::{Hashing, Unpacked};

/// Larger JSON is put aside.
const IN_MEMORY: u64 = 4 << 20;
/// JSON is not read when it is larger.
const JSON_LIMIT: u64 = 64 << 20;
/// An archive of more files than any image has.
const MAX_FILES: usize = 100_000;
const LINKS: usize = 8;
/// All JSON in memory.
const MEMORY: u64 = 128 << 20;

/// How often a client hears of progress.
const STEP: u64 = 1 << 20;

/// What was in the archive, by cleaned path.
pub(super) struct Archive {
    files: HashMap<Vec<u8>, Part>,
    /// Bytes that may still be kept in memory.
    memory: u64,
}

enum Part {
    Bytes(Vec<u8>),
    /// Put aside, in a file without a name.
    Aside(File),
    /// Extracted. An archive that is no layer may look like one, so the error waits until it is needed.
    Layer(Result<Unpacked>),
    /// Extracted and registered, or skipped because it is in the store.
    Known(DiffId),
    /// Another path.
    Link(Vec<u8>),
}

impl Archive {
    pub(super) fn read(inner: &Inner, source: impl Read + Send, report: &Report) -> Result<Self> {
        let failed = |error: wharf_archive::Error| store_error(error.into());
        let mut reader = Reader::new(Decompressor::new(source).map_err(failed)?);
        let mut archive = Self { files: HashMap::new(), memory: MEMORY };
        while let Some(header) = reader.next_entry().map_err(failed)? {
            let name = relative(&header.name);
            let part = match header.kind {
                Kind::Regular => archive.part(inner, &name, &header, reader.logical(&header), report)?,
                Kind::Symlink => {
                    let parent = name.rsplitn(2, |&byte| byte == b'/').nth(1).unwrap_or_default();
                    Part::Link(relative(&[parent, b"/", &header.link].concat()))
                }
                Kind::HardLink => Part::Link(relative(&header.link)),
                _ => continue,
            };
            if archive.files.len() >= MAX_FILES {
                return Err(invalid("invalid archive: too many files"));
            }
            archive.files.insert(name, part);
        }
        Ok(archive)
    }

    /// Decides what a file is by its name and first bytes.
    fn part(
        &mut self,
        inner: &Inner,
        name: &[u8],
        header: &Header,
        mut data: impl Read + Send,
        report: &Report,
    ) -> Result<Part> {
        let io = |source: io::Error| Error::Os { step: "read archive", source };
        let digest = blob_digest(name);
        if let Some(known) = digest.and_then(|digest| known_layer(inner, &digest)) {
            return Ok(Part::Known(known));
        }
        let mut first = Vec::with_capacity(512);
        data.by_ref().take(512).read_to_end(&mut first).map_err(io)?;
        let is_json = looks_like_json(&first);
        let whole = Cursor::new(first).chain(data);
        match digest {
            Some(digest) if !is_json => {
                let hex = digest.hex();
                let watched =
                    Watched { source: whole, read: 0, told: 0, size: header.size, id: &hex[..12], report };
                Ok(Part::Layer(checked_layer(inner, watched, digest)))
            }
            _ if header.size <= IN_MEMORY.min(self.memory) && (is_json || !name.ends_with(b"layer.tar")) => {
                self.memory -= header.size;
                let mut bytes = Vec::new();
                { whole }.read_to_end(&mut bytes).map_err(io)?;
                Ok(Part::Bytes(bytes))
            }
            _ => put_aside(inner, whole),
        }
    }

    /// A small file; `None` when it is not there.
    pub(super) fn bytes(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let path = self.follow(path)?;
        match self.files.get_mut(&path) {
            None => Ok(None),
            Some(Part::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(Part::Aside(file)) => {
                let io = |source| Error::Os { step: "read archive", source };
                file.rewind().map_err(io)?;
                let mut bytes = Vec::new();
                file.take(JSON_LIMIT + 1).read_to_end(&mut bytes).map_err(io)?;
                if bytes.len() as u64 > JSON_LIMIT {
                    return Err(invalid(format!("invalid archive: {} is too large", text(&path))));
                }
                Ok(Some(bytes))
            }
            Some(_) => Err(invalid(format!("invalid archive: {} is a layer", text(&path)))),
        }
    }

    /// A file that has to be there.
    pub(super) fn required(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.bytes(path)?.ok_or_else(|| missing(path))
    }

    /// A layer, extracted and ready to be put on its parent.
    pub(super) fn layer(
        &mut self,
        inner: &Inner,
        path: &[u8],
        contents: DiffId,
        report: &Report,
    ) -> Result<Unpacked> {
        let path = self.follow(path)?;
        let part = self.files.remove(&path).ok_or_else(|| missing(&path))?;
        let unpacked = match part {
            Part::Layer(unpacked) => unpacked?,
            Part::Known(known) => again(inner, known)?,
            Part::Aside(mut file) => {
                let io = |source| Error::Os { step: "read archive", source };
                let size = file.metadata().map_err(io)?.len();
                file.rewind().map_err(io)?;
                let id = contents.hex();
                let source = Watched { source: &mut file, read: 0, told: 0, size, id: &id[..12], report };
                let unpacked = unpack(inner, source)?;
                // Other images may want it on another parent.
                self.files.insert(path, Part::Aside(file));
                return Ok(unpacked);
            }
            Part::Bytes(bytes) => {
                let unpacked = unpack(inner, bytes.as_slice())?;
                self.files.insert(path, Part::Bytes(bytes));
                return Ok(unpacked);
            }
            Part::Link(_) => return Err(missing(&path)),
        };
        self.files.insert(path, Part::Known(unpacked.diff_id));
        Ok(unpacked)
    }

    /// Where links lead.
    fn follow(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut path = relative(path);
        for _ in 0..LINKS {
            match self.files.get(&path) {
                Some(Part::Link(target)) => path.clone_from(target),
                _ => return Ok(path),
            }
        }
        Err(invalid(format!("invalid archive: {} is a link without end", text(&path))))
    }
}

/// A layer's first file may have a name that begins like JSON.
fn looks_like_json(first: &[u8]) -> bool {
    let begins =
        first.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|b| matches!(b, b'{' | b'['));
    begins && first.get(257..262) != Some(b"ustar")
}

/// `blobs/sha256/<hex>` of an image layout.
fn blob_digest(name: &[u8]) -> Option<Digest> {
    let hex = name.strip_prefix(b"blobs/sha256/")?;
    Digest::from_hex(std::str::from_utf8(hex).ok()?).ok()
}

/// A layer in the store that this blob is, plain or compressed. What is skipped is not checked, no more
/// than Docker does.
fn known_layer(inner: &Inner, blob: &Digest) -> Option<DiffId> {
    let plain = DiffId(*blob);
    let known = |layer: DiffId| inner.store.layers.with_contents(layer).map(|layer| layer.diff_id);
    known(plain).or_else(|| known(inner.store.distribution.layer_of(blob)?))
}

/// Extracts a blob and checks that it is the one its name says.
fn checked_layer(inner: &Inner, blob: impl Read + Send, expected: Digest) -> Result<Unpacked> {
    let mut hashing = Hashing::new(blob);
    let unpacked = unpack(inner, &mut hashing)?;
    io::copy(&mut hashing, &mut io::sink()).map_err(|source| Error::Os { step: "read archive", source })?;
    let (actual, _) = hashing.finish();
    if actual == expected {
        if unpacked.diff_id.0 != expected {
            // Compressed: next time it can be skipped.
            inner.store.distribution.note_layer(&expected, unpacked.diff_id).map_err(store_error)?;
        }
        return Ok(unpacked);
    }
    let what = format!("blob {expected} of the archive");
    Err(store_error(wharf_store::Error::DigestMismatch { what, expected, actual }))
}

fn unpack(inner: &Inner, blob: impl Read + Send) -> Result<Unpacked> {
    let plain = Decompressor::new(blob).map_err(|error| store_error(error.into()))?;
    inner.store.layers.unpack(plain).map_err(store_error)
}

/// The layer is in the store, on another parent.
fn again(inner: &Inner, contents: DiffId) -> Result<Unpacked> {
    let layer = inner.store.layers.with_contents(contents);
    let layer = layer.ok_or_else(|| invalid(format!("layer {contents} was removed meanwhile")))?;
    inner.store.layers.unpack_again(&layer).map_err(store_error)
}

/// Into a file that goes with its descriptor.
fn put_aside(inner: &Inner, mut data: impl Read) -> Result<Part> {
    use rustix::fs::{Mode, OFlags};
    let directory = inner.config.data_root.join("tmp");
    let file = rustix::fs::open(
        &directory,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
    .map_err(|error| Error::Io {
        step: "make temporary file in",
        path: directory,
        source: error.into(),
    })?;
    let mut file = File::from(file);
    let io = |source| Error::Os { step: "put archive aside", source };
    io::copy(&mut BufReader::with_capacity(256 << 10, data.by_ref()), &mut file).map_err(io)?;
    file.flush().map_err(io)?;
    Ok(Part::Aside(file))
}

/// Tells how much was read.
struct Watched<'r, R> {
    source: R,
    read: u64,
    told: u64,
    size: u64,
    id: &'r str,
    report: &'r Report,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        self.read += read as u64;
        let is_end = read == 0 && self.told < self.read;
        if is_end || self.read - self.told >= STEP {
            self.told = self.read;
            self.report.layer(self.id, self.read, self.size);
        }
        Ok(read)
    }
}

/// Without leading slashes, `.` and `..`.
fn relative(path: &[u8]) -> Vec<u8> {
    let rooted = clean(&[b"/", path].concat());
    rooted[1..].to_vec()
}

fn missing(path: &[u8]) -> Error {
    invalid(format!("invalid archive: does not contain {}", text(path)))
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}
