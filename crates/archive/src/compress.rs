//! Compression, recognised by its first bytes (source: moby `go-archive/compression`).

use crate::{Error, bzip2::Bzip2Decoder};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::io::{self, BufReader, Chain, Cursor, Read};

const BUFFER: usize = 128 << 10;

/// What an xz stream may ask for, in KiB: twice what `xz -9` needs.
const XZ_MEMORY: u32 = 128 << 10;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// By the first bytes (six suffice); too few bytes are uncompressed.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first (RFC 8878, 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// A stream decompressed, whatever it is compressed with.
pub struct Decompressor<R: Read> {
    stream: Stream<R>,
}

/// The source with the bytes that were looked at put back.
type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum Stream<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<zstd::Decoder<'static, Source<R>>>),
    Bzip2(Box<Bzip2Decoder<Source<R>>>),
    Xz(Box<XzReader<Source<R>>>),
}

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes and chooses.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn new(mut source: R) -> Result<Self, Error> {
        // A pipe or socket may give fewer bytes at once than it takes to tell.
        let mut first = Vec::with_capacity(6);
        source.by_ref().take(6).read_to_end(&mut first).map_err(Error::read)?;
        let kind = Compression::detect(&first);
        let source = BufReader::with_capacity(BUFFER, Cursor::new(first).chain(source));
        let stream = match kind {
            Compression::None => Stream::Plain(source),
            Compression::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => {
                Stream::Zstd(Box::new(zstd::Decoder::with_buffer(source).map_err(Error::Read)?))
            }
            Compression::Bzip2 => Stream::Bzip2(Box::new(Bzip2Decoder::new(source))),
            Compression::Xz => Stream::Xz(Box::new(XzReader::new_mem_limit(source, true, XZ_MEMORY))),
        };
        Ok(Self { stream })
    }

    /// What it is compressed with.
    pub fn compression(&self) -> Compression {
        match self.stream {
            Stream::Plain(_) => Compression::None,
            Stream::Gzip(_) => Compression::Gzip,
            Stream::Zstd(_) => Compression::Zstd,
            Stream::Bzip2(_) => Compression::Bzip2,
            Stream::Xz(_) => Compression::Xz,
        }
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(source) => source.read(into),
            Stream::Gzip(source) => source.read(into),
            Stream::Zstd(source) => source.read(into),
            Stream::Bzip2(source) => source.read(into),
            Stream::Xz(source) => source.read(into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn decompress(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompressor::new(data).map_err(io::Error::other)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_compression_is_recognised() {
        assert_eq!(decompress(b"plain").unwrap(), b"plain");
        assert_eq!(decompress(b"").unwrap(), b"");
        assert_eq!(decompress(&[gzip(b"one"), gzip(b"two")].concat()).unwrap(), b"onetwo");
        let zstd = zstd::encode_all(&b"three"[..], 1).unwrap();
        assert_eq!(decompress(&zstd).unwrap(), b"three");
        let skippable = [&b"\x50\x2a\x4d\x18\x02\0\0\0xx"[..], &zstd].concat();
        assert_eq!(decompress(&skippable).unwrap(), b"three");
        assert_eq!(decompress(XZ).unwrap(), b"fourfourfour");
        assert_eq!(decompress(include_bytes!("../tests/data/small.bz2")).unwrap(), b"fourfourfour");
    }

    /// `printf fourfourfour | xz -9`
    const XZ: &[u8] = b"\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x1c\x00\x00\x00\
        \x10\xcf\x58\xcc\xe0\x00\x0b\x00\x09\x5d\x00\x33\x1b\xcb\x11\xf8\x17\x17\x18\x00\
        \x00\x00\x00\x00\x28\xff\xe7\xd1\xbb\x55\x4f\x7d\x00\x01\x25\x0c\xe7\x29\xc3\xc1\
        \x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04\x59\x5a";

    #[test]
    fn a_cut_stream_is_an_error() {
        let whole = gzip(&[7; 100_000]);
        assert!(decompress(&whole[..whole.len() - 4]).is_err());
        assert!(decompress(&XZ[..XZ.len() - 14]).is_err());
    }
}
