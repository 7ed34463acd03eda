//! bzip2, decompressed (source: the format as bzip2 1.0.8 `decompress.c` reads it).
//!
//! Several streams in a row are one, as parallel compressors write them. Randomised blocks, which no bzip2 has
//! written since 1999, are refused.

use std::io::{self, BufRead, Read};

const BLOCK: u64 = 0x3141_5926_5359;
const END: u64 = 0x1772_4538_5090;
/// Bytes of a block for each step of the level.
const STEP: usize = 100_000;
/// Symbols that one table is good for.
const GROUP: usize = 50;
const MAX_TABLES: usize = 6;
const MAX_LENGTH: usize = 20;
/// 256 bytes, two symbols of runs, the end, less one that needs no symbol.
const MAX_SYMBOLS: usize = 258;

/// A stream decompressed.
pub(crate) struct Bzip2Decoder<R> {
    bits: Bits<R>,
    /// Bytes of a block, at most; 0 before the first header.
    block_size: usize,
    /// Of each position the byte, and above it the position of the next one.
    block: Vec<u32>,
    next: usize,
    left: usize,
    run: Run,
    crc: u32,
    expected_crc: u32,
    stream_crc: u32,
    ended: bool,
}

/// Four equal bytes are followed by the number of more of them.
#[derive(Default)]
struct Run {
    byte: u8,
    seen: u8,
    repeat: u8,
}

impl<R: BufRead> Bzip2Decoder<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            bits: Bits { source, value: 0, count: 0 },
            block_size: 0,
            block: Vec::new(),
            next: 0,
            left: 0,
            run: Run::default(),
            crc: u32::MAX,
            expected_crc: 0,
            stream_crc: 0,
            ended: false,
        }
    }

    /// Reads up to the next block. `false` at the end of the last stream.
    fn next_block(&mut self) -> io::Result<bool> {
        if self.block_size == 0 {
            self.stream_header()?;
        }
        loop {
            match u64::from(self.bits.take(24)?) << 24 | u64::from(self.bits.take(24)?) {
                BLOCK => return self.read_block().map(|()| true),
                END => {
                    if self.bits.take(32)? != self.stream_crc {
                        return Err(damaged("checksum of the stream"));
                    }
                    self.bits.align();
                    if self.bits.is_at_end()? {
                        return Ok(false);
                    }
                    self.stream_header()?;
                }
                _ => return Err(damaged("magic number")),
            }
        }
    }

    fn stream_header(&mut self) -> io::Result<()> {
        let magic = self.bits.take(24)?;
        let level = self.bits.take(8)?;
        if magic != u32::from_be_bytes(*b"\0BZh") || !(0x31..=0x39).contains(&level) {
            return Err(damaged("header"));
        }
        self.block_size = (level - 0x30) as usize * STEP;
        self.stream_crc = 0;
        Ok(())
    }

    fn read_block(&mut self) -> io::Result<()> {
        self.expected_crc = self.bits.take(32)?;
        if self.bits.take(1)? == 1 {
            return Err(damaged("block: it is randomised"));
        }
        let origin = self.bits.take(24)? as usize;
        let bytes = self.used_bytes()?;
        let symbols = bytes.len() + 2;
        let table_count = self.bits.take(3)? as usize;
        if !(2..=MAX_TABLES).contains(&table_count) {
            return Err(damaged("number of tables"));
        }
        let selectors = self.selectors(table_count)?;
        let tables = (0..table_count).map(|_| self.table(symbols)).collect::<io::Result<Vec<_>>>()?;
        self.read_symbols(bytes, &selectors, &tables)?;
        if origin >= self.block.len() {
            return Err(damaged("block's origin"));
        }
        self.link(origin);
        self.stream_crc = self.stream_crc.rotate_left(1) ^ self.expected_crc;
        (self.crc, self.run) = (u32::MAX, Run::default());
        Ok(())
    }

    /// The bytes that occur, in two levels of bits.
    fn used_bytes(&mut self) -> io::Result<Vec<u8>> {
        let rows = self.bits.take(16)?;
        let mut bytes = Vec::with_capacity(256);
        for row in (0..16u8).filter(|row| rows >> (15 - row) & 1 == 1) {
            let columns = self.bits.take(16)?;
            bytes.extend((0..16u8).filter(|column| columns >> (15 - column) & 1 == 1).map(|c| row << 4 | c));
        }
        if bytes.is_empty() { Err(damaged("block: no bytes are used")) } else { Ok(bytes) }
    }

    /// Which table is used for each group of symbols, moved to front.
    fn selectors(&mut self, tables: usize) -> io::Result<Vec<u8>> {
        let count = self.bits.take(15)? as usize;
        let mut order: Vec<u8> = (0..MAX_TABLES as u8).collect();
        let mut selectors = Vec::with_capacity(count);
        for _ in 0..count {
            let mut at = 0;
            while self.bits.take(1)? == 1 {
                at += 1;
                if at >= tables {
                    return Err(damaged("selector"));
                }
            }
            order[..=at].rotate_right(1);
            selectors.push(order[0]);
        }
        Ok(selectors)
    }

    fn table(&mut self, symbols: usize) -> io::Result<Table> {
        let mut lengths = [0u8; MAX_SYMBOLS];
        let mut length = self.bits.take(5)?;
        for slot in &mut lengths[..symbols] {
            while self.bits.take(1)? == 1 {
                length = if self.bits.take(1)? == 1 { length.wrapping_sub(1) } else { length + 1 };
                if !(1..=MAX_LENGTH as u32).contains(&length) {
                    return Err(damaged("code length"));
                }
            }
            if !(1..=MAX_LENGTH as u32).contains(&length) {
                return Err(damaged("code length"));
            }
            *slot = length as u8;
        }
        Ok(Table::new(&lengths[..symbols]))
    }

    /// Runs of the byte in front, and bytes moved to front.
    fn read_symbols(&mut self, mut order: Vec<u8>, selectors: &[u8], tables: &[Table]) -> io::Result<()> {
        let end = order.len() + 1;
        self.block.clear();
        let (mut run, mut weight) = (0usize, 1usize);
        for selector in selectors {
            let table = &tables[usize::from(*selector)];
            for _ in 0..GROUP {
                let symbol = usize::from(table.decode(&mut self.bits)?);
                if symbol < 2 {
                    run += weight << symbol;
                    weight <<= 1;
                    if run > self.block_size {
                        return Err(damaged("block: it is too long"));
                    }
                    continue;
                }
                if self.block.len() + run + usize::from(symbol < end) > self.block_size {
                    return Err(damaged("block: it is too long"));
                }
                self.block.extend(std::iter::repeat_n(u32::from(order[0]), run));
                (run, weight) = (0, 1);
                if symbol == end {
                    return Ok(());
                }
                order[..symbol].rotate_right(1);
                self.block.push(u32::from(order[0]));
            }
        }
        Err(damaged("block: it has no end"))
    }

    /// Undoes the sorting of Burrows and Wheeler: links each byte to the next one.
    fn link(&mut self, origin: usize) {
        let mut starts = [0usize; 256];
        for entry in &self.block {
            starts[(entry & 0xff) as usize] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += std::mem::replace(start, sum);
        }
        for at in 0..self.block.len() {
            let start = &mut starts[(self.block[at] & 0xff) as usize];
            // Blocks have fewer than 2^24 bytes.
            self.block[*start] |= (at as u32) << 8;
            *start += 1;
        }
        self.next = (self.block[origin] >> 8) as usize;
        self.left = self.block.len();
    }

    /// The next byte before runs are resolved.
    fn linked_byte(&mut self) -> u8 {
        let entry = self.block[self.next];
        self.next = (entry >> 8) as usize;
        self.left -= 1;
        (entry & 0xff) as u8
    }

    /// The next byte of the block; `None` at its end.
    fn byte(&mut self) -> Option<u8> {
        if self.run.repeat > 0 {
            self.run.repeat -= 1;
            return Some(self.run.byte);
        }
        if self.left == 0 {
            return None;
        }
        if self.run.seen == 4 {
            self.run.seen = 0;
            self.run.repeat = self.linked_byte();
            return self.byte();
        }
        let byte = self.linked_byte();
        self.run.seen = if byte == self.run.byte && self.run.seen > 0 { self.run.seen + 1 } else { 1 };
        self.run.byte = byte;
        Some(byte)
    }
}

impl<R: BufRead> Read for Bzip2Decoder<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() && !self.ended {
            if let Some(byte) = self.byte() {
                self.crc = self.crc << 8 ^ CRC[usize::from((self.crc >> 24) as u8 ^ byte)];
                into[read] = byte;
                read += 1;
                continue;
            }
            if !self.block.is_empty() && !self.crc != self.expected_crc {
                return Err(damaged("checksum of a block"));
            }
            if read > 0 {
                // What is there goes first.
                return Ok(read);
            }
            self.ended = !self.next_block()?;
        }
        Ok(read)
    }
}

/// Codes of symbols: canonical, given by their lengths.
struct Table {
    /// First code of each length.
    first: [u32; MAX_LENGTH + 2],
    /// Where the symbols of each length begin.
    start: [u32; MAX_LENGTH + 2],
    symbols: Vec<u16>,
}

impl Table {
    fn new(lengths: &[u8]) -> Self {
        let mut start = [0u32; MAX_LENGTH + 2];
        for length in lengths {
            start[usize::from(*length) + 1] += 1;
        }
        let mut first = [0u32; MAX_LENGTH + 2];
        for length in 1..=MAX_LENGTH {
            first[length + 1] = (first[length] + start[length + 1]) << 1;
            start[length + 1] += start[length];
        }
        let mut symbols: Vec<u16> = (0..lengths.len() as u16).collect();
        symbols.sort_by_key(|symbol| lengths[usize::from(*symbol)]);
        Self { first, start, symbols }
    }

    fn decode<R: BufRead>(&self, bits: &mut Bits<R>) -> io::Result<u16> {
        let mut code = 0;
        for length in 1..=MAX_LENGTH {
            code = code << 1 | bits.take(1)?;
            let count = self.start[length + 1] - self.start[length];
            if let Some(offset) = code.checked_sub(self.first[length]).filter(|offset| *offset < count) {
                return Ok(self.symbols[(self.start[length] + offset) as usize]);
            }
        }
        Err(damaged("code"))
    }
}

/// Bits, the most significant first.
struct Bits<R> {
    source: R,
    value: u64,
    count: u32,
}

impl<R: BufRead> Bits<R> {
    /// So many bits, 32 at most.
    fn take(&mut self, count: u32) -> io::Result<u32> {
        while self.count < count {
            let byte = self.next_byte()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.value = self.value << 8 | u64::from(byte);
            self.count += 8;
        }
        self.count -= count;
        Ok((self.value >> self.count & ((1 << count) - 1)) as u32)
    }

    /// Leaves out the rest of a byte.
    fn align(&mut self) {
        self.count -= self.count % 8;
    }

    /// Only where the bits are aligned and all of them used.
    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.count == 0 && self.source.fill_buf()?.is_empty())
    }

    fn next_byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.source.fill_buf()?.first().copied();
        self.source.consume(usize::from(byte.is_some()));
        Ok(byte)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bzip2 data invalid: bad {what}"))
}

/// CRC-32 with the bits in the other order than that of gzip.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = (at as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf fourfourfour | bzip2`
    const SMALL: &[u8] = include_bytes!("../tests/data/small.bz2");
    /// `(seq 1 60000; head -c 300000 /dev/zero; seq 60000 -1 1) | bzip2 -1`: several blocks, long runs.
    const LARGE: &[u8] = include_bytes!("../tests/data/large.bz2");

    fn decompress(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Bzip2Decoder::new(data).read_to_end(&mut out).map(|_| out)
    }

    fn large() -> Vec<u8> {
        let numbers = |all: &mut dyn Iterator<Item = u32>| all.map(|n| format!("{n}\n")).collect::<String>();
        [
            numbers(&mut (1..=60_000)).into_bytes(),
            vec![0; 300_000],
            numbers(&mut (1..=60_000).rev()).into_bytes(),
        ]
        .concat()
    }

    #[test]
    fn what_bzip2_wrote_is_read() {
        assert_eq!(decompress(SMALL).unwrap(), b"fourfourfour");
        assert!(decompress(LARGE).unwrap() == large());
        assert_eq!(decompress(&[SMALL, SMALL].concat()).unwrap(), b"fourfourfourfourfourfour");
        let empty = b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0";
        assert_eq!(decompress(empty).unwrap(), b"");
    }

    #[test]
    fn damage_is_an_error() {
        for at in 0..SMALL.len() {
            assert!(decompress(&SMALL[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = SMALL.to_vec();
                bad[at] ^= 1 << bit;
                // Levels are free to differ, and so is the padding at the end.
                let same = decompress(&bad).is_ok_and(|out| out == b"fourfourfour");
                assert!(decompress(&bad).is_err() || same, "bit {bit} of byte {at}");
            }
        }
        assert!(decompress(&[SMALL, b"garbage"].concat()).is_err());
    }
}
