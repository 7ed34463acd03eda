//! Images (source: moby `daemon/server/router/image`).

use super::legacy;
use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use http::StatusCode;
use serde_json::{Value, json};
use wharf_api::{
    Version, gojson,
    image::{InspectResponse, Summary},
    time::Time,
};
use wharf_engine::images::{ListImages, RemoveImage};
use wharf_spec::{ErrorKind, Platform};

/// `GET /images/json`
pub(crate) async fn list(call: Call) -> Result<Reply> {
    let mut filters = call.form.filters()?;
    let old_filter = call.form.get("filter");
    if call.version < Version(1, 25) && !filters.contains("reference") && !old_filter.is_empty() {
        filters.add("reference", old_filter);
    }
    // This kind of image store has none to show, as Docker's graph drivers.
    let manifests = call.version >= Version(1, 47) && call.form.bool("manifests");
    if call.version >= Version(1, 54) && call.form.bool("identity") && !manifests {
        return Err(Error::invalid("conflicting options: identity requires manifests=1"));
    }
    let options = ListImages {
        all: call.form.bool("all"),
        shared_size: call.version >= Version(1, 42) && call.form.bool("shared-size"),
        filters,
    };
    let mut images = call.app.engine.images.list(options).await?;
    images.iter_mut().for_each(|image| adapt_summary(image, call.version));
    reply::ok(&images)
}

/// What older versions show otherwise.
fn adapt_summary(image: &mut Summary, version: Version) {
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if version >= Version(1, 43) {
        image.repo_tags.get_or_insert_default();
        image.repo_digests.get_or_insert_default();
    } else if is_empty(&image.repo_tags) && is_empty(&image.repo_digests) {
        image.repo_tags = Some(vec!["<none>:<none>".into()]);
        image.repo_digests = Some(vec!["<none>@<none>".into()]);
    } else {
        for list in [&mut image.repo_tags, &mut image.repo_digests] {
            if is_empty(list) {
                *list = None;
            }
        }
    }
    if version < Version(1, 44) {
        image.virtual_size = Some(image.size);
    }
    if version < Version(1, 48) {
        image.descriptor = None;
    }
    if version < Version(1, 51) {
        image.containers = -1;
    }
}

/// `GET /images/{name}/json`
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let manifests = call.version >= Version(1, 48) && call.form.bool("manifests");
    let platform = platform_parameter(&call, "platform", Version(1, 49))?;
    if manifests && platform.is_some() {
        return Err(Error::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let mut image = call.app.engine.images.inspect(call.var("name")).await?;
    if let Some(platform) = platform {
        check_platform(call.var("name"), &image, &platform)?;
    }
    if call.version < Version(1, 48) {
        image.descriptor = None;
    }
    if call.version >= Version(1, 52) {
        return reply::ok(&image);
    }
    reply::ok(&old_inspect(image, call.version)?)
}

/// There is one platform of each image here, so another one is not found
/// (source: moby `daemon/images/image.go`, `OnlyPlatformWithFallback`).
fn check_platform(name: &str, image: &InspectResponse, wanted: &Platform) -> Result<()> {
    let here = Platform::new(&image.os, &image.architecture, &image.variant);
    if wanted.rank_of(&here).is_some() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!(
            "image with reference {name} was found but its platform ({here}) does not match the specified platform ({wanted})"
        ),
    ))
}

/// The keys that versions below 1.52 have in any case.
fn old_inspect(mut image: InspectResponse, version: Version) -> Result<Value> {
    if version < Version(1, 44) {
        image.created.get_or_insert(Time::ZERO);
    }
    let container = std::mem::take(&mut image.legacy);
    let size = image.size;
    let mut value = serde_json::to_value(&image).map_err(Error::Encode)?;
    let mut extra = json!({
        "Parent": "", "Comment": "", "DockerVersion": "", "Author": "",
        "Config": {"Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null, "User": "",
                   "Volumes": null, "WorkingDir": ""},
    });
    if version < Version(1, 50) {
        extra["Config"].as_object_mut().into_iter().for_each(|config| {
            config.extend(
                ["AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"]
                    .map(|k| (k.into(), json!(false))),
            );
            config.extend(["Domainname", "Hostname", "Image"].map(|k| (k.into(), json!(""))));
        });
    }
    if version < Version(1, 45) {
        extra["Container"] = json!(container.container);
        extra["ContainerConfig"] =
            serde_json::to_value(&container.container_config).map_err(Error::Encode)?;
    }
    if version < Version(1, 44) {
        extra["VirtualSize"] = json!(size);
    }
    legacy::add_missing(&mut value, extra);
    Ok(value)
}

/// A platform given as JSON (source: moby `httputils.DecodePlatform`).
///
/// # Errors
/// When it is no platform.
pub(super) fn platform_parameter(call: &Call, name: &str, since: Version) -> Result<Option<Platform>> {
    match call.form.get(name) {
        text if text.is_empty() || call.version < since => Ok(None),
        text => read_platform(text).map(Some),
    }
}

/// Platforms given as JSON, any number of them (source: moby `httputils.DecodePlatforms`).
///
/// # Errors
/// When one is no platform.
pub(super) fn platform_parameters(call: &Call, name: &str, since: Version) -> Result<Vec<Platform>> {
    if call.version < since {
        return Ok(Vec::new());
    }
    call.form.all(name).map(read_platform).collect()
}

fn read_platform(text: &str) -> Result<Platform> {
    let platform: Platform = gojson::from_slice(text.as_bytes())
        .map_err(|e| Error::invalid(format!("failed to parse platform: {e}")))?;
    let named = !platform.os.is_empty() || !platform.architecture.is_empty();
    let details =
        !platform.variant.is_empty() || !platform.os_version.is_empty() || !platform.os_features.is_empty();
    match (platform.os.is_empty() || platform.architecture.is_empty(), named, details) {
        (false, ..) => Ok(platform.normalized()),
        (true, false, true) => {
            Err(Error::invalid("optional platform fields provided, but OS and Architecture are missing"))
        }
        _ => Err(Error::invalid("both OS and Architecture must be provided")),
    }
}

/// `GET /images/{name}/history`
pub(crate) async fn history(call: Call) -> Result<Reply> {
    if let Some(platform) = platform_parameter(&call, "platform", Version(1, 48))? {
        let image = call.app.engine.images.inspect(call.var("name")).await?;
        check_platform(call.var("name"), &image, &platform)?;
    }
    reply::ok(&call.app.engine.images.history(call.var("name")).await?)
}

/// `GET /images/{name}/attestations`: of the image stores of Docker's only containerd's keeps any.
pub(crate) async fn attestations(call: Call) -> Result<Reply> {
    Err(Error::new(
        ErrorKind::NotImplemented,
        format!(
            "image attestations are not supported by the image store of this daemon: {}",
            call.var("name")
        ),
    ))
}

/// `POST /images/{name}/tag`
pub(crate) async fn tag(call: Call) -> Result<Reply> {
    let (repository, tag) = (call.form.get("repo"), call.form.get("tag"));
    call.app.engine.images.tag(call.var("name"), repository, tag).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`
pub(crate) async fn remove(call: Call) -> Result<Reply> {
    let name = call.var("name");
    if name.trim().is_empty() {
        return Err(Error::invalid("image name cannot be blank"));
    }
    let options = RemoveImage {
        force: call.form.bool("force"),
        no_prune: call.form.bool("noprune"),
        platforms: platform_parameters(&call, "platforms", Version(1, 50))?,
    };
    reply::ok(&call.app.engine.images.remove(name, options).await?)
}

/// `POST /images/prune`
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    reply::ok(&call.app.engine.images.prune(call.form.filters()?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::image::ImageConfig;

    #[test]
    fn names_of_nameless_images() {
        let at = |minor, tags: Option<Vec<String>>| {
            let mut image = Summary { repo_tags: tags, size: 5, ..Default::default() };
            adapt_summary(&mut image, Version(1, minor));
            image
        };
        assert_eq!(at(42, None).repo_tags.unwrap(), ["<none>:<none>"]);
        let named = at(42, Some(vec!["a:b".into()]));
        assert_eq!((named.repo_digests, named.virtual_size), (None, Some(5)));
        let new = at(47, None);
        assert_eq!((new.repo_tags, new.repo_digests, new.containers), (Some(vec![]), Some(vec![]), -1));
        assert_eq!(at(51, None).containers, 0);
    }

    #[test]
    fn inspects_of_every_age() {
        let image = InspectResponse { config: Some(ImageConfig::default()), size: 3, ..Default::default() };
        let keys = |minor: u32| {
            let value = old_inspect(image.clone(), Version(1, minor)).unwrap();
            let config: Vec<String> = value["Config"].as_object().unwrap().keys().cloned().collect();
            (value, config)
        };
        let (value, config) = keys(41);
        assert_eq!(value["VirtualSize"], 3);
        assert_eq!(value["Created"], "0001-01-01T00:00:00Z");
        assert_eq!(value["ContainerConfig"]["Cmd"], Value::Null);
        assert_eq!(config.len(), 17);
        let (value, config) = keys(47);
        assert!(value.get("Container").is_none() && value["Parent"] == "");
        assert_eq!(config.len(), 17);
        assert_eq!(keys(50).1.len(), 8);
    }
}
