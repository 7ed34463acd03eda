//! Bytes that wait for somebody to take them.

use rustix::fd::AsFd;
use rustix::io::Errno;

/// A queue longer than this is full. The limit is soft: whoever is full is asked no more, but what is in
/// the asker's hands already still goes in.
pub(super) const FULL: usize = 1024 * 1024;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= FULL
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > FULL {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes as much as `fd` takes now.
    ///
    /// # Errors
    /// Those of write(2), except EAGAIN.
    pub(super) fn write_to(&mut self, fd: impl AsFd) -> Result<(), Errno> {
        while !self.is_empty() {
            match rustix::io::write(fd.as_fd(), &self.bytes[self.start..]) {
                Ok(count) => self.start += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.clear();
        Ok(())
    }

    /// Forgets the bytes and gives back the memory.
    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn keeps_order_and_counts_what_waits() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut queue = Queue::default();
        let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        for part in data.chunks(70_000) {
            queue.push(part);
        }
        assert!(queue.is_full());
        let mut got = Vec::new();
        let mut file = std::fs::File::from(reader);
        while !queue.is_empty() {
            queue.write_to(&writer).unwrap();
            let mut part = vec![0; 65536];
            let count = file.read(&mut part).unwrap();
            got.extend_from_slice(&part[..count]);
        }
        drop(writer);
        file.read_to_end(&mut got).unwrap();
        assert!(got == data);
        assert!(!queue.is_full());
    }
}
