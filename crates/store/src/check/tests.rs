//! Data roots with one thing wrong each: found, named, and repaired where that is possible.

use super::{Depth, check};
use crate::{
    Error, Force,
    tests::{Fixture, config, container, crash, tar},
};
use std::{fs, path::Path};
use wharf_archive::Kind;
use wharf_spec::{ContainerId, ImageId, ImageRef};

/// A named image of two layers and a container on it.
struct Whole {
    fixture: Fixture,
    image: ImageId,
    /// Cache ids, topmost first.
    layers: Vec<String>,
    container: ContainerId,
}

impl Whole {
    fn new() -> Self {
        let fixture = Fixture::new();
        let image = fixture.image();
        let name: ImageRef = "app:v1".parse().unwrap();
        fixture.store.references.add_tag(&name, image.id, Force::No).unwrap();
        let container = container("c");
        fixture.store.layers.create_rw(&container, image.chain_id, None).unwrap();
        let directory = fixture.path("containers").join(container.as_str());
        fs::create_dir_all(&directory).unwrap();
        let record = format!(r#"{{"ID":"{container}","Driver":"overlay2"}}"#);
        fs::write(directory.join("config.v2.json"), record).unwrap();
        fs::write(directory.join("hostconfig.json"), "{}").unwrap();
        fixture.store.layers.flush();
        let stack = fixture.store.layers.stack(image.chain_id.unwrap());
        let layers = stack.iter().map(|layer| layer.cache_id.clone()).collect();
        Self { fixture, image: image.id, layers, container }
    }

    fn root(&self) -> std::path::PathBuf {
        self.fixture.path("")
    }

    fn findings(&self, depth: Depth) -> Vec<String> {
        check(&self.root(), depth).findings.iter().map(ToString::to_string).collect()
    }

    /// The one thing that is wrong, and that it is so before the store is looked at as well.
    fn found(&self, object: &str, problem: &str) {
        let findings = self.findings(Depth::Quick);
        let is_it = |line: &String| line.starts_with(object) && line.contains(problem);
        assert!(findings.iter().any(is_it), "{object}: {problem} is not in {findings:#?}");
    }

    /// As the daemon's start does.
    fn restart(self) -> Self {
        let Self { fixture, image, layers, container } = self;
        let fixture = fixture.reopen();
        fixture.store.sweep().unwrap();
        Self { fixture, image, layers, container }
    }

    fn is_whole(&self) {
        assert_eq!(self.findings(Depth::Deep), Vec::<String>::new());
    }

    fn overlay(&self, id: &str, name: &str) -> std::path::PathBuf {
        self.fixture.path("overlay2").join(id).join(name)
    }
}

#[test]
fn a_whole_root_has_no_findings_and_stays_as_it_is() {
    let whole = Whole::new();
    let report = check(&whole.root(), Depth::Deep);
    assert_eq!((report.images, report.layers, report.containers), (1, 2, 1));
    assert_eq!(report.findings, []);
    let whole = whole.restart();
    whole.fixture.store.mend().unwrap();
    whole.is_whole();
    assert_eq!(check(Path::new("/nonexistent"), Depth::Deep).findings, []);
}

#[test]
fn what_crashes_leave_is_found_and_gone_after_a_restart() {
    let whole = Whole::new();
    let extracted = tar(&[(Kind::Regular, "x", "")]);
    crash(whole.fixture.store.layers.unpack(extracted.as_slice()).unwrap());
    whole.found(&whole.fixture.path("image/overlay2/layerdb/tmp").display().to_string(), "being extracted");
    let unused = whole.fixture.layer(&tar(&[(Kind::Regular, "y", "")]), None);
    whole.found(&format!("layer {}", unused.chain_id), "no image, container or other layer stands on it");
    crash(unused);
    let stray = "5".repeat(64);
    fs::create_dir_all(whole.overlay(&stray, "diff")).unwrap();
    whole.found(&format!("overlay2/{stray}"), "belongs to no layer");
    let link = whole.fixture.path("overlay2/l/AAAAAAAAAAAAAAAAAAAAAAAAAA");
    std::os::unix::fs::symlink(format!("../{}/diff", "6".repeat(64)), link).unwrap();
    whole.found("overlay2/l/AAAAAAAAAAAAAAAAAAAAAAAAAA", "does not exist");
    whole.fixture.store.layers.create_rw(&container("d"), None, None).unwrap();
    whole.found(&format!("layer of container {}", container("d")), "there is no such container");
    fs::create_dir(whole.fixture.path("image/overlay2/layerdb/mounts").join(container("e").as_str()))
        .unwrap();
    whole.found(&format!("layer of container {}", container("e")), "mount-id");
    let metadata = whole.fixture.path("image/overlay2/imagedb/metadata/sha256").join("7".repeat(64));
    fs::create_dir(&metadata).unwrap();
    whole.found(&metadata.display().to_string(), "there is no such image");
    // A BuildKit snapshot of Docker's is none of our business.
    fs::create_dir_all(whole.overlay("0a5p5uv2x4jzqmd5hrs7g8x2n", "diff")).unwrap();
    let whole = whole.restart();
    whole.is_whole();
    assert!(whole.overlay("0a5p5uv2x4jzqmd5hrs7g8x2n", "diff").exists());
    assert_eq!(whole.fixture.store.layers.list().len(), 2);
}

#[test]
fn unused_layers_stay_where_something_may_need_them() {
    let whole = Whole::new();
    crash(whole.fixture.layer(&tar(&[(Kind::Regular, "y", "")]), None));
    fs::create_dir(whole.fixture.path("buildkit")).unwrap();
    let cache = whole.fixture.path("buildkit/snapshots.db");
    fs::write(&cache, "").unwrap();
    let whole = whole.restart();
    assert_eq!(whole.fixture.store.layers.list().len(), 3);
    whole.is_whole();
    fs::remove_file(cache).unwrap();
    // The image's config is damaged: its layers are not waste.
    let config = whole.fixture.path("image/overlay2/imagedb/content/sha256").join(whole.image.hex());
    let raw = fs::read(&config).unwrap();
    fs::write(&config, "{}").unwrap();
    let whole = whole.restart();
    whole.found(&format!("image {}", whole.image), "has the digest sha256:44136fa355b3");
    assert_eq!(whole.fixture.store.layers.list().len(), 3);
    fs::write(&config, raw).unwrap();
    let whole = whole.restart();
    assert_eq!(whole.fixture.store.layers.list().len(), 2);
    whole.is_whole();
}

#[test]
fn an_image_comes_with_its_names_or_not_at_all() {
    let whole = Whole::new();
    let store = &whole.fixture.store;
    let layer = whole.fixture.layer(&tar(&[(Kind::Regular, "new", "")]), None);
    let raw = config(&[&layer], "new");
    let failed = store.create_named(&raw, |_| Err::<(), _>(Error::AmbiguousTag));
    assert!(matches!(failed, Err(Error::AmbiguousTag)));
    assert_eq!(store.images.len(), 1);
    assert_eq!(whole.fixture.names("image/overlay2/imagedb/metadata/sha256").len(), 0);
    // An image that was there before stays.
    store.images.create(&raw).unwrap();
    let failed = store.create_named(&raw, |_| Err::<(), _>(Error::AmbiguousTag));
    assert!(failed.is_err());
    assert_eq!(store.images.len(), 2);
    store.images.delete(ImageId(crate::sha256(&raw))).unwrap();
    // The daemon dies before the name is there.
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = store.create_named(&raw, |_| -> Result<(), Error> { panic!("killed") });
    }));
    assert!(died.is_err());
    crash(layer);
    let id = ImageId(crate::sha256(&raw));
    whole.found(&format!("image {id}"), "on its way in or out");
    let whole = whole.restart();
    assert_eq!(whole.fixture.store.images.len(), 1);
    whole.is_whole();
}

#[test]
fn links_between_layers_are_mended() {
    let whole = Whole::new();
    let (top, bottom) = (whole.layers[0].clone(), whole.layers[1].clone());
    let link = fs::read_to_string(whole.overlay(&bottom, "link")).unwrap();
    fs::remove_file(whole.fixture.path("overlay2/l").join(&link)).unwrap();
    whole.found("layer sha256:", &format!("its link l/{link} is missing"));
    fs::write(whole.overlay(&top, "link"), "").unwrap();
    fs::write(whole.overlay(&top, "lower"), "l/NONSENSE").unwrap();
    let mount = whole.fixture.store.layers.rw(&whole.container).unwrap().mount_id.clone();
    fs::write(whole.overlay(&mount, "lower"), "").unwrap();
    assert!(whole.findings(Depth::Quick).len() >= 4, "{:?}", whole.findings(Depth::Quick));
    whole.fixture.store.mend().unwrap();
    whole.is_whole();
}

#[test]
fn damage_is_named() {
    let whole = Whole::new();
    let (bottom, stack) = (&whole.layers[1], whole.fixture.store.images.get(whole.image).unwrap());
    let chains = crate::chain_ids(stack.config.diff_ids());
    let record = whole.fixture.path("image/overlay2/layerdb/sha256").join(chains[0].hex());
    let object = format!("layer {}", chains[0]);
    // A file of the layer.
    let file = whole.overlay(bottom, "diff/var/lib/long");
    let contents = fs::read(&file).unwrap();
    fs::write(&file, vec![0; contents.len()]).unwrap();
    assert!(whole.findings(Depth::Quick).is_empty());
    let deep = whole.findings(Depth::Deep);
    assert!(deep[0].starts_with(&object) && deep[0].contains("file integrity checksum failed"), "{deep:?}");
    fs::write(&file, &contents[1..]).unwrap();
    assert!(whole.findings(Depth::Deep).iter().any(|line| line.contains("its record says")));
    fs::write(&file, contents).unwrap();
    // What stands between the files: only the archive's digest tells.
    let tar_split = record.join("tar-split.json.gz");
    let good = fs::read(&tar_split).unwrap();
    let other = whole.fixture.layer(&tar(&[(Kind::Directory, "other/", "")]), None);
    let others = whole.fixture.path("image/overlay2/layerdb/sha256").join(other.chain_id.hex());
    fs::copy(others.join("tar-split.json.gz"), &tar_split).unwrap();
    drop(other);
    let deep = whole.findings(Depth::Deep);
    assert!(deep[0].starts_with(&format!("{object}: {object}: expected")), "{deep:?}");
    let written = whole.fixture.store.layers.write_tar(chains[0], &mut Vec::new());
    assert!(matches!(written, Err(Error::DigestMismatch { .. })));
    fs::write(&tar_split, "").unwrap();
    whole.found(&object, "tar-split.json.gz is empty");
    fs::write(&tar_split, good).unwrap();
    // The record itself.
    let cache_id = fs::read(record.join("cache-id")).unwrap();
    fs::write(record.join("cache-id"), "../../etc").unwrap();
    whole.found(&object, "is damaged");
    whole.found(&format!("image {}", whole.image), &format!("its {object} does not exist"));
    fs::write(record.join("cache-id"), cache_id).unwrap();
    whole.is_whole();
    let size = record.join("size");
    fs::write(&size, "").unwrap();
    whole.found(&object, "size is damaged");
}

#[test]
fn names_and_containers_without_what_they_name_are_found() {
    let whole = Whole::new();
    let config = whole.fixture.path("image/overlay2/imagedb/content/sha256").join(whole.image.hex());
    fs::remove_file(config).unwrap();
    whole.found("reference app:v1", &format!("its image {} does not exist", whole.image));
    let directory = whole.fixture.path("containers").join(whole.container.as_str());
    fs::write(directory.join("config.v2.json"), "{").unwrap();
    whole.found(&format!("container {}", whole.container), "config.v2.json is damaged");
    let other = whole.fixture.path("containers").join(container("f").as_str());
    fs::create_dir(&other).unwrap();
    whole.found(&format!("container {}", container("f")), "left of a create");
    fs::write(other.join("config.v2.json"), r#"{"ID":"x","Driver":"overlay2"}"#).unwrap();
    whole.found(&format!("container {}", container("f")), "is that of \"x\"");
    whole.found(&format!("container {}", container("f")), "it has no layer");
    let whole = whole.restart();
    whole.fixture.store.mend().unwrap();
    assert!(whole.fixture.store.references.all().is_empty());
    // The container's layer still needs the image's layers.
    assert_eq!(whole.fixture.store.layers.list().len(), 2);
}

#[test]
fn a_damaged_blob_is_found() {
    use std::io::Write;
    let whole = Whole::new();
    let mut blob = whole.fixture.store.content.ingest().unwrap();
    blob.write_all(b"blob").unwrap();
    let digest = blob.commit().unwrap();
    whole.is_whole();
    fs::write(whole.fixture.path("wharf/content/sha256").join(digest.hex()), "blub").unwrap();
    whole.found(&format!("blob {digest}"), "it has the digest");
}
