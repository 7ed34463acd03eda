//! How far a container's lines are sent, kept beside its cache for the next daemon.

use rustix::fs::Mode;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use wharf_logs::Position;
use wharf_spec::shim::Timestamp;

/// Device, inode, offset, seconds, nanoseconds, and a sum of them: a torn record is none.
const LENGTH: usize = 6 * 8;

/// `<log>.sent`
pub(crate) fn cursor_path(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".sent");
    name.into()
}

/// The file, open.
#[derive(Debug)]
pub(super) struct Cursor(File);

impl Cursor {
    /// Opens it and reads what it says.
    pub(super) fn open(log: &Path) -> io::Result<(Self, Option<Position>)> {
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CREATE | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::open(cursor_path(log), flags, Mode::from_raw_mode(0o600))?;
        let file = File::from(fd);
        let mut bytes = [0; LENGTH];
        let position = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes),
            Err(_) => None,
        };
        Ok((Self(file), position))
    }

    /// One write: it is in the kernel when the daemon is killed after it.
    pub(super) fn save(&self, position: Position) -> io::Result<()> {
        self.0.write_all_at(&encode(position), 0)
    }
}

fn encode(position: Position) -> [u8; LENGTH] {
    let (device, inode) = position.inode.unwrap_or_default();
    let seconds = position.time.seconds.cast_unsigned();
    let numbers = [device, inode, position.offset, seconds, position.time.nanos.into()];
    let mut bytes = [0; LENGTH];
    for (at, number) in numbers.into_iter().chain([sum(&numbers)]).enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8; LENGTH]) -> Option<Position> {
    let mut numbers = [0; 6];
    for (number, raw) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_le_bytes(raw.try_into().ok()?);
    }
    let [device, inode, offset, seconds, nanos, check] = numbers;
    let is_whole = check == sum(&numbers[..5]);
    is_whole.then_some(Position {
        inode: (inode != 0).then_some((device, inode)),
        offset,
        time: Timestamp { seconds: seconds.cast_signed(), nanos: u32::try_from(nanos).ok()? },
    })
}

fn sum(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0x5761_7266, |sum, number| sum.rotate_left(7) ^ number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let (cursor, position) = Cursor::open(&log).unwrap();
        assert_eq!(position, None);
        let time = Timestamp { seconds: -5, nanos: 7 };
        for inode in [Some((3, 4)), None] {
            let position = Position { inode, offset: 99, time };
            cursor.save(position).unwrap();
            assert_eq!(Cursor::open(&log).unwrap().1, Some(position));
        }
        std::fs::write(cursor_path(&log), [9; LENGTH]).unwrap();
        assert_eq!(Cursor::open(&log).unwrap().1, None);
    }
}
