//! What a buffer repeats of what came before.

use super::LONGEST_MATCH;

/// As far back as deflate can refer.
const WINDOW: u32 = 1 << 15;

/// Shorter copies are not looked for: they save little.
const SHORTEST: usize = 4;

const HASH_BITS: u32 = 15;

/// Of a place that is too far from all others.
const NOWHERE: u32 = u32::MAX / 2;

/// When so many bytes in a row repeat nothing, only some of the next are looked at.
const PATIENCE: usize = 256;

/// So many places of a copy are noted: more of them cost more than they save.
const ENTERED: usize = 8;

/// A literal, or a copy.
#[derive(Clone, Copy)]
pub(super) struct Token(u32);

impl Token {
    fn literal(byte: u8) -> Self {
        Self(u32::from(byte))
    }

    fn copy(length: usize, distance: u32) -> Self {
        Self((length as u32) << 16 | distance)
    }

    /// Length and distance of a copy, or the literal.
    #[inline]
    pub(super) fn parts(self) -> Result<(u16, u16), u8> {
        let (length, low) = ((self.0 >> 16) as u16, self.0 as u16);
        if length == 0 { Err(low as u8) } else { Ok((length, low)) }
    }
}

/// Knows where what follows was seen last, by its hash.
pub(super) struct Finder {
    seen: Box<[u32]>,
}

impl Finder {
    pub(super) fn new() -> Self {
        Self { seen: vec![NOWHERE; 1 << HASH_BITS].into_boxed_slice() }
    }

    /// Another buffer comes.
    pub(super) fn reset(&mut self) {
        self.seen.fill(NOWHERE);
    }

    /// Tokens for about `limit` bytes of `data` from `start` on. Gives where they end.
    pub(super) fn block(
        &mut self,
        data: &[u8],
        start: usize,
        limit: usize,
        tokens: &mut Vec<Token>,
    ) -> usize {
        // Behind it is no room for what is read at once.
        let last = data.len().saturating_sub(8);
        let end = data.len().min(start + limit);
        let mut at = start;
        let mut in_vain = 0;
        let stop = end.min(last);
        while at < stop {
            let next = four(data, at);
            let before = self.enter(next, at);
            let distance = (at as u32).wrapping_sub(before);
            if distance <= WINDOW && four(data, before as usize) == next {
                let length = same(data, before as usize, at);
                tokens.push(Token::copy(length, distance));
                for inside in at + 1..(at + length.min(ENTERED)).min(last) {
                    self.enter(four(data, inside), inside);
                }
                at += length;
                in_vain = 0;
                continue;
            }
            tokens.push(Token::literal(data[at]));
            at += 1;
            in_vain += 1;
            if in_vain >= PATIENCE {
                let skipped = &data[at..end.min(at + in_vain / PATIENCE)];
                tokens.extend(skipped.iter().map(|byte| Token::literal(*byte)));
                at += skipped.len();
            }
        }
        if at < end {
            tokens.extend(data[at..end].iter().map(|byte| Token::literal(*byte)));
            at = end;
        }
        at
    }

    /// Notes a place, and gives the one where the same may have been before.
    #[inline]
    fn enter(&mut self, next: u32, at: usize) -> u32 {
        let hash = next.wrapping_mul(0x1e35_a7bd) >> (32 - HASH_BITS);
        std::mem::replace(&mut self.seen[hash as usize], at as u32)
    }
}

#[inline]
fn four(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"))
}

/// How many bytes are the same at two places, the first four of which are.
#[inline]
fn same(data: &[u8], before: usize, at: usize) -> usize {
    let longest = (data.len() - at).min(LONGEST_MATCH);
    let (here, there) = (&data[at..at + longest], &data[before..before + longest]);
    let mut length = SHORTEST;
    while length + 8 <= longest {
        let word =
            |bytes: &[u8]| u64::from_le_bytes(bytes[length..length + 8].try_into().expect("eight bytes"));
        let differ = word(here) ^ word(there);
        if differ != 0 {
            return length + differ.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    while length < longest && here[length] == there[length] {
        length += 1;
    }
    length
}
