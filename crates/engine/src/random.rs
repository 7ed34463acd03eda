//! Random bytes for ids, from the kernel.

/// 32 random bytes.
pub(crate) fn bytes32() -> [u8; 32] {
    let mut raw = [0; 32];
    fill(&mut raw);
    raw
}

/// A random number below `limit`, which is not 0. The modulo bias is irrelevant for the tables it picks from.
pub(crate) fn below(limit: usize) -> usize {
    let mut raw = [0; 8];
    fill(&mut raw);
    (u64::from_le_bytes(raw) % limit as u64) as usize
}

fn fill(buffer: &mut [u8]) {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::rand::getrandom(&mut buffer[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            // getrandom(2) without flags fails only for a bad pointer or a kernel older than ours.
            Err(error) => panic!("getrandom: {error}"),
        }
    }
}
