//! Tar archives in and out, safely.
//!
//! Role: what crosses the border as an archive (layers, `docker save`, `cp`, build contexts) is read and
//! written here, and only here.
//!
//! Entry points: [`Reader`] gives entries and, when asked, every byte that is not file content, so that
//! `store::tarsplit` can rebuild the archive; [`Writer`] chooses formats as Go's `archive/tar` does;
//! [`Extractor`] puts entries into a directory; [`pack`] makes an archive of a directory;
//! [`Decompressor`] recognises compression by its first bytes.
//!
//! Files on disk: only below the directory descriptor a caller passes.
//!
//! Invariants: no entry is written outside that directory, whatever names, links or earlier entries say
//! (each parent directory is opened with `openat2(RESOLVE_IN_ROOT)`, the last component is never
//! followed). What an archive says about sizes is a claim: extension headers are limited to 1 MiB, nothing
//! is allocated by a declared size.
#![forbid(unsafe_code)]

mod bzip2;
mod compress;
mod deflate;
mod directories;
mod error;
mod extract;
mod gzip;
mod header;
#[cfg(test)]
mod hostile;
mod manifest;
mod metadata;
mod numeric;
mod open;
mod pack;
mod path;
mod pax;
mod reader;
mod remove;
mod sparse;
#[cfg(test)]
mod tests;
mod whiteout;
mod writer;

pub use compress::{Compression, Decompressor, Encoder, Encoding};
pub use error::Error;
pub use extract::{Extracted, Extractor, Links, Options, Overwrite, Owner, unpack};
pub use gzip::GzipWriter;
pub use header::{Extent, Header, Kind, Time};
pub use manifest::{Changes, Manifest, Stamp};
pub use open::open_regular;
pub use pack::{Attributes, Devices, Filter, Keep, PackOptions, Packer, WriteWhiteouts, pack};
pub use path::{clean, is_local};
pub use reader::{Content, Reader};
pub use remove::remove_tree;
pub use whiteout::{OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX, Whiteouts};
pub use writer::Writer;

/// The unit of tar.
pub(crate) const BLOCK: usize = 512;

/// Limit of an extension header's data, libarchive's and Go's.
pub(crate) const MAX_SPECIAL: usize = 1 << 20;
