//! `docker manifest inspect` (source: docker/cli `cli/command/manifest/inspect.go`, `cli/registry/client`).

use crate::{
    cli::Cli,
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    format::indent::{Escape, indent},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use wharf_registry::{Access, Config, Endpoints, FetchedManifest, Registry, Repository, Scheme};
use wharf_spec::{Digest, ErrorKind, ImageManifest, ImageRef, Manifest, Platform, media_type};

/// `docker manifest inspect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] MANIFEST",
    about: "Display an image manifest, or manifest list",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("insecure", "Allow communication with an insecure registry"),
    Flag::bool("verbose", "Output additional info including layers and platform").short('v'),
];

/// What is shown of a manifest.
struct Found {
    reference: ImageRef,
    fetched: FetchedManifest,
    platform: Platform,
}

/// What comes of asking a registry.
type Asked<T> = std::result::Result<T, wharf_registry::Error>;

/// One manifest or several.
enum Answer {
    Image(Box<Found>),
    List(Vec<Found>),
}

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let image: ImageRef = m.arg(0).parse().map_err(|e| Error::text(format!("{e}")))?;
    let image = image.or_latest();
    let answer = fetch(&cli, &image, m.is("insecure")).await?;
    match (&answer, m.is("verbose")) {
        (Answer::Image(found), false) => say(&indent(&text(found), "\t", Escape::No)),
        (Answer::Image(found), true) => say(&indent(&json(&verbose(found)?)?, "\t", Escape::Html)),
        (Answer::List(all), false) => say(&list(all)?),
        (Answer::List(all), true) => {
            let all = all.iter().map(verbose).collect::<Result<Vec<_>>>()?;
            say(&indent(&json(&all)?, "\t", Escape::Html));
        }
    }
    Ok(())
}

/// Asks one endpoint after the other, those without encryption only if the user allows it.
async fn fetch(cli: &Cli, image: &ImageRef, insecure: bool) -> Result<Answer> {
    let insecure_registries = if insecure { vec![image.domain().to_owned()] } else { Vec::new() };
    let config = Config { insecure_registries, ..Config::default() };
    let plain = |error: &dyn std::fmt::Display| Error::text(error.to_string());
    let registry = Registry::new(&config).map_err(|e| plain(&e))?;
    let auth = cli.config().auth(image.domain())?;
    let mut endpoints = registry.endpoints(image, &auth, Access::Pull).await.map_err(|e| plain(&e))?;
    loop {
        let repository = next(&mut endpoints, image).await?;
        if repository.scheme() == Scheme::Http && !insecure {
            return Err(missing(image));
        }
        match ask(&repository, image).await {
            Ok(answer) => return Ok(answer),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unauthorized) => {
                return Err(missing(image));
            }
            Err(error) => endpoints.failed_plainly(error).map_err(|e| plain(&e))?,
        }
    }
}

async fn next(endpoints: &mut Endpoints, image: &ImageRef) -> Result<Repository> {
    endpoints.next().await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::Unauthorized => missing(image),
        _ => Error::text(error.to_string()),
    })
}

fn missing(image: &ImageRef) -> Error {
    Error::text(format!("no such manifest: {image}"))
}

async fn ask(repository: &Repository, image: &ImageRef) -> Asked<Answer> {
    let fetched = repository.manifest(image).await?;
    let index = match &fetched.manifest {
        Manifest::Image(manifest) => {
            let platform = platform(repository, manifest).await?;
            return Ok(Answer::Image(Box::new(Found { reference: image.clone(), fetched, platform })));
        }
        Manifest::Index(index) => index.clone(),
    };
    let mut all = Vec::new();
    for descriptor in index.manifests {
        let fetched = repository.manifest_by_digest(&descriptor.digest).await?;
        let reference = image.clone().with_digest(descriptor.digest);
        let platform = descriptor.platform.unwrap_or_default();
        all.push(Found { reference, fetched, platform });
    }
    Ok(Answer::List(all))
}

async fn platform(repository: &Repository, manifest: &ImageManifest) -> Asked<Platform> {
    let config = repository.config(&manifest.config).await?;
    Ok(serde_json::from_slice(&config).unwrap_or_default())
}

fn text(found: &Found) -> String {
    String::from_utf8_lossy(&found.fetched.bytes).into_owned()
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::text(e.to_string()))
}

/// As docker/cli's `types.ImageManifest`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verbose<'a> {
    r#ref: String,
    descriptor: Descriptor<'a>,
    raw: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_v2_manifest: Option<Box<RawValue>>,
    #[serde(rename = "OCIManifest", skip_serializing_if = "Option::is_none")]
    oci_manifest: Option<Box<RawValue>>,
}

/// As OCI's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: usize,
    platform: &'a Platform,
}

fn verbose(found: &Found) -> Result<Verbose<'_>> {
    let fetched = &found.fetched;
    let manifest = RawValue::from_string(text(found)).map_err(|e| Error::text(e.to_string()))?;
    let is_docker = fetched.media_type == media_type::DOCKER_MANIFEST;
    let (schema_v2_manifest, oci_manifest) =
        if is_docker { (Some(manifest), None) } else { (None, Some(manifest)) };
    Ok(Verbose {
        r#ref: found.reference.to_string(),
        descriptor: Descriptor {
            media_type: &fetched.media_type,
            digest: fetched.digest,
            size: fetched.bytes.len(),
            platform: &found.platform,
        },
        raw: STANDARD.encode(&fetched.bytes),
        schema_v2_manifest,
        oci_manifest,
    })
}

/// As distribution's manifest lists are written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    media_type: &'a str,
    size: usize,
    digest: Digest,
    platform: &'a Platform,
}

fn list(all: &[Found]) -> Result<String> {
    let is_oci = all.first().is_some_and(|found| found.fetched.media_type == media_type::OCI_MANIFEST);
    let manifests = all.iter().map(|found| Item {
        media_type: &found.fetched.media_type,
        size: found.fetched.bytes.len(),
        digest: found.fetched.digest,
        platform: &found.platform,
    });
    let list = List {
        schema_version: 2,
        media_type: if is_oci { media_type::OCI_INDEX } else { media_type::DOCKER_MANIFEST_LIST },
        manifests: manifests.collect(),
    };
    Ok(indent(&json(&list)?, "   ", Escape::Html))
}
