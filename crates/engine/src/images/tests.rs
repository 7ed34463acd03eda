//! Images as clients see them, on a data root of their own. Run as root: layers have owners.

use super::*;
use crate::containers::Index;
use futures_util::{StreamExt, stream};
use std::io::{Read, Write};
use wharf_archive::{Header, Kind, Reader, Writer};
use wharf_spec::{ErrorKind, History, RootFs, RunConfig, media_type};
use wharf_store::sha256;

pub(super) struct Fixture {
    pub(super) root: tempfile::TempDir,
    pub(super) images: Images,
    events: Events,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let config = Config { data_root: root.path().into(), ..Config::default() };
        std::fs::create_dir(root.path().join("tmp")).unwrap();
        let events = Events::new();
        let images = Images::open(Arc::new(config), events.clone(), Index::default()).await.unwrap();
        Self { root, images, events }
    }

    async fn load(&self, tar: Vec<u8>) -> Result<Vec<String>> {
        let (sender, mut receiver) = mpsc::channel(1000);
        self.images.load(bytes(tar), Vec::new(), sender).await?;
        let mut lines = Vec::new();
        while let Some(message) = receiver.recv().await {
            if message.progress.is_none() {
                lines.push(message.stream);
            }
        }
        Ok(lines)
    }

    async fn save(&self, names: &[&str]) -> Vec<u8> {
        let stream = self
            .images
            .save(names.iter().map(|name| (*name).to_owned()).collect(), Vec::new())
            .await
            .unwrap();
        stream.map(|piece| piece.unwrap()).collect::<Vec<_>>().await.concat()
    }

    async fn remove(&self, name: &str) -> Result<Vec<String>> {
        let items = self.images.remove(name, RemoveImage::default()).await?;
        Ok(items.iter().map(|item| format!("{}{}", item.untagged, item.deleted)).collect())
    }

    pub(super) async fn actions(&self) -> Vec<String> {
        let query = crate::events::EventsQuery {
            since: Some(jiff::Timestamp::UNIX_EPOCH),
            until: Some(jiff::Timestamp::now()),
            ..Default::default()
        };
        self.events.subscribe(query).unwrap().map(|event| event.action).collect().await
    }
}

fn bytes(tar: Vec<u8>) -> ByteStream {
    let pieces: Vec<_> = tar.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces).boxed()
}

pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, data) in files {
        let kind = if name.ends_with('/') { Kind::Directory } else { Kind::Regular };
        let header =
            Header { name: (*name).into(), kind, size: data.len() as u64, mode: 0o755, ..Header::default() };
        writer.header(&header).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.finish().unwrap()
}

fn untar(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut reader = Reader::new(tar);
    let mut files = BTreeMap::new();
    while let Some(header) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        reader.content().read_to_end(&mut data).unwrap();
        files.insert(String::from_utf8(header.name).unwrap(), data);
    }
    files
}

pub(super) fn layers() -> [Vec<u8>; 2] {
    [
        tar(&[("etc/", b""), ("etc/one", b"1"), ("bin", &[7; 5000])]),
        tar(&[("etc/.wh.one", b""), ("two", b"22")]),
    ]
}

/// An image of some layers, made at some second.
pub(super) fn config(layers: &[&[u8]], second: i64) -> Vec<u8> {
    let created = Some(jiff::Timestamp::from_second(second).unwrap().to_string());
    let step = |by: &str, empty_layer| History {
        created: created.clone(),
        created_by: by.into(),
        empty_layer,
        ..History::default()
    };
    let mut history: Vec<History> = layers.iter().map(|_| step("ADD", false)).collect();
    history.push(step("CMD", true));
    let labels = BTreeMap::from([("purpose".to_owned(), second.to_string())]);
    let run = RunConfig { cmd: Some(vec!["sh".into()]), labels: Some(labels), ..RunConfig::default() };
    let diff_ids = layers.iter().map(|layer| wharf_spec::DiffId(sha256(layer))).collect();
    ImageConfig {
        architecture: Platform::host().architecture,
        os: "linux".into(),
        created: created.clone(),
        config: Some(run),
        history,
        rootfs: Some(RootFs { diff_ids, ..RootFs::default() }),
        ..ImageConfig::default()
    }
    .to_json()
}

fn id(config: &[u8]) -> String {
    sha256(config).to_string()
}

/// As `docker save` of 1.10 to 24 writes it: layers under names of their own, one of them a link.
fn classic(name: &str, config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let json = format!("{}.json", sha256(config).hex());
    let paths: Vec<String> = (0..layers.len()).map(|n| format!("{n}{}/layer.tar", "a".repeat(63))).collect();
    let listed: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
    let tags = if name.is_empty() { "null".into() } else { format!("[{name:?}]") };
    let manifest = format!(r#"[{{"Config":"{json}","RepoTags":{tags},"Layers":[{}]}}]"#, listed.join(","));
    let mut files: Vec<(&str, &[u8])> =
        paths.iter().map(String::as_str).zip(layers.iter().copied()).collect();
    files.extend([(json.as_str(), config), ("manifest.json", manifest.as_bytes())]);
    tar(&files)
}

/// An OCI image layout.
fn layout(name: &str, config: &[u8], blobs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let descriptor = |kind: &str, bytes: &[u8]| {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, sha256(bytes), bytes.len())
    };
    let layers: Vec<String> = blobs.iter().map(|(kind, blob)| descriptor(kind, blob)).collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor(media_type::OCI_CONFIG, config),
        layers.join(",")
    );
    let entry = descriptor(media_type::OCI_MANIFEST, manifest.as_bytes());
    let entry = entry.trim_end_matches('}');
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{entry},"annotations":{{"io.containerd.image.name":"{name}"}}}}]}}"#
    );
    let path = |bytes: &[u8]| format!("./blobs/sha256/{}", sha256(bytes).hex());
    let mut files: Vec<(String, &[u8])> =
        blobs.iter().map(|(_, blob)| (path(blob), blob.as_slice())).collect();
    files.push((path(config), config));
    files.push((path(manifest.as_bytes()), manifest.as_bytes()));
    files.push(("./index.json".into(), index.as_bytes()));
    files.push(("./oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, data)| (name.as_str(), *data)).collect();
    tar(&files)
}

#[tokio::test]
async fn classic_archives_are_loaded() {
    let fixture = Fixture::new().await;
    let [one, two] = layers();
    let raw = config(&[&one, &two], 100);
    let archive = classic("test/one:v1", &raw, &[&one, &two]);
    assert_eq!(fixture.load(archive.clone()).await.unwrap(), ["Loaded image: test/one:v1\n"]);
    // And once more: everything is there.
    assert_eq!(fixture.load(archive).await.unwrap(), ["Loaded image: test/one:v1\n"]);
    let inspect = fixture.images.inspect("test/one:v1").await.unwrap();
    assert_eq!((inspect.id, inspect.size), (id(&raw), 5001 + 2));
    assert_eq!(inspect.repo_tags, ["test/one:v1"]);
    assert_eq!(inspect.root_fs.layers, [sha256(&one).to_string(), sha256(&two).to_string()]);
    let graph = inspect.graph_driver.unwrap();
    assert_eq!(graph.name, "overlay2");
    let keys: Vec<String> = graph.data.unwrap().into_keys().collect();
    assert_eq!(keys, ["LowerDir", "MergedDir", "UpperDir", "WorkDir"]);
    let nameless = config(&[&one], 1);
    let lines = fixture.load(classic("", &nameless, &[&one])).await.unwrap();
    assert_eq!(lines, [format!("Loaded image ID: {}\n", id(&nameless))]);
    // The name goes to another image.
    let lines = fixture.load(classic("test/one:v1", &nameless, &[&one])).await.unwrap();
    let moved = format!(
        "The image test/one:v1 already exists, renaming the old one with ID {} to empty string\n",
        id(&raw)
    );
    assert_eq!(lines, [moved, "Loaded image: test/one:v1\n".into()]);
    assert_eq!(fixture.actions().await, ["load"; 4]);
}

#[tokio::test]
async fn layouts_are_loaded_plain_and_compressed() {
    let [one, two] = layers();
    let raw = config(&[&one, &two], 100);
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&one).unwrap();
        encoder.finish().unwrap()
    };
    for first in [(media_type::OCI_LAYER_GZIP, gzip), (media_type::OCI_LAYER, one.clone())] {
        let fixture = Fixture::new().await;
        let archive = layout("docker.io/test/oci:v1", &raw, &[first, (media_type::OCI_LAYER, two.clone())]);
        assert_eq!(fixture.load(archive).await.unwrap(), ["Loaded image: test/oci:v1\n"]);
        assert_eq!(fixture.images.inspect("test/oci:v1").await.unwrap().id, id(&raw));
    }
}

#[tokio::test]
async fn what_is_saved_is_an_image_layout_and_can_be_loaded() {
    let fixture = Fixture::new().await;
    let [one, two] = layers();
    let (raw, other) = (config(&[&one, &two], 100), config(&[&one], 50));
    fixture.load(classic("a:1", &raw, &[&one, &two])).await.unwrap();
    fixture.load(classic("b:1", &other, &[&one])).await.unwrap();
    fixture.images.tag("a:1", "a", "2").await.unwrap();
    let archive = fixture.save(&["a", "b:1"]).await;
    let files = untar(&archive);
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    assert_eq!(text("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#);
    assert!(text("manifest.json").starts_with(&format!(
        r#"[{{"Config":"blobs/sha256/{}","RepoTags":["a:1","a:2"],"Layers":["blobs/sha256/{}","#,
        sha256(&raw).hex(),
        sha256(&one).hex()
    )));
    let index: wharf_spec::ImageIndex = serde_json::from_slice(&files["index.json"]).unwrap();
    let names: Vec<&String> =
        index.manifests.iter().map(|m| &m.annotations["io.containerd.image.name"]).collect();
    assert_eq!(names, ["docker.io/library/a:1", "docker.io/library/a:2", "docker.io/library/b:1"]);
    for (name, data) in files.iter().filter(|(name, _)| name.starts_with("blobs/sha256/") && name.len() > 13)
    {
        assert_eq!(name["blobs/sha256/".len()..], sha256(data).hex());
    }
    assert_eq!(files.keys().filter(|name| name.len() > 70).count(), 2 + 2 + 2);
    let fresh = Fixture::new().await;
    let lines = fresh.load(archive.clone()).await.unwrap();
    assert_eq!(lines, ["Loaded image: a:1\n", "Loaded image: a:2\n", "Loaded image: b:1\n"]);
    assert!(fresh.save(&["a", "b:1"]).await == archive);
    let missing = fresh.images.save(vec!["nosuch".into()], Vec::new()).await.err().unwrap();
    assert_eq!(
        (missing.to_string().as_str(), missing.kind()),
        ("No such image: nosuch", ErrorKind::NotFound)
    );
}

#[tokio::test]
async fn bad_archives_are_refused_and_leave_no_image() {
    let fixture = Fixture::new().await;
    let [one, two] = layers();
    let raw = config(&[&one], 1);
    let error = |tar: Vec<u8>| {
        let fixture = &fixture;
        async move { fixture.load(tar).await.unwrap_err().to_string() }
    };
    assert_eq!(error(b"garbage".repeat(1000)).await, "archive/tar: invalid tar header");
    assert_eq!(error(tar(&[("x", b"y")])).await, "invalid archive: does not contain a manifest.json");
    assert!(error(classic("x:1", &raw, &[&two])).await.starts_with("invalid diffID for layer 0: expected"));
    assert!(error(classic("x:1", &raw, &[&one, &two])).await.contains("layers length mismatch"));
    assert_eq!(error(classic("x", &raw, &[&one])).await, "invalid tag \"x\"");
    let lying = layout("x:1", &raw, &[(media_type::OCI_LAYER, one.clone())]);
    let hex = sha256(&one).hex();
    let at = lying.windows(64).position(|window| window == hex.as_bytes()).unwrap();
    let other = layout("x:1", &raw, &[(media_type::OCI_LAYER, two.clone())]);
    assert!(at > 0 && error(other).await.starts_with("invalid diffID"));
    let whole = classic("x:1", &raw, &[&one]);
    assert!(!error(whole[..whole.len() / 2].to_vec()).await.is_empty());
    assert_eq!(fixture.images.count(), 0);
}

#[tokio::test]
async fn lists_are_filtered_and_sorted() {
    let fixture = Fixture::new().await;
    let [one, two] = layers();
    for (name, second) in [("old:1", 100), ("localhost:5000/new:1", 300), ("", 200)] {
        fixture.load(classic(name, &config(&[&one, &two], second), &[&one, &two])).await.unwrap();
    }
    let list = |filters: &str| {
        let filters = Filters::from_json(filters).unwrap();
        let options = ListImages { filters, shared_size: true, ..ListImages::default() };
        let images = fixture.images.clone();
        async move {
            let found = images.list(options).await.unwrap();
            found.iter().map(|image| image.created).collect::<Vec<_>>()
        }
    };
    assert_eq!(list("").await, [300, 200, 100]);
    assert_eq!(list(r#"{"dangling":["true"]}"#).await, [200]);
    assert_eq!(list(r#"{"dangling":["false"]}"#).await, [300, 100]);
    assert_eq!(list(r#"{"reference":["old"]}"#).await, [100]);
    assert_eq!(list(r#"{"reference":["localhost:5000/*:1"]}"#).await, [300]);
    assert_eq!(list(r#"{"reference":["docker.io/library/old"]}"#).await, [100]);
    assert_eq!(list(r#"{"label":["purpose=200"]}"#).await, [200]);
    assert_eq!(list(r#"{"before":["localhost:5000/new:1"]}"#).await, [200, 100]);
    assert_eq!(list(r#"{"since":["old:1"]}"#).await, [300, 200]);
    assert_eq!(list(r#"{"until":["150"]}"#).await, [100]);
    let all = fixture.images.list(ListImages { shared_size: true, ..ListImages::default() }).await.unwrap();
    assert_eq!((all[0].shared_size, all[0].size), (5003, 5003));
    assert_eq!(all[1].repo_tags.as_deref(), Some(&[][..]));
    let bad =
        ListImages { filters: Filters::from_json(r#"{"nosuch":["1"]}"#).unwrap(), ..Default::default() };
    assert_eq!(fixture.images.list(bad).await.unwrap_err().to_string(), "invalid filter 'nosuch'");
    assert_eq!(fixture.images.layers_size(), 5003);
}

#[tokio::test]
async fn names_mean_what_docker_says() {
    let fixture = Fixture::new().await;
    let [one, _] = layers();
    let raw = config(&[&one], 1);
    fixture.load(classic("busybox:latest", &raw, &[&one])).await.unwrap();
    let hex = sha256(&raw).hex();
    for name in ["busybox", "docker.io/library/busybox:latest", &hex, &hex[..12], &id(&raw), &id(&raw)[..20]]
    {
        assert_eq!(fixture.images.resolve(name, None).await.unwrap().id.to_string(), id(&raw), "{name}");
    }
    let error = |name: &'static str| {
        let images = fixture.images.clone();
        async move {
            let error = images.inspect(name).await.unwrap_err();
            (error.to_string(), error.kind())
        }
    };
    assert_eq!(error("nosuch").await, ("No such image: nosuch:latest".into(), ErrorKind::NotFound));
    let bad = "invalid reference format: repository name (library/UPPER) must be lowercase";
    assert_eq!(error("UPPER").await, (bad.into(), ErrorKind::InvalidArgument));
    let other = Platform { os: "linux".into(), architecture: "s390x".into(), ..Platform::default() };
    let error = fixture.images.resolve("busybox", Some(&other)).await.unwrap_err();
    assert!(
        error.to_string().starts_with("image with reference busybox was found but its platform"),
        "{error}"
    );
    let tag_error = fixture.images.tag("busybox", "Bad/Name", "").await.unwrap_err();
    assert_eq!(tag_error.to_string(), "invalid reference format: repository name (Name) must be lowercase");
    assert_eq!(fixture.images.tag("busybox", "a", "!").await.unwrap_err().to_string(), "invalid tag format");
    assert_eq!(
        fixture.images.tag("nosuch", "a", "b").await.unwrap_err().to_string(),
        "No such image: nosuch:latest"
    );
}

#[tokio::test]
async fn history_is_newest_first() {
    let fixture = Fixture::new().await;
    let [one, two] = layers();
    let raw = config(&[&one, &two], 100);
    fixture.load(classic("a:1", &raw, &[&one, &two])).await.unwrap();
    let history = fixture.images.history("a:1").await.unwrap();
    let shown: Vec<_> =
        history.iter().map(|item| (item.created_by.as_str(), item.size, item.id.as_str())).collect();
    let image = id(&raw);
    assert_eq!(shown, [("CMD", 0, image.as_str()), ("ADD", 2, "<missing>"), ("ADD", 5001, "<missing>")]);
    assert_eq!(history[0].tags.as_deref(), Some(&["a:1".to_owned()][..]));
    assert_eq!(history[1].tags, None);
}

#[tokio::test]
async fn images_are_removed_by_dockers_rules() {
    let fixture = Fixture::new().await;
    let [one, two] = layers();
    let (parent, child) = (config(&[&one], 1), config(&[&one, &two], 2));
    fixture.load(classic("a:1", &parent, &[&one])).await.unwrap();
    fixture.load(classic("b:1", &child, &[&one, &two])).await.unwrap();
    let ids = [&parent, &child].map(|raw| ImageId(sha256(raw)));
    fixture.images.0.store.images.set_parent(ids[1], ids[0]).unwrap();
    let conflict = fixture.remove(&id(&parent)).await.unwrap_err();
    assert_eq!(
        (conflict.to_string(), conflict.kind()),
        (
            format!(
                "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
                &ids[0].hex()[..12]
            ),
            ErrorKind::Conflict
        )
    );
    // By name it only loses the name: a child keeps it.
    assert_eq!(fixture.remove("a:1").await.unwrap(), ["a:1"]);
    fixture.images.tag("b:1", "c", "1").await.unwrap();
    let conflict = fixture.remove(&ids[1].hex()).await.unwrap_err();
    assert!(
        conflict.to_string().ends_with("(must be forced) - image is referenced in multiple repositories")
    );
    assert_eq!(fixture.remove("c:1").await.unwrap(), ["c:1"]);
    // The last name takes the image, its layers and the parent without a name.
    let chains =
        wharf_store::chain_ids(&[wharf_spec::DiffId(sha256(&one)), wharf_spec::DiffId(sha256(&two))]);
    let expected = ["b:1".into(), id(&child), chains[1].to_string(), id(&parent), chains[0].to_string()];
    assert_eq!(fixture.remove("b:1").await.unwrap(), expected);
    assert_eq!(fixture.images.count(), 0);
    assert_eq!(fixture.remove("b:1").await.unwrap_err().to_string(), "No such image: b:1");
    assert_eq!(
        fixture.actions().await,
        ["load", "load", "untag", "tag", "untag", "untag", "delete", "delete"]
    );
}

#[tokio::test]
async fn prunes_take_what_has_no_name() {
    let fixture = Fixture::new().await;
    let [one, two] = layers();
    fixture.load(classic("a:1", &config(&[&one], 1), &[&one])).await.unwrap();
    fixture.load(classic("", &config(&[&one, &two], 2), &[&one, &two])).await.unwrap();
    let prune = |filters: &str| fixture.images.prune(Filters::from_json(filters).unwrap());
    assert_eq!(prune(r#"{"nosuch":["1"]}"#).await.unwrap_err().to_string(), "invalid filter 'nosuch'");
    assert_eq!(prune(r#"{"label":["nothing"]}"#).await.unwrap().images_deleted, None);
    let report = prune("").await.unwrap();
    assert_eq!((report.images_deleted.unwrap().len(), report.space_reclaimed), (2, 2));
    assert_eq!(fixture.images.count(), 1);
    let report = prune(r#"{"dangling":["false"]}"#).await.unwrap();
    assert_eq!((report.images_deleted.unwrap().len(), report.space_reclaimed), (3, 5001));
    assert_eq!(prune("").await.unwrap(), wharf_api::image::PruneReport::default());
}

#[tokio::test]
async fn an_archive_of_files_becomes_an_image() {
    let fixture = Fixture::new().await;
    let [one, _] = layers();
    let (sender, mut receiver) = mpsc::channel(10);
    let options =
        ImportImage { repository: "imported".into(), message: "hello".into(), ..ImportImage::default() };
    fixture.images.import(ImportSource::Stream(bytes(one.clone())), options, sender).await.unwrap();
    let inspect = fixture.images.inspect("imported:latest").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().status, inspect.id);
    assert_eq!((inspect.comment.as_str(), inspect.size), ("hello", 5001));
    assert_eq!(inspect.root_fs.layers, [sha256(&one).to_string()]);
    assert!(!inspect.metadata.last_tag_time.is_zero());
    let raw = fixture.images.0.raw(inspect.id.parse().unwrap()).unwrap();
    let raw = String::from_utf8(raw).unwrap();
    assert!(
        raw.contains(r#""config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false"#),
        "{raw}"
    );
    assert!(raw.starts_with(r#"{"architecture":""#), "{raw}");
    assert_eq!(fixture.actions().await, ["tag", "import"]);
}
