//! What can go wrong with an archive.

use std::io;
use wharf_spec::ErrorKind;
use wharf_sys::io_text;

/// An archive could not be read, written, extracted or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A header that is none: Go's words, which users know.
    #[error("archive/tar: invalid tar header")]
    Header,
    /// The archive ends in the middle.
    #[error("unexpected EOF")]
    Truncated,
    /// An extension header longer than 1 MiB, or a name longer than the system takes.
    #[error("archive/tar: header field too long")]
    TooLong,
    /// A sparse file whose map and data do not fit each other.
    #[error("archive/tar: sparse file references non-existent data")]
    Sparse,
    /// A name that leads out of the directory, or is none.
    #[error("invalid entry name {0:?}")]
    Name(String),
    /// A hard link to something outside.
    #[error("invalid hardlink target {0:?}")]
    LinkTarget(String),
    /// A symbolic link to something outside, where there may be none.
    #[error("invalid symlink {path:?} -> {target:?}")]
    Symlink {
        /// The entry.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// `.wh.`, `.wh..` or `.wh...`.
    #[error("invalid whiteout entry {0:?}")]
    Whiteout(String),
    /// An owner or device number that the system does not have.
    #[error("{what} {value} of {path:?} is out of range")]
    Range {
        /// `uid`, `gid`, `device number`.
        what: &'static str,
        /// What stands in the header.
        value: i64,
        /// The entry.
        path: String,
    },
    /// An owner that the container's user namespace does not have.
    #[error(transparent)]
    Unmapped(#[from] wharf_spec::idmap::Unmapped),
    /// An entry of a kind that cannot be extracted.
    #[error("unhandled tar header type {kind} of {path:?}")]
    Kind {
        /// The type flag.
        kind: u8,
        /// The entry.
        path: String,
    },
    /// A directory stands where something else should, or the reverse, and may not be replaced.
    #[error("cannot overwrite {existing} {path:?} with {new} {path:?}")]
    Overwrite {
        /// `directory` or `non-directory`.
        existing: &'static str,
        /// The other of the two.
        new: &'static str,
        /// The entry.
        path: String,
    },
    /// A header that no tar format can hold.
    #[error("archive/tar: cannot encode header: {what} of {path:?}")]
    Encode {
        /// The field.
        what: &'static str,
        /// The entry.
        path: String,
    },
    /// More bytes than the header announced, or fewer.
    #[error("archive/tar: {0:?} was announced with another size")]
    WrongSize(String),
    /// More directories than are kept account of.
    #[error("an archive of too many directories")]
    TooManyDirectories,
    /// Names that are no text, or no manifest at all.
    #[error("invalid manifest")]
    Manifest,
    /// The archive's bytes could not be read.
    #[error("reading the archive: {}", io_text(.0))]
    Read(#[source] io::Error),
    /// The archive's bytes could not be written.
    #[error("writing the archive: {}", io_text(.0))]
    Write(#[source] io::Error),
    /// A file could not be made or read.
    #[error("{operation} {path:?}: {}", io_text(source))]
    File {
        /// The system call.
        operation: &'static str,
        /// Relative to the directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What it means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Header
            | Self::Truncated
            | Self::TooLong
            | Self::Sparse
            | Self::Name(_)
            | Self::LinkTarget(_)
            | Self::Symlink { .. }
            | Self::Whiteout(_)
            | Self::Range { .. }
            | Self::Unmapped(_)
            | Self::Kind { .. }
            | Self::Overwrite { .. }
            | Self::Encode { .. }
            | Self::Manifest
            | Self::TooManyDirectories => ErrorKind::InvalidArgument,
            Self::WrongSize(_) | Self::Read(_) | Self::Write(_) | Self::File { .. } => ErrorKind::System,
        }
    }

    /// In words that name the directory which was extracted to, as Docker does where it names both.
    pub fn below(&self, directory: &str) -> String {
        let directory = if directory == "/" { directory } else { directory.trim_end_matches('/') };
        let whole = |path: &str| format!("{}/{path}", directory.trim_end_matches('/'));
        match self {
            Self::Symlink { path, target } => format!("invalid symlink {:?} -> {target:?}", whole(path)),
            Self::Overwrite { existing, new, path } => {
                let path = whole(path);
                format!("cannot overwrite {existing} {path:?} with {new} {directory:?}")
            }
            other => other.to_string(),
        }
    }

    /// For `map_err` after a system call.
    pub(crate) fn file<E: Into<io::Error>>(operation: &'static str, path: &[u8]) -> impl FnOnce(E) -> Self {
        // The text is made when there is an error, and not before: this is called for every file.
        move |source| Self::File { operation, path: lossy(path), source: source.into() }
    }

    /// A read error; the archive's end is a fault of the archive.
    pub(crate) fn read(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Read(source) }
    }
}

/// A path for people, bounded: it may come from a hostile archive.
pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(300).collect()
}
