//! What can go wrong with a log.

use std::io;
use std::path::PathBuf;
use wharf_spec::ErrorKind;

/// A failed operation on a log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A log file could not be opened or made.
    #[error("open log {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A log file could not be read.
    #[error("read log {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The end of a log file left behind by a crash could not be repaired.
    #[error("repair the end of log {}: {source}", path.display())]
    Repair {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What it means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Open { source, .. } | Error::Read { source, .. } | Error::Repair { source, .. } => {
                match source.kind() {
                    io::ErrorKind::NotFound => ErrorKind::NotFound,
                    _ => ErrorKind::System,
                }
            }
        }
    }
}
