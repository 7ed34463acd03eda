//! Log drivers that send what containers write elsewhere: `syslog`, `journald`, `gelf`, `fluentd`.
//!
//! The shim writes the local cache (Docker's dual logging, `container-cached.log` in the container's directory);
//! a forwarder of the daemon reads it and sends it on. So a daemon that is killed, or a receiver that is away, loses
//! no line: where the forwarder had come to is kept beside the cache, in `container-cached.log.sent`, and the next
//! daemon goes on there (docs/adr/0016). What was sent just before the daemon was killed may be sent twice.
//!
//! Entry points: [`Target::parse`] checks a container's options; [`forward::Forwarder`] sends.

mod address;
mod cursor;
mod fluentd;
mod forward;
mod gelf;
mod journald;
mod msgpack;
mod syslog;
mod wire;

use cursor::cursor_path;
pub(crate) use forward::{Forwarder, Forwarders};

use jiff::Timestamp;
use std::{collections::BTreeMap, io};
use wharf_logs::{Partial, Stream};

/// Options of a container's log.
pub(crate) type Options = BTreeMap<String, String>;

/// The drivers of this module.
pub(crate) const DRIVERS: [&str; 4] = ["fluentd", "gelf", "journald", "syslog"];

/// The name of the cache, in a container's directory (moby `daemon/container/container.go`, StartLogger).
pub(crate) const CACHE: &str = "container-cached.log";

/// What every message of a container says of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) id: String,
    /// Without a slash.
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) command: String,
    pub(crate) created: String,
    pub(crate) hostname: String,
    /// The tag, filled in.
    pub(crate) tag: String,
    /// Labels and environment that were asked for.
    pub(crate) attributes: Vec<(String, String)>,
}

/// One line, or a piece of a long one.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) stream: Stream,
    pub(crate) time: Timestamp,
    /// Without its line feed.
    pub(crate) line: Vec<u8>,
    pub(crate) partial: Option<Partial>,
}

/// Where a container's lines go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Syslog(syslog::Syslog),
    Journald(journald::Journald),
    Gelf(gelf::Gelf),
    Fluentd(fluentd::Fluentd),
}

/// How often a message is tried again, and after what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    /// `None`: until it is sent.
    pub(crate) most: Option<u32>,
    pub(crate) wait: std::time::Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { most: None, wait: std::time::Duration::from_secs(1) }
    }
}

impl Target {
    /// Reads a driver's options.
    ///
    /// # Errors
    /// In the words of Docker's driver.
    pub(crate) fn parse(driver: &str, options: &Options) -> Result<Option<Self>, String> {
        Ok(Some(match driver {
            "syslog" => Self::Syslog(syslog::Syslog::parse(options)?),
            "journald" => Self::Journald(journald::Journald::parse(options)?),
            "gelf" => Self::Gelf(gelf::Gelf::parse(options)?),
            "fluentd" => Self::Fluentd(fluentd::Fluentd::parse(options)?),
            _ => return Ok(None),
        }))
    }

    /// Whether a container starts only when the receiver can be reached.
    fn must_connect(&self) -> bool {
        !matches!(self, Self::Fluentd(fluentd) if fluentd.is_async())
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Syslog(_) | Self::Journald(_) => Retry::default(),
            Self::Gelf(gelf) => gelf.retry(),
            Self::Fluentd(fluentd) => fluentd.retry(),
        }
    }

    /// How long a connection lasts at most.
    fn lifetime(&self) -> Option<std::time::Duration> {
        match self {
            Self::Fluentd(fluentd) => fluentd.lifetime(),
            _ => None,
        }
    }

    async fn connect(&self) -> io::Result<wire::Wire> {
        match self {
            Self::Syslog(syslog) => syslog.connect().await,
            Self::Journald(journald) => journald.connect().await,
            Self::Gelf(gelf) => gelf.connect().await,
            Self::Fluentd(fluentd) => fluentd.connect().await,
        }
    }

    /// Sends messages in their order; they count as sent when all are.
    async fn send(&self, wire: &mut wire::Wire, origin: &Origin, batch: &[Message]) -> io::Result<()> {
        match self {
            Self::Syslog(syslog) => wire.write(batch, |message| syslog.encode(origin, message)).await,
            Self::Journald(journald) => wire.write(batch, |message| journald.encode(origin, message)).await,
            Self::Gelf(gelf) => wire.write(batch, |message| gelf.encode(origin, message)).await,
            Self::Fluentd(fluentd) => fluentd.send(wire, origin, batch).await,
        }
    }
}

/// Options that every driver of this module takes beside its own.
const COMMON: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];

/// The first option that is neither common nor one of these; options of the cache and of the delivery are checked
/// elsewhere.
fn unknown<'a>(options: &'a Options, known: &[&str]) -> Option<&'a str> {
    let elsewhere = |key: &str| key.starts_with("cache-") || key == "mode" || key == "max-buffer-size";
    let mut keys = options.keys().map(String::as_str);
    keys.find(|key| !COMMON.contains(key) && !known.contains(key) && !elsewhere(key))
}

/// A value that is given and not empty.
fn given<'a>(options: &'a Options, key: &str) -> Option<&'a str> {
    options.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// Go's `strconv.ParseBool`.
///
/// # Errors
/// In Go's words.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}
