//! The rules of the protocol against a server that breaks them at will: who sees a credential, what is
//! followed, resumed, bounded and believed.

mod support;

use ring::digest::{SHA256, digest};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Reply, Seen, Server};
use wharf_registry::{Access, AuthConfig, BlobEvent, Config, Error, Registry, Repository};
use wharf_spec::{Descriptor, Digest, ErrorKind, ImageRef, media_type};

fn sha(bytes: &[u8]) -> Digest {
    Digest::from_bytes(digest(&SHA256, bytes).as_ref().try_into().unwrap())
}

fn image(server: &Server, rest: &str) -> ImageRef {
    format!("{}/{rest}", server.address).parse().unwrap()
}

fn user() -> AuthConfig {
    AuthConfig { username: "user".into(), password: "secret".into(), ..AuthConfig::default() }
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// The first endpoint that answers, which for these servers is the plain one.
async fn open(image: &ImageRef, auth: &AuthConfig) -> Result<Repository, Error> {
    let registry = Registry::new(&Config::default()).unwrap();
    registry.endpoints(image, auth, Access::Pull).await?.next().await
}

fn manifest_text() -> String {
    let config = sha(b"config");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"c","digest":"{config}","size":6}},"layers":[]}}"#,
        media_type::OCI_MANIFEST
    )
}

fn manifest_reply() -> Reply {
    Reply::new(200, manifest_text()).with("Content-Type", media_type::OCI_MANIFEST)
}

async fn read_all(repository: &Repository, descriptor: &Descriptor) -> Result<(Vec<u8>, usize), Error> {
    let (mut bytes, mut retries) = (Vec::new(), 0);
    let mut blob = repository.blob(descriptor);
    while let Some(event) = blob.next().await? {
        match event {
            BlobEvent::Data(data) => bytes.extend_from_slice(&data),
            BlobEvent::Retrying(_) => retries += 1,
        }
    }
    Ok((bytes, retries))
}

#[tokio::test]
async fn a_token_is_fetched_once_and_with_the_password_only_there() {
    let server = Server::start(|seen: &Seen| {
        let host = seen.header("Host").unwrap();
        match (seen.path(), seen.header("Authorization")) {
            ("/token", Some(BASIC)) => Reply::json(200, r#"{"token":"t1","expires_in":300}"#),
            ("/token", _) => Reply::json(401, "{}"),
            (_, Some("Bearer t1")) => manifest_reply(),
            _ => Reply::new(401, "").with(
                "WWW-Authenticate",
                format!("Bearer realm=\"http://{host}/token\",service=\"reg\",scope=\"ignored\""),
            ),
        }
    });
    let image = image(&server, "team/app:1");
    let registry = Registry::new(&Config::default()).unwrap();
    for _ in 0..2 {
        let mut endpoints = registry.endpoints(&image, &user(), Access::Pull).await.unwrap();
        let repository = endpoints.next().await.unwrap();
        let manifest = repository.manifest(&image).await.unwrap();
        assert_eq!(manifest.digest, sha(manifest_text().as_bytes()));
    }
    let tokens = server.seen_at("/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].target, "/token?account=user&scope=repository%3Ateam%2Fapp%3Apull&service=reg");
    assert!(server.seen_at("/v2/").iter().all(|s| s.header("Authorization") != Some(BASIC)));
}

#[tokio::test]
async fn a_token_that_is_refused_is_asked_for_anew_once() {
    let issued = AtomicUsize::new(0);
    let server = Server::start(move |seen: &Seen| {
        let host = seen.header("Host").unwrap();
        match (seen.path(), seen.header("Authorization")) {
            ("/token", _) => {
                let n = issued.fetch_add(1, Ordering::SeqCst);
                Reply::json(200, &format!(r#"{{"access_token":"t{n}"}}"#))
            }
            (_, Some("Bearer t1")) => manifest_reply(),
            _ => Reply::new(401, "").with(
                "WWW-Authenticate",
                format!("Bearer realm=\"http://{host}/token\",error=\"invalid_token\""),
            ),
        }
    });
    let image = image(&server, "app:1");
    let repository = open(&image, &AuthConfig::default()).await.unwrap();
    repository.manifest(&image).await.unwrap();
    assert_eq!(server.seen_at("/token").len(), 2);
}

#[tokio::test]
async fn basic_authentication_and_its_absence() {
    let server = Server::start(|seen: &Seen| match seen.header("Authorization") {
        Some(BASIC) => manifest_reply(),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let image = image(&server, "app:1");
    open(&image, &user()).await.unwrap().manifest(&image).await.unwrap();
    let error = open(&image, &AuthConfig::default()).await.unwrap().manifest(&image).await.unwrap_err();
    let url = format!("http://{}/v2/app/manifests/1", server.address);
    assert_eq!(error.to_string(), format!("Get \"{url}\": no basic auth credentials"));
}

#[tokio::test]
async fn a_redirect_to_another_host_takes_no_credential_along() {
    let blob = b"layer".to_vec();
    let elsewhere = Server::start({
        let blob = blob.clone();
        move |_: &Seen| Reply::new(200, blob.clone())
    });
    let target = format!("http://{}/cdn?sig=1", elsewhere.address);
    let server = Server::start(move |seen: &Seen| match seen.header("Authorization") {
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) if seen.path().contains("/blobs/") => Reply::new(307, "").with("Location", "/moved"),
        Some(_) => Reply::new(302, "").with("Location", target.clone()),
    });
    let repository = open(&image(&server, "app"), &user()).await.unwrap();
    let descriptor = Descriptor::new("l", sha(&blob), blob.len() as u64);
    assert_eq!(read_all(&repository, &descriptor).await.unwrap().0, blob);
    assert_eq!(server.seen_at("/moved")[0].header("Authorization"), Some(BASIC));
    assert_eq!(elsewhere.seen().len(), 1);
    assert_eq!(elsewhere.seen()[0].header("Authorization"), None);
}

#[tokio::test]
async fn endless_redirects_end() {
    let server = Server::start(|seen: &Seen| match seen.path() {
        "/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(302, "").with("Location", seen.target.clone()),
    });
    let image = image(&server, "app:1");
    let error = open(&image, &user()).await.unwrap().manifest(&image).await.unwrap_err();
    assert!(matches!(error, Error::Redirects { .. }), "{error}");
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 % 251) as u8).collect()
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_was() {
    for with_ranges in [true, false] {
        let blob = data(300_000);
        let server = Server::start({
            let blob = blob.clone();
            move |seen: &Seen| {
                let from = seen
                    .header("Range")
                    .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
                match (seen.path(), from) {
                    ("/v2/", _) => Reply::new(200, "{}"),
                    (_, None) => Reply::new(200, blob.clone()).cut_after(100_000),
                    (_, Some(_)) if !with_ranges => Reply::new(200, blob.clone()),
                    (_, Some(from)) => {
                        let end = blob.len();
                        let range = format!("bytes {from}-{}/{end}", end - 1);
                        let from: usize = from;
                        Reply::new(206, &blob[from..]).with("Content-Range", range)
                    }
                }
            }
        });
        let repository = open(&image(&server, "app"), &AuthConfig::default()).await.unwrap();
        let descriptor = Descriptor::new("l", sha(&blob), blob.len() as u64);
        let (bytes, retries) = read_all(&repository, &descriptor).await.unwrap();
        assert!(bytes == blob && retries == 1, "ranges: {with_ranges}, retries: {retries}");
        assert_eq!(server.seen_at("/blobs/").len(), 2);
        assert!(server.seen_at("/blobs/")[1].header("Range").is_some());
    }
}

#[tokio::test]
async fn a_connection_that_brings_nothing_is_broken() {
    let blob = data(100_000);
    let server = Server::start({
        let blob = blob.clone();
        move |seen: &Seen| match (seen.path(), seen.header("Range")) {
            ("/v2/", _) => Reply::new(200, "{}"),
            (_, None) => Reply::new(200, blob.clone()).hang_after(60_000),
            (_, Some(_)) => {
                Reply::new(206, &blob[60_000..]).with("Content-Range", "bytes 60000-99999/100000")
            }
        }
    });
    let patience = std::time::Duration::from_millis(50);
    let registry = Registry::new(&Config { patience, ..Config::default() }).unwrap();
    let image = image(&server, "app");
    let mut endpoints = registry.endpoints(&image, &AuthConfig::default(), Access::Pull).await.unwrap();
    let repository = endpoints.next().await.unwrap();
    let descriptor = Descriptor::new("l", sha(&blob), blob.len() as u64);
    let (bytes, retries) = read_all(&repository, &descriptor).await.unwrap();
    assert!(bytes == blob && retries == 1, "retries: {retries}");
    assert_eq!(server.seen_at("/blobs/")[1].header("Range"), Some("bytes=60000-"));
}

#[tokio::test]
async fn content_that_is_not_what_was_asked_for_is_refused() {
    let server = Server::start(|seen: &Seen| match seen.path() {
        "/v2/" => Reply::new(200, "{}"),
        path if path.ends_with("/manifests/huge") => Reply::new(200, vec![b' '; (4 << 20) + 1]),
        path if path.contains("/manifests/") => manifest_reply(),
        _ => Reply::new(200, data(1000)),
    });
    let app = image(&server, "app");
    let repository = open(&app, &AuthConfig::default()).await.unwrap();
    let other = sha(b"other");
    let read =
        async |size| read_all(&repository, &Descriptor::new("l", other, size)).await.map(|_| ()).unwrap_err();
    assert!(matches!(read(1000).await, Error::BlobDigest(_)));
    assert!(matches!(read(999).await, Error::BlobSize { found: 1000, .. }));
    let error = repository.manifest_by_digest(&other).await.unwrap_err();
    assert_eq!(error.to_string(), format!("manifest verification failed for digest {other}"));
    let error = repository.manifest(&image(&server, "app:huge")).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 4_194_304, .. }), "{error}");
    let error = repository.config(&Descriptor::new("c", other, 1000)).await.unwrap_err();
    assert!(matches!(error, Error::Config { source } if matches!(*source, Error::ConfigDigest(_))));
    assert!(repository.config(&Descriptor::new("c", other, 9 << 20)).await.is_err());
}

#[tokio::test]
async fn what_is_missing_or_forbidden_is_told_as_docker_does() {
    let server = Server::start(|seen: &Seen| match seen.path() {
        "/v2/" => Reply::new(200, "{}"),
        path if path.contains("/secret/") => Reply::json(
            401,
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}"#,
        )
        .with("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1/\",error=\"insufficient_scope\""),
        _ => Reply::json(
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":"x"}]}"#,
        ),
    });
    for (name, text) in [
        ("app:no", "manifest for {} not found: manifest unknown: manifest unknown"),
        (
            "secret/app:1",
            "pull access denied for {}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
    ] {
        let image = image(&server, name);
        let registry = Registry::new(&Config::default()).unwrap();
        let auth = AuthConfig { registrytoken: "t".into(), ..AuthConfig::default() };
        let mut endpoints = registry.endpoints(&image, &auth, Access::Pull).await.unwrap();
        let repository = endpoints.next().await.unwrap();
        let error = repository.manifest(&image).await.unwrap_err();
        let error = endpoints.failed(error).unwrap_err();
        let shown = if name.starts_with("app") { image.familiar_string() } else { image.familiar_name() };
        assert_eq!(error.to_string(), text.replace("{}", &shown));
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let image: ImageRef = format!("127.0.0.1:{port}/x:y").parse().unwrap();
    let Err(error) = open(&image, &AuthConfig::default()).await else { panic!("somebody does") };
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"http://127.0.0.1:{port}/v2/\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
    );
    for (name, text) in
        [("scratch", "'scratch' is a reserved name"), ("a_b.c/x", "no endpoints found for a_b.c/x")]
    {
        let Err(error) = open(&name.parse().unwrap(), &AuthConfig::default()).await else { panic!("{name}") };
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test]
async fn a_mirror_serves_the_hub() {
    let mirror = Server::start(|seen: &Seen| match seen.path() {
        "/sub/v2/library/busybox/manifests/latest" => manifest_reply(),
        "/sub/v2/" => Reply::new(200, "{}"),
        _ => Reply::new(404, ""),
    });
    let config = Config { mirrors: vec![format!("http://{}/sub", mirror.address)], ..Config::default() };
    let image: ImageRef = "busybox".parse().unwrap();
    let registry = Registry::new(&config).unwrap();
    let mut endpoints = registry.endpoints(&image, &user(), Access::Pull).await.unwrap();
    endpoints.next().await.unwrap().manifest(&image).await.unwrap();
    assert!(mirror.seen().iter().all(|seen| seen.header("Authorization").is_none()));
}

#[tokio::test]
async fn tags_come_in_pages() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        "/v2/app/tags/list" => {
            Reply::json(200, r#"{"tags":["a","b"]}"#).with("Link", "</v2/app/tags/list?last=b>; rel=\"next\"")
        }
        "/v2/app/tags/list?last=b" => Reply::json(200, r#"{"name":"app","tags":["c"]}"#),
        _ => Reply::new(500, ""),
    });
    let repository = open(&image(&server, "app"), &AuthConfig::default()).await.unwrap();
    assert_eq!(repository.tags().await.unwrap(), ["a", "b", "c"]);
}
