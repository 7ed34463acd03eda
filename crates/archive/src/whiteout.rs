//! Deletions in layers: files named `.wh.<name>` in archives, character devices 0/0 on overlayfs
//! (source: OCI image-spec, layer.md, "Whiteouts"; kernel overlayfs.rst; moby
//! `go-archive/archive_linux.go`).

use crate::{Error, error::lossy};

/// A deletion's name in an archive starts with it.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The file that makes a directory opaque: nothing of the layers below shows in it.
pub const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// The attribute that does the same on overlayfs; its value is `y`.
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What extraction does with deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Whiteouts {
    /// They are files like others.
    #[default]
    Keep,
    /// They become what overlayfs understands.
    Overlay,
}

/// What an entry's last component means in a layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'n> {
    /// A file.
    Plain,
    /// The directory it stands in is opaque.
    Opaque,
    /// This name is deleted.
    Deleted(&'n [u8]),
    /// Left behind by AUFS.
    Metadata,
}

/// Reads the last component of a name.
pub(crate) fn meaning(name: &[u8]) -> Result<Meaning<'_>, Error> {
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Meaning::Plain),
        Some(b"" | b"." | b"..") => Err(Error::Whiteout(lossy(name))),
        Some(_) if name == OPAQUE_MARKER => Ok(Meaning::Opaque),
        Some(rest) if rest.starts_with(WHITEOUT_PREFIX) => Ok(Meaning::Metadata),
        Some(deleted) => Ok(Meaning::Deleted(deleted)),
    }
}

/// Attributes by which overlayfs is steered. A layer's archive has no business setting them: a redirect or
/// a metacopy mark would show other files than the archive holds.
pub(crate) fn steers_overlayfs(xattr: &[u8]) -> bool {
    xattr.starts_with(b"trusted.overlay.") || xattr.starts_with(b"user.overlay.")
}
