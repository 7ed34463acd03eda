//! `wharf-shim log`: writes a container's log for its shim, which need not wait for the disk then.
//!
//! On standard input there is a socket with one message for each piece of output; at the shim's end of sending it answers
//! with the number of bytes that it lost, and ends. It also ends when the shim dies: what it was given is written then.

use rustix::fd::OwnedFd;
use std::ffi::OsString;
use std::io;
use std::process::{Command, ExitCode, Stdio};
use wharf_logs::{Stream, Upkeep, Writer};
use wharf_spec::plan::Log;
use wharf_spec::shim::Timestamp;
use wharf_sys::seqpacket;

/// Stream, seconds, nanoseconds.
const HEADER: usize = 1 + 8 + 4;
/// The most output in a message: it travels in the packet itself.
pub(crate) const MOST: usize = seqpacket::INLINE_MAX - HEADER;

/// Starts the writer of a log. Our end of the socket does not block.
///
/// # Errors
/// When there can be no socket or process.
pub(crate) fn start(log: &Log) -> io::Result<OwnedFd> {
    let (ours, theirs) = seqpacket::pair().map_err(io::Error::other)?;
    seqpacket::set_nonblocking(&ours, true).map_err(io::Error::other)?;
    let wanted = postcard::to_allocvec(log).map_err(io::Error::other)?;
    let hex: String = wanted.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new("/proc/self/exe");
    command.args(["log", &hex]).env_clear();
    command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    // Reaped as an orphan when it has ended.
    command.spawn().map(drop)?;
    Ok(ours)
}

/// Writes until the shim sends no more. The first of `args` is the log.
pub(crate) fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let log = args.next().and_then(|hex| decode(hex.to_str()?));
    let Some(Ok(Some(writer))) = log.map(|log| Writer::open(&log)) else { return ExitCode::FAILURE };
    let _ = rustix::thread::set_name(c"wharf-log");
    let lost = write_all(writer);
    // The shim may be gone.
    let _ = seqpacket::send(rustix::stdio::stdin(), &lost.to_le_bytes(), &[]);
    ExitCode::SUCCESS
}

fn write_all(mut writer: Writer) -> u64 {
    while let Ok(Some(packet)) = seqpacket::recv(rustix::stdio::stdin()) {
        if let Some(((stream, time), data)) = read(&packet.bytes) {
            writer.write(stream, data, time);
        }
        // A millisecond each, so that a full socket waits no longer than that.
        if writer.upkeep() == Upkeep::More {
            continue;
        }
    }
    let now = wharf_logs::now();
    [Stream::Stdout, Stream::Stderr].into_iter().for_each(|stream| writer.finish(stream, now));
    writer.lost()
}

fn decode(hex: &str) -> Option<Log> {
    let digits =
        hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    postcard::from_bytes(&digits.collect::<Option<Vec<u8>>>()?).ok()
}

/// Which of the two streams.
pub(crate) const fn number(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// A message for the writer.
pub(crate) fn message(stream: Stream, data: &[u8], time: Timestamp) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + data.len());
    message.push(number(stream) as u8);
    message.extend_from_slice(&time.seconds.to_le_bytes());
    message.extend_from_slice(&time.nanos.to_le_bytes());
    message.extend_from_slice(data);
    message
}

/// How much output is in a message.
pub(crate) fn output_in(message: &[u8]) -> usize {
    message.len().saturating_sub(HEADER)
}

/// Takes a message apart; `None` for one that is none.
pub(crate) fn read(message: &[u8]) -> Option<((Stream, Timestamp), &[u8])> {
    let (header, data) = message.split_at_checked(HEADER)?;
    let stream = if header[0] == 0 { Stream::Stdout } else { Stream::Stderr };
    let seconds = i64::from_le_bytes(header[1..9].try_into().ok()?);
    let nanos = u32::from_le_bytes(header[9..].try_into().ok()?);
    Some(((stream, Timestamp { seconds, nanos }), data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_logs_travel() {
        let time = Timestamp { seconds: -5, nanos: 7 };
        let message = message(Stream::Stderr, b"abc", time);
        assert_eq!(read(&message), Some(((Stream::Stderr, time), &b"abc"[..])));
        assert_eq!((output_in(&message), read(b"short")), (3, None));
        let hex: String =
            postcard::to_allocvec(&Log::None).unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(decode(&hex), Some(Log::None));
        assert_eq!(decode("zz"), None);
    }
}
