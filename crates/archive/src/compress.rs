//! Compression, recognised by its first bytes (source: moby `go-archive/compression`).

use crate::{Error, GzipWriter, bzip2::Bzip2Decoder};
use flate2::{bufread::MultiGzDecoder, write::DeflateEncoder};
use lzma_rust2::XzReader;
use std::io::{self, BufReader, Chain, Cursor, Read, Write};

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

/// What a client may ask of an answer's body (RFC 9110, 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "self-evident")]
pub enum Encoding {
    #[default]
    Identity,
    Gzip,
    /// Without zlib's frame, as Go writes it.
    Deflate,
}

/// A stream compressed, or not, on its way.
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Identity(W),
    Gzip(Box<GzipWriter<W>>),
    Deflate(Box<DeflateEncoder<W>>),
}

impl<W: Write> Encoder<W> {
    /// Nothing written yet.
    pub fn new(out: W, encoding: Encoding) -> Self {
        Self(match encoding {
            Encoding::Identity => Inner::Identity(out),
            Encoding::Gzip => Inner::Gzip(Box::new(GzipWriter::new(out))),
            Encoding::Deflate => {
                Inner::Deflate(Box::new(DeflateEncoder::new(out, flate2::Compression::default())))
            }
        })
    }

    /// Writes what is left and gives the destination back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<W, Error> {
        match self.0 {
            Inner::Identity(out) => Ok(out),
            Inner::Gzip(encoder) => encoder.finish(),
            Inner::Deflate(encoder) => encoder.finish().map_err(Error::Write),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Identity(out) => out.write(bytes),
            Inner::Gzip(encoder) => encoder.write(bytes),
            Inner::Deflate(encoder) => encoder.write(bytes),
        }
    }

    /// Of what is compressed, only [`Encoder::finish`] writes the rest: a flush would cut blocks.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Identity(out) => out.flush(),
            Inner::Gzip(_) | Inner::Deflate(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_encoded_comes_back() {
        let data = b"four".repeat(100_000);
        let encode = |encoding| {
            let mut encoder = Encoder::new(Vec::new(), encoding);
            encoder.write_all(&data).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(encode(Encoding::Identity), data);
        assert_eq!(decompress(&encode(Encoding::Gzip)).unwrap(), data);
        let mut back = Vec::new();
        let deflated = encode(Encoding::Deflate);
        flate2::read::DeflateDecoder::new(&deflated[..]).read_to_end(&mut back).unwrap();
        assert!(back == data && deflated.len() < 10_000);
    }

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
