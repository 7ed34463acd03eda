//! Pulls from a registry that does what a test wants. Run as root: layers have owners.

use crate::images::{
    Transfer,
    tests::{Fixture, config, layers, tar},
};
use crate::{Error, Result};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;
use wharf_api::progress::Message;
use wharf_spec::{ErrorKind, Platform, media_type};
use wharf_store::sha256;

/// What a path gives.
#[derive(Clone)]
struct Content {
    kind: String,
    bytes: Vec<u8>,
    /// The first answer ends after so many bytes.
    cut: Option<usize>,
    /// Answers stop after so many bytes, and wait.
    hang: Option<usize>,
}

/// A registry on loopback, without encryption. It ends with the process.
struct Server {
    address: String,
    contents: Arc<Mutex<HashMap<String, Content>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let contents: Arc<Mutex<HashMap<String, Content>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (shared, log) = (contents.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, log) = (shared.clone(), log.clone());
                // A client that goes is part of some tests.
                std::thread::spawn(move || answer(stream.unwrap(), &shared, &log).ok());
            }
        });
        Self { address, contents, asked }
    }

    fn put(&self, path: &str, kind: &str, bytes: &[u8]) {
        let content = Content { kind: kind.into(), bytes: bytes.into(), cut: None, hang: None };
        self.contents.lock().unwrap().insert(format!("/v2/test/app/{path}"), content);
    }

    fn change(&self, blob: &[u8], change: impl FnOnce(&mut Content)) {
        let mut contents = self.contents.lock().unwrap();
        change(contents.get_mut(&format!("/v2/test/app/blobs/{}", sha256(blob))).unwrap());
    }

    fn blob(&self, bytes: &[u8]) {
        self.put(&format!("blobs/{}", sha256(bytes)), "application/octet-stream", bytes);
    }

    fn manifest(&self, tag: &str, kind: &str, text: &str) {
        self.put(&format!("manifests/{tag}"), kind, text.as_bytes());
        self.put(&format!("manifests/{}", sha256(text.as_bytes())), kind, text.as_bytes());
    }

    /// An image of these blobs; its manifest.
    fn image(&self, tag: &str, config: &[u8], blobs: &[&[u8]]) -> String {
        blobs.iter().for_each(|blob| self.blob(blob));
        self.blob(config);
        let layers: Vec<String> = blobs.iter().map(|b| descriptor(media_type::OCI_LAYER_GZIP, b)).collect();
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            media_type::OCI_MANIFEST,
            descriptor(media_type::OCI_CONFIG, config),
            layers.join(",")
        );
        self.manifest(tag, media_type::OCI_MANIFEST, &text);
        text
    }

    fn name(&self, tag: &str) -> String {
        format!("{}/test/app:{tag}", self.address)
    }

    /// How often a blob was asked for.
    fn asked_for(&self, blob: &[u8]) -> usize {
        let end = sha256(blob).to_string();
        self.asked.lock().unwrap().iter().filter(|path| path.ends_with(&end)).count()
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, sha256(bytes), bytes.len())
}

/// What was asked: method and path, and from which byte on.
struct Request {
    method: String,
    path: String,
    from: usize,
}

/// `None` for a greeting of TLS.
fn read_request(lines: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    if !lines.fill_buf()?.first().is_some_and(u8::is_ascii_uppercase) {
        return Ok(None);
    }
    let mut first = String::new();
    lines.read_line(&mut first)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut from = 0;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap();
        }
        if line.trim().is_empty() {
            return Ok(Some(Request { method, path, from }));
        }
    }
}

fn answer(
    mut stream: TcpStream,
    contents: &Mutex<HashMap<String, Content>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let Some(request) = read_request(&mut lines)? else {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    };
    asked.lock().unwrap().push(request.path.clone());
    let found = {
        let mut contents = contents.lock().unwrap();
        let found = contents.get(&request.path).cloned();
        contents.entry(request.path.clone()).and_modify(|content| content.cut = None);
        found
    };
    let Some(content) = found else { return stream.write_all(&missing(&request.path)) };
    send(&mut stream, &request, &content)?;
    if content.hang.is_some() {
        // Until the client goes.
        lines.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn missing(path: &str) -> Vec<u8> {
    let (status, body) = match path {
        "/v2/" => ("200 OK", "{}".to_owned()),
        _ => {
            let code = if path.contains("/blobs/") { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
            ("404 Not Found", format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#))
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}");
    format!("{head}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn send(stream: &mut TcpStream, request: &Request, content: &Content) -> std::io::Result<()> {
    let Content { kind, bytes, cut, hang } = content;
    let (from, total) = (request.from, bytes.len());
    let (status, range) = match from {
        0 => ("200 OK", String::new()),
        _ => ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1)),
    };
    let digest = match request.path.contains("/manifests/") {
        true => format!("Docker-Content-Digest: {}\r\n", sha256(bytes)),
        false => String::new(),
    };
    let body = &bytes[from..];
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{range}{digest}Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if request.method == "HEAD" {
        return Ok(());
    }
    stream.write_all(&body[..cut.or(*hang).unwrap_or(length).min(length)])
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn wanted(reference: &str) -> Transfer {
    Transfer { reference: reference.into(), ..Transfer::default() }
}

/// The result and the lines, those about bytes left out.
async fn pull(fixture: &Fixture, transfer: Transfer) -> (Result<()>, Vec<String>) {
    let (sender, mut receiver) = mpsc::channel(10_000);
    let result = fixture.images.pull(transfer, sender).await;
    let mut lines = Vec::new();
    while let Some(message) = receiver.recv().await {
        let Message { id, status, progress, .. } = message;
        if progress.is_none_or(|p| p.total == 0) {
            lines.push(if id.is_empty() { status } else { format!("{id}: {status}") });
        }
    }
    (result, lines)
}

fn states<'l>(lines: &'l [String], blob: &[u8]) -> Vec<&'l str> {
    let id = format!("{}: ", &sha256(blob).hex()[..12]);
    lines.iter().filter_map(|line| line.strip_prefix(&id)).collect()
}

/// Layers that were extracted, registered or not.
fn extracted(fixture: &Fixture) -> usize {
    let names = std::fs::read_dir(fixture.root.path().join("overlay2")).unwrap();
    names.filter(|entry| entry.as_ref().unwrap().file_name() != "l").count()
}

/// What was dropped is removed by threads of their own.
async fn nothing_is_left(fixture: &Fixture) {
    for _ in 0..500 {
        if extracted(fixture) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} extracted layers are left", extracted(fixture));
}

const WHOLE: [&str; 4] = ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"];

#[tokio::test(flavor = "multi_thread")]
async fn images_come_with_names_and_notes() {
    let (fixture, server) = (Fixture::new().await, Server::start());
    let [one, two] = layers();
    let blobs = [gzip(&one), zstd::encode_all(&two[..], 1).unwrap()];
    let raw = config(&[&one, &two], 100);
    let digest = sha256(server.image("v1", &raw, &[&blobs[0], &blobs[1]]).as_bytes());
    let name = server.name("v1");
    let (result, lines) = pull(&fixture, wanted(&name)).await;
    result.unwrap();
    assert_eq!(lines[0], "v1: Pulling from test/app");
    assert_eq!(states(&lines, &blobs[0]), WHOLE);
    assert_eq!(states(&lines, &blobs[1]), WHOLE);
    let end = [format!("Digest: {digest}"), format!("Status: Downloaded newer image for {name}")];
    assert_eq!(lines[lines.len() - 2..], end);
    let inspect = fixture.images.inspect(&name).await.unwrap();
    assert_eq!((inspect.id, inspect.repo_tags), (sha256(&raw).to_string(), vec![name.clone()]));
    assert_eq!(inspect.repo_digests, [format!("{}/test/app@{digest}", server.address)]);
    let distribution = &fixture.images.0.store.distribution;
    for (blob, layer) in blobs.iter().zip([&one, &two]) {
        let contents = wharf_spec::DiffId(sha256(layer));
        assert_eq!(distribution.layer_of(&sha256(blob)), Some(contents));
        let noted = &distribution.blobs_of(contents)[0];
        assert_eq!(noted.source_repository, format!("{}/test/app", server.address));
    }
    // Once more, by tag and by digest: the manifest is not even fetched.
    let before = server.asked_for(&raw);
    let (result, lines) = pull(&fixture, wanted(&name)).await;
    result.unwrap();
    let expected = [
        "v1: Pulling from test/app".to_owned(),
        format!("Digest: {digest}"),
        format!("Status: Image is up to date for {name}"),
    ];
    assert_eq!(lines, expected);
    let by_digest = format!("{}/test/app@{digest}", server.address);
    let (result, lines) = pull(&fixture, wanted(&by_digest)).await;
    result.unwrap();
    assert_eq!(lines[0], format!("{by_digest}: Pulling from test/app"));
    assert_eq!(lines[2], format!("Status: Image is up to date for {by_digest}"));
    assert_eq!(server.asked_for(&raw), before);
    assert_eq!(fixture.actions().await, ["pull"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_is_not_fetched_and_repeated_blobs_once() {
    let (fixture, server) = (Fixture::new().await, Server::start());
    let [one, two] = layers();
    let (first, second) = (gzip(&one), gzip(&two));
    server.image("small", &config(&[&one], 1), &[&first]);
    pull(&fixture, wanted(&server.name("small"))).await.0.unwrap();
    // The same blob at three places, with another below the last.
    let raw = config(&[&one, &one, &two, &one], 2);
    server.image("large", &raw, &[&first, &first, &second, &first]);
    let (result, lines) = pull(&fixture, wanted(&server.name("large"))).await;
    result.unwrap();
    assert_eq!(states(&lines, &first), ["Already exists"]);
    assert_eq!(states(&lines, &second), WHOLE);
    assert_eq!((server.asked_for(&first), server.asked_for(&second)), (1, 1));
    let inspect = fixture.images.inspect(&server.name("large")).await.unwrap();
    assert_eq!(inspect.root_fs.layers.len(), 4);
    assert_eq!(extracted(&fixture), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_of_one_image_fetch_it_once() {
    let (fixture, server) = (Fixture::new().await, Server::start());
    let [one, two] = layers();
    let blobs = [gzip(&one), gzip(&two)];
    server.image("v1", &config(&[&one, &two], 1), &[&blobs[0], &blobs[1]]);
    let name = server.name("v1");
    let (a, b) = tokio::join!(pull(&fixture, wanted(&name)), pull(&fixture, wanted(&name)));
    a.0.unwrap();
    b.0.unwrap();
    assert_eq!((server.asked_for(&blobs[0]), server.asked_for(&blobs[1])), (1, 1));
    assert_eq!(extracted(&fixture), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_broke_goes_on() {
    let (fixture, server) = (Fixture::new().await, Server::start());
    let layer = tar(&[("noise", &noise(300_000))]);
    let blob = gzip(&layer);
    server.image("v1", &config(&[&layer], 1), &[&blob]);
    server.change(&blob, |content| content.cut = Some(100_000));
    let (result, lines) = pull(&fixture, wanted(&server.name("v1"))).await;
    result.unwrap();
    let expected = [WHOLE[0], "Retrying in 1 second", WHOLE[1], WHOLE[2], WHOLE[3]];
    assert_eq!(states(&lines, &blob), expected);
    assert_eq!(server.asked_for(&blob), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_never_registered() {
    let [one, two] = layers();
    let blob = gzip(&one);
    let error = |blob: Vec<u8>, served: Vec<u8>, raw: Vec<u8>| async move {
        let (fixture, server) = (Fixture::new().await, Server::start());
        server.image("v1", &raw, &[&blob]);
        server.change(&blob, |content| content.bytes = served);
        let (result, _) = pull(&fixture, wanted(&server.name("v1"))).await;
        assert_eq!(fixture.images.count(), 0);
        nothing_is_left(&fixture).await;
        assert!(fixture.images.0.store.distribution.layer_of(&sha256(&blob)).is_none());
        result.unwrap_err().to_string()
    };
    let raw = config(&[&one], 1);
    let not_verified = format!("filesystem layer verification failed for digest {}", sha256(&blob));
    // A layer of the right length that extracts well, and bytes that are nothing at all.
    let plain = [one.clone(), vec![0; 512]].concat();
    let mut changed = plain.clone();
    changed[512 * 2] ^= 1;
    let text = format!("filesystem layer verification failed for digest {}", sha256(&plain));
    assert_eq!(error(plain, changed, raw.clone()).await, text);
    assert_eq!(error(blob.clone(), vec![b'x'; blob.len()], raw.clone()).await, not_verified);
    // The right blob, but not what the config says.
    let mismatch = "layers from manifest don't match image configuration";
    assert_eq!(error(blob.clone(), blob.clone(), config(&[&two], 1)).await, mismatch);
    // The right blob, which is no layer.
    let broken = gzip(&[b'x'; 5000]);
    let found = error(broken.clone(), broken, config(&[&[b'x'; 5000]], 1)).await;
    assert_eq!(found, "failed to register layer: archive/tar: invalid tar header");
    let longer = [blob.clone(), vec![0; 10]].concat();
    assert!(error(blob.clone(), longer, raw).await.contains("its descriptor says"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_the_image_for_the_platform() {
    let (fixture, server) = (Fixture::new().await, Server::start());
    let [one, two] = layers();
    let host = server.image("host", &config(&[&one], 1), &[&gzip(&one)]);
    let other = server.image("other", &config(&[&two], 2), &[&gzip(&two)]);
    let entry = |text: &str, platform: &Platform| {
        let descriptor = descriptor(media_type::OCI_MANIFEST, text.as_bytes());
        let platform = serde_json::to_string(platform).unwrap();
        format!(r#"{},"platform":{platform}}}"#, descriptor.trim_end_matches('}'))
    };
    let strange: Platform = "linux/s390x".parse().unwrap();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{}]}}"#,
        media_type::OCI_INDEX,
        entry(&other, &strange),
        entry(&host, &Platform::host())
    );
    server.manifest("multi", media_type::OCI_INDEX, &index);
    let name = server.name("multi");
    pull(&fixture, wanted(&name)).await.0.unwrap();
    let id = |raw: Vec<u8>| sha256(&raw).to_string();
    let inspect = fixture.images.inspect(&name).await.unwrap();
    assert_eq!(inspect.id, id(config(&[&one], 1)));
    let digest = sha256(index.as_bytes());
    assert_eq!(inspect.repo_digests, [format!("{}/test/app@{digest}", server.address)]);
    // The other one: the tag moves, the index's digest cannot.
    let (result, lines) = pull(&fixture, Transfer { platform: Some(strange.clone()), ..wanted(&name) }).await;
    result.unwrap();
    assert!(!lines.iter().any(|line| line.starts_with("WARNING")), "{lines:?}");
    assert_eq!(fixture.images.inspect(&name).await.unwrap().id, id(config(&[&two], 2)));
    let none = Transfer { platform: Some("linux/mips64".parse().unwrap()), ..wanted(&name) };
    let (result, lines) = pull(&fixture, none).await;
    let text = "no matching manifest for linux/mips64 in the manifest list entries";
    assert_eq!((result.unwrap_err().to_string(), lines.len()), (text.to_owned(), 1));
    // Without an index there is only a warning.
    let single = Transfer { platform: Some(strange), ..wanted(&server.name("host")) };
    let (result, lines) = pull(&fixture, single).await;
    result.unwrap();
    let warning = lines.last().unwrap();
    assert!(warning.starts_with("WARNING: image with reference ") && warning.contains("(linux/s390x)"));
    let found = fixture.images.distribution(wanted(&name)).await.unwrap();
    assert_eq!((found.descriptor.digest, found.platforms.unwrap().len()), (digest, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tag_of_a_repository() {
    let (fixture, server) = (Fixture::new().await, Server::start());
    let [one, two] = layers();
    server.image("a", &config(&[&one], 1), &[&gzip(&one)]);
    server.image("b", &config(&[&two], 2), &[&gzip(&two)]);
    server.put("tags/list", "application/json", br#"{"name":"test/app","tags":["a","b"]}"#);
    let repository = format!("{}/test/app", server.address);
    let (result, lines) = pull(&fixture, Transfer { all_tags: true, ..wanted(&repository) }).await;
    result.unwrap();
    assert!(
        lines.contains(&"a: Pulling from test/app".into())
            && lines.contains(&"b: Pulling from test/app".into())
    );
    assert_eq!(lines.last().unwrap(), &format!("Status: Downloaded newer image for {repository}"));
    assert_eq!(fixture.images.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_dockers_words() {
    let (fixture, server) = (Fixture::new().await, Server::start());
    let error = |transfer: Transfer| {
        let fixture = &fixture;
        async move {
            let (result, lines) = pull(fixture, transfer).await;
            let error: Error = result.unwrap_err();
            (error.to_string(), error.kind(), lines.len())
        }
    };
    let name = server.name("nosuch");
    let missing = format!("manifest for {name} not found: manifest unknown: unknown");
    assert_eq!(error(wanted(&name)).await, (missing, ErrorKind::NotFound, 0));
    let plain = fixture.images.distribution(wanted(&name)).await.unwrap_err();
    assert_eq!(
        (plain.to_string().as_str(), plain.kind()),
        ("manifest unknown: unknown", ErrorKind::NotFound)
    );
    let reserved = ("'scratch' is a reserved name".to_owned(), ErrorKind::Forbidden, 0);
    assert_eq!(error(wanted("scratch")).await, reserved);
    let kind = error(wanted("UPPER")).await.1;
    assert_eq!(kind, ErrorKind::InvalidArgument);
    server.manifest("old", media_type::DOCKER_SCHEMA1_SIGNED, r#"{"schemaVersion":1,"fsLayers":[]}"#);
    let (text, kind, lines) = error(wanted(&server.name("old"))).await;
    assert!(text.starts_with("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of"), "{text}");
    assert_eq!((kind, lines), (ErrorKind::InvalidArgument, 1));
    // An artifact.
    let artifact =
        format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, descriptor(media_type::OCI_EMPTY, b"{}"));
    server.manifest("artifact", media_type::OCI_MANIFEST, &artifact);
    let (text, ..) = error(wanted(&server.name("artifact"))).await;
    assert_eq!(text, "unsupported media type application/vnd.oci.empty.v1+json");
    // Its config is not there.
    let [one, _] = layers();
    let raw = config(&[&one], 1);
    server.image("v1", &raw, &[&gzip(&one)]);
    server.contents.lock().unwrap().remove(&format!("/v2/test/app/blobs/{}", sha256(&raw)));
    let (text, ..) = error(wanted(&server.name("v1"))).await;
    let expected =
        "error pulling image configuration: download failed after attempts=1: blob unknown: unknown";
    assert_eq!(text, expected);
    // Nobody there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (text, kind, lines) = error(wanted(&format!("{free}/x:y"))).await;
    let refused = format!("Get \"http://{free}/v2/\": dial tcp {free}: connect: connection refused");
    assert_eq!((text, kind, lines), (refused, ErrorKind::System, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_dropped_leaves_nothing_and_frees_its_place() {
    let (fixture, server) = (Fixture::new().await, Server::start());
    let layers: Vec<Vec<u8>> = (0..4).map(|n| tar(&[(["a", "b", "c", "d"][n], &noise(200_000))])).collect();
    let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let raw = config(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>(), 1);
    server.image("v1", &raw, &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    blobs.iter().for_each(|blob| server.change(blob, |content| content.hang = Some(50_000)));
    let (sender, mut receiver) = mpsc::channel(64);
    let (images, transfer) = (fixture.images.clone(), wanted(&server.name("v1")));
    let task = tokio::spawn(async move { images.pull(transfer, sender).await });
    let (mut downloading, mut waiting) = (0, 0);
    while downloading < 3 || waiting < 1 {
        let message = receiver.recv().await.unwrap();
        downloading += usize::from(message.status == "Downloading");
        waiting += usize::from(message.status == "Waiting");
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    drop(receiver);
    nothing_is_left(&fixture).await;
    // The pool is free again.
    blobs.iter().for_each(|blob| server.change(blob, |content| content.hang = None));
    pull(&fixture, wanted(&server.name("v1"))).await.0.unwrap();
    assert_eq!(extracted(&fixture), 4);
}
