//! Where the fields of a bbolt file are.

/// Bytes of a page's header: number (8), flags (2), elements (2), further pages (4).
pub(super) const HEADER: usize = 16;
/// Bytes of an element's description, in branches and leaves.
pub(super) const ELEMENT: usize = 16;
/// Bytes of a bucket's description: root page (8), sequence (8).
pub(super) const BUCKET: usize = 16;
/// Bytes of a meta page behind the header, its checksum included.
pub(super) const META: usize = 64;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META_PAGE: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;
/// An element's flag: the value is a bucket.
pub(super) const IS_BUCKET: u32 = 0x01;

pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;

/// The checksum of a meta page: FNV-1a over everything before it.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Little-endian numbers; `None` beyond the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(array(bytes, at)?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(array(bytes, at)?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
