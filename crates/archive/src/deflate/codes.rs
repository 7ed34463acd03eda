//! Huffman codes: how long, which, and how they are told to the reader (RFC 1951, 3.2.2 and 3.2.7).

use super::{DISTANCES, LITERALS, bits::BitWriter};

/// The order in which the lengths of the code for lengths are written.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Bits and length of each symbol's code.
pub(super) struct Code {
    symbols: [(u16, u8); LITERALS],
    count: usize,
}

impl Code {
    /// The canonical code of these lengths.
    pub(super) fn of<const N: usize>(lengths: [u8; N]) -> Self {
        let mut next = [0u16; 16];
        let mut of_length = [0u16; 16];
        for length in lengths {
            of_length[usize::from(length)] += 1;
        }
        of_length[0] = 0;
        for length in 1..16 {
            next[length] = (next[length - 1] + of_length[length - 1]) << 1;
        }
        let mut symbols = [(0, 0); LITERALS];
        for (symbol, length) in symbols.iter_mut().zip(lengths).filter(|(_, length)| *length > 0) {
            let code = &mut next[usize::from(length)];
            *symbol = (code.reverse_bits() >> (16 - length), length);
            *code += 1;
        }
        Self { symbols, count: N }
    }

    #[inline]
    pub(super) fn symbol(&self, symbol: usize) -> (u32, u8) {
        let (bits, count) = self.symbols[symbol];
        (u32::from(bits), count)
    }

    /// Bits that symbols take which come so often.
    pub(super) fn cost(&self, counts: &[u32]) -> usize {
        counts
            .iter()
            .zip(&self.symbols)
            .map(|(count, (_, length))| *count as usize * usize::from(*length))
            .sum()
    }

    /// The lengths up to the last one that is used, at least so many.
    fn lengths(&self, least: usize) -> impl Iterator<Item = u8> {
        let used =
            self.symbols[..self.count].iter().rposition(|(_, length)| *length > 0).map_or(0, |at| at + 1);
        self.symbols[..used.max(least)].iter().map(|(_, length)| *length)
    }
}

/// The lengths of a Huffman code for symbols that come so often, none longer than `longest`. There are always
/// two at least: some readers refuse a code of one.
pub(super) fn lengths<const N: usize>(counts: &[u32; N], longest: u8) -> [u8; N] {
    let mut symbols: Vec<(u32, usize)> =
        counts.iter().zip(0..).filter(|(count, _)| **count > 0).map(|(count, at)| (*count, at)).collect();
    for (at, count) in counts.iter().enumerate().take(2) {
        if symbols.len() < 2 && *count == 0 {
            symbols.push((1, at));
        }
    }
    symbols.sort_unstable();
    let mut of_length = depths(&symbols, longest);
    let mut lengths = [0; N];
    let mut length = usize::from(longest);
    for (_, symbol) in symbols {
        while of_length[length] == 0 {
            length -= 1;
        }
        of_length[length] -= 1;
        lengths[symbol] = length as u8;
    }
    lengths
}

/// How many codes there are of each length: a tree of the rarest first, then cut to the longest.
fn depths(symbols: &[(u32, usize)], longest: u8) -> [u32; 16] {
    let leaves = symbols.len();
    let mut weights: Vec<u32> = symbols.iter().map(|(count, _)| *count).collect();
    let mut parents = vec![0; 2 * leaves - 1];
    let (mut leaf, mut node) = (0, leaves);
    for parent in leaves..2 * leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let takes_leaf = leaf < leaves && (node == parent || weights[leaf] <= weights[node]);
            let next = if takes_leaf { &mut leaf } else { &mut node };
            weight += weights[*next];
            parents[*next] = parent;
            *next += 1;
        }
        weights.push(weight);
    }
    let mut of_length = [0u32; 16];
    let mut depth = vec![0usize; 2 * leaves - 1];
    for at in (0..2 * leaves - 2).rev() {
        depth[at] = depth[parents[at]] + 1;
        if at < leaves {
            of_length[depth[at].min(usize::from(longest))] += 1;
        }
    }
    cut(&mut of_length, usize::from(longest));
    of_length
}

/// Makes room for those that were too long: for each too many, a shorter one becomes two longer ones.
fn cut(of_length: &mut [u32; 16], longest: usize) {
    let room = 1u32 << longest;
    let mut taken: u32 = (1..=longest).map(|length| of_length[length] << (longest - length)).sum();
    while taken > room {
        of_length[longest] -= 1;
        let shorter = (1..longest).rev().find(|length| of_length[*length] > 0);
        let shorter = shorter.expect("fewer symbols than codes");
        of_length[shorter] -= 1;
        of_length[shorter + 1] += 2;
        taken -= 1;
    }
}

/// How a block's codes are told: their lengths, runs shortened, in a code of their own.
pub(super) struct Header {
    literals: usize,
    distances: usize,
    /// Symbol, and what follows it.
    runs: Vec<(u8, u8)>,
    code: Code,
    counts: [u32; 19],
    /// How many lengths of that code are written.
    told: usize,
}

impl Header {
    pub(super) fn of(literals: &Code, distances: &Code) -> Self {
        let mut all: Vec<u8> = literals.lengths(257).collect();
        let literals = all.len();
        all.extend(distances.lengths(1));
        let distances = all.len() - literals;
        let runs = runs(&all);
        let mut counts = [0; 19];
        for (symbol, _) in &runs {
            counts[usize::from(*symbol)] += 1;
        }
        let code = Code::of(lengths(&counts, 7));
        let used = ORDER.iter().rposition(|at| code.symbols[*at].1 > 0).map_or(0, |at| at + 1);
        Self { literals, distances, runs, code, counts, told: used.max(4) }
    }

    /// In bits.
    pub(super) fn cost(&self) -> usize {
        let extra: usize =
            (16..19).map(|at| self.counts[at] as usize * usize::from(extra_bits(at as u8))).sum();
        14 + 3 * self.told + self.code.cost(&self.counts) + extra
    }

    pub(super) fn write(&self, bits: &mut BitWriter<'_>) {
        bits.put((self.literals - 257) as u32, 5);
        bits.put((self.distances - 1) as u32, 5);
        bits.put((self.told - 4) as u32, 4);
        bits.flush();
        for at in &ORDER[..self.told] {
            bits.put(u32::from(self.code.symbols[*at].1), 3);
            bits.flush();
        }
        for (symbol, rest) in &self.runs {
            bits.code(&self.code, usize::from(*symbol));
            bits.put(u32::from(*rest), extra_bits(*symbol));
            bits.flush();
        }
    }
}

fn extra_bits(symbol: u8) -> u8 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

/// 16 repeats the last length 3 to 6 times, 17 and 18 are 3 to 10 and 11 to 138 zeros.
fn runs(lengths: &[u8]) -> Vec<(u8, u8)> {
    let mut runs = Vec::with_capacity(lengths.len());
    for same in lengths.chunk_by(|a, b| a == b) {
        let length = same[0];
        let mut left = same.len();
        if length != 0 {
            runs.push((length, 0));
            left -= 1;
        }
        let longest = if length == 0 { 138 } else { 6 };
        while left >= 3 {
            let run = left.min(longest);
            runs.push(match (length, run) {
                (0, 11..) => (18, (run - 11) as u8),
                (0, _) => (17, (run - 3) as u8),
                _ => (16, (run - 3) as u8),
            });
            left -= run;
        }
        runs.extend(std::iter::repeat_n((length, 0), left));
    }
    runs
}

const _: () = assert!(DISTANCES <= LITERALS);
