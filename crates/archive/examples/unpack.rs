//! The floor of a pull: inflates and extracts layers, and nothing else: no HTTP, no digests, no records.
//!
//! `unpack DIRECTORY BLOB...` extracts each blob into a directory of its own below `DIRECTORY`, as many at a time
//! as there are processors, and prints the seconds that took. Used by `cargo xtask bench images`.

use std::{
    fs::File,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};
use wharf_archive::{Decompressor, Error, Options, Whiteouts, unpack};

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let directory = arguments.next().expect("a directory to extract into");
    let jobs = Mutex::new(arguments.enumerate().collect::<Vec<_>>().into_iter());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = jobs.lock().expect("nobody panics with it").next();
                    let Some((at, blob)) = next else { return };
                    extract(&blob, &directory.join(at.to_string()));
                }
            });
        }
    });
    println!("{}", start.elapsed().as_secs_f64());
}

fn extract(blob: &Path, into: &Path) {
    let result = File::open(blob).map_err(Error::Read).and_then(|blob| {
        std::fs::create_dir_all(into).map_err(Error::Write)?;
        let root = File::open(into).map_err(Error::Read)?;
        let options = Options { whiteouts: Whiteouts::Overlay, ..Options::default() };
        unpack(Decompressor::new(blob)?, root.as_fd(), options)
    });
    if let Err(error) = result {
        panic!("{}: {error}", blob.display());
    }
}
