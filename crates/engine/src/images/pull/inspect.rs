//! `GET /distribution/{name}/json` (source: moby `daemon/server/router/distribution/distribution_routes.go`).

use super::{choose, credentials};
use crate::{
    Error, Result,
    images::{Inner, Transfer},
};
use wharf_api::image::DistributionInspect;
use wharf_registry::{Access, Error as RegistryError, Repository};
use wharf_spec::{
    AnyRef, Descriptor, ErrorKind, ImageRef, Manifest, ParseManifestError, Platform, media_type,
};

/// What a reference stands for at its registry.
pub(in crate::images) async fn inspect(inner: &Inner, transfer: Transfer) -> Result<DistributionInspect> {
    let reference = match transfer.reference.parse() {
        Ok(AnyRef::Named(reference)) => reference.or_latest(),
        Ok(AnyRef::Id(_)) => return Err(Error::Refused("no manifest found for full image ID".into())),
        Err(error) => return Err(Error::Invalid(error.to_string())),
    };
    let translate = |error| plain_error(error, &reference);
    let auth = credentials(transfer.auth);
    let opened = inner.registry().endpoints(&reference, &auth, Access::Pull).await;
    let mut endpoints = opened.map_err(translate)?;
    loop {
        let repository = endpoints.next().await.map_err(translate)?;
        match fetch(&repository, &reference).await {
            Ok(found) => return Ok(found),
            Err(error) => endpoints.failed_plainly(error).map_err(translate)?,
        }
    }
}

async fn fetch(
    repository: &Repository,
    reference: &ImageRef,
) -> Result<DistributionInspect, wharf_registry::Error> {
    let fetched = repository.manifest(reference).await?;
    let platforms = match &fetched.manifest {
        Manifest::Index(index) => {
            Some(index.manifests.iter().map(|m| m.platform.clone().unwrap_or_default()).collect())
        }
        // Docker asks the config for schema 2 only.
        Manifest::Image(manifest) if fetched.media_type == media_type::DOCKER_MANIFEST => {
            let config = repository.config(&manifest.config).await.ok();
            config.and_then(|raw| platform_of(&raw)).map(|platform| vec![platform])
        }
        Manifest::Image(_) => None,
    };
    let descriptor = Descriptor::new(fetched.media_type, fetched.digest, fetched.bytes.len() as u64);
    Ok(DistributionInspect { descriptor, platforms })
}

fn platform_of(config: &[u8]) -> Option<Platform> {
    let platform: Platform = serde_json::from_slice(config).ok()?;
    (!platform.os.is_empty() || !platform.architecture.is_empty()).then_some(platform)
}

/// Unlike a pull, this passes on what the registry says, with the status that its codes have (source:
/// distribution `registry/api/v2/errors.go`).
fn plain_error(error: RegistryError, reference: &ImageRef) -> Error {
    let text = error.to_string();
    match &error {
        RegistryError::Manifest(ParseManifestError::Schema1) => choose::schema1(reference),
        RegistryError::ReservedName(_) => Error::Invalid(text),
        RegistryError::Api(errors) => {
            let kind = match errors.first().map(|first| first.code.as_str()) {
                Some("DENIED") => ErrorKind::Forbidden,
                Some("NAME_INVALID" | "TAG_INVALID" | "DIGEST_INVALID" | "MANIFEST_INVALID") => {
                    ErrorKind::InvalidArgument
                }
                _ => error.kind(),
            };
            Error::Registry(text, kind)
        }
        _ => Error::Registry(text, error.kind()),
    }
}
