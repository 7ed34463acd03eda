//! Splits output into the entries Docker makes of it (source: moby `daemon/logger/copier.go`): an entry
//! per line, and for lines longer than 16 KiB a piece per 16 KiB. A line that is not ended stays here until
//! it is, or until the output is closed.

use crate::entry::Partial;
use wharf_spec::shim::Timestamp;

/// The longest text of one entry, its newline included.
pub(crate) const MAX_TEXT: usize = 16 * 1024;

/// One stream's unfinished line.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    held: Vec<u8>,
    /// Of a line whose first pieces are already out.
    chain: Option<Chain>,
}

#[derive(Debug)]
struct Chain {
    time: Timestamp,
    id: String,
    ordinal: i32,
}

/// One entry to be written.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// Without the newline.
    pub(crate) text: &'a [u8],
    /// Pieces of one line carry the time of the first.
    pub(crate) time: Timestamp,
    /// `None`: a whole line. Otherwise the newline follows the last piece.
    pub(crate) partial: Option<&'a Partial>,
}

impl Piece<'_> {
    pub(crate) fn ends_line(&self) -> bool {
        self.partial.is_none_or(|p| p.last)
    }
}

impl Splitter {
    /// Takes output; `time` gives the time of the entry that is about to be made, `emit` gets the entries.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        mut time: impl FnMut() -> Timestamp,
        mut emit: impl FnMut(Piece<'_>),
    ) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if self.held.is_empty() && self.chain.is_none() && line.len() < MAX_TEXT {
                emit(Piece { text: line, time: time(), partial: None });
            } else {
                self.hold(line, &mut time, &mut emit);
                self.end_line(&mut time, &mut emit);
            }
        }
        self.hold(rest, &mut time, &mut emit);
    }

    /// The output is closed: what is held is an entry that does not end its line.
    pub(crate) fn finish(&mut self, mut time: impl FnMut() -> Timestamp, mut emit: impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            self.emit_partial(Last::No, &mut time, &mut emit);
        }
        self.chain = None;
    }

    fn hold(
        &mut self,
        mut text: &[u8],
        time: &mut impl FnMut() -> Timestamp,
        emit: &mut impl FnMut(Piece<'_>),
    ) {
        while self.held.len() + text.len() >= MAX_TEXT {
            let (now, later) = text.split_at(MAX_TEXT - self.held.len());
            self.held.extend_from_slice(now);
            self.emit_partial(Last::No, time, emit);
            text = later;
        }
        self.held.extend_from_slice(text);
    }

    fn end_line(&mut self, time: &mut impl FnMut() -> Timestamp, emit: &mut impl FnMut(Piece<'_>)) {
        if self.chain.is_some() {
            self.emit_partial(Last::Yes, time, emit);
            self.chain = None;
        } else {
            emit(Piece { text: &self.held, time: time(), partial: None });
            self.held.clear();
        }
    }

    fn emit_partial(
        &mut self,
        last: Last,
        time: &mut impl FnMut() -> Timestamp,
        emit: &mut impl FnMut(Piece<'_>),
    ) {
        let chain = self.chain.get_or_insert_with(|| Chain { time: time(), id: random_id(), ordinal: 0 });
        chain.ordinal = chain.ordinal.saturating_add(1);
        let partial = Partial { last: last == Last::Yes, id: chain.id.clone(), ordinal: chain.ordinal };
        emit(Piece { text: &self.held, time: chain.time, partial: Some(&partial) });
        self.held.clear();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Yes,
    No,
}

/// 64 random hexadecimal digits (source: moby `daemon/internal/stringid`).
fn random_id() -> String {
    let mut bytes = [0u8; 32];
    // Should the kernel have no randomness yet, an id of zeros still groups the pieces of this stream's line.
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|d| char::from_digit(u32::from(d), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (text, ends its line, ordinal or 0 for whole lines)
    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, i32)> {
        let mut out = Vec::new();
        let mut splitter = Splitter::default();
        let mut clock = 0;
        let mut time = || {
            clock += 1;
            Timestamp { seconds: clock, nanos: 0 }
        };
        let mut emit =
            |p: Piece<'_>| out.push((p.text.to_vec(), p.ends_line(), p.partial.map_or(0, |p| p.ordinal)));
        for chunk in chunks {
            splitter.write(chunk, &mut time, &mut emit);
        }
        splitter.finish(&mut time, &mut emit);
        out
    }

    #[test]
    fn lines_and_an_unfinished_one() {
        let got = split(&[b"one\ntw", b"o\n\nlast"]);
        let want: Vec<(Vec<u8>, bool, i32)> = vec![
            (b"one".into(), true, 0),
            (b"two".into(), true, 0),
            (b"".into(), true, 0),
            (b"last".into(), false, 1),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn long_lines_break_at_16_kib_however_they_arrive() {
        for length in [MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1, 2 * MAX_TEXT, 2 * MAX_TEXT + 5] {
            let mut text = vec![b'x'; length];
            text.push(b'\n');
            let mut want: Vec<(Vec<u8>, bool, i32)> = Vec::new();
            let pieces = length / MAX_TEXT;
            for n in 0..pieces {
                want.push((vec![b'x'; MAX_TEXT], false, n as i32 + 1));
            }
            let ordinal = if pieces == 0 { 0 } else { pieces as i32 + 1 };
            want.push((vec![b'x'; length % MAX_TEXT], true, ordinal));
            for step in [1000, MAX_TEXT, 65536] {
                let chunks: Vec<&[u8]> = text.chunks(step).collect();
                assert_eq!(split(&chunks), want, "{length} by {step}");
            }
        }
    }

    #[test]
    fn pieces_of_a_line_share_time_and_id() {
        let mut splitter = Splitter::default();
        let mut clock = 0;
        let mut seen = Vec::new();
        let text = [vec![b'a'; 3 * MAX_TEXT], b"\n".to_vec(), vec![b'b'; MAX_TEXT], b"\n".to_vec()].concat();
        splitter.write(
            &text,
            || {
                clock += 1;
                Timestamp { seconds: clock, nanos: 0 }
            },
            |p| seen.push((p.time.seconds, p.partial.unwrap().id.clone())),
        );
        assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 1, 1, 1, 2, 2]);
        assert_eq!(seen[0].1, seen[3].1);
        assert_ne!(seen[0].1, seen[4].1);
        assert_eq!(seen[0].1.len(), 64);
    }
}
