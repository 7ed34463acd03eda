//! Against Debian's docker-registry: push, mount, pull, tags, log in.

mod support;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use std::process::Command;
use support::RealRegistry;
use wharf_registry::{
    Access, AuthConfig, BlobEvent, Config, LoginError, Mount, Registry, Repository, stream_body,
};
use wharf_spec::{Descriptor, Digest, ImageRef, Manifest, media_type};

fn sha(bytes: &[u8]) -> Digest {
    Digest::from_bytes(digest(&SHA256, bytes).as_ref().try_into().unwrap())
}

async fn repository(registry: &Registry, image: &ImageRef, auth: &AuthConfig, access: Access) -> Repository {
    registry.endpoints(image, auth, access).await.unwrap().next().await.unwrap()
}

async fn push(repository: &Repository, bytes: &[u8]) -> Descriptor {
    let digest = sha(bytes);
    let mut upload = repository.start_upload().await.unwrap();
    let (first, last) = bytes.split_at(bytes.len() / 2);
    let chunks: Vec<std::io::Result<Bytes>> =
        first.chunks(1000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    upload.append(stream_body(futures_util::stream::iter(chunks)), 0).await.unwrap();
    upload.finish(&digest, Bytes::copy_from_slice(last)).await.unwrap();
    Descriptor::new(media_type::OCI_LAYER, digest, bytes.len() as u64)
}

async fn push_image(repository: &Repository, tag: &str) -> (Digest, Descriptor) {
    let config_bytes = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let mut config = push(repository, config_bytes).await;
    config.media_type = media_type::OCI_CONFIG.to_owned();
    let layer = push(repository, &vec![7; 100_000]).await;
    let text = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer]});
    let bytes = Bytes::from(text.to_string());
    (repository.put_manifest(tag, media_type::OCI_MANIFEST, bytes).await.unwrap(), layer)
}

#[tokio::test]
async fn what_is_pushed_can_be_pulled() {
    let Some(server) = RealRegistry::start(None) else { return };
    let client = Registry::new(&Config::default()).unwrap();
    let image: ImageRef = format!("{}/team/app:v1", server.address).parse().unwrap();
    let none = AuthConfig::default();
    let pushing = repository(&client, &image, &none, Access::Push).await;
    let (digest, layer) = push_image(&pushing, "v1").await;

    let pulling = repository(&client, &image, &none, Access::Pull).await;
    let tag = pulling.tag_descriptor("v1").await.unwrap().unwrap();
    assert_eq!((tag.digest, tag.media_type.as_str()), (digest, media_type::OCI_MANIFEST));
    assert!(pulling.tag_descriptor("nope").await.unwrap().is_none());
    let fetched = pulling.manifest(&image).await.unwrap();
    let Manifest::Image(manifest) = fetched.manifest else { panic!("no image") };
    assert_eq!(fetched.digest, digest);
    assert!(pulling.config(&manifest.config).await.unwrap().starts_with(b"{\"arch"));
    let mut blob = pulling.blob(&layer);
    while let Some(event) = blob.next().await.unwrap() {
        assert!(matches!(event, BlobEvent::Data(_)));
    }
    assert_eq!(blob.received(), 100_000);
    assert_eq!(pulling.tags().await.unwrap(), ["v1"]);

    let other: ImageRef = format!("{}/other", server.address).parse().unwrap();
    let other = repository(&client, &other, &none, Access::Push).await;
    assert_eq!(other.blob_size(&layer.digest).await.unwrap(), None);
    assert!(matches!(other.mount(&layer.digest, "team/app").await.unwrap(), Mount::Done));
    assert_eq!(other.blob_size(&layer.digest).await.unwrap(), Some(100_000));
    let Mount::Needed(upload) = other.mount(&sha(b"unknown"), "team/app").await.unwrap() else {
        panic!("mounted")
    };
    upload.cancel().await.unwrap();
}

#[tokio::test]
async fn skopeo_understands_what_we_push() {
    let Some(server) = RealRegistry::start(None) else { return };
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("not run: skopeo is not installed");
        return;
    }
    let client = Registry::new(&Config::default()).unwrap();
    let image: ImageRef = format!("{}/app:v1", server.address).parse().unwrap();
    let pushing = repository(&client, &image, &AuthConfig::default(), Access::Push).await;
    let (digest, _) = push_image(&pushing, "v1").await;
    let url = format!("docker://{image}");
    let output = Command::new("skopeo").args(["inspect", "--tls-verify=false", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(&digest.to_string()), "{output:?}");
}

#[tokio::test]
async fn a_password_opens_the_door() {
    let line = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
    let Some(server) = RealRegistry::start(Some(line)) else { return };
    let client = Registry::new(&Config::default()).unwrap();
    let with = |password: &str| AuthConfig {
        username: "user".into(),
        password: password.into(),
        serveraddress: server.address.clone(),
        ..AuthConfig::default()
    };
    assert_eq!(client.login(&with("secret")).await.unwrap(), "");
    assert!(matches!(client.login(&with("wrong")).await, Err(LoginError::Refused(_))));
    let image: ImageRef = format!("{}/app:v1", server.address).parse().unwrap();
    let pushing = repository(&client, &image, &with("secret"), Access::Push).await;
    push_image(&pushing, "v1").await;
    let pulling = repository(&client, &image, &with("wrong"), Access::Pull).await;
    let error = pulling.manifest(&image).await.unwrap_err();
    assert_eq!(error.kind(), wharf_spec::ErrorKind::Unauthorized);
    assert_eq!(error.to_string(), "unauthorized: authentication required");
}
