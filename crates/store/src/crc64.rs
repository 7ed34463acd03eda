//! CRC-64/ISO, the checksum of files in tar-split records (source: Go `hash/crc64`, polynomial `ISO`).

use wharf_sys::crc64::{BLOCK, Folding};

const POLYNOMIAL: u64 = 0xD800_0000_0000_0000;

static FOLDING: Folding = Folding::new(POLYNOMIAL);

/// Shorter data is looked up in the tables.
const WORTH_FOLDING: usize = 2 * BLOCK;

/// Sixteen bytes are looked up at once: a byte at a time would take as long as inflating.
const WIDTH: usize = 16;

static TABLES: [[u64; 256]; WIDTH] = tables();

const fn tables() -> [[u64; 256]; WIDTH] {
    let mut tables = [[0; 256]; WIDTH];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut width = 1;
    while width < WIDTH {
        let mut byte = 0;
        while byte < 256 {
            let previous = tables[width - 1][byte];
            tables[width][byte] = tables[0][(previous & 0xff) as usize] ^ previous >> 8;
            byte += 1;
        }
        width += 1;
    }
    tables
}

fn look_up(mut crc: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(WIDTH);
    for chunk in &mut chunks {
        let (low, high) = chunk.split_at(8);
        let low = u64::from_le_bytes(low.try_into().expect("half of 16")) ^ crc;
        crc = 0;
        for (at, byte) in low.to_le_bytes().into_iter().enumerate() {
            crc ^= TABLES[15 - at][usize::from(byte)];
        }
        for (at, byte) in high.iter().enumerate() {
            crc ^= TABLES[7 - at][usize::from(*byte)];
        }
    }
    for &byte in chunks.remainder() {
        crc = TABLES[0][usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    }
    crc
}

/// A checksum in the making.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Crc64 {
    value: u64,
}

impl Crc64 {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let mut crc = !self.value;
        let mut rest = bytes;
        let whole = rest.len() - rest.len() % BLOCK;
        if whole >= WORTH_FOLDING
            && let Some(folded) = FOLDING.fold(crc, &rest[..whole])
        {
            (crc, rest) = (look_up(0, &folded), &rest[whole..]);
        }
        self.value = !look_up(crc, rest);
    }

    /// Big-endian, as records have it.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        self.value.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc(bytes: &[u8]) -> u64 {
        let mut crc = Crc64::default();
        crc.update(bytes);
        u64::from_be_bytes(crc.to_bytes())
    }

    #[test]
    fn values_are_go_s() {
        // Go src/hash/crc64/crc64_test.go, column ISO; the catalogue's check value of CRC-64/GO-ISO.
        assert_eq!(crc(b""), 0);
        assert_eq!(crc(b"a"), 0x3420_0000_0000_0000);
        assert_eq!(crc(b"abc"), 0x3776_c420_0000_0000);
        assert_eq!(crc(b"123456789"), 0xb909_56c7_75a4_1001);
    }

    #[test]
    fn wide_and_narrow_agree() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7 % 251) as u8).collect();
        for length in [15, 16, 17, 31, 33, 1000] {
            let mut narrow = Crc64::default();
            bytes[..length].chunks(3).for_each(|piece| narrow.update(piece));
            assert_eq!(crc(&bytes[..length]), u64::from_be_bytes(narrow.to_bytes()));
        }
    }
}
