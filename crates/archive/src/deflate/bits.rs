//! Bits, the first one lowest, after the bytes of a buffer.

use super::codes::Code;

pub(super) struct BitWriter<'o> {
    out: &'o mut Vec<u8>,
    /// Where the next bytes go; what is behind is room.
    at: usize,
    pending: u64,
    /// How many bits of `pending` count.
    count: u8,
}

impl<'o> BitWriter<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        let at = out.len();
        Self { out, at, pending: 0, count: 0 }
    }

    /// Room for so many bits.
    pub(super) fn reserve(&mut self, bits: usize) {
        self.out.resize(self.at + bits / 8 + 16, 0);
    }

    /// At most 56 bits between two calls of [`Self::flush`].
    #[inline]
    pub(super) fn put(&mut self, bits: u32, count: u8) {
        self.pending |= u64::from(bits) << self.count;
        self.count += count;
    }

    #[inline]
    pub(super) fn code(&mut self, code: &Code, symbol: usize) {
        let (bits, count) = code.symbol(symbol);
        self.put(bits, count);
    }

    /// Puts whole bytes into the buffer.
    #[inline]
    pub(super) fn flush(&mut self) {
        self.out[self.at..self.at + 8].copy_from_slice(&self.pending.to_le_bytes());
        self.at += usize::from(self.count / 8);
        self.pending >>= self.count & !7;
        self.count &= 7;
    }

    /// Leaves room for 24 bits at least.
    #[inline]
    pub(super) fn flush_if_full(&mut self) {
        if self.count >= 40 {
            self.flush();
        }
    }

    /// A block as it is, of at most 65535 bytes.
    pub(super) fn stored(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).expect("blocks are cut to this length");
        self.reserve(8 * bytes.len() + 64);
        self.put(0, 3);
        self.count = self.count.next_multiple_of(8);
        self.flush();
        self.put(u32::from(length) | u32::from(!length) << 16, 32);
        self.flush();
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

impl Drop for BitWriter<'_> {
    /// The room that was not needed goes.
    fn drop(&mut self) {
        self.out.truncate(self.at);
    }
}
