//! `GET /containers/{id}/logs` (source: moby `daemon/logs.go`, `daemon/server/httputils/write_log_stream.go`).

use super::{
    Containers, JsonLines, Logs, LogsOptions,
    container::{Container, Progress},
    plan, removed_logs,
};
use crate::{Error, Result, blocking::blocking, clock, error::invalid, polled};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};
use wharf_api::time::Time;
use wharf_logs::{Entry, Follow, Format, Next, ReadOptions, Reader, Stream};
use wharf_spec::shim;

/// Frames are gathered up to this size before they are sent.
const CHUNK: usize = 128 << 10;
/// How often a log is looked at that the kernel does not watch.
const WITHOUT_WATCH: Duration = Duration::from_millis(250);

/// What a line looks like.
#[derive(Debug, Clone, Copy)]
struct Shape {
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    details: bool,
    tty: bool,
    json: Option<JsonLines>,
}

/// A line as a JSON object (source: moby `daemon/server/httputils/logstream/json_logstream.go`).
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonLine<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    line: &'a str,
    source: &'a str,
    timestamp: Time,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attrs: Vec<JsonAttribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_data: Option<JsonPartial<'a>>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonAttribute<'a> {
    key: &'a str,
    value: &'a str,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonPartial<'a> {
    last: bool,
    #[serde(rename = "ID")]
    id: &'a str,
    ordinal: i32,
}

/// A log being read.
struct Reading {
    reader: Reader,
    wakeup: Option<AsyncFd<OwnedFd>>,
    shape: Shape,
    until: Option<Timestamp>,
    progress: watch::Receiver<Progress>,
    /// How often the container had ended when reading began: the next end is the end of the log.
    ends: u64,
}

/// Why a chunk is not longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    Full,
    Pending,
    End,
}

impl Containers {
    /// What a container has written, and with `follow` what it writes until it ends.
    ///
    /// # Errors
    /// When the container is gone or its log driver cannot be read.
    pub async fn logs(&self, id_or_name: &str, options: LogsOptions) -> Result<Logs> {
        if !options.stdout && !options.stderr {
            return invalid("must specify at least one of 'stdout' or 'stderr'");
        }
        match self.get(id_or_name) {
            Ok(container) => self.logs_of(&container, options).await,
            Err(Error::NoSuchContainer(_)) if self.config().keep_removed_logs > 0 => {
                let (config, wanted) = (Arc::clone(self.config()), id_or_name.to_owned());
                let kept = blocking(move || removed_logs::find(&config, &wanted)).await?;
                // Nothing will happen to it any more.
                let (_, progress) = watch::channel(Progress::default());
                let (path, format, tty) = (kept.path(), kept.format(), kept.about.tty);
                read_log(Source { path, format, tty, progress }, options).await
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn logs_of(&self, container: &Arc<Container>, options: LogsOptions) -> Result<Logs> {
        let (word, running, tty) = container.with(|state| {
            let facts = state.status.facts();
            (facts.word, facts.running, state.record.config.tty)
        });
        if matches!(word, "dead" | "removing") {
            return Err(Error::Conflict(
                "can not get logs from container which is dead or marked for removal".into(),
            ));
        }
        let host = container.host_config();
        let driver = host.log_config.driver.as_str();
        let format = if driver == "json-file" { Format::Json } else { Format::Local };
        let path = plan::log_path(driver, container.dir(), &container.id);
        let Some(path) = path.filter(|_| plan::is_readable(&host.log_config)) else {
            return Err(Error::LogsNotReadable);
        };
        let options = LogsOptions { follow: options.follow && running, ..options };
        read_log(Source { path, format, tty, progress: container.watch() }, options).await
    }
}

/// Where a log is.
struct Source {
    path: PathBuf,
    format: Format,
    tty: bool,
    progress: watch::Receiver<Progress>,
}

async fn read_log(source: Source, options: LogsOptions) -> Result<Logs> {
    let Source { path, format, tty, progress } = source;
    let read = ReadOptions {
        path,
        format,
        tail: options.tail,
        since: options.since.map(to_shim),
        until: options.until.map(to_shim),
        follow: if options.follow { Follow::Yes } else { Follow::No },
    };
    let shape = Shape {
        stdout: options.stdout,
        stderr: options.stderr,
        timestamps: options.timestamps,
        details: options.details,
        tty,
        json: options.json,
    };
    let ends = progress.borrow().ends;
    let reader = blocking(move || Reader::open(read).map_err(|e| Error::Log(e.to_string()))).await?;
    let wakeup = watch_reader(&reader);
    let reading = Reading { reader, wakeup, shape, until: options.until, progress, ends };
    let chunks = stream::unfold(Some(reading), |reading| async {
        match next_chunk(reading?).await {
            Ok(None) => None,
            Ok(Some((chunk, reading))) => Some((Ok(chunk), Some(reading))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Logs { tty, chunks: chunks.boxed() })
}

fn to_shim(time: Timestamp) -> shim::Timestamp {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    // Before 1970 the fraction counts backwards.
    match u32::try_from(nanos) {
        Ok(nanos) => shim::Timestamp { seconds, nanos },
        Err(_) => shim::Timestamp { seconds: seconds - 1, nanos: (1_000_000_000 + nanos).unsigned_abs() },
    }
}

/// The kernel's limit of watches may be reached: then there is none.
pub(crate) fn watch_reader(reader: &Reader) -> Option<AsyncFd<OwnedFd>> {
    let fd = reader.wakeup()?.try_clone_to_owned().ok()?;
    polled::watch(fd, Interest::READABLE).ok()
}

async fn next_chunk(mut reading: Reading) -> Result<Option<(Bytes, Reading)>> {
    loop {
        let (reader, shape) = (reading.reader, reading.shape);
        let (reader, chunk, stopped) = blocking(move || fill(reader, shape)).await?;
        reading.reader = reader;
        if !chunk.is_empty() {
            return Ok(Some((chunk, reading)));
        }
        match stopped {
            Stopped::End => return reading.end().map(|()| None),
            Stopped::Pending => wait_for_more(&mut reading).await,
            Stopped::Full => {}
        }
    }
}

impl Reading {
    /// What could not be read is told after all that could. The entry that is being written at this moment is none
    /// of that.
    fn end(&self) -> Result<()> {
        let on_its_way = self.reader.is_end_torn() && self.progress.borrow().running;
        let lost = self.reader.damaged() - u64::from(on_its_way);
        match lost {
            0 => Ok(()),
            1 => Err(Error::Log("an entry of the log is damaged and left out".into())),
            _ => Err(Error::Log(format!("{lost} entries of the log are damaged and left out"))),
        }
    }
}

async fn wait_for_more(reading: &mut Reading) {
    let Reading { reader, wakeup, until, progress, ends, .. } = reading;
    let ended = |p: &Progress| !p.running || p.removed || p.ends > *ends;
    tokio::select! {
        () = readable(wakeup.as_ref()) => {}
        // The shim wrote everything before it told of the end.
        _ = progress.wait_for(ended) => reader.finish(),
        () = reached(*until) => reader.finish(),
    }
}

/// Waits until it is worth asking the reader again.
pub(crate) async fn readable(wakeup: Option<&AsyncFd<OwnedFd>>) {
    match wakeup {
        None => tokio::time::sleep(WITHOUT_WATCH).await,
        Some(fd) => {
            if let Ok(mut guard) = fd.readable().await {
                // The reader drains it.
                guard.clear_ready();
            }
        }
    }
}

async fn reached(until: Option<Timestamp>) {
    match until {
        None => std::future::pending().await,
        Some(until) => {
            let left = until.duration_since(Timestamp::now());
            tokio::time::sleep(left.try_into().unwrap_or_default()).await;
        }
    }
}

fn fill(mut reader: Reader, shape: Shape) -> Result<(Reader, Bytes, Stopped)> {
    let mut chunk = BytesMut::new();
    let stopped = loop {
        if chunk.len() >= CHUNK {
            break Stopped::Full;
        }
        match reader.poll_next().map_err(|e| Error::Log(e.to_string()))? {
            Next::Entry(entry) => put_entry(&mut chunk, &entry, shape),
            Next::Pending => break Stopped::Pending,
            Next::End => break Stopped::End,
        }
    };
    Ok((reader, chunk.freeze(), stopped))
}

/// Appends an entry as a stdcopy frame, or bare for a terminal.
fn put_entry(chunk: &mut BytesMut, entry: &Entry<'_>, shape: Shape) {
    let number = match entry.stream {
        Stream::Stdout if shape.stdout => 1,
        Stream::Stderr if shape.stderr => 2,
        _ => return,
    };
    if let Some(form) = shape.json {
        return put_json(chunk, entry, form, shape.details);
    }
    let frame = chunk.len();
    if !shape.tty {
        chunk.put_slice(&[number, 0, 0, 0, 0, 0, 0, 0]);
    }
    let start = chunk.len();
    if shape.timestamps {
        chunk.put_slice(fixed_time(entry.time).as_bytes());
        chunk.put_u8(b' ');
    }
    if shape.details {
        chunk.put_slice(details(entry.attrs).as_bytes());
        chunk.put_u8(b' ');
    }
    chunk.put_slice(entry.line);
    if !shape.tty {
        let size = u32::try_from(chunk.len() - start).unwrap_or(u32::MAX);
        chunk[frame + 4..frame + 8].copy_from_slice(&size.to_be_bytes());
    }
}

fn put_json(chunk: &mut BytesMut, entry: &Entry<'_>, form: JsonLines, details: bool) {
    let text = String::from_utf8_lossy(entry.line);
    let attrs = entry.attrs.iter().filter(|_| details);
    let line = JsonLine {
        line: &text,
        source: entry.stream.name(),
        timestamp: Time(clock::from_shim(entry.time)),
        attrs: attrs.map(|(key, value)| JsonAttribute { key, value }).collect(),
        meta_data: entry.partial.map(|p| JsonPartial { last: p.last, id: &p.id, ordinal: p.ordinal }),
    };
    if form == JsonLines::Sequence {
        chunk.put_u8(0x1e);
    }
    // Texts and numbers can always be written.
    if let Ok(json) = wharf_api::gojson::to_vec(&line) {
        chunk.put_slice(&json);
    }
}

/// RFC 3339 with nine digits.
fn fixed_time(time: shim::Timestamp) -> String {
    format!("{:.9}", clock::from_shim(time))
}

/// `key=value,key=value`, escaped as in a query, sorted.
fn details(attrs: &[(String, String)]) -> String {
    let mut pairs: Vec<String> =
        attrs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
    pairs.sort();
    pairs.join(",")
}

/// Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte))
            }
            b' ' => escaped.push('+'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(line: &'a [u8], attrs: &'a [(String, String)]) -> Entry<'a> {
        Entry {
            stream: Stream::Stderr,
            time: shim::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 },
            line,
            partial: None,
            attrs,
        }
    }

    const PLAIN: Shape =
        Shape { stdout: true, stderr: true, timestamps: false, details: false, tty: false, json: None };

    #[test]
    fn entries_are_framed() {
        let mut chunk = BytesMut::new();
        put_entry(&mut chunk, &entry(b"hi\n", &[]), PLAIN);
        assert_eq!(&chunk[..], b"\x02\0\0\0\0\0\0\x03hi\n");
        put_entry(&mut chunk, &entry(b"hi\n", &[]), Shape { stderr: false, ..PLAIN });
        assert_eq!(chunk.len(), 11);
    }

    #[test]
    fn lines_get_times_and_details() {
        let attrs = [("b".to_owned(), "x y".to_owned()), ("a".to_owned(), "1&2".to_owned())];
        let mut chunk = BytesMut::new();
        let shape = Shape { timestamps: true, details: true, tty: true, ..PLAIN };
        put_entry(&mut chunk, &entry(b"hi\n", &attrs), shape);
        assert_eq!(&chunk[..], b"2023-11-14T22:13:20.005000000Z a=1%262,b=x+y hi\n");
    }

    #[test]
    fn lines_can_be_json() {
        let attrs = [("a".to_owned(), "1".to_owned())];
        let mut chunk = BytesMut::new();
        let shape = Shape { details: true, json: Some(JsonLines::Lines), ..PLAIN };
        put_entry(&mut chunk, &entry(b"<hi>\n", &attrs), shape);
        let expected = "{\"Line\":\"<hi>\\n\",\"Source\":\"stderr\",\"Timestamp\":\"2023-11-14T22:13:20.005Z\",\"Attrs\":[{\"Key\":\"a\",\"Value\":\"1\"}]}\n";
        assert_eq!(std::str::from_utf8(&chunk).unwrap(), expected);
        let mut chunk = BytesMut::new();
        put_entry(&mut chunk, &entry(b"x", &attrs), Shape { json: Some(JsonLines::Sequence), ..PLAIN });
        assert!(chunk.starts_with(b"\x1e{\"Line\":\"x\"") && !chunk.windows(5).any(|w| w == b"Attrs"));
    }

    #[test]
    fn times_before_1970() {
        let time = Timestamp::new(-1, -500_000_000).unwrap();
        assert_eq!(to_shim(time), shim::Timestamp { seconds: -2, nanos: 500_000_000 });
    }

    #[tokio::test]
    async fn a_growing_log_is_followed_to_the_end_of_the_container() {
        use std::io::Write;
        let path = std::env::temp_dir().join(format!("wharf-follow-{}.log", std::process::id()));
        let line = |text: &str| {
            format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-01T00:00:00Z\"}}\n")
        };
        std::fs::write(&path, line("one")).unwrap();
        let options = ReadOptions {
            path: path.clone(),
            format: Format::Json,
            tail: None,
            since: None,
            until: None,
            follow: Follow::Yes,
        };
        let (sender, progress) = watch::channel(Progress { running: true, ..Default::default() });
        let reader = Reader::open(options).unwrap();
        let wakeup = watch_reader(&reader);
        let shape = Shape { tty: true, ..PLAIN };
        let reading = Reading { reader, wakeup, shape, until: None, progress, ends: 0 };
        let (chunk, reading) = next_chunk(reading).await.unwrap().unwrap();
        assert_eq!(&chunk[..], b"one\n");
        let next = tokio::spawn(next_chunk(reading));
        tokio::task::yield_now().await;
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line("two").as_bytes()).unwrap();
        let (chunk, reading) = next.await.unwrap().unwrap().unwrap();
        assert_eq!(&chunk[..], b"two\n");
        let end = tokio::spawn(next_chunk(reading));
        sender.send_modify(|p| p.running = false);
        assert!(end.await.unwrap().unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
    }
}
