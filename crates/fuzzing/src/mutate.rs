//! Inputs made of seeds: the same ones each time.

/// How an input is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Blocks of 512 bytes, some of them headers with a checksum.
    Tar,
    /// Bytes.
    Text,
}

/// Makes inputs without end.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    shape: Shape,
    state: u64,
}

/// Inputs are not made longer.
const LONGEST: usize = 1 << 16;

impl Mutator {
    /// Of seeds, at least one.
    pub fn new(seeds: Vec<Vec<u8>>, shape: Shape) -> Self {
        Self { seeds, shape, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// A number below `end`; 0 when there is none. Xorshift (Marsaglia, 2003).
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % (end.max(1) as u64)).unwrap_or(0)
    }

    /// A seed with one to six changes.
    pub fn next_input(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len());
        let mut input = self.seeds[at].clone();
        for _ in 0..=self.below(6) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        // Headers with a wrong checksum are refused at once: most are to pass.
        if self.shape == Shape::Tar && self.below(8) > 0 {
            fix_checksums(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        const INTERESTING: [u8; 17] = *b"\0\x01\x7f\x80\xff/.0179-,=\n\"{";
        let unit = if self.shape == Shape::Tar && self.below(3) == 0 { 512 } else { 1 };
        let length = input.len();
        let start = self.below(length) / unit * unit;
        match self.below(7) {
            0 if length > 0 => input[start] ^= 1 << self.below(8),
            1 if length > 0 => input[start] = INTERESTING[self.below(INTERESTING.len())],
            2 => input.truncate(start),
            3 => {
                let end = (start + (1 + self.below(8)) * unit).min(length);
                input.drain(start..end);
            }
            4 => {
                let end = (start + (1 + self.below(8)) * unit).min(length);
                let piece = input[start..end].to_vec();
                let to = self.below(length + 1) / unit * unit;
                input.splice(to..to, piece);
            }
            5 => {
                // The beginning of one seed and the end of another.
                let other = self.below(self.seeds.len());
                let from = self.below(self.seeds[other].len()) / unit * unit;
                input.truncate(start);
                input.extend_from_slice(&self.seeds[other][from..]);
            }
            _ => {
                let byte = INTERESTING[self.below(INTERESTING.len())];
                let end = (start + self.below(24)).min(length);
                input[start..end].fill(byte);
            }
        }
    }
}

fn fix_checksums(input: &mut [u8]) {
    for block in input.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
