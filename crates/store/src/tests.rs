//! The store as a whole, on a data root of its own. Run as root: layers hold devices and owners.

use crate::*;
use std::{
    io::{Read, Write},
    path::Path,
    sync::Arc,
};
use wharf_archive::{Header, Kind, Time, Writer};
use wharf_spec::{ContainerId, Digest, ImageId, ImageRef};

pub(crate) struct Fixture {
    root: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        Self { root, store }
    }

    /// Closes the data root and opens it again.
    pub(crate) fn reopen(mut self) -> Self {
        self.store.layers.flush();
        drop(self.store);
        self.store = Store::open(self.root.path()).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let mut names = files::names(&self.path(directory)).unwrap();
        names.sort();
        names
    }

    pub(crate) fn layer(&self, tar: &[u8], parent: Option<&LayerRef>) -> LayerRef {
        let unpacked = self.store.layers.unpack(tar).unwrap();
        self.store.layers.register(unpacked, parent).unwrap()
    }

    /// Two layers and an image on them.
    pub(crate) fn image(&self) -> Arc<Image> {
        let bottom = self.layer(&base(), None);
        let top = self.layer(&changed(), Some(&bottom));
        self.store.images.create(&config(&[&bottom, &top], "test")).unwrap()
    }
}

/// A process that is killed runs no destructors.
#[allow(clippy::mem_forget, reason = "that is what is tested")]
pub(crate) fn crash<T>(holder: T) {
    std::mem::forget(holder);
}

pub(crate) fn container(letter: &str) -> ContainerId {
    letter.repeat(64).parse().unwrap()
}

pub(crate) fn config(layers: &[&LayerRef], comment: &str) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| format!("{:?}", layer.diff_id.to_string())).collect();
    let ids = ids.join(",");
    format!(r#"{{"comment":"{comment}","unknown":[1, 2],"rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#)
        .into()
}

pub(crate) fn tar(entries: &[(Kind, &str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (kind, name, data) in entries {
        let is_file = *kind == Kind::Regular;
        let mut header = Header { name: (*name).into(), kind: *kind, mode: 0o755, ..Header::default() };
        header.mtime = Time { seconds: 1_700_000_000, nanos: 0 };
        header.size = if is_file { data.len() as u64 } else { 0 };
        header.link = if is_file { Vec::new() } else { (*data).into() };
        writer.header(&header).unwrap();
        if is_file {
            writer.write_all(data.as_bytes()).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn base() -> Vec<u8> {
    let mut tar = tar(&[
        (Kind::Directory, "etc/", ""),
        (Kind::Regular, "etc/<one>&", "one"),
        (Kind::Regular, "etc/group", "group"),
        (Kind::Regular, "etc/hosts", "of the image"),
        (Kind::HardLink, "etc/link", "etc/group"),
        (Kind::Symlink, "tmp", "var/tmp"),
        (Kind::Regular, "var/lib/long", &"x".repeat(5000)),
        (Kind::Regular, "empty", ""),
    ]);
    // As GNU tar pads: to 20 blocks.
    tar.resize(tar.len().next_multiple_of(10240), 0);
    tar
}

fn changed() -> Vec<u8> {
    tar(&[
        (Kind::Regular, "etc/.wh.group", ""),
        (Kind::Directory, "var/", ""),
        (Kind::Regular, "var/.wh..wh..opq", ""),
    ])
}

#[test]
fn a_layer_comes_back_as_the_archive_it_was() {
    let fixture = Fixture::new();
    for archive in [base(), changed(), vec![0; 1024], tar(&[(Kind::Regular, "./a/../b", "x")])] {
        let layer = fixture.layer(&archive, None);
        assert_eq!(layer.diff_id.0, sha256(&archive));
        let mut again = Vec::new();
        assert_eq!(fixture.store.layers.write_tar(layer.chain_id, &mut again).unwrap(), archive.len() as u64);
        assert!(again == archive);
        assert_eq!(fixture.store.layers.tar_size(layer.chain_id).unwrap(), archive.len() as u64);
        let copy = fixture.store.layers.unpack_again(&layer).unwrap();
        assert_eq!((copy.diff_id, copy.size), (layer.diff_id, layer.size));
        assert_eq!(fixture.store.layers.with_contents(copy.diff_id).unwrap().chain_id, layer.chain_id);
    }
}

#[test]
fn the_record_is_tar_splits() {
    let fixture = Fixture::new();
    let archive = tar(&[(Kind::Regular, "a<b", "abc"), (Kind::Directory, "d/", "")]);
    let layer = fixture.layer(&archive, None);
    let path =
        fixture.path("image/overlay2/layerdb/sha256").join(layer.chain_id.hex()).join("tar-split.json.gz");
    let mut record = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut record).unwrap();
    use base64::{Engine, engine::general_purpose::STANDARD};
    let block = |range: std::ops::Range<usize>| STANDARD.encode(&archive[range]);
    let expected = [
        format!(r#"{{"type":2,"payload":"{}","position":0}}"#, block(0..512)),
        r#"{"type":1,"name":"a\u003cb","size":3,"payload":"N3bEIAAAAAA=","position":1}"#.to_owned(),
        format!(r#"{{"type":2,"payload":"{}","position":2}}"#, block(515..1536)),
        r#"{"type":1,"name":"d/","payload":null,"position":3}"#.to_owned(),
        format!(r#"{{"type":2,"payload":"{}","position":4}}"#, block(1536..2560)),
        String::new(),
    ];
    assert_eq!(record, expected.join("\n"));
}

#[test]
fn files_are_where_docker_has_them() {
    let fixture = Fixture::new();
    let bottom = fixture.layer(&base(), None);
    let top = fixture.layer(&changed(), Some(&bottom));
    let text = |path: String| std::fs::read_to_string(fixture.path(&path)).unwrap();
    let record = |name: &str| text(format!("image/overlay2/layerdb/sha256/{}/{name}", top.chain_id.hex()));
    assert_eq!(record("diff"), top.diff_id.to_string());
    assert_eq!(record("parent"), bottom.chain_id.to_string());
    assert_eq!(record("cache-id"), top.cache_id);
    assert_eq!(record("size"), "0");
    assert_eq!(bottom.size, 3 + 5 + 12 + 7 + 5000);
    let link = |layer: &Layer| text(format!("overlay2/{}/link", layer.cache_id));
    assert_eq!(text(format!("overlay2/{}/lower", top.cache_id)), format!("l/{}", link(&bottom)));
    assert_eq!(link(&top).len(), 26);
    let target = std::fs::read_link(fixture.path("overlay2/l").join(link(&top))).unwrap();
    assert_eq!(target.to_str().unwrap(), format!("../{}/diff", top.cache_id));
    assert!(fixture.path(&format!("overlay2/{}/committed", bottom.cache_id)).exists());
    assert!(!fixture.path(&format!("overlay2/{}/committed", top.cache_id)).exists());
    assert!(!fixture.path(&format!("overlay2/{}/work", bottom.cache_id)).exists());
    let data = fixture.store.layers.graph_data(top.chain_id).unwrap();
    assert_eq!(data.lower, [fixture.path(&format!("overlay2/{}/diff", bottom.cache_id))]);
}

#[test]
fn the_same_layer_is_kept_once() {
    let fixture = Fixture::new();
    let first = fixture.layer(&base(), None);
    let second = fixture.layer(&base(), None);
    assert_eq!(first.cache_id, second.cache_id);
    assert_eq!(fixture.names("overlay2"), [first.cache_id.clone(), "l".into()]);
    assert_eq!(fixture.names("image/overlay2/layerdb/tmp"), Vec::<String>::new());
}

#[test]
fn layers_go_with_their_last_hold_and_stay_when_the_store_is_closed() {
    let fixture = Fixture::new();
    let image = fixture.image();
    let top = image.chain_id.unwrap();
    assert_eq!(fixture.store.layers.list().len(), 2);
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.layers.list().len(), 2);
    assert_eq!(fixture.store.layers.stack_size(top), 5027);
    fixture.store.layers.create_rw(&container("a"), Some(top), None).unwrap();
    assert!(fixture.store.images.delete(image.id).unwrap().is_empty());
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.layers.list().len(), 2);
    fixture.store.layers.remove_rw(&container("a")).unwrap();
    assert_eq!(fixture.store.layers.list().len(), 0);
    for directory in ["overlay2/l", "image/overlay2/layerdb/sha256", "image/overlay2/layerdb/mounts"] {
        assert_eq!(fixture.names(directory), Vec::<String>::new(), "{directory}");
    }
    assert_eq!(fixture.names("overlay2"), ["l"]);
}

#[test]
fn refused_archives_leave_nothing() {
    let fixture = Fixture::new();
    let duplicate = tar(&[(Kind::Regular, "a", "1"), (Kind::Regular, "./a", "2")]);
    assert!(matches!(fixture.store.layers.unpack(duplicate.as_slice()), Err(Error::DuplicatePath(_))));
    let escape = tar(&[(Kind::Regular, "../a", "1")]);
    assert!(matches!(fixture.store.layers.unpack(escape.as_slice()), Err(Error::Archive(_))));
    assert!(fixture.store.layers.unpack(&base()[..600]).is_err());
    drop(fixture.store.layers.unpack(base().as_slice()).unwrap());
    assert_eq!(fixture.names("overlay2"), ["l"]);
    assert_eq!(fixture.names("overlay2/l"), Vec::<String>::new());
    assert_eq!(fixture.names("image/overlay2/layerdb/tmp"), Vec::<String>::new());
}

#[test]
fn too_many_layers_are_refused() {
    let fixture = Fixture::new();
    let mut top = fixture.layer(&vec![0; 1024], None);
    for n in 1..125u32 {
        top = fixture.layer(&tar(&[(Kind::Regular, &format!("f{n}"), "")]), Some(&top));
    }
    let unpacked = fixture.store.layers.unpack(changed().as_slice()).unwrap();
    assert!(matches!(fixture.store.layers.register(unpacked, Some(&top)), Err(Error::TooDeep)));
    // Two more fit: a container on the deepest image.
    in_private_mounts(|| {
        fixture.store.layers.create_rw(&container("a"), Some(top.chain_id), None).unwrap();
        let merged = fixture.store.layers.mount_rw(&container("a")).unwrap();
        assert!(merged.join("f1").exists() && merged.join("f124").exists());
        fixture.store.layers.unmount_rw(&container("a")).unwrap();
    });
}

#[test]
fn what_a_crash_left_is_removed_at_start() {
    let fixture = Fixture::new();
    let image = fixture.image();
    // A kill in the middle of an extraction: nothing of ours runs any more.
    crash(fixture.store.layers.unpack(tar(&[(Kind::Regular, "x", "")]).as_slice()).unwrap());
    // And one in the middle of a removal.
    let gone = fixture.layer(&tar(&[(Kind::Regular, "y", "")]), None);
    let records = fixture.path("image/overlay2/layerdb/sha256");
    let removing = format!("{}-{}-removing", gone.chain_id.hex(), "1".repeat(64));
    std::fs::rename(records.join(gone.chain_id.hex()), records.join(removing)).unwrap();
    crash(gone);
    std::fs::write(fixture.path("image/overlay2/.tmp-repositories.json123"), "{").unwrap();
    std::fs::write(fixture.path("image/overlay2/imagedb/content/sha256/.tmp-x"), "{").unwrap();
    assert_eq!(fixture.names("overlay2").len(), 5);
    let fixture = fixture.reopen();
    assert_eq!(fixture.names("overlay2").len(), 3);
    assert_eq!(fixture.names("overlay2/l").len(), 2);
    assert_eq!(fixture.names("image/overlay2/layerdb/sha256").len(), 2);
    assert_eq!(fixture.names("image/overlay2/layerdb/tmp").len(), 0);
    assert_eq!(fixture.names("image/overlay2"), ["distribution", "imagedb", "layerdb", "repositories.json"]);
    assert!(fixture.store.images.get(image.id).is_ok());
}

#[test]
fn a_layer_that_a_power_loss_damaged_is_dropped_and_others_are_not() {
    let fixture = Fixture::new();
    let image = fixture.image();
    let other = fixture.layer(&tar(&[(Kind::Regular, "z", "z")]), None);
    let stack = fixture.store.layers.stack(image.chain_id.unwrap());
    fixture.store.layers.flush();
    let bottom = &stack[1];
    for chain in [bottom.chain_id, other.chain_id] {
        let record = fixture.path("image/overlay2/layerdb/sha256").join(chain.hex());
        assert!(!record.join("unsynced").exists());
        std::fs::write(record.join("unsynced"), "another boot").unwrap();
    }
    let file = fixture.path(&format!("overlay2/{}/diff/var/lib/long", bottom.cache_id));
    std::fs::write(file, vec![0; 5000]).unwrap();
    assert!(matches!(fixture.store.layers.verify(bottom.chain_id), Err(Error::FileChanged { .. })));
    crash(other.clone());
    let (other, fixture) = (other.chain_id, fixture.reopen());
    assert!(fixture.store.layers.info(other).is_some());
    assert!(fixture.store.layers.info(bottom.chain_id).is_none());
    assert!(fixture.store.images.get(image.id).is_err());
    // The image can be had again.
    assert_eq!(fixture.image().id, image.id);
}

#[test]
fn a_container_sees_its_image_and_its_changes_are_told() {
    let fixture = Fixture::new();
    let image = fixture.image();
    let layers = &fixture.store.layers;
    let id = container("c");
    layers.create_rw(&id, image.chain_id, None).unwrap();
    assert!(matches!(layers.create_rw(&id, None, None), Err(Error::MountExists(_))));
    in_private_mounts(|| {
        let merged = layers.mount_rw(&id).unwrap();
        assert_eq!(layers.mount_rw(&id).unwrap(), merged);
        assert_eq!(std::fs::read_to_string(merged.join("etc/<one>&")).unwrap(), "one");
        assert_eq!(std::fs::read_to_string(merged.join("etc/hosts")).unwrap(), "");
        assert_eq!(std::fs::read_link(merged.join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
        assert!(merged.join(".dockerenv").exists() && merged.join("dev/pts").is_dir());
        assert!(!merged.join("etc/group").exists() && !merged.join("var/lib").exists());
        assert!(layers.rw_changes(&id).unwrap().is_empty());
        std::fs::write(merged.join("etc/new"), "12345").unwrap();
        std::fs::create_dir_all(merged.join("a/b")).unwrap();
        std::fs::remove_file(merged.join("etc/<one>&")).unwrap();
        std::fs::remove_file(merged.join("empty")).unwrap();
        std::fs::create_dir(merged.join("empty")).unwrap();
        layers.unmount_rw(&id).unwrap();
        assert!(merged.join("etc/new").exists());
        layers.unmount_rw(&id).unwrap();
        assert!(!merged.exists());
    });
    let told: Vec<String> = layers
        .rw_changes(&id)
        .unwrap()
        .iter()
        .map(|change| format!("{:?} {}", change.kind, String::from_utf8_lossy(&change.path)))
        .collect();
    let expected = [
        "Added /a",
        "Added /a/b",
        "Modified /empty",
        "Modified /etc",
        "Deleted /etc/<one>&",
        "Added /etc/new",
    ];
    assert_eq!(told, expected);
    assert_eq!(layers.rw_size(&id).unwrap(), 5);
    // A commit: the changes are a layer.
    let diff = layers.write_rw_diff(&id, Vec::new()).unwrap();
    let parent = layers.get(image.chain_id.unwrap()).unwrap();
    let committed = fixture.layer(&diff, Some(&parent));
    assert_eq!(committed.size, 5);
    let data = layers.graph_data(committed.chain_id).unwrap();
    assert!(data.upper.join("etc/new").exists() && data.lower.len() == 2);
}

#[test]
fn a_mount_from_before_a_restart_is_used_and_removed() {
    let fixture = Fixture::new();
    let image = fixture.image();
    let id = container("d");
    fixture.store.layers.create_rw(&id, image.chain_id, None).unwrap();
    in_private_mounts(move || {
        let merged = fixture.store.layers.mount_rw(&id).unwrap();
        std::fs::write(merged.join("kept"), "").unwrap();
        let fixture = fixture.reopen();
        assert_eq!(fixture.store.layers.mount_rw(&id).unwrap(), merged);
        let thread = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
        assert_eq!(thread.matches(merged.to_str().unwrap()).count(), 1);
        fixture.store.layers.remove_rw(&id).unwrap();
        assert!(!merged.exists());
    });
}

#[test]
fn directories_of_the_image_keep_their_metadata_in_the_init_layer() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let fixture = Fixture::new();
    let archive = tar(&[
        (Kind::Directory, "etc/", ""),
        (Kind::Directory, "etc/hostname/", ""),
        (Kind::Symlink, "dev", "/nowhere"),
        (Kind::Regular, "proc", "a file"),
    ]);
    let layer = fixture.layer(&archive, None);
    let diff = fixture.path(&format!("overlay2/{}/diff/etc", layer.cache_id));
    std::fs::set_permissions(&diff, std::fs::Permissions::from_mode(0o1750)).unwrap();
    std::os::unix::fs::chown(&diff, Some(7), Some(8)).unwrap();
    std::fs::set_permissions(&diff, std::fs::Permissions::from_mode(0o1750)).unwrap();
    let id = container("e");
    fixture.store.layers.create_rw(&id, Some(layer.chain_id), None).unwrap();
    in_private_mounts(|| {
        let merged = fixture.store.layers.mount_rw(&id).unwrap();
        let etc = std::fs::metadata(merged.join("etc")).unwrap();
        assert_eq!((etc.mode() & 0o7777, etc.uid(), etc.gid()), (0o1750, 7, 8));
        assert!(merged.join("etc/hostname").is_dir() && merged.join("etc/hosts").is_file());
        assert!(
            merged.join("dev/shm").is_dir() && merged.join("proc").is_dir() && merged.join("sys").is_dir()
        );
        assert!(!std::fs::symlink_metadata(merged.join("dev")).unwrap().is_symlink());
        fixture.store.layers.unmount_rw(&id).unwrap();
    });
    fixture.store.layers.remove_rw(&id).unwrap();
}

#[test]
fn an_image_is_the_bytes_it_came_as() {
    let fixture = Fixture::new();
    let bottom = fixture.layer(&base(), None);
    let raw = config(&[&bottom], "kept");
    let image = fixture.store.images.create(&raw).unwrap();
    assert_eq!(image.id.0, sha256(&raw));
    assert_eq!(fixture.store.images.raw(image.id).unwrap(), raw);
    let child = fixture.store.images.create(&config(&[&bottom], "child")).unwrap();
    let images = &fixture.store.images;
    images.set_parent(child.id, image.id).unwrap();
    images.set_built_locally(child.id).unwrap();
    let now: jiff::Timestamp = "2026-11-20T17:40:13.856525372Z".parse().unwrap();
    images.set_last_tagged(child.id, now).unwrap();
    assert_eq!(images.search(&image.id.hex()[..12]).unwrap(), image.id);
    assert!(matches!(images.search(""), Err(Error::NoImage(_))));
    let metadata = format!("image/overlay2/imagedb/metadata/sha256/{}/lastUpdated", child.id.hex());
    assert_eq!(std::fs::read_to_string(fixture.path(&metadata)).unwrap(), "2026-11-20T17:40:13.856525372Z");
    let fixture = fixture.reopen();
    let images = &fixture.store.images;
    assert_eq!(images.children(image.id), [child.id]);
    assert_eq!(images.parent(child.id), Some(image.id));
    assert_eq!(images.last_tagged(child.id), Some(now));
    assert!(images.is_built_locally(child.id) && !images.is_built_locally(image.id));
    images.delete(image.id).unwrap();
    assert_eq!(images.parent(child.id), None);
    assert_eq!(fixture.reopen().store.images.parent(child.id), None);
}

#[test]
fn damaged_and_unfounded_configs_are_refused_by_name() {
    let fixture = Fixture::new();
    let image = fixture.image();
    let path = fixture.path("image/overlay2/imagedb/content/sha256").join(image.id.hex());
    std::fs::write(&path, "{}").unwrap();
    let error = fixture.store.images.raw(image.id).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }) && error.to_string().contains(&image.id.hex()));
    let missing = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, sha256(b"nothing"));
    assert!(matches!(fixture.store.images.create(missing.as_bytes()), Err(Error::ImageWithoutLayer { .. })));
    let history = r#"{"rootfs":{"type":"layers"},"history":[{"created_by":"x"}]}"#;
    assert!(matches!(fixture.store.images.create(history.as_bytes()), Err(Error::TooMuchHistory)));
    assert!(matches!(fixture.store.images.create(b"no json"), Err(Error::Config(_))));
    assert!(fixture.reopen().store.images.is_empty());
}

#[test]
fn references_follow_dockers_rules() {
    let fixture = Fixture::new();
    let references = &fixture.store.references;
    let reference = |text: &str| text.parse::<ImageRef>().unwrap();
    let (one, two) = (ImageId(sha256(b"1")), ImageId(sha256(b"2")));
    let digest = format!("busybox@{}", sha256(b"manifest"));
    references.add_tag(&reference("busybox"), one, Force::No).unwrap();
    references.add_tag(&reference("localhost:5000/x:v1"), one, Force::No).unwrap();
    references.add_digest(&reference(&digest), one).unwrap();
    let text = std::fs::read_to_string(fixture.path("image/overlay2/repositories.json")).unwrap();
    assert_eq!(
        text,
        format!(
            r#"{{"Repositories":{{"busybox":{{"busybox:latest":"{one}","{digest}":"{one}"}},"localhost:5000/x":{{"localhost:5000/x:v1":"{one}"}}}}}}"#
        )
    );
    assert!(matches!(
        references.add_tag(&reference("busybox"), two, Force::No),
        Err(Error::TagConflict { .. })
    ));
    assert_eq!(references.all().get(&two), None);
    // All of several names, or none.
    let some = [reference("several:a"), reference(&digest)];
    assert!(matches!(references.add_tags(&some, one), Err(Error::TagWithDigest)));
    assert!(references.get(&some[0]).is_none());
    let both = [reference("several:a"), reference("several:b")];
    references.add_tags(&both, one).unwrap();
    assert_eq!(both.iter().map(|name| references.get(name)).collect::<Vec<_>>(), [Some(one), Some(one)]);
    for name in &both {
        references.delete(name).unwrap();
    }
    references.add_tag(&reference("busybox"), two, Force::Yes).unwrap();
    assert_eq!(references.all()[&two], [reference("busybox:latest")], "a change is seen by the next list");
    assert!(matches!(references.add_digest(&reference(&digest), two), Err(Error::DigestConflict(_))));
    assert!(matches!(references.add_tag(&reference(&digest), two, Force::Yes), Err(Error::TagWithDigest)));
    assert!(matches!(references.add_tag(&reference("sha256:x"), two, Force::Yes), Err(Error::AmbiguousTag)));
    assert_eq!(references.get(&reference("busybox:latest")), Some(two));
    assert_eq!(references.get(&reference(&format!("busybox:other@{}", sha256(b"manifest")))), Some(one));
    let of: Vec<String> = references.of(one).iter().map(ImageRef::familiar_string).collect();
    assert_eq!(of, [digest, "localhost:5000/x:v1".into()]);
    assert_eq!(references.delete(&reference("busybox")).unwrap(), two);
    assert!(matches!(references.delete(&reference("busybox")), Err(Error::NoReference(_))));
    assert_eq!(fixture.reopen().store.references.all()[&one].len(), 2);
}

#[test]
fn a_damaged_repositories_file_is_put_aside() {
    let root = tempfile::tempdir().unwrap();
    drop(Store::open(root.path()).unwrap());
    let path = root.path().join("image/overlay2/repositories.json");
    for _ in 0..2 {
        std::fs::write(&path, "{").unwrap();
        assert!(Store::open(root.path()).unwrap().references.all().is_empty());
    }
    for number in 1..3 {
        let kept = path.with_file_name(format!("repositories.json.damaged-{number}"));
        assert_eq!(std::fs::read(kept).unwrap(), b"{");
    }
}

#[test]
fn places_of_blobs_are_remembered() {
    let fixture = Fixture::new();
    let layer = wharf_spec::DiffId(sha256(b"layer"));
    let place = |n: u32| V2Metadata {
        digest: sha256(&n.to_le_bytes()),
        source_repository: "docker.io/library/alpine".into(),
        hmac: String::new(),
    };
    for n in (0..60).chain([20]) {
        fixture.store.distribution.add(layer, place(n)).unwrap();
    }
    let fixture = fixture.reopen();
    let distribution = &fixture.store.distribution;
    let known = distribution.blobs_of(layer);
    assert_eq!((known.len(), &known[49]), (50, &place(20)));
    assert_eq!(distribution.layer_of(&place(59).digest), Some(layer));
    distribution.remove(layer, &place(20)).unwrap();
    assert_eq!(distribution.blobs_of(layer).len(), 49);
    assert_eq!(distribution.layer_of(&sha256(b"unknown")), None);
}

#[test]
fn blobs_are_checked_and_resumed() {
    let fixture = Fixture::new();
    let content = &fixture.store.content;
    let digest = sha256(b"whole");
    let mut ingest = content.resume(digest).unwrap();
    ingest.write_all(b"who").unwrap();
    drop(ingest);
    let mut ingest = content.resume(digest).unwrap();
    assert_eq!(ingest.offset(), 3);
    ingest.write_all(b"le").unwrap();
    assert_eq!(ingest.commit().unwrap(), digest);
    assert_eq!(content.read(&digest).unwrap(), b"whole");
    let wrong: Digest = sha256(b"other");
    let mut ingest = content.resume(wrong).unwrap();
    ingest.write_all(b"not that").unwrap();
    assert!(matches!(ingest.commit(), Err(Error::DigestMismatch { .. })));
    assert!(!content.contains(&wrong));
    std::fs::write(fixture.path("wharf/content/sha256").join(digest.hex()), "whale").unwrap();
    assert!(content.read(&digest).unwrap_err().to_string().contains(&digest.hex()));
    let mut bytes = Vec::new();
    assert!(content.reader(&digest).unwrap().read_to_end(&mut bytes).is_err());
    content.remove(&digest).unwrap();
    assert!(matches!(content.read(&digest), Err(Error::NoContent(_))));
}

/// Mounts made by `body` are seen by nobody else and go with its thread.
fn in_private_mounts(body: impl FnOnce() + Send) {
    use wharf_spec::plan::Propagation;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            wharf_sys::process::unshare(wharf_sys::process::Namespaces::MOUNT).unwrap();
            wharf_sys::mount::set_propagation(Path::new("/"), Propagation::RPrivate).unwrap();
            body();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
