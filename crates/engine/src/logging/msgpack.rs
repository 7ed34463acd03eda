//! As much of MessagePack as the forward protocol takes (source: msgpack `spec.md`).

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longer texts are no acknowledgements.
const MAX_TEXT: usize = 4096;

pub(super) fn array(out: &mut Vec<u8>, length: u8) {
    out.push(0x90 | length & 0x0f);
}

pub(super) fn map(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length).ok().filter(|length| *length < 16) {
        Some(length) => out.push(0x80 | length),
        None => {
            out.push(0xde);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
}

pub(super) fn text(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        length @ 0..=31 => out.push(0xa0 | length as u8),
        length @ 32..=0xff => out.extend_from_slice(&[0xd9, length as u8]),
        length @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

pub(super) fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(0xd3);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Fluentd's time with nanoseconds: extension 0.
pub(super) fn event_time(out: &mut Vec<u8>, seconds: i64, nanos: u32) {
    out.extend_from_slice(&[0xd7, 0]);
    out.extend_from_slice(&(seconds as u32).to_be_bytes());
    out.extend_from_slice(&nanos.to_be_bytes());
}

/// Reads a map of one text to another, and gives the second.
pub(super) async fn read_answer(
    from: &mut (impl AsyncRead + Unpin + ?Sized),
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    if from.read_u8().await? != 0x81 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((read_text(from).await?, read_text(from).await?))
}

async fn read_text(from: &mut (impl AsyncRead + Unpin + ?Sized)) -> io::Result<Vec<u8>> {
    let length = match from.read_u8().await? {
        short @ 0xa0..=0xbf => usize::from(short & 0x1f),
        0xd9 | 0xc4 => usize::from(from.read_u8().await?),
        0xda | 0xc5 => usize::from(from.read_u16().await?),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    if length > MAX_TEXT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_are_encoded_as_the_specification_says() {
        let mut out = Vec::new();
        array(&mut out, 4);
        map(&mut out, 2);
        map(&mut out, 20);
        text(&mut out, b"ab");
        text(&mut out, &[b'x'; 40]);
        integer(&mut out, 1);
        event_time(&mut out, 2, 3);
        let mut expected = vec![0x94, 0x82, 0xde, 0, 20, 0xa2, b'a', b'b', 0xd9, 40];
        expected.extend([b'x'; 40]);
        expected.extend([0xd3, 0, 0, 0, 0, 0, 0, 0, 1, 0xd7, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(out, expected);
        let mut answer: &[u8] = b"\x81\xa3ack\xa2xy";
        assert_eq!(read_answer(&mut answer).await.unwrap(), (b"ack".to_vec(), b"xy".to_vec()));
        let mut other: &[u8] = b"\x82";
        assert!(read_answer(&mut other).await.is_err());
    }
}
