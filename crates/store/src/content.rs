//! Blobs by digest: what Docker's layout has no place for (manifests, downloads on their way).
//!
//! ```text
//! wharf/content/sha256/<hex>    complete, checked
//! wharf/content/ingest/<name>   on its way; named by the digest it should get, it can be resumed
//! ```

use crate::{Error, Result, digest::into_digest, files};
use ring::digest::{Context, SHA256};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use wharf_spec::Digest;

/// The directory `wharf/content`.
pub struct Content {
    blobs: PathBuf,
    ingest: PathBuf,
}

impl Content {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let (blobs, ingest) = (root.join("sha256"), root.join("ingest"));
        for name in files::names(&ingest)? {
            // What has no digest for a name can never be found again.
            if Digest::from_hex(&name).is_err() {
                let _ = std::fs::remove_file(ingest.join(name));
            }
        }
        Ok(Self { blobs, ingest })
    }

    /// Starts a blob whose digest is not known yet.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn ingest(&self) -> Result<Ingest<'_>> {
        self.start(&format!("new-{}", &files::random_id()[..16]), None)
    }

    /// Starts a blob, or goes on where an earlier attempt ended; see [`Ingest::offset`].
    ///
    /// # Errors
    /// When the disk fails.
    pub fn resume(&self, expected: Digest) -> Result<Ingest<'_>> {
        self.start(&expected.hex(), Some(expected))
    }

    fn start(&self, name: &str, expected: Option<Digest>) -> Result<Ingest<'_>> {
        files::make_directory(&self.ingest, 0o700)?;
        files::make_directory(&self.blobs, 0o700)?;
        let path = self.ingest.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(Error::file("open", &path))?;
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; 128 << 10];
        let mut offset = 0;
        loop {
            match file.read(&mut buffer).map_err(Error::file("read", &path))? {
                0 => break,
                read => {
                    context.update(&buffer[..read]);
                    offset += read as u64;
                }
            }
        }
        Ok(Ingest {
            content: self,
            file: HashingWriter { out: file, context, bytes: offset },
            path,
            expected,
        })
    }

    /// Whether a blob is there.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.blobs.join(digest.hex()).exists()
    }

    /// A small blob, checked.
    ///
    /// # Errors
    /// When it is not there, or not what its name says: the error names it.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let raw = match files::optional(files::read(&self.blobs.join(digest.hex())))? {
            None => return Err(Error::NoContent(*digest)),
            Some(raw) => raw,
        };
        let actual = crate::sha256(&raw);
        if actual == *digest { Ok(raw) } else { Err(mismatch(*digest, actual)) }
    }

    /// A blob as a stream. Reading the end of one that is not what its name says is an error.
    ///
    /// # Errors
    /// When it is not there.
    pub fn reader(&self, digest: &Digest) -> Result<impl Read + use<>> {
        let path = self.blobs.join(digest.hex());
        match File::open(&path) {
            Ok(file) => Ok(Verifying { file, context: Some(Context::new(&SHA256)), expected: *digest }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoContent(*digest)),
            Err(error) => Err(Error::file("open", path)(error)),
        }
    }

    /// Removes a blob; none is fine.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        files::remove_file(&self.blobs.join(digest.hex()))
    }
}

fn mismatch(expected: Digest, actual: Digest) -> Error {
    Error::DigestMismatch { what: format!("content {expected}"), expected, actual }
}

/// A blob being written.
pub struct Ingest<'c> {
    content: &'c Content,
    file: HashingWriter<File>,
    path: PathBuf,
    expected: Option<Digest>,
}

impl Ingest<'_> {
    /// Bytes written so far, by earlier attempts too.
    pub fn offset(&self) -> u64 {
        self.file.bytes
    }

    /// Starts over, when the source cannot go on from the middle.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn restart(&mut self) -> Result<()> {
        self.file.out.set_len(0).map_err(Error::file("truncate", &self.path))?;
        self.file.out.seek(SeekFrom::Start(0)).map_err(Error::file("seek", &self.path))?;
        (self.file.context, self.file.bytes) = (Context::new(&SHA256), 0);
        Ok(())
    }

    /// Gives the blob its name. Without a digest to fulfil, it is what it is.
    ///
    /// # Errors
    /// When it has not the digest it should have: it is removed then.
    pub fn commit(self) -> Result<Digest> {
        let (actual, _) = self.file.finish();
        if let Some(expected) = self.expected.filter(|expected| *expected != actual) {
            let _ = std::fs::remove_file(&self.path);
            return Err(mismatch(expected, actual));
        }
        let path = self.content.blobs.join(actual.hex());
        files::rename(&self.path, &path)?;
        Ok(actual)
    }
}

impl Write for Ingest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Digests what is written through it.
pub struct HashingWriter<W> {
    out: W,
    context: Context,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Nothing written yet.
    pub fn new(out: W) -> Self {
        Self { out, context: Context::new(&SHA256), bytes: 0 }
    }

    /// Digest and number of the bytes written.
    pub fn finish(self) -> (Digest, u64) {
        let (_, digest, bytes) = self.into_parts();
        (digest, bytes)
    }

    /// The destination, and what [`Self::finish`] gives.
    pub fn into_parts(self) -> (W, Digest, u64) {
        (self.out, into_digest(self.context.finish()), self.bytes)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.context.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A stream that ends with an error when it was not what it should have been.
struct Verifying {
    file: File,
    context: Option<Context>,
    expected: Digest,
}

impl Read for Verifying {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        if read > 0 {
            if let Some(context) = &mut self.context {
                context.update(&into[..read]);
            }
        } else if !into.is_empty()
            && let Some(context) = self.context.take()
        {
            let actual = into_digest(context.finish());
            if actual != self.expected {
                return Err(io::Error::other(mismatch(self.expected, actual)));
            }
        }
        Ok(read)
    }
}
