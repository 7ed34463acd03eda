//! Files of Docker's own, hostile ones, and the lock.

use super::*;
use flate2::read::GzDecoder;
use proptest::prelude::*;
use std::{fs, io::Read};

/// Written by Docker 20.10.24: volumes; networks while two containers ran.
const VOLUMES: &[u8] = include_bytes!("testdata/metadata.db.gz");
const NETWORKS: &[u8] = include_bytes!("testdata/local-kv.db.gz");

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut file).unwrap();
    file
}

fn with(pairs: &[(&str, &[u8])]) -> Bucket {
    let mut root = Bucket::default();
    let bucket = root.bucket_mut("b");
    for (key, value) in pairs {
        bucket.entries.insert(key.as_bytes().into(), Entry::Value(value.to_vec()));
    }
    root
}

#[test]
fn dockers_own_files_are_read() {
    let volumes = decode(&unzip(VOLUMES)).unwrap();
    let names: Vec<&str> = volumes.bucket("volumes").unwrap().values().map(|(name, _)| name).collect();
    assert_eq!(&names[1..], ["labelled", "named"]);
    assert_eq!(names[0].len(), 64);
    let value = volumes.bucket("volumes").unwrap().entries.get(&b"labelled"[..]).unwrap();
    let json = r#"{"Name":"labelled","Driver":"local","Labels":{"v":"1"},"Options":null}"#;
    assert_eq!(*value, Entry::Value(json.into()));

    let networks = decode(&unzip(NETWORKS)).unwrap();
    let kv = networks.bucket("libnetwork").unwrap();
    let kinds = |kind: &str| {
        kv.values().filter(|(key, _)| key.starts_with(&format!("docker/network/v1.0/{kind}/"))).count()
    };
    assert_eq!(
        ["network", "bridge", "endpoint", "bridge-endpoint", "sandbox", "endpoint_count"].map(kinds),
        [4, 2, 2, 2, 2, 5]
    );
    assert_eq!(decode(&encode(&networks)).unwrap(), networks);
}

#[test]
fn the_newer_valid_meta_page_counts() {
    let mut file = encode(&with(&[("k", b"v")]));
    let at = |page: usize| page * 4096 + layout::HEADER;
    // An older root in page 0, as after a transaction of bbolt's.
    file[at(0) + 16] = 99;
    let sum = layout::checksum(&file[at(0)..at(0) + 56]).to_le_bytes();
    file[at(0) + 56..at(0) + 64].copy_from_slice(&sum);
    assert!(decode(&file).is_ok());
    // With page 1 torn only the older one is left.
    file[at(1) + 20] ^= 1;
    assert_eq!(decode(&file).unwrap_err(), "page 99 is beyond the end of the file");
    file[at(0)] ^= 1;
    assert_eq!(decode(&file).unwrap_err(), "no valid meta page");
    // With page 0 torn page 1 is found where the page size says.
    let mut file = encode(&with(&[("k", b"v")]));
    file[at(0)] ^= 1;
    assert!(decode(&file).is_ok());
}

#[test]
fn large_values_long_keys_and_many_keys_have_their_pages() {
    let large = vec![7; 100_000];
    let mut root = with(&[("large", &large), ("small", b"1")]);
    let long = "k".repeat(20_000);
    let many = root.bucket_mut("many");
    many.sequence = 5;
    for number in 0..20_000 {
        many.entries.insert(format!("{number:08}").into_bytes(), Entry::Value(vec![1; number % 50]));
    }
    for number in 0..20 {
        many.entries.insert(format!("{long}{number}").into_bytes(), Entry::Value(Vec::new()));
    }
    many.bucket_mut("deeper").bucket_mut("empty");
    let file = encode(&root);
    assert_eq!(decode(&file).unwrap(), root);
    assert_eq!(file.len() % 4096, 0);
}

#[test]
fn hostile_files_are_refused() {
    let mut loops = encode(&with(&[("k", b"v")]));
    // The bucket's root is the root page itself.
    let root = 4 * 4096;
    let value = loops.len() - 4096;
    assert_eq!(value, root);
    let at = root + layout::HEADER + layout::ELEMENT + 1;
    loops[at..at + 8].copy_from_slice(&4_u64.to_le_bytes());
    assert_eq!(decode(&loops).unwrap_err(), "page 4: page 4 is used twice");
    let mut deep = Bucket::default();
    let mut at = &mut deep;
    for _ in 0..100 {
        at = at.bucket_mut("b");
    }
    assert!(decode(&encode(&deep)).unwrap_err().ends_with("nested too deeply"));
    // 65535 elements that all are the same bytes.
    let mut many = encode(&with(&[("k", &[1; 3000])]));
    many[3 * 4096 + 10..3 * 4096 + 12].copy_from_slice(&u16::MAX.to_le_bytes());
    assert!(decode(&many).is_err());
}

#[test]
fn a_file_is_held_through_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let Opened { mut file, root, damage } = BoltFile::open(&path, 0o600).unwrap();
    assert_eq!((root, damage.is_none()), (Bucket::default(), true));
    for number in 0..3_u8 {
        let waiter = fs::File::options().read(true).write(true).open(&path).unwrap();
        file.replace(&with(&[("k", &[number])])).unwrap();
        assert!(!wharf_sys::fs::try_lock(&waiter).unwrap(), "the old file stays locked until it is invalid");
        assert!(matches!(BoltFile::open(&path, 0o600), Err(crate::Error::Locked(_))));
        file.sync().unwrap();
        assert!(wharf_sys::fs::try_lock(&waiter).unwrap());
        let mut old = Vec::new();
        (&waiter).read_to_end(&mut old).unwrap();
        assert_eq!(decode(&old).unwrap_err(), "no valid meta page");
    }
    let copy = dir.path().join("copy.db");
    fs::hard_link(&path, &copy).unwrap();
    file.replace(&with(&[])).unwrap();
    file.sync().unwrap();
    assert_eq!(
        decode(&fs::read(&copy).unwrap()).unwrap(),
        with(&[("k", &[2])]),
        "another name keeps its file"
    );
    drop(file);
    let again = BoltFile::open(&path, 0o600).unwrap();
    assert_eq!(again.root, with(&[]));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_damaged_file_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    for number in 1..3 {
        fs::write(&path, "no database").unwrap();
        let opened = BoltFile::open(&path, 0o600).unwrap();
        let damage = opened.damage.unwrap();
        assert_eq!(damage.kept_as, dir.path().join(format!("x.db.damaged-{number}")));
        assert_eq!(fs::read(&damage.kept_as).unwrap(), b"no database");
        assert!(decode(&fs::read(&path).unwrap()).is_ok());
    }
}

fn bucket() -> impl Strategy<Value = Bucket> {
    let key = proptest::collection::vec(any::<u8>(), 1..200);
    let value = proptest::collection::vec(any::<u8>(), 0..6000).prop_map(Entry::Value);
    let values = proptest::collection::btree_map(key.clone(), value, 0..40);
    let leaf = (any::<u64>(), values).prop_map(|(sequence, entries)| Bucket { sequence, entries });
    leaf.prop_recursive(3, 20, 4, move |inner| {
        let nested = proptest::collection::btree_map(key.clone(), inner.prop_map(Entry::Bucket), 1..4);
        nested.prop_map(|entries| Bucket { sequence: 0, entries })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(root in bucket()) {
        prop_assert_eq!(decode(&encode(&root)).unwrap(), root);
    }

    #[test]
    fn damaged_bytes_end_in_an_error_or_a_bucket(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = unzip(NETWORKS);
        // Meta pages stay valid, so that what is below is reached.
        let body = 2 * 4096;
        for (at, byte) in changes {
            let at = body + at.index(file.len() - body);
            file[at] = byte;
        }
        let _ = decode(&file);
        file.truncate(cut.index(file.len()));
        let _ = decode(&file);
    }
}
