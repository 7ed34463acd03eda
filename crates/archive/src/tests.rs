//! Whole archives: formats, hostile entries, round trips. Run as root: devices and owners are real.

use crate::*;
use rustix::fs::{self, Mode, OFlags};
use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
};

pub(crate) type Entries = Vec<(Header, Vec<u8>)>;

pub(crate) fn open(path: &Path) -> OwnedFd {
    fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

pub(crate) fn file(name: &str, data: &str) -> (Header, Vec<u8>) {
    let header = Header { name: name.into(), size: data.len() as u64, mode: 0o644, ..Header::default() };
    (header, data.as_bytes().to_vec())
}

pub(crate) fn other(kind: Kind, name: &str, link: &str) -> (Header, Vec<u8>) {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    (Header { name: name.into(), link: link.into(), kind, mode, ..Header::default() }, Vec::new())
}

pub(crate) fn archive(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, data) in entries {
        writer.header(header).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn layer() -> Options {
    Options { whiteouts: Whiteouts::Overlay, ..Options::default() }
}

pub(crate) fn extract(
    entries: &[(Header, Vec<u8>)],
    root: &Path,
    options: Options,
) -> Result<Extracted, Error> {
    use std::os::fd::AsFd;
    unpack(archive(entries).as_slice(), open(root).as_fd(), options)
}

pub(crate) fn entries(tar: &[u8]) -> Result<Entries, Error> {
    let mut reader = Reader::new(tar);
    let mut all = Vec::new();
    while let Some(header) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.logical(&header).read_to_end(&mut data).map_err(Error::read)?;
        all.push((header, data));
    }
    Ok(all)
}

/// A header block by hand.
pub(crate) fn block(name: &[u8], kind: u8, size: u64, magic: &[u8; 8], patch: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    for (at, text) in [(100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0"), (136, "00000000000\0")] {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(magic);
    for (at, bytes) in patch {
        block[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

pub(crate) fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

pub(crate) const GNU: &[u8; 8] = b"ustar  \0";
pub(crate) const USTAR: &[u8; 8] = b"ustar\x0000";

#[test]
fn what_is_written_is_read_back() {
    let mut long = file(&format!("{}/{}", "d".repeat(120), "f".repeat(90)), "ustar prefix");
    long.0.mtime = Time { seconds: 1_700_000_000, nanos: 0 };
    let mut pax = file(&format!("é/{}", "x".repeat(300)), "pax");
    pax.0.uid = 3_000_000;
    pax.0.mtime = Time { seconds: 1, nanos: 5 };
    pax.0.set_xattr(b"user.a", b"v\0\n=v");
    let all = [long, pax, other(Kind::Symlink, "l", "../../x"), other(Kind::Directory, "d/", "")];
    let tar = archive(&all);
    let read = entries(&tar).unwrap();
    assert_eq!(read.len(), all.len());
    for ((header, data), (expected, content)) in read.iter().zip(&all) {
        assert_eq!(data, content);
        let got = Header { pax: expected.pax.clone(), ..header.clone() };
        assert_eq!(&got, expected);
        assert_eq!(header.xattrs().collect::<Vec<_>>(), expected.xattrs().collect::<Vec<_>>());
    }
    // The first fits ustar: a header block, a data block, no extension.
    assert_eq!(tar[512..524], *b"ustar prefix");
}

#[test]
fn gnu_long_names_and_big_numbers_are_read() {
    let name = [b"n".repeat(200), vec![0]].concat();
    let link = [b"t".repeat(150), vec![0]].concat();
    let big: &[u8] = &[0x80, 0, 0, 0, 0, 0x30, 0, 0];
    let tar = [
        block(b"././@LongLink", b'L', name.len() as u64, GNU, &[]),
        padded(&name),
        block(b"././@LongLink", b'K', link.len() as u64, GNU, &[]),
        padded(&link),
        block(b"nnn", b'2', 0, GNU, &[(108, big)]),
        vec![0; 1024],
    ]
    .concat();
    let read = entries(&tar).unwrap();
    assert_eq!(read[0].0.name, b"n".repeat(200));
    assert_eq!(read[0].0.link, b"t".repeat(150));
    assert_eq!(read[0].0.uid, 0x30_0000);
}

fn sparse_old_gnu() -> Vec<u8> {
    // "AA", a hole up to 1024, "BB" at the end of 1026 bytes.
    let octal = |n: u64| format!("{n:011o}\0").into_bytes();
    let map = [octal(0), octal(2), octal(1024), octal(2)].concat();
    [block(b"s", b'S', 4, GNU, &[(386, &map), (483, &octal(1026))]), padded(b"AABB"), vec![0; 1024]].concat()
}

fn sparse_pax_1_0() -> Vec<u8> {
    let record = |key: &str, value: &str| pax::format_record(key.as_bytes(), value.as_bytes()).unwrap();
    let records = [
        record("GNU.sparse.major", "1"),
        record("GNU.sparse.minor", "0"),
        record("GNU.sparse.name", "s"),
        record("GNU.sparse.realsize", "1026"),
    ]
    .concat();
    [
        block(b"PaxHeaders/s", b'x', records.len() as u64, USTAR, &[]),
        padded(&records),
        block(b"GNUSparseFile.1/s", b'0', 516, USTAR, &[]),
        padded(b"2\n0\n2\n1024\n2\n"),
        padded(b"AABB"),
        vec![0; 1024],
    ]
    .concat()
}

#[test]
fn sparse_files_are_read_and_extracted_with_their_holes() {
    use std::os::fd::AsFd;
    for tar in [sparse_old_gnu(), sparse_pax_1_0()] {
        let mut expected = vec![0; 1026];
        expected[..2].copy_from_slice(b"AA");
        expected[1024..].copy_from_slice(b"BB");
        let read = entries(&tar).unwrap();
        assert_eq!((read[0].0.name.as_slice(), &read[0].1), (&b"s"[..], &expected));
        let dir = tempfile::tempdir().unwrap();
        unpack(tar.as_slice(), open(dir.path()).as_fd(), Options::default()).unwrap();
        assert_eq!(std::fs::read(dir.path().join("s")).unwrap(), expected);
    }
    let mut lying = sparse_old_gnu();
    lying.truncate(512);
    assert!(entries(&lying).is_err());
}

#[test]
fn raw_bytes_and_data_together_are_the_archive() {
    let mut tar = archive(&[file("a", "12345"), file(&"x/".repeat(90), ""), file("é", "more")]);
    tar.extend_from_slice(&[0; 4096]);
    for tar in [tar, sparse_old_gnu(), sparse_pax_1_0()] {
        let mut reader = Reader::with_raw(tar.as_slice());
        let mut rebuilt = Vec::new();
        while reader.next_entry().unwrap().is_some() {
            rebuilt.extend_from_slice(&reader.take_raw());
            reader.content().read_to_end(&mut rebuilt).unwrap();
        }
        rebuilt.extend_from_slice(&reader.take_raw());
        reader
            .drain_tail(1000, |piece| {
                assert!(piece.len() <= 1000);
                rebuilt.extend_from_slice(piece);
                Ok::<_, Error>(())
            })
            .unwrap();
        assert!(rebuilt == tar);
    }
}

#[test]
fn damaged_archives_are_refused() {
    let tar = archive(&[file("a", "12345")]);
    assert!(matches!(entries(&tar[..1100]), Err(Error::Truncated)));
    assert!(matches!(entries(&tar[..514]), Err(Error::Truncated)));
    let mut flipped = tar.clone();
    flipped[3] ^= 1;
    assert!(matches!(entries(&flipped), Err(Error::Header)));
    let zero_then_more = [vec![0; 512], tar.clone()].concat();
    assert!(matches!(entries(&zero_then_more), Err(Error::Header)));
    // No end mark at all is fine, as in Go.
    assert_eq!(entries(&tar[..1024]).unwrap().len(), 1);
    assert!(entries(&[]).unwrap().is_empty());
    let bomb = block(b"x", b'x', 1 << 30, USTAR, &[]);
    assert!(matches!(entries(&bomb), Err(Error::TooLong)));
    let piece = [block(b"x", b'L', 1 << 19, GNU, &[]), vec![b'n'; 1 << 19]].concat();
    assert!(matches!(entries(&piece.repeat(20)), Err(Error::TooLong)));
    let bomb = block(b"x", b'L', (1 << 20) + 1, GNU, &[]);
    assert!(matches!(entries(&bomb), Err(Error::TooLong)));
}

#[test]
fn nothing_is_written_outside() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    let outside = outer.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let absolute = outside.to_str().unwrap();
    let hostile: Vec<(&str, Entries)> = vec![
        ("dot dot", vec![file("../outside/new", "x")]),
        ("inner dot dot", vec![file("a/../../outside/new", "x")]),
        ("absolute", vec![file(&format!("{absolute}/new"), "x")]),
        ("link then write", vec![other(Kind::Symlink, "l", "../outside"), file("l/new", "x")]),
        ("absolute link", vec![other(Kind::Symlink, "l", absolute), file("l/new", "x")]),
        ("link as file", vec![other(Kind::Symlink, "l", "../outside/secret"), file("/l", "x")]),
        ("link to nothing", vec![other(Kind::Symlink, "l", "../outside/made"), file("l/new", "x")]),
        ("hard link out", vec![other(Kind::HardLink, "h", "../outside/secret")]),
        (
            "hard link through link",
            vec![
                other(Kind::Symlink, "l", "../outside"),
                other(Kind::HardLink, "h", "l/secret"),
                file("./h", "x"),
            ],
        ),
        (
            "directory over link",
            vec![
                other(Kind::Symlink, "l", "../outside"),
                other(Kind::Directory, "./l", ""),
                file("l/new", "x"),
            ],
        ),
        ("opaque through link", vec![other(Kind::Symlink, "l", "../outside"), file("l/.wh..wh..opq", "")]),
        ("whiteout through link", vec![other(Kind::Symlink, "l", "../outside"), file("l/.wh.secret", "")]),
        ("link to proc", vec![other(Kind::Symlink, "l", "/proc/self/root"), file("l/tmp/x", "x")]),
    ];
    for (name, entries) in hostile {
        std::fs::create_dir(&root).unwrap();
        let _refused_or_kept_inside = extract(&entries, &root, layer());
        let found: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(found, ["secret"], "{name}");
        assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret", "{name}");
        assert_eq!(std::fs::metadata(outside.join("secret")).unwrap().nlink(), 1, "{name}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn bad_names_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |entry: (Header, Vec<u8>)| extract(&[entry], dir.path(), layer()).unwrap_err();
    assert!(matches!(refused(file("../x", "")), Error::Name(_)));
    assert!(matches!(refused(file("..", "")), Error::Name(_)));
    assert!(matches!(refused(file(&"d/".repeat(4096), "")), Error::TooLong));
    assert!(matches!(refused(other(Kind::HardLink, "h", "../x")), Error::LinkTarget(_)));
    assert!(matches!(refused(other(Kind::HardLink, "h", ".")), Error::LinkTarget(_)));
    assert!(matches!(refused(file("a/.wh..", "")), Error::Whiteout(_)));
    assert!(matches!(refused(other(Kind::Other(b'V'), "v", "")), Error::Kind { .. }));
    let mut owner = file("o", "");
    owner.0.uid = 1 << 40;
    assert!(matches!(refused(owner), Error::Range { .. }));
}

#[test]
fn a_deep_tree_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{}f", "d/".repeat(2000));
    extract(&[file(&name, "deep")], dir.path(), layer()).unwrap();
    use std::os::fd::AsFd;
    remove_tree(open(dir.path()).as_fd(), b"d").unwrap();
}

#[test]
fn whiteouts_become_what_overlayfs_understands() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        other(Kind::Directory, "opaque", ""),
        file("opaque/.wh..wh..opq", ""),
        file("sub/.wh.gone", ""),
        file("sub/.wh.again", ""),
        file("sub/again", "new"),
        file("sub/.wh.tree", ""),
        other(Kind::Directory, "sub/tree", ""),
        file(".wh..wh.plnk", ""),
    ];
    extract(&all, dir.path(), layer()).unwrap();
    let xattr = |name: &str| {
        let mut value = [0; 8];
        let path = dir.path().join(name);
        fs::lgetxattr(&path, OPAQUE_XATTR, &mut value[..]).map(|length| value[..length].to_vec())
    };
    assert_eq!(xattr("opaque").unwrap(), b"y");
    let gone = std::fs::symlink_metadata(dir.path().join("sub/gone")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    assert_eq!(std::fs::read_to_string(dir.path().join("sub/again")).unwrap(), "new");
    // Deleted and made again in one layer: nothing of the layers below may show.
    assert_eq!(xattr("sub/tree").unwrap(), b"y");
    assert!(!dir.path().join(".wh..wh.plnk").exists());
    // And back.
    use std::os::fd::AsFd;
    let options = PackOptions { whiteouts: WriteWhiteouts::Convert, ..PackOptions::default() };
    let tar = pack(open(dir.path()).as_fd(), options, Vec::new()).unwrap();
    let names: Vec<_> =
        entries(&tar).unwrap().iter().map(|(h, _)| String::from_utf8_lossy(&h.name).into_owned()).collect();
    assert_eq!(
        names,
        [
            "opaque/",
            "opaque/.wh..wh..opq",
            "sub/",
            "sub/again",
            "sub/.wh.gone",
            "sub/tree/",
            "sub/tree/.wh..wh..opq"
        ]
    );
}

#[test]
fn metadata_survives_packing_and_extraction() {
    use std::os::fd::AsFd;
    let dir = tempfile::tempdir().unwrap();
    let mut set_uid = file("bin/su", "program");
    set_uid.0.mode = 0o4755;
    set_uid.0.uid = 7;
    set_uid.0.mtime = Time { seconds: 1_600_000_000, nanos: 123_456_789 };
    set_uid.0.set_xattr(b"security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    set_uid.0.set_xattr(b"trusted.overlay.redirect", b"/etc");
    let mut link = set_uid.clone();
    link = (
        Header {
            name: b"bin/su2".into(),
            link: b"bin/su".into(),
            kind: Kind::HardLink,
            size: 0,
            pax: Default::default(),
            ..link.0
        },
        vec![],
    );
    let mut device = other(Kind::Char, "null", "");
    (device.0.major, device.0.minor) = (1, 3);
    let mut directory = other(Kind::Directory, "bin", "");
    directory.0.mode = 0o1777;
    directory.0.mtime = Time { seconds: 5, nanos: 6 };
    let extracted = extract(
        &[directory, set_uid, link, device, other(Kind::Fifo, "fifo", ""), other(Kind::Symlink, "s", "to")],
        dir.path(),
        layer(),
    )
    .unwrap();
    assert_eq!(extracted, Extracted { bytes: 9, replaced: false });
    let su = std::fs::metadata(dir.path().join("bin/su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid(), su.nlink()), (0o4755, 7, 2));
    assert_eq!((su.mtime(), su.mtime_nsec()), (1_600_000_000, 123_456_789));
    let bin = std::fs::metadata(dir.path().join("bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime(), bin.mtime_nsec()), (0o1777, 5, 6));
    assert_eq!(std::fs::metadata(dir.path().join("null")).unwrap().rdev(), fs::makedev(1, 3));
    let mut value = [0; 64];
    assert!(fs::lgetxattr(dir.path().join("bin/su"), "trusted.overlay.redirect", &mut value[..]).is_err());

    let tar = pack(open(dir.path()).as_fd(), PackOptions::default(), Vec::new()).unwrap();
    let read = entries(&tar).unwrap();
    let su = &read.iter().find(|(h, _)| h.name == b"bin/su").unwrap().0;
    assert_eq!((su.mode, su.uid, su.mtime.nanos), (0o4755, 7, 0));
    assert_eq!(su.xattrs().count(), 1);
    assert_eq!(read.iter().find(|(h, _)| h.name == b"bin/su2").unwrap().0.link, b"bin/su");
    assert_eq!(read.iter().find(|(h, _)| h.name == b"null").unwrap().0.minor, 3);
    // The same tree gives the same bytes, however it is read.
    for devices in [Devices::Open, Devices::Refused] {
        let options = PackOptions { devices, ..PackOptions::default() };
        assert!(tar == pack(open(dir.path()).as_fd(), options, Vec::new()).unwrap());
    }
}

#[test]
fn all_attributes_of_files_are_packed_where_they_are_asked_for() {
    use std::os::fd::AsFd;
    let from = tempfile::tempdir().unwrap();
    std::fs::create_dir(from.path().join("dir")).unwrap();
    std::fs::write(from.path().join("dir/file"), "x").unwrap();
    let set = |name: &str, key: &str, value: &[u8]| {
        fs::lsetxattr(from.path().join(name), key, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("dir", "user.of", b"a directory");
    set("dir/file", "user.of", b"a\0file\n");
    set("dir/file", "trusted.note", b"kept");
    set("dir/file", "user.overlay.opaque", b"y");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000, 123_456_789);
    std::fs::File::open(from.path().join("dir/file")).unwrap().set_modified(time).unwrap();
    let copy = |attributes| {
        let options = PackOptions { attributes, ..PackOptions::default() };
        let to = tempfile::tempdir().unwrap();
        let archive = pack(open(from.path()).as_fd(), options, Vec::new()).unwrap();
        unpack(&archive[..], open(to.path()).as_fd(), Options::default()).unwrap();
        to
    };
    let (exact, docker) = (copy(Attributes::All), copy(Attributes::Docker));
    let get = |dir: &tempfile::TempDir, name: &str, key: &str| {
        let mut value = [0; 64];
        let length = fs::lgetxattr(dir.path().join(name), key, &mut value[..]);
        length.map(|length| value[..length].to_vec())
    };
    assert_eq!(get(&exact, "dir", "user.of").unwrap(), b"a directory");
    assert_eq!(get(&exact, "dir/file", "user.of").unwrap(), b"a\0file\n");
    assert_eq!(get(&exact, "dir/file", "trusted.note").unwrap(), b"kept");
    assert!(get(&exact, "dir/file", "user.overlay.opaque").is_err());
    assert!(get(&docker, "dir/file", "user.of").is_err());
    let modified = |dir: &tempfile::TempDir| dir.path().join("dir/file").metadata().unwrap().mtime_nsec();
    assert_eq!((modified(&exact), modified(&docker)), (123_456_789, 0));
}

#[test]
fn ids_of_a_container_become_those_of_the_host_and_back() {
    use std::{os::fd::AsFd, sync::Arc};
    use wharf_spec::plan::{IdMap, IdMaps};
    let map = || vec![IdMap { inside: 0, outside: 100_000, count: 1000 }];
    let ids = Some(Arc::new(IdMaps { uids: map(), gids: map() }));
    let mut ping = file("deep/ping", "elf");
    (ping.0.uid, ping.0.gid) = (0, 7);
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ping.0.set_xattr(b"security.capability", &capability);
    let mut foreign = file("foreign", "");
    foreign.0.uid = 1000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { ids: ids.clone(), ..layer() };
    extract(&[ping, file(".wh.gone", "")], dir.path(), options.clone()).unwrap();
    let owner = |name: &str| {
        let stat = std::fs::symlink_metadata(dir.path().join(name)).unwrap();
        (stat.uid(), stat.gid())
    };
    assert_eq!(
        ["deep", "deep/ping", "gone"].map(owner),
        [(100_000, 100_000), (100_000, 100_007), (100_000, 100_000)]
    );
    let mut value = [0; 64];
    let length = fs::lgetxattr(dir.path().join("deep/ping"), "security.capability", &mut value[..]).unwrap();
    // Seen from outside of the namespace it is of that namespace's root.
    assert_eq!((length, value[3], value[20..24].to_vec()), (24, 3, 100_000u32.to_le_bytes().to_vec()));
    let refused = extract(&[foreign], dir.path(), options).unwrap_err().to_string();
    assert!(refused.starts_with("container ID 1000 cannot be mapped to a host ID"), "{refused}");

    std::os::unix::fs::chown(dir.path().join("deep"), Some(5), Some(6)).unwrap();
    let packing = PackOptions { ids, whiteouts: WriteWhiteouts::Convert, ..PackOptions::default() };
    let read = entries(&pack(open(dir.path()).as_fd(), packing, Vec::new()).unwrap()).unwrap();
    let owner = |name: &[u8]| read.iter().find(|(h, _)| h.name == name).map(|(h, _)| (h.uid, h.gid)).unwrap();
    // What no container of the namespace owns keeps its numbers.
    assert_eq!([&b"deep/"[..], b"deep/ping", b".wh.gone"].map(owner), [(5, 6), (0, 7), (0, 0)]);
    let ping = &read.iter().find(|(h, _)| h.name == b"deep/ping").unwrap().0;
    assert_eq!(ping.xattrs().next().unwrap().1, capability);
}

#[test]
fn existing_files_are_replaced_only_when_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let make = || {
        std::fs::create_dir_all(dir.path().join("d/full")).unwrap();
        std::fs::write(dir.path().join("f"), "old").unwrap();
    };
    make();
    let keep = Options { overwrite: Overwrite::KeepKind, ..Options::default() };
    let refused = |entry| matches!(extract(&[entry], dir.path(), keep.clone()), Err(Error::Overwrite { .. }));
    assert!(refused(file("d", "x")) && refused(other(Kind::Directory, "f", "")));
    assert!(!refused(file("f", "new")) && !refused(other(Kind::Directory, "d", "")));
    assert_eq!(std::fs::read_to_string(dir.path().join("f")).unwrap(), "new");
    let extracted =
        extract(&[file("d", "x"), other(Kind::Directory, "f", "")], dir.path(), Options::default());
    assert!(extracted.unwrap().replaced);
    assert!(dir.path().join("f").is_dir() && dir.path().join("d").is_file());
    // A directory replaced by a link must not be written through from memory.
    let swapped = [
        file("q/a", "1"),
        other(Kind::Symlink, "/q", "r"),
        other(Kind::Directory, "r", ""),
        file("q/b", "2"),
    ];
    extract(&swapped, dir.path(), Options::default()).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("r/b")).unwrap(), "2");
}

#[test]
fn any_bytes_are_an_archive_or_an_error() {
    // A cheap generator: flips bytes of a good archive and looks for panics and endless loops.
    let tar = archive(&[file("a", "12345"), file(&"x".repeat(200), "data"), other(Kind::Symlink, "l", "t")]);
    let tars = [tar, sparse_old_gnu(), sparse_pax_1_0()];
    let mut state = 1u64;
    for round in 0..20_000 {
        let mut tar = tars[round % tars.len()].clone();
        for _ in 0..1 + round % 4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).unwrap() % tar.len();
            tar[at] = state.to_le_bytes()[3];
            // Make it pass the checksum, or nothing past the first header is ever tried.
            for start in (0..tar.len() - 511).step_by(512) {
                if &tar[start + 257..start + 262] == b"ustar" {
                    tar[start + 148..start + 156].fill(b' ');
                    let sum: u32 = tar[start..start + 512].iter().map(|&byte| u32::from(byte)).sum();
                    tar[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
        }
        let _ = entries_bounded(&tar);
    }
}

/// As `entries`, but a header may promise terabytes of holes.
fn entries_bounded(tar: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::new(tar);
    while let Some(header) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.logical(&header).take(1 << 16).read_to_end(&mut data).map_err(Error::read)?;
    }
    Ok(())
}

#[test]
fn links_stay_inside_where_they_must() {
    let inside = Options { links: Links::Inside, ..Options::default() };
    for (name, link, is_taken) in [
        ("l", "x", true),
        ("l", "/etc/x", true),
        ("d/l", "../x", true),
        ("l", "../x", false),
        ("d/l", "../../x", false),
        ("l", "a/../../x", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let entries = [other(Kind::Symlink, name, link)];
        let got = extract(&entries, dir.path(), inside.clone());
        assert_eq!(got.is_ok(), is_taken, "{name} -> {link}: {got:?}");
        if let Err(error) = got {
            let shown = error.below("/top");
            assert_eq!(shown, format!("invalid symlink \"/top/{name}\" -> \"{link}\""));
        }
    }
}
