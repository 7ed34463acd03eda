//! What the encoder writes is read by another decoder.

use super::*;
use flate2::read::DeflateDecoder;
use std::io::Read;

fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflate::new().compress(plain, &mut out);
    out
}

/// By zlib-rs.
fn inflated(mut deflated: Vec<u8>) -> Vec<u8> {
    // An empty last block.
    deflated.extend([3, 0]);
    let mut plain = Vec::new();
    DeflateDecoder::new(&deflated[..]).read_to_end(&mut plain).unwrap();
    plain
}

fn comes_back(plain: &[u8]) -> usize {
    let deflated = compressed(plain);
    let length = deflated.len();
    assert!(inflated(deflated) == plain, "{} bytes: {:?}...", plain.len(), &plain[..plain.len().min(20)]);
    length
}

/// Xorshift (Marsaglia, 2003).
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn bytes(&mut self, length: usize, letters: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(letters) as u8).collect()
    }
}

#[test]
fn what_is_compressed_comes_back() {
    let mut noise = Noise(1);
    for length in [0, 1, 2, 3, 4, 7, 8, 9, 11, 12, 255, 258, 259, SOFT_LIMIT - 1, SOFT_LIMIT, STORED, 200_000]
    {
        for letters in [1, 2, 3, 20, 256] {
            comes_back(&noise.bytes(length, letters));
        }
    }
}

#[test]
fn copies_of_any_length_and_distance_come_back() {
    let mut noise = Noise(2);
    for _ in 0..300 {
        let length = 1 + noise.below(40_000);
        let mut plain = noise.bytes(length, 256);
        for _ in 0..noise.below(60) {
            let from = noise.below(plain.len());
            let length = noise.below(600).min(plain.len() - from);
            plain.extend_from_within(from..from + length);
            let between = noise.below(9);
            plain.extend(noise.bytes(between, 256));
        }
        comes_back(&plain);
    }
    // As far as can be referred to, and a little farther.
    for gap in [32_767, 32_768, 32_769, 40_000] {
        let piece = noise.bytes(300, 256);
        comes_back(&[&piece[..], &noise.bytes(gap - 300, 256), &piece].concat());
    }
}

#[test]
fn lengths_of_codes_are_limited() {
    // Symbols that come as often as Fibonacci's numbers have the longest codes there are.
    let mut counts = [0u32; 40];
    let (mut one, mut two) = (1, 1);
    for count in &mut counts {
        *count = one;
        (one, two) = (two, (one + two).min(1 << 24));
    }
    for longest in [7, 15] {
        let lengths = lengths(&counts, longest);
        assert!(lengths.iter().all(|length| (1..=longest).contains(length)), "{lengths:?}");
        let taken: u32 = lengths.iter().map(|length| 1u32 << (longest - length)).sum();
        assert_eq!(taken, 1 << longest, "{lengths:?}");
    }
    let plain: Vec<u8> = (0u8..24).flat_map(|at| vec![at; 1 << (at / 2)]).collect();
    comes_back(&plain);
}

#[test]
fn what_repeats_becomes_short_and_noise_hardly_longer() {
    let text = b"all work and no play makes jack a dull boy. ".repeat(10_000);
    assert!(comes_back(&text) < text.len() / 100);
    let noise = Noise(4).bytes(1 << 20, 256);
    assert!(comes_back(&noise) < noise.len() + noise.len() / 1000);
}

#[test]
fn distances_have_their_codes() {
    // RFC 1951, 3.2.5.
    for (distance, code) in [
        (1, (0, 0, 0)),
        (4, (3, 0, 0)),
        (5, (4, 1, 0)),
        (6, (4, 1, 1)),
        (7, (5, 1, 0)),
        (24_577, (29, 13, 0)),
        (32_768, (29, 13, 8191)),
    ] {
        assert_eq!(distance_code(distance), code, "{distance}");
    }
    assert_eq!((LENGTHS[0], LENGTHS[8], LENGTHS[27], LENGTHS[28]), ((3, 0), (11, 1), (227, 5), (258, 0)));
    assert_eq!([3, 10, 11, 12, 257, 258].map(|length| LENGTH_CODES[length]), [0, 7, 8, 8, 27, 28]);
}
