//! `gelf` (source: moby `daemon/logger/gelf/gelf.go`, Graylog2/go-gelf; Graylog, "GELF via UDP", "GELF via TCP").

use super::{Message, Options, Origin, Retry, address, given, unknown, wire::Wire};
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use std::{
    io::{self, Write},
    time::Duration,
};
use wharf_logs::Stream;

const KNOWN: [&str; 5] = [
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];

/// A message longer than this goes in several packets, each with a head of its own.
const CHUNK: usize = 1420;
const CHUNK_HEAD: usize = 12;
const MAX_CHUNKS: usize = 128;

const ERROR: u8 = 3;
const INFO: u8 = 6;

/// A receiver and how it is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Gelf {
    host: String,
    port: String,
    transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp(Option<Packing>),
    Tcp(Retry),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packing {
    zlib: bool,
    level: u32,
}

impl Gelf {
    pub(super) fn parse(options: &Options) -> Result<Self, String> {
        let address = given(options, "gelf-address").ok_or("gelf-address is a required parameter")?;
        let (scheme, authority, _) =
            address::split(address).ok_or("gelf: endpoint needs to be TCP or UDP")?;
        if !matches!(scheme, "udp" | "tcp") {
            return Err("gelf: endpoint needs to be TCP or UDP".into());
        }
        let (host, port) = address::host_and_port(authority);
        if port.is_empty() {
            return Err("gelf: please provide gelf-address as proto://host:port".into());
        }
        check(options, scheme)?;
        let number = |key: &str| options.get(key).and_then(|text| text.parse::<u32>().ok());
        let transport = match scheme {
            "udp" => Transport::Udp(packing(options)),
            _ => Transport::Tcp(Retry {
                most: Some(number("gelf-tcp-max-reconnect").unwrap_or(3)),
                wait: Duration::from_secs(number("gelf-tcp-reconnect-delay").unwrap_or(1).into()),
            }),
        };
        Ok(Self { host: host.to_owned(), port: port.to_owned(), transport })
    }

    pub(super) fn retry(&self) -> Retry {
        match self.transport {
            Transport::Udp(_) => Retry::default(),
            Transport::Tcp(retry) => retry,
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Wire> {
        let connected = match self.transport {
            Transport::Udp(_) => Wire::udp(&self.host, &self.port).await,
            Transport::Tcp(_) => {
                Wire::tcp(&self.host, &self.port).await.map(|stream| Wire::Stream(Box::new(stream)))
            }
        };
        connected.map_err(|error| {
            let address = format!("{}:{}", self.host, self.port);
            io::Error::new(error.kind(), format!("gelf: cannot connect to GELF endpoint: {address} {error}"))
        })
    }

    /// Empty lines are not sent, nor is what has too many chunks.
    pub(super) fn encode(&self, origin: &Origin, message: &Message) -> io::Result<Vec<Vec<u8>>> {
        if message.line.is_empty() {
            return Ok(Vec::new());
        }
        let mut json = json(origin, message)?;
        match self.transport {
            Transport::Tcp(_) => {
                json.push(0);
                Ok(vec![json])
            }
            Transport::Udp(packing) => chunks(&pack(packing, &json)?),
        }
    }
}

fn check(options: &Options, scheme: &str) -> Result<(), String> {
    if let Some(key) = unknown(options, &KNOWN) {
        return Err(format!("unknown log opt {key:?} for gelf log driver"));
    }
    for (key, value) in options {
        let bad = || Err(format!("unknown value {value:?} for log opt {key:?} for gelf log driver"));
        match key.as_str() {
            "gelf-compression-level" | "gelf-compression-type" if scheme != "udp" => {
                return Err("compression is only supported on UDP".into());
            }
            "gelf-compression-level" if !value.parse().is_ok_and(|level| (-1..=9).contains(&level)) => {
                return bad();
            }
            "gelf-compression-type" if !matches!(value.as_str(), "gzip" | "zlib" | "none") => return bad(),
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if scheme != "tcp" => {
                return Err(format!("{key:?} is only valid for TCP"));
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if value.parse::<u32>().is_err() => {
                return Err(format!("{key:?} must be a positive integer"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gzip at level 1 unless something else is asked for.
fn packing(options: &Options) -> Option<Packing> {
    let level = match options.get("gelf-compression-level").map(String::as_str) {
        None => 1,
        // Go's default level is zlib's.
        Some("-1") => 6,
        Some(level) => level.parse().unwrap_or(1),
    };
    match options.get("gelf-compression-type").map_or("gzip", String::as_str) {
        "none" => None,
        kind => Some(Packing { zlib: kind == "zlib", level }),
    }
}

fn json(origin: &Origin, message: &Message) -> io::Result<Vec<u8>> {
    let level = if message.stream == Stream::Stderr { ERROR } else { INFO };
    let mut object = serde_json::Map::new();
    let mut put = |key: &str, value: serde_json::Value| object.insert(key.to_owned(), value);
    put("version", "1.1".into());
    put("host", origin.hostname.as_str().into());
    put("short_message", String::from_utf8_lossy(&message.line).into());
    put("timestamp", (message.time.as_millisecond() as f64 / 1000.0).into());
    put("level", level.into());
    for (key, value) in [
        ("_container_id", &origin.id),
        ("_container_name", &origin.name),
        ("_image_id", &origin.image_id),
        ("_image_name", &origin.image),
        ("_command", &origin.command),
        ("_tag", &origin.tag),
        ("_created", &origin.created),
    ] {
        put(key, value.as_str().into());
    }
    for (key, value) in &origin.attributes {
        let key = if key.starts_with('_') { key.clone() } else { format!("_{key}") };
        put(&key, value.as_str().into());
    }
    serde_json::to_vec(&object).map_err(io::Error::other)
}

fn pack(packing: Option<Packing>, json: &[u8]) -> io::Result<Vec<u8>> {
    let Some(Packing { zlib, level }) = packing else { return Ok(json.to_vec()) };
    let level = Compression::new(level);
    if zlib {
        let mut encoder = ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(json)?;
        return encoder.finish();
    }
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(json)?;
    encoder.finish()
}

fn chunks(bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    if bytes.len() <= CHUNK {
        return Ok(vec![bytes.to_vec()]);
    }
    let pieces = bytes.chunks(CHUNK - CHUNK_HEAD);
    let count = pieces.len();
    if count > MAX_CHUNKS {
        tracing::warn!(count, "a message for gelf is too long, and is left out");
        return Ok(Vec::new());
    }
    let id = &crate::random::bytes32()[..8];
    let head = |number: usize| [&[0x1e, 0x0f], id, &[number as u8, count as u8]].concat();
    Ok(pieces.enumerate().map(|(number, piece)| [&head(number), piece].concat()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_checked_in_dockers_words() {
        let udp = ("gelf-address", "udp://h:1");
        let tcp = ("gelf-address", "tcp://h:1");
        for (pairs, expected) in [
            (vec![], "gelf-address is a required parameter"),
            (vec![("gelf-address", "http://h:1")], "gelf: endpoint needs to be TCP or UDP"),
            (vec![("gelf-address", "udp://h")], "gelf: please provide gelf-address as proto://host:port"),
            (vec![tcp, ("gelf-compression-type", "gzip")], "compression is only supported on UDP"),
            (
                vec![udp, ("gelf-compression-type", "x")],
                "unknown value \"x\" for log opt \"gelf-compression-type\" for gelf log driver",
            ),
            (
                vec![udp, ("gelf-compression-level", "10")],
                "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
            ),
            (vec![udp, ("gelf-tcp-max-reconnect", "1")], "\"gelf-tcp-max-reconnect\" is only valid for TCP"),
            (
                vec![tcp, ("gelf-tcp-max-reconnect", "x")],
                "\"gelf-tcp-max-reconnect\" must be a positive integer",
            ),
            (vec![udp, ("nosuch", "1")], "unknown log opt \"nosuch\" for gelf log driver"),
        ] {
            assert_eq!(Gelf::parse(&options(&pairs)).unwrap_err(), expected);
        }
    }

    #[test]
    fn long_messages_go_in_chunks() {
        let gelf = Gelf::parse(&options(&[("gelf-address", "udp://h:1"), ("gelf-compression-type", "none")]));
        let gelf = gelf.unwrap();
        let message = |length: usize| Message {
            stream: Stream::Stdout,
            time: jiff::Timestamp::UNIX_EPOCH,
            line: vec![b'x'; length],
            partial: None,
        };
        let origin = Origin { tag: "t".into(), ..Origin::default() };
        assert_eq!(gelf.encode(&origin, &message(10)).unwrap().len(), 1);
        let packets = gelf.encode(&origin, &message(16384)).unwrap();
        assert!(packets.len() > 10 && packets.iter().all(|packet| packet.len() <= CHUNK));
        let whole: Vec<u8> = packets.iter().flat_map(|packet| packet[CHUNK_HEAD..].to_vec()).collect();
        let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(json["short_message"].as_str().unwrap().len(), 16384);
        for (number, packet) in packets.iter().enumerate() {
            assert_eq!(
                (packet[..2].to_vec(), packet[10], packet[11]),
                (vec![0x1e, 0x0f], number as u8, packets.len() as u8)
            );
        }
        assert!(gelf.encode(&origin, &message(200_000)).unwrap().is_empty());
        assert!(gelf.encode(&origin, &message(0)).unwrap().is_empty());
    }
}
