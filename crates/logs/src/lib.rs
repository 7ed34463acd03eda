//! Container logs in Docker's own files: `json-file` and `local`.
//!
//! Role: the shim writes ([`Writer`]), the engine reads ([`Reader`]); both may be at work at once, in
//! different processes, without a lock between them.
//!
//! Files on disk (source: moby `daemon/logger/loggerutils/logfile.go`), `<path>` being the log's path:
//! * `<path>`: the current file, appended to;
//! * `<path>.1`, `<path>.2`, ...: older files, 1 the youngest;
//! * `<path>.1.gz`, ...: the same with compression, the time of the last entry in the gzip header.
//!
//! Invariants:
//! * What the writer leaves in a file is a sequence of whole entries, also after a full disk or a crash: a
//!   torn tail is cut off by the next write or the next open.
//! * A full disk never stops a container: bytes that could not be written are counted ([`Writer::lost`]).
//! * The reader takes any bytes: damaged entries are skipped and counted ([`Reader::damaged`]), and no
//!   entry makes it hold more than a few megabytes.
#![forbid(unsafe_code)]

mod compress;
mod entry;
mod error;
mod file;
mod json;
mod local;
mod reader;
mod split;
mod time;
mod writer;

pub use entry::{Entry, Format, Partial, Stream};
pub use error::Error;
pub use reader::{Follow, Next, Position, ReadOptions, Reader};
pub use time::{format_rfc3339_nano, now, parse_rfc3339_nano};
pub use writer::{Upkeep, Writer};
