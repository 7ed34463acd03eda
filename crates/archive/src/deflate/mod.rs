//! A fast deflate (RFC 1951): what is pushed is compressed once, while somebody waits (docs/adr/0018).
//!
//! The input is cut into blocks of at most 64 KiB. [`matches`] turns each into literals and copies of what
//! came before, taking the last place where the same four bytes were; [`codes`] makes Huffman codes for the block; [`bits`] writes
//! it. A block that would not become shorter is stored as it is.

mod bits;
mod codes;
mod matches;

use bits::BitWriter;
use codes::{Code, lengths};
use matches::{Finder, Token};

/// No copy is longer.
const LONGEST_MATCH: usize = 258;

/// The length of a stored block is a number of 16 bits.
const STORED: usize = 0xffff;

/// So that a copy that begins in a block ends in it.
const SOFT_LIMIT: usize = STORED - LONGEST_MATCH;

const END_OF_BLOCK: usize = 256;
const LITERALS: usize = 286;
const DISTANCES: usize = 30;

/// Base and number of extra bits of the length codes from 257 on (RFC 1951, 3.2.5).
const LENGTHS: [(u16, u8); 29] = {
    let mut all = [(0, 0); 29];
    let (mut at, mut base) = (0, 3);
    while at < 28 {
        let extra = if at < 8 { 0 } else { (at / 4 - 1) as u8 };
        all[at] = (base, extra);
        base += 1 << extra;
        at += 1;
    }
    all[28] = (258, 0);
    all
};

/// The code of each length, counted from 257.
const LENGTH_CODES: [u8; LONGEST_MATCH + 1] = {
    let mut all = [0; LONGEST_MATCH + 1];
    let mut code = 0;
    while code < 29 {
        let (base, extra) = LENGTHS[code];
        let mut length = base as usize;
        while length < base as usize + (1 << extra) && length <= LONGEST_MATCH {
            all[length] = code as u8;
            length += 1;
        }
        code += 1;
    }
    all
};

/// The code of a distance, its number of extra bits, and these.
fn distance_code(distance: u16) -> (usize, u8, u16) {
    let from_zero = distance - 1;
    if from_zero < 4 {
        return (usize::from(from_zero), 0, 0);
    }
    let extra = 14 - from_zero.leading_zeros() as u8;
    let code = 2 * usize::from(extra) + usize::from(from_zero >> extra);
    (code, extra, from_zero & ((1 << extra) - 1))
}

/// Compresses buffers, each by itself. Made once, used often: it has a table of 128 KiB.
pub(crate) struct Deflate {
    finder: Finder,
    tokens: Vec<Token>,
}

/// How often each symbol comes in a block.
struct Counts {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    /// Bits that follow the codes of lengths and distances.
    extra: usize,
}

impl Deflate {
    pub(crate) fn new() -> Self {
        Self { finder: Finder::new(), tokens: Vec::with_capacity(STORED) }
    }

    /// Appends `plain` as blocks of which none is the last, ended at a byte border.
    pub(crate) fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        self.finder.reset();
        let mut bits = BitWriter::new(out);
        let mut at = 0;
        while at < plain.len() {
            let start = at;
            self.tokens.clear();
            at = self.finder.block(plain, start, SOFT_LIMIT, &mut self.tokens);
            write_block(&mut bits, &self.tokens, &plain[start..at]);
        }
        // Nothing, stored: its length starts at a byte border.
        bits.stored(&[]);
    }
}

fn write_block(bits: &mut BitWriter<'_>, tokens: &[Token], plain: &[u8]) {
    let counts = count(tokens);
    let literals = Code::of(lengths(&counts.literals, 15));
    let distances = Code::of(lengths(&counts.distances, 15));
    let header = codes::Header::of(&literals, &distances);
    let body = literals.cost(&counts.literals) + distances.cost(&counts.distances) + counts.extra;
    let size = 3 + header.cost() + body;
    if size > 3 + 7 + 32 + 8 * plain.len() {
        return bits.stored(plain);
    }
    bits.reserve(size);
    bits.put(0b100, 3);
    header.write(bits);
    for token in tokens {
        match token.parts() {
            Err(literal) => {
                bits.code(&literals, usize::from(literal));
                bits.flush_if_full();
            }
            Ok((length, distance)) => {
                bits.flush();
                let code = usize::from(LENGTH_CODES[usize::from(length)]);
                let (base, extra) = LENGTHS[code];
                bits.code(&literals, END_OF_BLOCK + 1 + code);
                bits.put(u32::from(length - base), extra);
                let (code, extra, rest) = distance_code(distance);
                bits.code(&distances, code);
                bits.put(u32::from(rest), extra);
                bits.flush();
            }
        }
    }
    bits.flush();
    bits.code(&literals, END_OF_BLOCK);
    bits.flush();
}

fn count(tokens: &[Token]) -> Counts {
    let mut counts = Counts { literals: [0; LITERALS], distances: [0; DISTANCES], extra: 0 };
    for token in tokens {
        match token.parts() {
            Err(literal) => counts.literals[usize::from(literal)] += 1,
            Ok((length, distance)) => {
                let code = usize::from(LENGTH_CODES[usize::from(length)]);
                counts.literals[END_OF_BLOCK + 1 + code] += 1;
                let (distance, extra, _) = distance_code(distance);
                counts.distances[distance] += 1;
                counts.extra += usize::from(LENGTHS[code].1) + usize::from(extra);
            }
        }
    }
    counts.literals[END_OF_BLOCK] = 1;
    counts
}

#[cfg(test)]
mod tests;
