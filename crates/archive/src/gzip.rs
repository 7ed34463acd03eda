//! Gzip made by several threads (source: RFC 1952; the block-wise method is that of pigz).
//!
//! The input is cut into blocks of a fixed length, each compressed by itself and ended at a byte border, so
//! that the same input gives the same output whatever the number of threads.

use crate::{Error, deflate::Deflate};
use flate2::Crc;
use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

/// Large enough that starting each without a dictionary costs less than a hundredth.
const BLOCK: usize = 512 << 10;

/// As Go's `compress/gzip` writes it: no name, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty last block of fixed codes.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// A block to compress, and where its result goes.
struct Job {
    plain: Vec<u8>,
    done: Sender<Block>,
}

/// A compressed block.
struct Block {
    bytes: Vec<u8>,
    crc: Crc,
}

/// Compresses what is written, with the processors of the machine.
pub struct GzipWriter<W: Write> {
    out: W,
    plain: Vec<u8>,
    crc: Crc,
    is_begun: bool,
    /// Started with the second block: what fits into one needs none.
    workers: Option<Workers>,
    /// Blocks under way, in their order.
    pending: VecDeque<Receiver<Block>>,
}

impl<W: Write> GzipWriter<W> {
    /// Nothing written yet.
    pub fn new(out: W) -> Self {
        let (plain, crc, pending) = (Vec::new(), Crc::new(), VecDeque::new());
        Self { out, plain, crc, is_begun: false, workers: None, pending }
    }

    /// Writes what is left and gives the destination back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<W, Error> {
        self.end().map_err(Error::Write)?;
        Ok(self.out)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.workers.is_none() {
            let plain = mem::take(&mut self.plain);
            let block = compress(&mut Deflate::new(), &plain);
            self.put(block)?;
        } else if !self.plain.is_empty() {
            self.hand_out()?;
        }
        while let Some(next) = self.pending.pop_front() {
            self.take(&next)?;
        }
        self.out.write_all(&LAST_BLOCK)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())
    }

    /// Gives the block to the workers, and waits for the oldest when enough are under way.
    fn hand_out(&mut self) -> io::Result<()> {
        let workers = self.workers.get_or_insert_with(Workers::start);
        let (done, result) = mpsc::channel();
        workers.give(Job { plain: mem::take(&mut self.plain), done })?;
        self.pending.push_back(result);
        if self.pending.len() > workers.count + 1
            && let Some(oldest) = self.pending.pop_front()
        {
            self.take(&oldest)?;
        }
        Ok(())
    }

    fn take(&mut self, result: &Receiver<Block>) -> io::Result<()> {
        let block = result.recv().map_err(|_| io::Error::other("a compressing thread ended"))?;
        self.put(block)
    }

    fn put(&mut self, block: Block) -> io::Result<()> {
        if !mem::replace(&mut self.is_begun, true) {
            self.out.write_all(&HEADER)?;
        }
        self.crc.combine(&block.crc);
        self.out.write_all(&block.bytes)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() == BLOCK {
            self.hand_out()?;
        }
        if self.plain.capacity() == 0 && self.workers.is_some() {
            self.plain.reserve_exact(BLOCK);
        }
        let taken = bytes.len().min(BLOCK - self.plain.len());
        self.plain.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Blocks have their length: nothing can be forced out before.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Threads that end when they are dropped.
struct Workers {
    jobs: Sender<Job>,
    count: usize,
}

impl Workers {
    fn start() -> Self {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let queue = Arc::clone(&queue);
            thread::spawn(move || work(&queue));
        }
        Self { jobs, count }
    }

    fn give(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| io::Error::other("the compressing threads ended"))
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    let mut encoder = Deflate::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { plain, done }) = job else { return };
        // Whoever gave the job may be gone.
        let _ = done.send(compress(&mut encoder, &plain));
    }
}

fn compress(encoder: &mut Deflate, plain: &[u8]) -> Block {
    let mut bytes = Vec::with_capacity(plain.len() / 2 + 64);
    encoder.compress(plain, &mut bytes);
    let mut crc = Crc::new();
    crc.update(plain);
    Block { bytes, crc }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn gzip(pieces: &[&[u8]]) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new());
        pieces.iter().for_each(|piece| writer.write_all(piece).unwrap());
        writer.finish().unwrap()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(length)
        .collect()
    }

    #[test]
    fn what_is_written_comes_back() {
        let text = b"all work and no play ".repeat(200_000);
        for data in [&b""[..], b"x", &noise(BLOCK), &noise(3 * BLOCK + 1), &text] {
            let mut back = Vec::new();
            // A single member, which is all that some readers read.
            GzDecoder::new(&gzip(&[data])[..]).read_to_end(&mut back).unwrap();
            assert!(back == data, "{} bytes", data.len());
        }
        assert!(gzip(&[&text]).len() < text.len() / 50);
    }

    #[test]
    fn the_same_bytes_give_the_same_bytes() {
        let data = noise(2 * BLOCK + 77);
        let (start, end) = data.split_at(BLOCK + 5);
        let whole = gzip(&[&data]);
        assert_eq!(whole, gzip(&[start, end]));
        assert_eq!(whole, gzip(&data.chunks(1000).collect::<Vec<_>>()));
    }

    #[test]
    fn a_destination_that_fails_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = GzipWriter::new(Full);
        let written = writer.write_all(&noise(20 * BLOCK));
        assert!(written.is_err() || writer.finish().is_err());
    }

    #[test]
    #[ignore = "a measurement: WHARF_GZIP=<file>"]
    fn measure() {
        use flate2::{Compress, Compression, FlushCompress};
        let data = std::fs::read(std::env::var("WHARF_GZIP").unwrap()).unwrap();
        let measure = |what: &str, compress: &mut dyn FnMut(&[u8]) -> usize| {
            let start = std::time::Instant::now();
            let size: usize = data.chunks(BLOCK).map(compress).sum();
            println!("{what}: {} -> {size} in {:?}", data.len(), start.elapsed());
        };
        for level in 1..7 {
            let mut encoder = Compress::new(Compression::new(level), false);
            let mut out = Vec::with_capacity(2 * BLOCK);
            measure(&format!("zlib-rs, level {level}"), &mut |plain| {
                encoder.reset();
                out.clear();
                encoder.compress_vec(plain, &mut out, FlushCompress::Sync).unwrap();
                out.len()
            });
        }
        let mut encoder = Deflate::new();
        measure("ours", &mut |plain| compress(&mut encoder, plain).bytes.len());
    }
}
