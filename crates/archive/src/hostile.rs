//! Archives made to do harm: each is refused with an error that says why, or does no more than its directory
//! shows. What leads outside is in `tests::nothing_is_written_outside`.

use crate::{
    tests::{GNU, USTAR, archive, block, entries, extract, file, layer, open, other, padded},
    *,
};
use rustix::{fs, io::Errno};
use std::{
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    pax::format_record(key.as_bytes(), value).unwrap()
}

/// An extension header with these records.
fn extension(records: &[Vec<u8>]) -> Vec<u8> {
    let data = records.concat();
    [block(b"PaxHeaders/x", b'x', data.len() as u64, USTAR, &[]), padded(&data)].concat()
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

fn names(tar: &[u8]) -> Vec<String> {
    let all = entries(tar).unwrap();
    all.iter().map(|(header, _)| String::from_utf8_lossy(&header.name).into_owned()).collect()
}

fn unpack_bytes(tar: &[u8], root: &Path) -> Result<Extracted, Error> {
    unpack(tar, open(root).as_fd(), layer())
}

fn xattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = [0; 64];
    fs::lgetxattr(path, name, &mut value[..]).map(|length| value[..length].to_vec())
}

#[test]
fn an_inner_archive_is_data_whatever_the_header_says_of_its_size() {
    // The header says 0, the records the truth: who believes the header finds the inner entry.
    let inner = [block(b"smuggled", b'0', 0, USTAR, &[]), end()].concat();
    let tar = [
        extension(&[record("size", inner.len().to_string().as_bytes())]),
        block(b"outer", b'0', 0, USTAR, &[]),
        padded(&inner),
        end(),
    ]
    .concat();
    assert_eq!(names(&tar), ["outer"]);
    // The reverse: the header says more than the records.
    let tar = [
        extension(&[record("size", b"0")]),
        block(b"outer", b'0', 512, USTAR, &[]),
        block(b"next", b'0', 0, USTAR, &[]),
        end(),
    ]
    .concat();
    assert_eq!(names(&tar), ["outer", "next"]);
    // A link has no data though records say so.
    let tar = [
        extension(&[record("size", b"512")]),
        block(b"link", b'2', 512, USTAR, &[(157, b"x")]),
        block(b"next", b'0', 0, USTAR, &[]),
        end(),
    ]
    .concat();
    assert_eq!(names(&tar), ["link", "next"]);
    for bad in ["-1", "9223372036854775808", "1e3", "0x10"] {
        let tar = [extension(&[record("size", bad.as_bytes())]), block(b"f", b'0', 0, USTAR, &[])].concat();
        assert!(matches!(entries(&tar), Err(Error::Header)), "{bad}");
    }
}

#[test]
fn of_two_names_one_is_meant_and_it_is_gos() {
    let long = [b"gnu-name".as_slice(), &[0]].concat();
    let tar = [
        extension(&[record("path", b"pax-name")]),
        block(b"././@LongLink", b'L', long.len() as u64, GNU, &[]),
        padded(&long),
        block(b"header-name", b'0', 0, GNU, &[]),
        end(),
    ]
    .concat();
    assert_eq!(names(&tar), ["gnu-name"]);
    // Of one key twice, the last.
    let tar = [
        extension(&[record("path", b"first"), record("path", b"second")]),
        block(b"header-name", b'0', 0, USTAR, &[]),
        end(),
    ]
    .concat();
    assert_eq!(names(&tar), ["second"]);
    // A global header means nothing to entries, as in Docker.
    let global = record("path", b"global");
    let tar = [
        block(b"g", b'g', global.len() as u64, USTAR, &[]),
        padded(&global),
        block(b"own", b'0', 0, USTAR, &[]),
        end(),
    ]
    .concat();
    let read = entries(&tar).unwrap();
    assert_eq!((read[0].0.kind, read[1].0.name.as_slice()), (Kind::PaxGlobal, b"own".as_slice()));
    let tar = [extension(&[record("path", b"nul")]), block(b"x", b'0', 0, USTAR, &[]), end()].concat();
    let with_nul = String::from_utf8_lossy(&tar).replace("path=nul", "path=n\0l").into_bytes();
    assert!(matches!(entries(&with_nul), Err(Error::Header)));
}

#[test]
fn device_nodes_are_made_as_docker_makes_them() {
    let dir = tempfile::tempdir().unwrap();
    let device = |name: &str, kind, major, minor| {
        let mut entry = other(kind, name, "");
        (entry.0.major, entry.0.minor) = (major, minor);
        entry
    };
    let all = [
        device("null", Kind::Char, 1, 3),
        device("loop", Kind::Block, 7, 0),
        device("fifo", Kind::Fifo, 9, 9),
    ];
    extract(&all, dir.path(), layer()).unwrap();
    let stat = |name: &str| std::fs::symlink_metadata(dir.path().join(name)).unwrap();
    assert!(stat("null").file_type().is_char_device() && stat("null").rdev() == fs::makedev(1, 3));
    assert!(stat("loop").file_type().is_block_device() && stat("loop").rdev() == fs::makedev(7, 0));
    assert!(stat("fifo").file_type().is_fifo());
    for (major, minor) in [(-1, 0), (0, 1 << 40)] {
        let (header, _) = device("bad", Kind::Char, major, minor);
        let root = open(dir.path());
        let refused = Extractor::new(root.as_fd(), layer()).unwrap().entry(&header, &b""[..]);
        assert!(matches!(refused, Err(Error::Range { .. })), "{major}:{minor}");
    }
}

#[test]
fn long_and_strange_names_are_taken_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let is_too_long = |result: Result<Extracted, Error>| match result {
        Err(Error::File { source, .. }) => source.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error()),
        _ => false,
    };
    assert!(is_too_long(extract(&[file(&"n".repeat(256), "")], dir.path(), layer())));
    assert!(is_too_long(extract(&[file(&format!("{}/f", "d".repeat(256)), "")], dir.path(), layer())));
    extract(&[file(&"n".repeat(255), "")], dir.path(), layer()).unwrap();
    assert!(is_too_long(extract(&[other(Kind::Symlink, "l", &"t".repeat(4096))], dir.path(), layer())));
    let mut latin = file("", "x");
    latin.0.name = b"caf\xe9/\xff\xfe".to_vec();
    extract(&[latin], dir.path(), layer()).unwrap();
    use std::os::unix::ffi::OsStrExt;
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9/\xff\xfe"));
    assert_eq!(std::fs::read(path).unwrap(), b"x");
    // Names that only look dangerous.
    let odd = ["...", "a\\..\\b", "~root", "-rf", "a\nb", "\u{202e}txt"];
    for name in odd {
        extract(&[file(name, "odd")], dir.path(), layer()).unwrap();
        assert_eq!(std::fs::read(dir.path().join(name)).unwrap(), b"odd");
    }
    // Nothing but slashes and dots is the directory itself.
    for name in ["/", "./", "a/..", "///."] {
        extract(&[other(Kind::Directory, name, "")], dir.path(), layer()).unwrap();
    }
}

#[test]
fn attributes_that_steer_overlayfs_are_never_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut tricked = other(Kind::Directory, "etc", "");
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.overlay.opaque",
        "user.overlay.opaque",
    ] {
        tricked.0.set_xattr(name.as_bytes(), b"y");
    }
    let mut capable = file("ping", "");
    // cap_net_raw+ep, version 2.
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    capable.0.set_xattr(b"security.capability", capability);
    capable.0.set_xattr(b"user.note", b"kept");
    extract(&[tricked, capable], dir.path(), layer()).unwrap();
    let etc = dir.path().join("etc");
    for name in ["opaque", "redirect", "metacopy", "overlay.opaque"] {
        assert_eq!(xattr(&etc, &format!("trusted.overlay.{name}")), Err(Errno::NODATA), "{name}");
    }
    assert_eq!(xattr(&etc, "user.overlay.opaque"), Err(Errno::NODATA));
    let ping = dir.path().join("ping");
    assert_eq!(xattr(&ping, "security.capability").unwrap(), capability);
    assert_eq!(xattr(&ping, "user.note").unwrap(), b"kept");
    // An empty name and one too long are the system's to refuse.
    for name in ["", &"user.x".repeat(100)] {
        let mut bad = file("bad", "");
        bad.0.set_xattr(name.as_bytes(), b"v");
        assert!(extract(&[bad], dir.path(), layer()).is_err(), "{name:?}");
    }
}

#[test]
fn whiteouts_of_whiteouts_delete_nothing_of_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        file("keep", "kept"),
        file(".wh..wh.keep", ""),
        file(".wh..wh..wh.keep", ""),
        file(".wh..wh.plnk/123", "link target of aufs"),
        file(".wh..wh.aufs", ""),
        file("d/.wh.keep", ""),
        file("d/keep", "kept as well"),
        file("d/.wh.keep ", ""),
    ];
    extract(&all, dir.path(), layer()).unwrap();
    assert_eq!(std::fs::read(dir.path().join("keep")).unwrap(), b"kept");
    assert_eq!(std::fs::read(dir.path().join("d/keep")).unwrap(), b"kept as well");
    assert!(!dir.path().join(".wh..wh.keep").exists() && !dir.path().join(".wh.keep").exists());
    for bad in [".wh.", ".wh..", ".wh...", "a/.wh."] {
        let refused = extract(&[file(bad, "")], dir.path(), layer());
        assert!(matches!(refused, Err(Error::Whiteout(_))), "{bad}");
    }
    // Where whiteouts mean nothing they are files.
    extract(&[file(".wh.x", "file")], dir.path(), Options::default()).unwrap();
    assert_eq!(std::fs::read(dir.path().join(".wh.x")).unwrap(), b"file");
}

#[test]
fn holes_cost_nothing_and_promises_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let sparse = |size: &str, map: &str, data: &[u8]| {
        let count = if map.is_empty() { 0 } else { map.split(',').count() / 2 };
        [
            extension(&[
                record("GNU.sparse.major", b"0"),
                record("GNU.sparse.minor", b"1"),
                record("GNU.sparse.size", size.as_bytes()),
                record("GNU.sparse.numblocks", count.to_string().as_bytes()),
                record("GNU.sparse.map", map.as_bytes()),
            ]),
            block(b"sparse", b'0', data.len() as u64, USTAR, &[]),
            padded(data),
            end(),
        ]
        .concat()
    };
    let tar = sparse("1099511627776", "1099511627772,4", b"tail");
    unpack_bytes(&tar, dir.path()).unwrap();
    let made = std::fs::metadata(dir.path().join("sparse")).unwrap();
    assert!(made.len() == 1 << 40 && made.blocks() < 64, "{} blocks", made.blocks());
    // More than a file system has, outside, overlapping, backwards, more than there is data.
    for (size, map) in [
        ("9223372036854775807", "0,4"),
        ("2", "0,4"),
        ("100", "0,3,2,1"),
        ("100", "50,2,10,2"),
        ("100", "0,50"),
        ("100", "9223372036854775807,4"),
        ("100", "-1,4"),
        ("-5", "0,4"),
    ] {
        assert!(unpack_bytes(&sparse(size, map, b"tail"), dir.path()).is_err(), "{size} {map}");
    }
    // A map that never ends.
    let endless: Vec<u8> =
        b"1000000000\n".iter().copied().chain(b"1\n".iter().copied().cycle().take(2 << 20)).collect();
    let tar = [
        extension(&[record("GNU.sparse.major", b"1"), record("GNU.sparse.minor", b"0")]),
        block(b"sparse", b'0', endless.len() as u64, USTAR, &[]),
        padded(&endless),
    ]
    .concat();
    assert!(matches!(unpack_bytes(&tar, dir.path()), Err(Error::TooLong)));
    // Old GNU: extension blocks without end.
    let more = [vec![0; 504], vec![1], vec![0; 7]].concat();
    let header = block(b"sparse", b'S', 0, GNU, &[(482, &[1]), (483, b"00000000004\0")]);
    let tar = [header, more.repeat(3000)].concat();
    assert!(matches!(unpack_bytes(&tar, dir.path()), Err(Error::TooLong)));
}

#[test]
fn the_end_is_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let tar = archive(&[file("before", "x")]);
    let more = archive(&[file("after", "x")]);
    assert_eq!(names(&[tar.clone(), more].concat()), ["before"]);
    for empty in [&[][..], &[0; 1024], &[0; 10240]] {
        assert_eq!(unpack_bytes(empty, dir.path()).unwrap(), Extracted::default());
    }
    // Cut anywhere: an error or a shorter archive, never more.
    let whole = archive(&[file("a", "12345"), file(&"long/".repeat(40), ""), other(Kind::Symlink, "l", "t")]);
    for cut in 0..whole.len() {
        match entries(&whole[..cut]) {
            Ok(found) => assert!(found.len() <= 3),
            Err(error) => assert!(matches!(error, Error::Truncated | Error::Header), "{cut}: {error}"),
        }
    }
}

/// Says how much was read, and has no end.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        into.fill(b'n');
        self.0 += into.len() as u64;
        Ok(into.len())
    }
}

#[test]
fn extension_headers_are_not_read_beyond_their_limit() {
    for (kind, size) in [(b'L', 1u64 << 33), (b'K', 1 << 20 | 1), (b'x', 1 << 40), (b'g', 1 << 30)] {
        let header = block(b"x", kind, 0, GNU, &[]);
        let mut header: Vec<u8> = header;
        // Base-256, for sizes that octal does not hold.
        header[124..136].copy_from_slice(&[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat());
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut reader = Reader::new(header.as_slice().chain(Endless(0)));
        assert!(matches!(reader.next_entry(), Err(Error::TooLong)), "{}", char::from(kind));
        let (_, endless) = reader.into_source().into_inner();
        assert!(endless.0 < 1 << 20);
    }
    // Many that are small each.
    let small = [block(b"x", b'L', 100, GNU, &[]), padded(&[b'n'; 100])].concat();
    let tar = small.repeat(10_000);
    assert!(matches!(entries(&tar), Err(Error::TooLong)));
}

#[test]
fn bombs_are_streams_like_others() {
    let mut bomb = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut bomb, flate2::Compression::best());
    io::copy(&mut io::repeat(0).take(64 << 20), &mut encoder).unwrap();
    encoder.finish().unwrap();
    assert!(bomb.len() < 100 << 10);
    // Two bombs, one in the other, and one member after the other.
    let chained = bomb.repeat(3);
    let mut plain = Decompressor::new(chained.as_slice()).unwrap();
    assert_eq!(io::copy(&mut plain, &mut io::sink()).unwrap(), 3 * (64 << 20));
    // An archive of zeros is one that has ended.
    let mut reader = Reader::new(Decompressor::new(bomb.as_slice()).unwrap());
    assert!(reader.next_entry().unwrap().is_none());
    // A zstd frame that asks for a window of 2 GiB.
    let greedy = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let refused = Decompressor::new(&greedy[..]).unwrap().read(&mut [0; 1]);
    assert!(refused.is_err(), "{refused:?}");
    // A gzip header whose file name has no end.
    let start: [u8; 10] = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    let refused = Decompressor::new(start.as_slice().chain(Endless(0))).unwrap().read(&mut [0; 1]);
    assert!(refused.is_err(), "{refused:?}");
}
