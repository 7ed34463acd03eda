//! `fluentd` (source: moby `daemon/logger/fluentd/fluentd.go`, fluent/fluent-logger-golang; Fluentd, "Forward
//! Protocol Specification v1").

use super::{Message, Options, Origin, Retry, address, given, msgpack, parse_bool, unknown, wire::Wire};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio_rustls::{TlsConnector, rustls};

const KNOWN: [&str; 10] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
    "fluentd-read-timeout",
];

/// A receiver and how it is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Fluentd {
    place: Place,
    is_async: bool,
    sub_second: bool,
    request_ack: bool,
    retry: Retry,
    /// A connection lasts no longer, so that a receiver that has moved is found; zero: as long as it works.
    reconnect: Duration,
    write_timeout: Duration,
    read_timeout: Duration,
}

#[derive(Debug, Clone)]
enum Place {
    Unix(PathBuf),
    Tcp(String, String),
    Tls { host: String, port: String, config: Arc<rustls::ClientConfig> },
}

impl Fluentd {
    pub(super) fn parse(options: &Options) -> Result<Self, String> {
        if let Some(key) = unknown(options, &KNOWN) {
            return Err(format!("unknown log opt '{key}' for fluentd log driver"));
        }
        let address = options.get("fluentd-address").map_or("", String::as_str);
        let place =
            parse_address(address).map_err(|why| format!("invalid fluentd-address ({address}): {why}"))?;
        if let Some(limit) = given(options, "fluentd-buffer-limit") {
            crate::containers::bytes(limit).ok_or_else(|| format!("invalid size: '{limit}'"))?;
        }
        let flag = |key: &str| given(options, key).map_or(Ok(false), parse_bool);
        let is_async = flag("fluentd-async")?;
        let reconnect = reconnect_interval(options)?;
        let retry = Retry {
            most: given(options, "fluentd-max-retries").map(parse_retries).transpose()?,
            wait: match given(options, "fluentd-retry-wait") {
                None => Duration::from_secs(1),
                Some(text) => duration(text)?,
            },
        };
        Ok(Self {
            place,
            is_async,
            sub_second: flag("fluentd-sub-second-precision")?,
            request_ack: flag("fluentd-request-ack")?,
            retry,
            reconnect,
            write_timeout: timeout(options, "fluentd-write-timeout")?,
            read_timeout: timeout(options, "fluentd-read-timeout")?,
        })
    }

    pub(super) fn is_async(&self) -> bool {
        self.is_async
    }

    pub(super) fn retry(&self) -> Retry {
        self.retry
    }

    /// How long a connection lasts (source: fluent-logger-golang, AsyncReconnectInterval).
    pub(super) fn lifetime(&self) -> Option<Duration> {
        Some(self.reconnect).filter(|interval| self.is_async && !interval.is_zero())
    }

    pub(super) async fn connect(&self) -> io::Result<Wire> {
        match &self.place {
            Place::Unix(path) => Wire::unix(path).await,
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

    /// With acknowledgements each message waits for its own.
    pub(super) async fn send(&self, wire: &mut Wire, origin: &Origin, batch: &[Message]) -> io::Result<()> {
        if !self.request_ack {
            let write = wire.write(batch, |message| Ok(vec![self.encode(origin, message, None)]));
            return within(self.write_timeout, write).await;
        }
        for message in batch {
            let chunk = STANDARD.encode(&crate::random::bytes32()[..16]);
            let one = std::slice::from_ref(message);
            let write = wire.write(one, |message| Ok(vec![self.encode(origin, message, Some(&chunk))]));
            within(self.write_timeout, write).await?;
            let answer = within(self.read_timeout, msgpack::read_answer(wire.stream()?)).await?;
            if answer != (b"ack".to_vec(), chunk.into_bytes()) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "fluentd acknowledged another message",
                ));
            }
        }
        Ok(())
    }

    /// `[tag, time, record, options]`
    fn encode(&self, origin: &Origin, message: &Message, chunk: Option<&str>) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + message.line.len());
        msgpack::array(&mut out, 4);
        msgpack::text(&mut out, origin.tag.as_bytes());
        let (seconds, nanos) = (message.time.as_second(), message.time.subsec_nanosecond());
        if self.sub_second {
            msgpack::event_time(&mut out, seconds, nanos.unsigned_abs());
        } else {
            msgpack::integer(&mut out, seconds);
        }
        let name = format!("/{}", origin.name);
        let mut record: Vec<(&str, Vec<u8>)> = vec![
            ("container_id", origin.id.clone().into()),
            ("container_name", name.into()),
            ("source", message.stream.name().into()),
            ("log", message.line.clone()),
        ];
        if let Some(partial) = &message.partial {
            record.push(("partial_message", b"true".to_vec()));
            record.push(("partial_id", partial.id.clone().into()));
            record.push(("partial_ordinal", partial.ordinal.to_string().into()));
            record.push(("partial_last", partial.last.to_string().into()));
        }
        // What an attribute names too is the attribute's.
        record.retain(|(key, _)| !origin.attributes.iter().any(|(name, _)| name == key));
        record.extend(origin.attributes.iter().map(|(key, value)| (key.as_str(), value.clone().into())));
        msgpack::map(&mut out, record.len());
        for (key, value) in record {
            msgpack::text(&mut out, key.as_bytes());
            msgpack::text(&mut out, &value);
        }
        msgpack::map(&mut out, usize::from(chunk.is_some()));
        if let Some(chunk) = chunk {
            msgpack::text(&mut out, b"chunk");
            msgpack::text(&mut out, chunk.as_bytes());
        }
        out
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    if limit.is_zero() {
        return work.await;
    }
    tokio::time::timeout(limit, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn parse_address(text: &str) -> Result<Place, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("tcp://{text}") };
    let Some((scheme, authority, path)) = address::split(&url) else { return Err("no address".into()) };
    match scheme {
        "unix" if path.trim_start_matches('/').is_empty() => return Err("path is empty".into()),
        "unix" => return Ok(Place::Unix(path.into())),
        "tcp" | "tls" => {}
        other => return Err(format!("unsupported scheme: '{other}'")),
    }
    if !path.is_empty() {
        return Err("should not contain a path element".into());
    }
    let (host, port) = address::host_and_port(authority);
    if !port.is_empty() && port.parse::<u16>().is_err() {
        let why =
            if port.bytes().all(|b| b.is_ascii_digit()) { "value out of range" } else { "invalid syntax" };
        return Err(format!("invalid port: strconv.ParseUint: parsing {port:?}: {why}"));
    }
    let host = if host.is_empty() { "127.0.0.1" } else { host }.to_owned();
    let port = if port.is_empty() { "24224" } else { port }.to_owned();
    if scheme == "tcp" {
        return Ok(Place::Tcp(host, port));
    }
    let files = wharf_registry::tls::ClientFiles::default();
    let config = wharf_registry::tls::client_config(&files).map_err(|error| error.to_string())?;
    Ok(Place::Tls { host, port, config: Arc::new(config) })
}

fn parse_retries(text: &str) -> Result<u32, String> {
    let bad = |why: &str| format!("strconv.ParseUint: parsing {text:?}: {why}");
    let number: u64 = text.parse().map_err(|_| bad("invalid syntax"))?;
    let number = u32::try_from(number).map_err(|_| bad("value out of range"))?;
    if number > i32::MAX.unsigned_abs() {
        return Err("invalid fluentd-max-retries: value out of range".into());
    }
    Ok(number)
}

fn reconnect_interval(options: &Options) -> Result<Duration, String> {
    let key = "fluentd-async-reconnect-interval";
    let Some(text) = given(options, key) else { return Ok(Duration::ZERO) };
    let interval = duration(text).map_err(|why| format!("invalid value for {key}: {why}"))?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(10);
    if !interval.is_zero() && !allowed.contains(&interval) {
        return Err(format!("invalid value for {key}: value ({text:?}) must be between 100ms and 10s"));
    }
    Ok(interval)
}

fn timeout(options: &Options, key: &str) -> Result<Duration, String> {
    let Some(text) = given(options, key) else { return Ok(Duration::ZERO) };
    if text.starts_with('-') && duration(&text[1..]).is_ok() {
        return Err(format!("invalid value for {key}: value must be a duration that is non-negative"));
    }
    duration(text).map_err(|why| format!("invalid value for {key}: value must be a duration: {why}"))
}

/// Go's `time.ParseDuration` of what is not negative: `1.5s`, `1m30s`, `0`.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
            };
        rest = &rest[unit..];
    }
    if text.is_empty() {
        return Err(invalid());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_checked_in_dockers_words() {
        let error = |key: &str, value: &str| Fluentd::parse(&options(&[(key, value)])).unwrap_err();
        for (key, value, expected) in [
            ("fluentd-x", "1", "unknown log opt 'fluentd-x' for fluentd log driver"),
            ("fluentd-address", "http://h", "invalid fluentd-address (http://h): unsupported scheme: 'http'"),
            ("fluentd-address", "unix://", "invalid fluentd-address (unix://): path is empty"),
            (
                "fluentd-address",
                "tcp://h/x",
                "invalid fluentd-address (tcp://h/x): should not contain a path element",
            ),
            (
                "fluentd-address",
                "h:x",
                "invalid fluentd-address (h:x): invalid port: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            ("fluentd-async", "maybe", "strconv.ParseBool: parsing \"maybe\": invalid syntax"),
            ("fluentd-retry-wait", "1", "time: missing unit in duration \"1\""),
            ("fluentd-max-retries", "-1", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
        ] {
            assert_eq!(error(key, value), expected);
        }
        let parsed = Fluentd::parse(&options(&[])).unwrap();
        assert!(matches!(&parsed.place, Place::Tcp(host, port) if host == "127.0.0.1" && port == "24224"));
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("1s", 1000), ("1m30s", 90_000), ("1.5s", 1500), ("100ms", 100), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "x", "5", "1x"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
