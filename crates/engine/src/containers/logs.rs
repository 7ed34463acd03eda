//! `GET /containers/{id}/logs` (source: moby `daemon/logs.go`, `daemon/server/httputils/write_log_stream.go`).

use super::{
    Containers, Logs, LogsOptions,
    container::{Container, Progress},
    plan,
};
use crate::{Error, Result, blocking::blocking, clock, error::invalid, polled};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use std::{os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};
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
        let container = self.get(id_or_name)?;
        self.logs_of(&container, options).await
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
        let format = if driver == "local" { Format::Local } else { Format::Json };
        let Some(path) = plan::log_path(driver, container.dir(), &container.id) else {
            return Err(Error::LogsNotReadable);
        };
        let read = ReadOptions {
            path,
            format,
            tail: options.tail,
            since: options.since.map(to_shim),
            until: options.until.map(to_shim),
            follow: if options.follow && running { Follow::Yes } else { Follow::No },
        };
        let shape = Shape {
            stdout: options.stdout,
            stderr: options.stderr,
            timestamps: options.timestamps,
            details: options.details,
            tty,
        };
        let progress = container.watch();
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
fn watch_reader(reader: &Reader) -> Option<AsyncFd<OwnedFd>> {
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
            Stopped::End => return Ok(None),
            Stopped::Pending => wait_for_more(&mut reading).await,
            Stopped::Full => {}
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

async fn readable(wakeup: Option<&AsyncFd<OwnedFd>>) {
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

    const PLAIN: Shape = Shape { stdout: true, stderr: true, timestamps: false, details: false, tty: false };

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
