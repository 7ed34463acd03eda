//! What can go wrong with the store.

use std::{io, path::PathBuf};
use wharf_spec::{ChainId, Digest, ErrorKind, ImageId};
use wharf_sys::io_text;

/// The store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{operation} {}: {}", path.display(), io_text(source))]
    File {
        /// The operation.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A layer's archive could not be read or extracted.
    #[error(transparent)]
    Archive(#[from] wharf_archive::Error),
    /// A mount could not be made or removed.
    #[error(transparent)]
    Mount(#[from] wharf_sys::Error),
    /// An archive with two entries of one name, which could not be rebuilt: Docker's words.
    #[error("duplicates of file paths not supported: {0:?}")]
    DuplicatePath(String),
    /// An archive of more entries than are kept account of.
    #[error("a layer has more than {} entries", crate::tarsplit::MAX_ENTRIES)]
    TooManyEntries,
    /// Recorded bytes of a layer that are none.
    #[error("layer {layer}: damaged tar-split record: {what}")]
    TarSplit {
        /// Cache id.
        layer: String,
        /// What is wrong.
        what: String,
    },
    /// A file of a layer is not what it was when the layer was extracted.
    #[error("layer {layer}: file integrity checksum failed for {name:?}")]
    FileChanged {
        /// Cache id.
        layer: String,
        /// The file.
        name: String,
    },
    /// Bytes that do not have the digest they should have.
    #[error("{what}: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was read.
        what: String,
        /// By which it was asked for.
        expected: Digest,
        /// Of the bytes.
        actual: Digest,
    },
    /// A record that cannot be read.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file that another daemon holds.
    #[error("{} is in use by another daemon", .0.display())]
    Locked(PathBuf),
    /// No such layer.
    #[error("layer does not exist")]
    NoLayer(ChainId),
    /// More layers than overlayfs stacks.
    #[error("max depth exceeded")]
    TooDeep,
    /// A container without writable layer.
    #[error("mount does not exist")]
    NoMount(String),
    /// A container that has a writable layer already.
    #[error("mount already exists with name")]
    MountExists(String),
    /// A limit on a layer where the file system has none to give: Docker's words.
    #[error("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")]
    NoQuota,
    /// No such image.
    #[error("No such image: {0}")]
    NoImage(String),
    /// The beginning of several ids.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// A config that is none.
    #[error(transparent)]
    Config(#[from] wharf_spec::ParseImageError),
    /// A config whose layers are not there.
    #[error("image {image} needs the layer {layer}, which does not exist")]
    ImageWithoutLayer {
        /// The config's digest.
        image: ImageId,
        /// The top layer.
        layer: ChainId,
    },
    /// A config that tells of more layers than it has.
    #[error("too many non-empty layers in History section")]
    TooMuchHistory,
    /// An image with children, or otherwise in use.
    #[error("image {0} has dependent child images")]
    HasChildren(ImageId),
    /// No such reference.
    #[error("reference does not exist")]
    NoReference(String),
    /// A tag that stands for something else.
    #[error("tag {reference} is already set to image {image}, use the force option to replace it")]
    TagConflict {
        /// Familiar form.
        reference: String,
        /// The other image.
        image: ImageId,
    },
    /// A digest that stands for something else.
    #[error("cannot overwrite digest {0}")]
    DigestConflict(Digest),
    /// A tag on a reference with a digest.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// A repository named like the digest algorithm.
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    AmbiguousTag,
    /// No such blob.
    #[error("content {0} does not exist")]
    NoContent(Digest),
    /// A source of bytes failed.
    #[error("reading {what}: {}", io_text(source))]
    Read {
        /// What was read.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A sink of bytes failed.
    #[error("writing {what}: {}", io_text(source))]
    Write {
        /// What was written.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What it means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Archive(error) => error.kind(),
            Self::NoLayer(_)
            | Self::NoMount(_)
            | Self::NoImage(_)
            | Self::NoReference(_)
            | Self::NoContent(_) => ErrorKind::NotFound,
            Self::DuplicatePath(_)
            | Self::TooManyEntries
            | Self::TooDeep
            | Self::Ambiguous(_)
            | Self::Config(_)
            | Self::TooMuchHistory
            | Self::TagWithDigest
            | Self::AmbiguousTag => ErrorKind::InvalidArgument,
            Self::Locked(_)
            | Self::MountExists(_)
            | Self::HasChildren(_)
            | Self::TagConflict { .. }
            | Self::DigestConflict(_) => ErrorKind::Conflict,
            Self::File { .. }
            | Self::Mount(_)
            | Self::TarSplit { .. }
            | Self::FileChanged { .. }
            | Self::DigestMismatch { .. }
            | Self::Damaged { .. }
            | Self::ImageWithoutLayer { .. }
            | Self::NoQuota
            | Self::Read { .. }
            | Self::Write { .. } => ErrorKind::System,
        }
    }

    /// For `map_err` after a file operation.
    pub(crate) fn file<E: Into<io::Error>>(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source: source.into() }
    }

    /// Whether nobody reads any more what was to be written.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Write { source, .. } | Self::Archive(wharf_archive::Error::Write(source)) => {
                source.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
