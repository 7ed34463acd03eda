//! Asking registries (docker/cli: `internal/registryclient`).

use super::entry::Entry;
use crate::{
    cli::Cli,
    error::{Error, Result},
};
use wharf_registry::{Access, Config, Endpoints, FetchedManifest, Registry, Repository, Scheme};
use wharf_spec::{ErrorKind, ImageManifest, ImageRef, Manifest, Platform};

/// What comes of asking a registry.
type Asked<T> = std::result::Result<T, wharf_registry::Error>;

/// One manifest or several.
pub(super) enum Answer {
    Image(Box<Entry>),
    List(Vec<Entry>),
}

/// A manifest and the platform it is for.
type Found = (ImageRef, FetchedManifest, Platform);

/// Asks one endpoint after the other, those without encryption only if the user allows it.
pub(super) async fn fetch(cli: &Cli, image: &ImageRef, insecure: bool) -> Result<Answer> {
    let mut endpoints = endpoints(cli, image, insecure, Access::Pull).await?;
    loop {
        let repository = next(&mut endpoints, image).await?;
        if repository.scheme() == Scheme::Http && !insecure {
            return Err(missing(image));
        }
        match ask(&repository, image).await {
            Ok((true, found)) => return found.iter().map(entry).collect::<Result<_>>().map(Answer::List),
            Ok((false, found)) => {
                let [found] = found.as_slice() else { return Err(missing(image)) };
                return Ok(Answer::Image(Box::new(entry(found)?)));
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unauthorized) => {
                return Err(missing(image));
            }
            Err(error) => endpoints.failed_plainly(error).map_err(|e| Error::text(e.to_string()))?,
        }
    }
}

/// The repository that a list is pushed to.
pub(super) async fn target(cli: &Cli, list: &ImageRef, insecure: bool) -> Result<Repository> {
    let mut endpoints = endpoints(cli, list, insecure, Access::Push).await?;
    endpoints.next().await.map_err(|error| Error::text(error.to_string()))
}

async fn endpoints(cli: &Cli, image: &ImageRef, insecure: bool, access: Access) -> Result<Endpoints> {
    let plain = |error: &dyn std::fmt::Display| Error::text(error.to_string());
    let insecure_registries = if insecure { vec![image.domain().to_owned()] } else { Vec::new() };
    let config = Config { insecure_registries, ..Config::default() };
    let registry = Registry::new(&config).map_err(|error| plain(&error))?;
    let auth = cli.config().auth(image.domain())?;
    registry.endpoints(image, &auth, access).await.map_err(|error| plain(&error))
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

fn entry((reference, fetched, platform): &Found) -> Result<Entry> {
    Entry::new(reference, fetched, platform.clone())
}

/// Whether it is a list, and what is in it.
async fn ask(repository: &Repository, image: &ImageRef) -> Asked<(bool, Vec<Found>)> {
    let fetched = repository.manifest(image).await?;
    let index = match &fetched.manifest {
        Manifest::Image(manifest) => {
            let platform = platform(repository, manifest).await?;
            return Ok((false, vec![(image.clone(), fetched, platform)]));
        }
        Manifest::Index(index) => index.clone(),
    };
    let mut all = Vec::new();
    for descriptor in index.manifests {
        let fetched = repository.manifest_by_digest(&descriptor.digest).await?;
        let reference = image.clone().with_digest(descriptor.digest);
        all.push((reference, fetched, descriptor.platform.unwrap_or_default()));
    }
    Ok((true, all))
}

async fn platform(repository: &Repository, manifest: &ImageManifest) -> Asked<Platform> {
    let config = repository.config(&manifest.config).await?;
    Ok(serde_json::from_slice(&config).unwrap_or_default())
}
