//! `syslog` (source: moby `daemon/logger/syslog/syslog.go`, RackSec/srslog; RFC 3164, RFC 5424, RFC 5425).

use super::{Message, Options, Origin, address, given, unknown, wire::Wire};
use crate::error::words;
use jiff::tz::TimeZone;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_rustls::{TlsConnector, rustls};
use wharf_logs::Stream;

const KNOWN: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Where a machine's own syslog listens.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

const ERROR: u8 = 3;
const INFO: u8 = 6;

/// A receiver and how it is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Syslog {
    place: Place,
    facility: u8,
    format: Format,
}

#[derive(Debug, Clone)]
enum Place {
    Local,
    Unix(PathBuf),
    UnixPackets(PathBuf),
    Udp(String, String),
    Tcp(String, String),
    Tls { host: String, port: String, config: Arc<rustls::ClientConfig> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Unix,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

impl Syslog {
    pub(super) fn parse(options: &Options) -> Result<Self, String> {
        if let Some(key) = unknown(options, &KNOWN) {
            return Err(format!("unknown log opt '{key}' for syslog log driver"));
        }
        let place = match given(options, "syslog-address") {
            None => Place::Local,
            Some(address) => parse_address(address, options)?,
        };
        let facility = match given(options, "syslog-facility") {
            None => 3,
            Some(text) => parse_facility(text)?,
        };
        let format = match given(options, "syslog-format") {
            None => Format::Unix,
            Some("rfc3164") => Format::Rfc3164,
            Some("rfc5424") => Format::Rfc5424,
            Some("rfc5424micro") => Format::Rfc5424Micro,
            Some(_) => return Err("Invalid syslog format".into()),
        };
        Ok(Self { place, facility, format })
    }

    pub(super) async fn connect(&self) -> io::Result<Wire> {
        match &self.place {
            Place::Local => connect_local().await,
            Place::Unix(path) => Wire::unix(path).await,
            Place::UnixPackets(path) => Wire::unix_packets(path),
            Place::Udp(host, port) => Wire::udp(host, port).await,
            Place::Tcp(host, port) => Ok(Wire::Stream(Box::new(Wire::tcp(host, port).await?))),
            Place::Tls { host, port, config } => {
                let stream = Wire::tcp(host, port).await?;
                let name = address::bare_host(host).to_owned();
                let name = rustls::pki_types::ServerName::try_from(name).map_err(io::Error::other)?;
                let connector = TlsConnector::from(Arc::clone(config));
                Ok(Wire::Stream(Box::new(connector.connect(name, stream).await?)))
            }
        }
    }

    /// Empty lines are not sent.
    pub(super) fn encode(&self, origin: &Origin, message: &Message) -> io::Result<Vec<Vec<u8>>> {
        if message.line.is_empty() {
            return Ok(Vec::new());
        }
        let severity = if message.stream == Stream::Stderr { ERROR } else { INFO };
        let head = self.head(self.facility << 3 | severity, origin, message);
        let mut packet = Vec::with_capacity(head.len() + message.line.len() + 8);
        let is_framed = matches!(self.place, Place::Tls { .. })
            && matches!(self.format, Format::Rfc5424 | Format::Rfc5424Micro);
        if is_framed {
            packet.extend_from_slice(format!("{} ", head.len() + message.line.len() + 1).as_bytes());
        }
        packet.extend_from_slice(head.as_bytes());
        packet.extend_from_slice(&message.line);
        packet.push(b'\n');
        Ok(vec![packet])
    }

    fn head(&self, priority: u8, origin: &Origin, message: &Message) -> String {
        let (tag, host, pid) = (&origin.tag, &origin.hostname, std::process::id());
        let time = message.time.to_zoned(TimeZone::system());
        match self.format {
            Format::Unix => format!("<{priority}>{} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Format::Rfc3164 => {
                format!("<{priority}>{} {host} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S"))
            }
            Format::Rfc5424 | Format::Rfc5424Micro => {
                let form = if self.format == Format::Rfc5424 { "%FT%T%:z" } else { "%FT%T.%6f%:z" };
                let time = time.strftime(form).to_string();
                // As Go writes UTC.
                let time = time.strip_suffix("+00:00").map(|time| format!("{time}Z")).unwrap_or(time);
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
        }
    }
}

fn parse_address(text: &str, options: &Options) -> Result<Place, String> {
    let (scheme, authority, path) =
        address::split(text).ok_or_else(|| format!("unsupported scheme: '{}'", scheme_of(text)))?;
    if let "unix" | "unixgram" = scheme {
        let path = Path::new(path);
        std::fs::metadata(path).map_err(|error| format!("stat {}: {}", path.display(), words(&error)))?;
        return Ok(match scheme {
            "unix" => Place::Unix(path.into()),
            _ => Place::UnixPackets(path.into()),
        });
    }
    let (host, port) = address::host_and_port(authority);
    let (host, port) = (host.to_owned(), if port.is_empty() { "514" } else { port }.to_owned());
    match scheme {
        "udp" => Ok(Place::Udp(host, port)),
        "tcp" => Ok(Place::Tcp(host, port)),
        "tcp+tls" => Ok(Place::Tls { host, port, config: tls(options)? }),
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

fn scheme_of(text: &str) -> &str {
    text.split_once(':').map_or("", |(scheme, _)| scheme)
}

fn parse_facility(text: &str) -> Result<u8, String> {
    let named = FACILITIES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let number = named.or_else(|| text.parse().ok().filter(|number| *number <= 23));
    number.ok_or_else(|| "invalid syslog facility".to_owned())
}

fn tls(options: &Options) -> Result<Arc<rustls::ClientConfig>, String> {
    let file = |key: &str| given(options, key).map(Path::new);
    let files = wharf_registry::tls::ClientFiles {
        ca: file("syslog-tls-ca-cert"),
        cert: file("syslog-tls-cert"),
        key: file("syslog-tls-key"),
        // Its presence counts, whatever it says, as in Docker.
        skip_verify: options.contains_key("syslog-tls-skip-verify"),
    };
    wharf_registry::tls::client_config(&files).map(Arc::new).map_err(|error| error.to_string())
}

async fn connect_local() -> io::Result<Wire> {
    for path in LOCAL.map(Path::new) {
        if let Ok(wire) = Wire::unix_packets(path) {
            return Ok(wire);
        }
        if let Ok(wire) = Wire::unix(path).await {
            return Ok(wire);
        }
    }
    Err(io::Error::other("Unix syslog delivery error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_checked_in_dockers_words() {
        let error = |pairs: &[(&str, &str)]| Syslog::parse(&options(pairs)).unwrap_err();
        assert_eq!(error(&[("syslog-x", "1")]), "unknown log opt 'syslog-x' for syslog log driver");
        assert_eq!(error(&[("syslog-address", "http://h")]), "unsupported scheme: 'http'");
        assert_eq!(error(&[("syslog-address", "unix:///nosuch")]), "stat /nosuch: no such file or directory");
        assert_eq!(error(&[("syslog-facility", "24")]), "invalid syslog facility");
        assert_eq!(error(&[("syslog-format", "x")]), "Invalid syslog format");
        let parsed = Syslog::parse(&options(&[
            ("syslog-address", "udp://h"),
            ("syslog-facility", "local7"),
            ("tag", "x"),
            ("cache-disabled", "true"),
        ]));
        let parsed = parsed.unwrap();
        assert!(matches!(&parsed.place, Place::Udp(host, port) if host == "h" && port == "514"));
        assert_eq!(parsed.facility, 23);
    }

    #[test]
    fn each_format_has_its_head() {
        let origin = Origin { tag: "tag".into(), hostname: "host".into(), ..Origin::default() };
        let message = |line: &str, stream| Message {
            stream,
            time: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
            line: line.into(),
            partial: None,
        };
        let pid = std::process::id();
        for (format, expected) in [
            ("", format!("<30>Jan  2 03:04:05 tag[{pid}]: text\n")),
            ("rfc3164", format!("<30>Jan  2 03:04:05 host tag[{pid}]: text\n")),
            ("rfc5424", format!("<30>1 2026-01-02T03:04:05Z host tag {pid} tag - text\n")),
            ("rfc5424micro", format!("<30>1 2026-01-02T03:04:05.678901Z host tag {pid} tag - text\n")),
        ] {
            let syslog = Syslog::parse(&options(&[("syslog-format", format)])).unwrap();
            let packets = syslog.encode(&origin, &message("text", Stream::Stdout)).unwrap();
            let text = String::from_utf8(packets.concat()).unwrap();
            // Where the machine's clock is not UTC, the hour is another.
            if TimeZone::system().to_offset("2026-01-02T03:04:05Z".parse().unwrap()).is_zero() {
                assert_eq!(text, expected);
            }
            let packets = syslog.encode(&origin, &message("text", Stream::Stderr)).unwrap();
            assert!(packets[0].starts_with(b"<27>"));
            assert!(syslog.encode(&origin, &message("", Stream::Stdout)).unwrap().is_empty());
        }
    }
}
