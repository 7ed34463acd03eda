//! The standard streams of a container: frames taken apart, input with detach keys, signals passed on.
//!
//! Source: docker/cli `cli/command/container/hijack.go`, `tty.go`, `signals.go`; moby
//! `api/pkg/stdcopy`.

use crate::{
    client::{Client, Hijacked, Query, encode},
    error::{Error, Result},
    terminal::{self, DetachWatch, Raw},
};
use std::io::{self, Write};
use tokio::io::AsyncReadExt;

/// What of a container's streams is ours.
pub(crate) struct Wiring {
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// `ctrl-p,ctrl-q`
    pub(crate) detach_keys: String,
}

/// How streaming ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The container's output ended.
    Output,
    /// The user pressed the detach keys.
    Detached,
}

/// Copies until the output ends or the user detaches.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn copy(hijacked: Hijacked, wiring: &Wiring) -> Result<Ended> {
    let Hijacked { mut output, input, multiplexed } = hijacked;
    let keys = terminal::detach_keys(&wiring.detach_keys)?;
    let raw = (wiring.stdin && wiring.tty).then(Raw::enter);
    let frames = multiplexed.unwrap_or(!wiring.tty) && !wiring.tty;
    let listen = async {
        let mut splitter = Splitter::new(frames, wiring.stdout, wiring.stderr);
        let mut buffer = Vec::new();
        loop {
            if output.read(&mut buffer).await.is_err() || buffer.is_empty() {
                break;
            }
            splitter.write(&buffer)?;
        }
        Ok::<_, Error>(Ended::Output)
    };
    let talk = async {
        let Some(mut input) = input else { return std::future::pending().await };
        if wiring.stdin && send_input(&mut input, wiring.tty.then_some(keys)).await? {
            return Ok(Ended::Detached);
        }
        // The other side may have gone already.
        let _ = input.close().await;
        if wiring.stdout || wiring.stderr { std::future::pending().await } else { Ok(Ended::Output) }
    };
    let result = tokio::select! {
        result = listen => result,
        result = talk => result,
    };
    drop(raw);
    result
}

/// Sends standard input. Whether the detach keys were pressed.
async fn send_input(input: &mut crate::client::Input, keys: Option<Vec<u8>>) -> Result<bool> {
    let mut stdin = tokio::io::stdin();
    let mut watch = keys.map(DetachWatch::new);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let Ok(length @ 1..) = stdin.read(&mut buffer).await else { return Ok(false) };
        let sent = match &mut watch {
            None => input.write(&buffer[..length]).await,
            Some(watch) => {
                let typed = watch.take(&buffer[..length]);
                let sent = input.write(&typed.bytes).await;
                if typed.detach {
                    return Ok(true);
                }
                sent
            }
        };
        // What the container does not read any more is not an error of ours.
        if sent.is_err() {
            return Ok(false);
        }
    }
}

/// Takes frames apart: 8 bytes of head (stream, three zeros, length), then the bytes.
pub(crate) struct Splitter {
    framed: bool,
    stdout: bool,
    stderr: bool,
    head: Vec<u8>,
    left: usize,
    stream: u8,
    gathered: Vec<u8>,
}

/// To standard error or output.
fn write_out(stream: u8, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    if stream == 2 {
        return io::stderr().lock().write_all(bytes);
    }
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

const HEAD: usize = 8;
/// A frame with an error of the daemon in it.
const SYSTEM_ERROR: u8 = 3;

impl Splitter {
    pub(crate) const fn new(framed: bool, stdout: bool, stderr: bool) -> Self {
        Self { framed, stdout, stderr, head: Vec::new(), left: 0, stream: 1, gathered: Vec::new() }
    }

    /// Writes what has arrived to standard output and error, with one call for what follows each other: a frame
    /// is often one line.
    ///
    /// # Errors
    /// When they cannot be written, or the frames are no frames.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.framed {
            return Ok(write_out(1, bytes)?);
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        let mut last = 1;
        let done = self.split(bytes, |stream, part| {
            if stream != last {
                write_out(last, &gathered)?;
                gathered.clear();
                last = stream;
            }
            gathered.extend_from_slice(part);
            Ok(())
        });
        // What came before a frame that is none is shown too.
        let written = write_out(last, &gathered);
        gathered.clear();
        self.gathered = gathered;
        done.and(Ok(written?))
    }

    /// Gives the parts of what has arrived, each with the number of its stream.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn split(
        &mut self,
        bytes: &[u8],
        mut write: impl FnMut(u8, &[u8]) -> io::Result<()>,
    ) -> Result<()> {
        if !self.framed {
            return Ok(write(1, bytes)?);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.left == 0 {
                let wanted = (HEAD - self.head.len()).min(rest.len());
                self.head.extend_from_slice(&rest[..wanted]);
                rest = &rest[wanted..];
                if self.head.len() == HEAD {
                    self.begin()?;
                }
                continue;
            }
            let part = self.left.min(rest.len());
            match self.stream {
                SYSTEM_ERROR => {
                    let text = String::from_utf8_lossy(&rest[..part]).into_owned();
                    return Err(Error::text(format!("error from daemon in stream: {text}")));
                }
                2 if self.stderr => write(2, &rest[..part])?,
                0 | 1 if self.stdout => write(1, &rest[..part])?,
                _ => {}
            }
            self.left -= part;
            rest = &rest[part..];
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        self.stream = self.head[0];
        let length = [self.head[4], self.head[5], self.head[6], self.head[7]];
        self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        self.head.clear();
        if self.stream > SYSTEM_ERROR {
            return Err(Error::text(format!("unrecognized stream: {}", self.stream)));
        }
        Ok(())
    }
}

/// What has a terminal: a container or an exec.
#[derive(Clone, Copy)]
pub(crate) enum Sized<'a> {
    Container(&'a str),
    Exec(&'a str),
}

/// Tells the size of our terminal, now and whenever it changes. Never ends.
pub(crate) async fn follow_size(client: &Client, what: Sized<'_>) {
    use tokio::signal::unix::{SignalKind, signal};
    for attempt in 0..10 {
        if resize(client, what, 0).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10 * (attempt + 1))).await;
    }
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return std::future::pending().await };
    while changes.recv().await.is_some() {
        let _ = resize(client, what, 0).await;
    }
    std::future::pending().await
}

/// Tells the size of our terminal, with so many rows and columns more.
pub(crate) async fn resize(client: &Client, what: Sized<'_>, more: u16) -> Result<()> {
    let (rows, columns) = terminal::size();
    if rows == 0 && columns == 0 {
        return Ok(());
    }
    let path = match what {
        Sized::Container(id) => format!("/containers/{}/resize", encode(id)),
        Sized::Exec(id) => format!("/exec/{}/resize", encode(id)),
    };
    let query = Query::new().with("h", &(rows + more).to_string()).with("w", &(columns + more).to_string());
    client.post(&path, query).await
}

/// Catches signals from now on, to be passed on later: what comes before the container exists is not lost.
pub(crate) struct Signals {
    received: tokio::sync::mpsc::UnboundedReceiver<&'static str>,
}

/// The signals that are passed on, with their numbers.
const PASSED_ON: [(i32, &str); 10] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
    (28, "WINCH"),
];

impl Signals {
    /// Begins to catch.
    pub(crate) fn catch() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let (sender, received) = tokio::sync::mpsc::unbounded_channel();
        for (number, name) in PASSED_ON {
            let Ok(mut caught) = signal(SignalKind::from_raw(number)) else { continue };
            let sender = sender.clone();
            tokio::spawn(async move {
                while caught.recv().await.is_some() {
                    if sender.send(name).is_err() {
                        break;
                    }
                }
            });
        }
        Self { received }
    }

    /// Passes all signals on to a container. Never ends.
    pub(crate) async fn pass_on(mut self, client: &Client, id: &str) {
        while let Some(name) = self.received.recv().await {
            let path = format!("/containers/{}/kill", encode(id));
            // A container that is gone gets no signal.
            let _ = client.post(&path, Query::new().with("signal", name)).await;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(framed: bool, pieces: &[&[u8]]) -> (String, String, Result<()>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut splitter = Splitter::new(framed, true, true);
        let mut result = Ok(());
        for piece in pieces {
            result = splitter.split(piece, |stream, part| {
                if stream == 2 {
                    err.extend_from_slice(part)
                } else {
                    out.extend_from_slice(part)
                };
                Ok(())
            });
        }
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), result)
    }

    #[test]
    fn frames_may_come_in_any_pieces() {
        let stream =
            [b"\x01\0\0\0\0\0\0\x03abc".as_slice(), b"\x02\0\0\0\0\0\0\x02xy", b"\x01\0\0\0\0\0\0\0"]
                .concat();
        for size in 1..stream.len() {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            let (out, err, result) = split(true, &pieces);
            assert!(out == "abc" && err == "xy" && result.is_ok(), "{size}");
        }
        assert_eq!(split(false, &[b"raw"]).0, "raw");
        assert!(split(true, &[b"\x09\0\0\0\0\0\0\x01a"]).2.is_err());
        let error = split(true, &[b"\x03\0\0\0\0\0\0\x04oops"]).2.unwrap_err();
        assert_eq!(error.to_string(), "error from daemon in stream: oops");
    }
}
