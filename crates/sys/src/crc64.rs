//! Checksums by carry-less multiplication, where the processor has it (source: Intel, "Fast CRC Computation for
//! Generic Polynomials Using PCLMULQDQ Instruction").

/// Bytes that are folded at once.
pub const BLOCK: usize = 64;

/// Remainders by which a reflected 64-bit polynomial is folded.
#[derive(Debug, Clone, Copy)]
pub struct Folding {
    over_block: (u64, u64),
    over_lane: (u64, u64),
}

impl Folding {
    /// For a polynomial with its bits reflected.
    pub const fn new(polynomial: u64) -> Self {
        // A product of reflected factors comes out shifted by one: hence the exponents less one.
        Self {
            over_block: (remainder(polynomial, 512 + 64 - 1), remainder(polynomial, 512 - 1)),
            over_lane: (remainder(polynomial, 128 + 64 - 1), remainder(polynomial, 128 - 1)),
        }
    }

    /// Folds whole blocks into 16 bytes with the same checksum: that of `bytes` after `state` is that of the answer
    /// after 0. `state` is without the inversions that many checksums have. `None` when the processor cannot, or
    /// there is not a single block.
    pub fn fold(&self, state: u64, bytes: &[u8]) -> Option<[u8; 16]> {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() >= BLOCK && bytes.len().is_multiple_of(BLOCK) && std::is_x86_feature_detected!("pclmulqdq") {
            // SAFETY: the processor has the instructions.
            return Some(unsafe { x86::fold(self, state, bytes) });
        }
        let _ = (state, bytes);
        None
    }
}

/// x^exponent modulo the polynomial, reflected.
const fn remainder(polynomial: u64, exponent: u32) -> u64 {
    // x^0 is the highest bit.
    let mut value = 1u64 << 63;
    let mut done = 0;
    while done < exponent {
        value = if value & 1 == 1 { value >> 1 ^ polynomial } else { value >> 1 };
        done += 1;
    }
    value
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, Folding};
    use std::arch::x86_64::{
        __m128i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_unpackhi_epi64, _mm_xor_si128,
    };

    #[target_feature(enable = "pclmulqdq,sse2")]
    pub(super) fn fold(by: &Folding, state: u64, bytes: &[u8]) -> [u8; 16] {
        let (first, rest) = bytes.split_at(BLOCK);
        let mut lanes = [load(first, 0), load(first, 1), load(first, 2), load(first, 3)];
        lanes[0] = _mm_xor_si128(lanes[0], pair(state, 0));
        let keys = pair(by.over_block.0, by.over_block.1);
        for block in rest.chunks_exact(BLOCK) {
            for (at, lane) in lanes.iter_mut().enumerate() {
                *lane = _mm_xor_si128(multiply(*lane, keys), load(block, at));
            }
        }
        let keys = pair(by.over_lane.0, by.over_lane.1);
        let [mut all, rest @ ..] = lanes;
        for lane in rest {
            all = _mm_xor_si128(multiply(all, keys), lane);
        }
        let low = _mm_cvtsi128_si64(all).cast_unsigned();
        let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(all, all)).cast_unsigned();
        let mut folded = [0; 16];
        folded[..8].copy_from_slice(&low.to_le_bytes());
        folded[8..].copy_from_slice(&high.to_le_bytes());
        folded
    }

    /// What comes first in memory is in the low half, and of the higher powers.
    #[target_feature(enable = "pclmulqdq,sse2")]
    fn multiply(value: __m128i, keys: __m128i) -> __m128i {
        _mm_xor_si128(_mm_clmulepi64_si128::<0x00>(value, keys), _mm_clmulepi64_si128::<0x11>(value, keys))
    }

    #[target_feature(enable = "sse2")]
    fn pair(low: u64, high: u64) -> __m128i {
        _mm_set_epi64x(high.cast_signed(), low.cast_signed())
    }

    #[target_feature(enable = "sse2")]
    fn load(block: &[u8], lane: usize) -> __m128i {
        let word = |at: usize| {
            let bytes = block[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        pair(word(16 * lane), word(16 * lane + 8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLYNOMIAL: u64 = 0xD800_0000_0000_0000;

    fn bit_by_bit(mut state: u64, bytes: &[u8]) -> u64 {
        for byte in bytes {
            state ^= u64::from(*byte);
            for _ in 0..8 {
                state = if state & 1 == 1 { state >> 1 ^ POLYNOMIAL } else { state >> 1 };
            }
        }
        state
    }

    #[test]
    fn folding_keeps_the_checksum() {
        let folding = Folding::new(POLYNOMIAL);
        let bytes: Vec<u8> = (0..1024u32).map(|n| (n * n % 251) as u8).collect();
        for length in [64, 128, 192, 1024] {
            for state in [0, !0, 0x1234_5678_9abc_def0] {
                let Some(folded) = folding.fold(state, &bytes[..length]) else { return };
                assert_eq!(bit_by_bit(0, &folded), bit_by_bit(state, &bytes[..length]), "{length}");
            }
        }
        assert_eq!(folding.fold(0, &bytes[..63]), None);
    }
}
