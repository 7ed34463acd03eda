//! Archives, the records of layers, and Docker's databases.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, Mode, OFlags},
};
use std::{
    cell::RefCell,
    io::{self, Read, Write},
    path::Path,
};
use tempfile::TempDir;
use wharf_archive::{Decompressor, Options, Owner, Reader, Whiteouts, remove_tree, unpack};
use wharf_store::{Store, bolt, sha256, tarsplit};

/// Holes can promise more than anybody wants to read.
const ENOUGH: u64 = 1 << 20;

/// Headers and data, of a plain or compressed archive.
pub fn archive(bytes: &[u8]) {
    let mut reader = Reader::with_raw(bytes);
    while let Ok(Some(header)) = reader.next_entry() {
        let _ = reader.take_raw();
        if io::copy(&mut reader.logical(&header).take(ENOUGH), &mut io::sink()).is_err() {
            break;
        }
    }
    if let Ok(plain) = Decompressor::new(bytes) {
        let _ = io::copy(&mut plain.take(ENOUGH), &mut io::sink());
    }
}

/// A directory to extract to, beside something that nobody may touch.
struct Outside {
    directory: TempDir,
    root: OwnedFd,
}

impl Outside {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("canary"), "alive").expect("a file in it");
        let root = open(directory.path());
        Self { directory, root }
    }

    fn is_untouched(&self) {
        let canary = self.directory.path().join("canary");
        assert_eq!(std::fs::read(&canary).expect("the canary is there"), b"alive");
        let names = std::fs::read_dir(self.directory.path()).expect("the directory is there").count();
        assert_eq!(names, 1, "something else is outside");
    }
}

fn open(path: &Path) -> OwnedFd {
    fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("a directory")
}

thread_local! {
    static OUTSIDE: RefCell<Outside> = RefCell::new(Outside::new());
    static STORE: RefCell<(TempDir, Store)> = RefCell::new({
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("an empty store");
        (directory, store)
    });
}

/// Extracts into a directory; beside it nothing changes.
pub fn extract(bytes: &[u8]) {
    OUTSIDE.with_borrow(|outside| {
        fs::mkdirat(&outside.root, "root", Mode::RWXU).expect("a new directory");
        let root = open(&outside.directory.path().join("root"));
        let is_root = rustix::process::geteuid().is_root();
        let owner = if is_root { Owner::Archive } else { Owner::Caller };
        let options = Options { whiteouts: Whiteouts::Overlay, owner, ..Options::default() };
        let _ = unpack(bytes, root.as_fd(), options);
        drop(root);
        remove_tree(outside.root.as_fd(), b"root").expect("what was extracted can be removed");
        outside.is_untouched();
    });
}

/// A layer that is taken comes back as it was, bit by bit. As root.
pub fn layer(bytes: &[u8]) {
    STORE.with_borrow(|(directory, store)| {
        if let Ok(unpacked) = store.layers.unpack(bytes) {
            assert_eq!(unpacked.diff_id.0, sha256(bytes));
            let layer = store.layers.register(unpacked, None).expect("an extracted layer can be registered");
            let mut again = Vec::new();
            let written = store.layers.write_tar(layer.chain_id, &mut again);
            // An entry may have taken another's file away, through a link: then the archive is gone, and said to be.
            match written {
                Ok(length) => {
                    assert!(again == bytes && length == bytes.len() as u64, "another archive");
                    assert_eq!(store.layers.tar_size(layer.chain_id).expect("a size"), length);
                }
                Err(wharf_store::Error::FileChanged { .. } | wharf_store::Error::Read { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let left = std::fs::read_dir(directory.path().join("overlay2")).expect("it is there").count();
        assert_eq!(left, 1, "something is left of a layer");
    });
}

/// Bytes, and no more of them than anybody wants.
struct Limited(u64);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        if self.0 > ENOUGH { Err(io::Error::other("enough")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A record of a layer, unzipped, and files that have nothing to do with it.
pub fn tarsplit(bytes: &[u8]) {
    OUTSIDE.with_borrow(|outside| {
        let _ = tarsplit::assemble(bytes, outside.root.as_fd(), "fuzzed", &mut Limited(0));
        let _ = tarsplit::archive_size(bytes, "fuzzed");
        outside.is_untouched();
    });
}

/// A database of Docker's: what is read of it can be written and read again.
pub fn bolt(bytes: &[u8]) {
    if let Ok(root) = bolt::decode(bytes) {
        assert_eq!(bolt::decode(&bolt::encode(&root)).as_ref(), Ok(&root));
    }
}
