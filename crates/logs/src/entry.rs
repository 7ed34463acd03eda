//! An entry of a log, as the reader yields it.

use wharf_spec::shim::Timestamp;

/// Which of a container's outputs an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, and everything a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// From Docker's name.
    pub(crate) fn from_name(name: &[u8]) -> Option<Stream> {
        match name {
            b"stdout" => Some(Stream::Stdout),
            b"stderr" => Some(Stream::Stderr),
            _ => None,
        }
    }
}

/// How entries are laid out in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: Docker's `json-file`.
    Json,
    /// Length-framed protobuf messages: Docker's `local`.
    Local,
}

/// Where an entry stands in a line that was too long for one entry. Only [`Format::Local`] keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partial {
    /// This is the line's end.
    pub last: bool,
    /// Common to all pieces of the line.
    pub id: String,
    /// Counted from 1.
    pub ordinal: i32,
}

/// One entry, borrowed from the [`crate::Reader`] until its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it came from.
    pub stream: Stream,
    /// When it was written; all pieces of a long line carry the time of the first.
    pub time: Timestamp,
    /// The bytes, with the newline unless this is a piece that does not end its line.
    pub line: &'a [u8],
    /// Set for pieces of long lines.
    pub partial: Option<&'a Partial>,
    /// Labels, environment and tag that the log was set up with.
    pub attrs: &'a [(String, String)],
}
