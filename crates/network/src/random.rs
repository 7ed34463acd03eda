//! Random bytes for ids, MAC addresses and interface names.

use crate::error::{Error, Result};
use rustix::rand::{GetRandomFlags, getrandom};

/// Random bytes of the kernel. Fewer than 256 are never cut short (getrandom(2)).
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    const { assert!(N < 256) };
    let mut bytes = [0; N];
    getrandom(&mut bytes[..], GetRandomFlags::empty()).map_err(Error::system("getrandom"))?;
    Ok(bytes)
}

/// Lower-case hex, `length` characters.
pub(crate) fn hex(length: usize) -> Result<String> {
    let raw = bytes::<32>()?;
    let digits = raw.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Ok(digits.take(length).map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect())
}
