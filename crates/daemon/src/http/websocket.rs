//! Attaching by WebSocket (RFC 6455): frames around the bytes of a session. Of the two outputs of a process
//! without terminal one stream is made (source: moby `container_routes.go`, `wsContainersAttach`).

use super::{
    body::Body,
    reply::Reply,
    server::Socket,
    stream::{Line, Session, taken_socket},
};
use crate::error::{Error, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, Response, StatusCode, header};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::unix::OwnedWriteHalf,
    sync::Mutex,
};

/// What every server appends to a client's key (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is copied at once.
const CHUNK: usize = 32 << 10;

/// The longest payload of a control frame (section 5.5).
const CONTROL_LIMIT: u64 = 125;

/// What a frame carries (section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// Text; what clients below API 1.28 get.
    Text,
    /// Bytes.
    Binary,
    /// The end.
    Close,
    /// A question whether we live.
    Ping,
    /// The answer to it.
    Pong,
}

/// How a session is put into frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// What the process's bytes are sent as.
    pub(crate) opcode: Opcode,
    /// Whether the session's bytes are Docker's frames, whose headers are taken off.
    pub(crate) multiplexed: bool,
}

/// Turns the connection into a WebSocket for a session.
///
/// # Errors
/// When the request is no handshake of a WebSocket.
pub(crate) fn take_over(mut line: Line, headers: &HeaderMap, form: Form, session: Session) -> Result<Reply> {
    let key = headers.get("sec-websocket-key").and_then(|v| v.to_str().ok());
    let version = headers.get("sec-websocket-version").and_then(|v| v.to_str().ok());
    let (Some(key), Some("13"), Some(upgrade)) = (key, version, line.upgrade.take()) else {
        return Err(Error::invalid("the request is no handshake of a WebSocket of version 13"));
    };
    line.run(async move { relay(taken_socket(upgrade).await?, form, session).await });
    let reply = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header("sec-websocket-accept", accept_key(key));
    Ok(reply.body(Body::empty())?)
}

fn accept_key(key: &str) -> String {
    let digest =
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    STANDARD.encode(digest)
}

async fn relay((client, early): (Socket, BytesMut), form: Form, mut session: Session) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(client);
    let to_client = Mutex::new(to_client);
    let mut headers = HeaderStripper::new(form.multiplexed);
    while let Some(chunk) = session.before.next().await {
        send(&to_client, form.opcode, &headers.strip(&chunk?)).await?;
    }
    let Some(process) = session.stream else { return send(&to_client, Opcode::Close, &[]).await };
    let (mut from_process, to_process) = process.into_split();
    let output = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            buffer.clear();
            if from_process.read_buf(&mut buffer).await? == 0 {
                return send(&to_client, Opcode::Close, &[]).await;
            }
            send(&to_client, form.opcode, &headers.strip(&buffer)).await?;
        }
    };
    tokio::select! {
        result = output => result,
        result = receive(from_client, early, &to_client, to_process) => result,
    }
}

async fn send(to: &Mutex<WriteHalf<Socket>>, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
    if payload.is_empty() && matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Ok(());
    }
    let mut to = to.lock().await;
    to.write_all(&frame_header(opcode, payload.len())).await?;
    to.write_all(payload).await
}

/// Passes on what the client sends until it closes.
async fn receive(
    mut from: ReadHalf<Socket>,
    early: BytesMut,
    to_client: &Mutex<WriteHalf<Socket>>,
    mut to_process: OwnedWriteHalf,
) -> io::Result<()> {
    let mut decoder = Decoder { buffer: early, frame: None };
    loop {
        match decoder.next()? {
            Some((Opcode::Close, _)) => return send(to_client, Opcode::Close, &[]).await,
            Some((Opcode::Ping, payload)) => send(to_client, Opcode::Pong, &payload).await?,
            Some((Opcode::Pong, _)) => {}
            // The process may have closed its input: that ends nothing.
            Some((_, payload)) => drop(to_process.write_all(&payload).await),
            None => {
                decoder.buffer.reserve(CHUNK);
                if from.read_buf(&mut decoder.buffer).await? == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// The head of a frame from a server: whole messages, no mask.
fn frame_header(opcode: Opcode, length: usize) -> Vec<u8> {
    let code = match opcode {
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    let mut head = vec![0x80 | code];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => head.push(short),
        (_, Ok(middle)) => {
            head.push(126);
            head.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

/// Takes frames of a client apart. The bytes of data frames are given out as they come, however long the
/// frame says it is.
struct Decoder {
    buffer: BytesMut,
    frame: Option<Frame>,
}

/// The frame that is being read.
struct Frame {
    opcode: Opcode,
    mask: [u8; 4],
    offset: usize,
    left: u64,
}

impl Decoder {
    /// The next piece; `None` when more bytes are needed.
    fn next(&mut self) -> io::Result<Option<(Opcode, BytesMut)>> {
        if self.frame.is_none() {
            self.frame = self.head()?;
        }
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let available = self.buffer.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        let is_control = !matches!(frame.opcode, Opcode::Text | Opcode::Binary);
        let is_whole = available as u64 == frame.left;
        if !is_whole && (is_control || available == 0) {
            return Ok(None);
        }
        let mut payload = self.buffer.split_to(available);
        for byte in payload.iter_mut() {
            *byte ^= frame.mask[frame.offset % 4];
            frame.offset += 1;
        }
        frame.left -= available as u64;
        let opcode = frame.opcode;
        if is_whole {
            self.frame = None;
        }
        Ok(Some((opcode, payload)))
    }

    /// Reads the head of a frame (section 5.2).
    fn head(&mut self) -> io::Result<Option<Frame>> {
        let bad = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
        let [first, second, rest @ ..] = &self.buffer[..] else { return Ok(None) };
        let opcode = match first & 0x0f {
            0 | 2 => Opcode::Binary,
            1 => Opcode::Text,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return bad("a frame of an unknown kind"),
        };
        if second & 0x80 == 0 {
            return bad("a frame of a client without mask");
        }
        let (left, used) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8),
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 0),
        };
        let Some(&[a, b, c, d]) = rest.get(used..used + 4) else { return Ok(None) };
        if left > CONTROL_LIMIT && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return bad("a control frame that is too long");
        }
        self.buffer.advance(2 + used + 4);
        Ok(Some(Frame { opcode, mask: [a, b, c, d], offset: 0, left }))
    }
}

/// Takes the headers of Docker's multiplexed form off, wherever chunks are cut.
struct HeaderStripper {
    on: bool,
    header: Vec<u8>,
    left: usize,
}

impl HeaderStripper {
    fn new(on: bool) -> Self {
        Self { on, header: Vec::with_capacity(8), left: 0 }
    }

    fn strip(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        if !self.on {
            return bytes.to_vec();
        }
        let mut out = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            if self.left > 0 {
                let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
                out.extend_from_slice(payload);
                self.left -= payload.len();
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at((8 - self.header.len()).min(bytes.len()));
            self.header.extend_from_slice(part);
            bytes = rest;
            if let [_, _, _, _, a, b, c, d] = self.header[..] {
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.header.clear();
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stream::frame;

    #[test]
    fn the_key_is_that_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn lengths_have_three_forms() {
        assert_eq!(frame_header(Opcode::Binary, 5), [0x82, 5]);
        assert_eq!(frame_header(Opcode::Text, 126), [0x81, 126, 0, 126]);
        assert_eq!(frame_header(Opcode::Close, 0), [0x88, 0]);
        assert_eq!(frame_header(Opcode::Binary, 65536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    /// Feeds bytes one by one and collects the pieces.
    fn decoded(bytes: &[u8]) -> io::Result<Vec<(Opcode, Vec<u8>)>> {
        let mut decoder = Decoder { buffer: BytesMut::new(), frame: None };
        let mut pieces = Vec::new();
        for byte in bytes {
            decoder.buffer.extend_from_slice(&[*byte]);
            while let Some((opcode, payload)) = decoder.next()? {
                pieces.push((opcode, payload.to_vec()));
            }
        }
        Ok(pieces)
    }

    #[test]
    fn frames_are_unmasked_wherever_they_are_cut() {
        // "Hello" of RFC 6455, section 5.7, then a ping and a close.
        let bytes = [
            &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58][..],
            &[0x89, 0x82, 0, 0, 0, 0, b'h', b'i'],
            &[0x88, 0x80, 1, 2, 3, 4],
        ]
        .concat();
        let pieces = decoded(&bytes).unwrap();
        let text: Vec<u8> =
            pieces.iter().filter(|(o, _)| *o == Opcode::Text).flat_map(|(_, p)| p.clone()).collect();
        assert_eq!(text, b"Hello");
        assert_eq!(pieces[pieces.len() - 2], (Opcode::Ping, b"hi".to_vec()));
        assert_eq!(pieces[pieces.len() - 1], (Opcode::Close, vec![]));
    }

    #[test]
    fn hostile_frames_are_refused() {
        assert!(decoded(&[0x82, 0x05]).is_err(), "no mask");
        assert!(decoded(&[0x83, 0x85]).is_err(), "unknown kind");
        assert!(decoded(&[0x89, 0xfe, 1, 0, 0, 0, 0, 0]).is_err(), "long ping");
        assert!(decoded(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 7]).is_ok());
    }

    #[test]
    fn headers_are_stripped_wherever_they_are_cut() {
        let whole = [frame(1, b"out"), frame(2, b""), frame(2, b"err")].concat();
        for size in 1..whole.len() {
            let mut stripper = HeaderStripper::new(true);
            let text: Vec<u8> = whole.chunks(size).flat_map(|c| stripper.strip(c)).collect();
            assert_eq!(text, b"outerr", "{size}");
        }
        assert_eq!(HeaderStripper::new(false).strip(b"x"), b"x");
    }
}
