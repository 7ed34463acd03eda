//! Where output is logged: in files by the shim itself, or, with `mode=non-blocking`, by a process of its own that may
//! wait for the disk while the container goes on (source: moby `daemon/logger/ring.go`).
//!
//! What that process has not taken waits in memory, up to `max-buffer-size`. What comes when the buffer is full is
//! dropped in whole lines and counted.

use super::setup;
use crate::log_writer;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::time::Duration;
use wharf_logs::{Stream, Upkeep, Writer};
use wharf_spec::plan;
use wharf_spec::shim::{Failure, Timestamp};
use wharf_sys::{event, seqpacket};

/// How long the end waits for the writer to take and write what it was not given yet (source: moby
/// `daemon/container/monitor.go`, loggerCloseTimeout).
const PATIENCE: Duration = Duration::from_secs(10);

/// A line in one piece (source: moby `daemon/logger/copier.go`, defaultBufSize).
const LINE: usize = 16 << 10;

/// A container's log.
#[derive(Debug)]
pub(super) enum Log {
    /// Written here.
    Here(Box<Writer>),
    /// Written by another process.
    Apart(Apart),
}

impl Log {
    /// Opens the log that a plan asks for; `None` for no log.
    ///
    /// # Errors
    /// When the files cannot be opened, or the process cannot be started.
    pub(super) fn open(wanted: &plan::Log) -> Result<Option<Self>, Failure> {
        match wanted {
            plan::Log::Buffered { log, bytes } => {
                // What cannot be opened is told at the start; the writer itself has nobody to tell.
                Writer::open(log).map(drop).map_err(|e| setup("open the log", &e))?;
                let socket = log_writer::start(log).map_err(|e| setup("start the log's writer", &e))?;
                Ok(Some(Self::Apart(Apart { socket, ring: Ring::new(*bytes), is_polled: false })))
            }
            other => {
                let writer = Writer::open(other).map_err(|e| setup("open the log", &e))?;
                Ok(writer.map(|writer| Self::Here(Box::new(writer))))
            }
        }
    }

    /// Takes output that was read at `now`.
    pub(super) fn write(&mut self, stream: Stream, data: &[u8], now: Timestamp) {
        match self {
            Self::Here(writer) => writer.write(stream, data, now),
            Self::Apart(apart) => {
                apart.ring.push(stream, data, now);
                apart.send_some();
            }
        }
    }

    /// Ends the log. Bytes of output that are not in it.
    pub(super) fn finish(self, streams: [Stream; 2], at: Timestamp) -> u64 {
        match self {
            Self::Here(mut writer) => {
                streams.into_iter().for_each(|stream| writer.finish(stream, at));
                writer.lost()
            }
            Self::Apart(apart) => apart.finish(),
        }
    }

    /// As [`Writer::upkeep`].
    pub(super) fn upkeep(&mut self) -> Upkeep {
        match self {
            Self::Here(writer) => writer.upkeep(),
            Self::Apart(_) => Upkeep::Done,
        }
    }

    /// As [`Writer::shrink`].
    pub(super) fn shrink(&mut self) {
        if let Self::Here(writer) = self {
            writer.shrink();
        }
    }

    /// The part in another process.
    pub(super) fn apart(&mut self) -> Option<&mut Apart> {
        match self {
            Self::Here(_) => None,
            Self::Apart(apart) => Some(apart),
        }
    }
}

/// The way to a log's writer.
#[derive(Debug)]
pub(super) struct Apart {
    socket: OwnedFd,
    ring: Ring,
    /// Whether the poller tells when the socket takes more.
    pub(super) is_polled: bool,
}

impl Apart {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether something waits for the writer.
    pub(super) fn is_waiting(&self) -> bool {
        !self.ring.pieces.is_empty()
    }

    /// Hands over what the socket takes.
    pub(super) fn send_some(&mut self) {
        while let Some(piece) = self.ring.pieces.front() {
            match seqpacket::send(&self.socket, piece, &[]) {
                Ok(()) => self.ring.forget_first(),
                Err(error) if error.is(Errno::AGAIN) => return,
                // The writer is gone: nobody takes it any more.
                Err(_) => return self.ring.lose_all(),
            }
        }
    }

    fn finish(mut self) -> u64 {
        let until = std::time::Instant::now() + PATIENCE;
        let left = || until.saturating_duration_since(std::time::Instant::now());
        while self.is_waiting() && !left().is_zero() {
            self.send_some();
            if self.is_waiting() && event::wait_writable(&self.socket, Some(left())).is_err() {
                break;
            }
        }
        self.ring.lose_all();
        let mut lost = self.ring.lost;
        // The writer's last word, sent when all is written: what it lost itself.
        let told = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        if told.is_ok()
            && event::wait_readable(&self.socket, Some(left())).unwrap_or(false)
            && let Ok(Some(packet)) = seqpacket::recv(&self.socket)
        {
            lost += packet.bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        lost
    }
}

/// Output that waits, in messages for the writer.
#[derive(Debug)]
struct Ring {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of output in `pieces`.
    held: usize,
    most: usize,
    lost: u64,
    /// By stream: the rest of a line goes too whose beginning was dropped.
    in_dropped: [bool; 2],
    /// By stream: what was taken last did not end a line.
    in_line: [bool; 2],
}

impl Ring {
    fn new(most: u64) -> Self {
        Self {
            pieces: VecDeque::new(),
            held: 0,
            most: usize::try_from(most).unwrap_or(usize::MAX),
            lost: 0,
            in_dropped: [false; 2],
            in_line: [false; 2],
        }
    }

    /// Takes output, or the whole lines of it for which there is room.
    fn push(&mut self, stream: Stream, mut data: &[u8], now: Timestamp) {
        let at = log_writer::number(stream);
        if self.in_dropped[at] {
            let end = data.iter().position(|b| *b == b'\n').map_or(data.len(), |end| end + 1);
            self.in_dropped[at] = !data[..end].ends_with(b"\n");
            self.lost += end as u64;
            data = &data[end..];
        }
        let room = self.most.saturating_sub(self.held);
        // As in Docker, what comes to an empty buffer is never too much for it.
        if data.len() <= room || self.pieces.is_empty() {
            return self.take(stream, data, now);
        }
        let end_of_line = |b: &u8| *b == b'\n';
        let mut whole = data[..room].iter().rposition(end_of_line).map_or(0, |end| end + 1);
        if whole == 0 && self.in_line[at] {
            // The end of a line that was begun is taken though there is no room, as long as it is short.
            let soon = &data[..data.len().min(LINE)];
            whole = soon.iter().position(end_of_line).map_or(0, |end| end + 1);
        }
        self.take(stream, &data[..whole], now);
        if self.in_line[at] {
            // What there is of the line stands alone.
            self.take(stream, b"\n", now);
        }
        let rest = &data[whole..];
        self.lost += rest.len() as u64;
        self.in_dropped[at] = !rest.ends_with(b"\n");
    }

    fn take(&mut self, stream: Stream, data: &[u8], now: Timestamp) {
        for part in data.chunks(log_writer::MOST) {
            self.held += part.len();
            self.in_line[log_writer::number(stream)] = !part.ends_with(b"\n");
            self.pieces.push_back(log_writer::message(stream, part, now));
        }
    }

    fn forget_first(&mut self) {
        if let Some(piece) = self.pieces.pop_front() {
            self.held -= log_writer::output_in(&piece);
        }
    }

    fn lose_all(&mut self) {
        self.lost += self.held as u64;
        self.held = 0;
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { seconds: 1, nanos: 2 };

    fn texts(ring: &Ring) -> String {
        let text = |piece: &Vec<u8>| String::from_utf8_lossy(log_writer::read(piece).unwrap().1).into_owned();
        ring.pieces.iter().map(text).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn whole_lines_are_dropped_and_counted() {
        let mut ring = Ring::new(10);
        ring.push(Stream::Stdout, b"one\ntwo\nthree\nfo", NOW);
        assert_eq!((texts(&ring).as_str(), ring.lost), ("one\ntwo\nthree\nfo", 0), "an empty one takes all");
        ring.push(Stream::Stdout, b"ur\nfive\n", NOW);
        assert_eq!(
            (texts(&ring).as_str(), ring.lost),
            ("one\ntwo\nthree\nfo|ur\n", 5),
            "a begun line is whole"
        );
        ring.forget_first();
        assert_eq!(ring.held, 3);
        ring.push(Stream::Stdout, b"six\nseven\nei", NOW);
        assert_eq!((texts(&ring).as_str(), ring.lost), ("ur\n|six\n", 13));
        ring.push(Stream::Stdout, b"ght", NOW);
        ring.push(Stream::Stderr, b"er\n", NOW);
        assert_eq!((texts(&ring).as_str(), ring.lost), ("ur\n|six\n|er\n", 16));
        ring.push(Stream::Stdout, b"\nA\n", NOW);
        assert_eq!(ring.lost, 19, "one for the rest of the line, two that do not fit");
        ring.lose_all();
        assert_eq!((ring.held, ring.lost), (0, 29));
    }

    #[test]
    fn a_begun_line_without_a_near_end_stands_alone() {
        let mut ring = Ring::new(2);
        ring.push(Stream::Stdout, b"ab", NOW);
        ring.push(Stream::Stdout, &vec![b'x'; LINE + 1], NOW);
        assert_eq!((texts(&ring).as_str(), ring.lost), ("ab|\n", LINE as u64 + 1));
    }

    #[test]
    fn large_output_is_cut_into_messages() {
        let mut ring = Ring::new(1 << 20);
        let large = vec![b'x'; 70_000];
        ring.push(Stream::Stderr, &large, NOW);
        assert_eq!((ring.pieces.len(), ring.held), (3, 70_000));
        let (header, _) = log_writer::read(&ring.pieces[0]).unwrap();
        assert_eq!(header, (Stream::Stderr, NOW));
    }
}
