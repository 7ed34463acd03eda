//! What may be pulled: the image of an index that suits the platform, and what is no image at all. Pure.
//!
//! Source: moby `daemon/internal/distribution/{pull_v2_unix,registry,errors}.go`.

use crate::{Error, Result};
use std::collections::VecDeque;
use wharf_spec::{Descriptor, ImageConfig, ImageIndex, ImageManifest, ImageRef, Platform, media_type};
use wharf_store::MAX_DEPTH;

/// Manifests that are looked at for one image, at most: indexes may be in indexes.
pub(super) const MANIFESTS_MAX: usize = 32;

/// The manifests of an index that suit a platform, best first. Those that do not say for what they are come
/// last.
pub(super) fn candidates(index: ImageIndex, wanted: &Platform) -> VecDeque<Descriptor> {
    let rank = |descriptor: &Descriptor| match &descriptor.platform {
        Some(platform) if *platform != Platform::default() => wanted.rank_of(platform),
        _ => Some(usize::MAX),
    };
    let mut ranked: Vec<(usize, Descriptor)> =
        index.manifests.into_iter().filter_map(|d| Some((rank(&d)?, d))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, descriptor)| descriptor).collect()
}

/// Whether an image is what an index would give for the platform. Configs seldom have a variant.
pub(super) fn is_best(wanted: &Platform, image: &Platform) -> bool {
    let (own, other) = (wanted.normalized(), image.normalized());
    let has_no_variant =
        image.variant.is_empty() && own.os == other.os && own.architecture == other.architecture;
    has_no_variant || wanted.rank_of(image) == Some(0)
}

/// Nothing in the index suits.
pub(super) fn no_match(wanted: Option<&Platform>) -> Error {
    let wanted = wanted.cloned().unwrap_or_else(Platform::host);
    Error::Refused(format!("no matching manifest for {wanted} in the manifest list entries"))
}

/// A manifest of 2013's form.
pub(super) fn schema1(reference: &ImageRef) -> Error {
    Error::Invalid(format!(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of {reference} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
    ))
}

/// Configs of images; the generic types are what some registries made of them.
const IMAGES: [&str; 6] = [
    media_type::DOCKER_CONFIG,
    media_type::OCI_CONFIG,
    "application/octet-stream",
    "application/json",
    "text/html",
    "",
];

/// Plugins have the same manifests as images.
pub(super) fn check_is_image(manifest: &ImageManifest) -> Result<()> {
    let kind = manifest.config.media_type.as_str();
    if IMAGES.contains(&kind) {
        return Ok(());
    }
    let class = if kind == media_type::DOCKER_PLUGIN_CONFIG { "plugin" } else { "unknown" };
    Err(Error::Invalid(format!("Encountered remote {kind:?}({class}) when fetching")))
}

/// Artifacts that are no images have the same manifests, too.
pub(super) fn check_media_types(manifest: &ImageManifest) -> Result<()> {
    let all = std::iter::once(&manifest.config).chain(&manifest.layers);
    all.map(|descriptor| descriptor.media_type.as_str()).try_for_each(check_media_type)
}

fn check_media_type(kind: &str) -> Result<()> {
    let lower = kind.to_lowercase();
    if lower.starts_with("application/vnd.docker.ai.") {
        return Err(Error::Invalid(
            "AI models are not yet supported by the Engine, please use \"docker model pull/run\" instead"
                .into(),
        ));
    }
    let of_family = |family: &str| lower.strip_prefix(family).is_some_and(|rest| rest.starts_with('.'));
    if IMAGES.contains(&lower.as_str())
        || of_family("application/vnd.oci.image")
        || of_family("application/vnd.docker")
    {
        return Ok(());
    }
    Err(Error::Invalid(format!("unsupported media type {kind}")))
}

/// Whether config and manifest tell of one image, which can be one here.
pub(super) fn check_config(config: &ImageConfig, manifest: &ImageManifest) -> Result<()> {
    if !config.os.is_empty() && !config.os.eq_ignore_ascii_case("linux") {
        return Err(Error::Invalid("operating system is not supported".into()));
    }
    let layers = config.diff_ids().len();
    if layers != manifest.layers.len() {
        return Err(mismatch());
    }
    if layers > MAX_DEPTH {
        return Err(Error::Invalid("failed to register layer: max depth exceeded".into()));
    }
    Ok(())
}

/// The manifest's layers are not the config's.
pub(super) fn mismatch() -> Error {
    Error::Refused("layers from manifest don't match image configuration".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::{Digest, RootFs};

    fn descriptor(kind: &str, n: u8, platform: Option<&str>) -> Descriptor {
        let mut descriptor = Descriptor::new(kind, Digest::from_bytes([n; 32]), 1);
        descriptor.platform = platform.map(|text| text.parse().unwrap());
        descriptor
    }

    fn manifest(config: &str, layer: &str) -> ImageManifest {
        ImageManifest {
            schema_version: 2,
            media_type: String::new(),
            artifact_type: None,
            config: descriptor(config, 0, None),
            layers: vec![descriptor(layer, 1, None)],
            subject: None,
            annotations: Default::default(),
        }
    }

    #[test]
    fn the_best_platform_is_first() {
        let platforms =
            ["linux/arm64", "linux/386", "linux/amd64", "windows/amd64", "linux/amd64/v3", "linux/amd64/v2"];
        let mut manifests: Vec<Descriptor> =
            (1u8..).zip(platforms).map(|(n, text)| descriptor("m", n, Some(text))).collect();
        manifests.insert(0, descriptor("m", 9, None));
        let unknown = Platform { os: "unknown".into(), architecture: "unknown".into(), ..Default::default() };
        manifests.push(Descriptor { platform: Some(unknown), ..descriptor("m", 10, None) });
        let index = ImageIndex {
            schema_version: 2,
            media_type: String::new(),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: Default::default(),
        };
        let order = |wanted: &str| {
            let found = candidates(index.clone(), &wanted.parse().unwrap());
            found.iter().map(|d| d.digest.as_bytes()[0]).collect::<Vec<_>>()
        };
        assert_eq!(order("linux/amd64"), [3, 2, 9]);
        assert_eq!(order("linux/amd64/v3"), [5, 6, 3, 2, 9]);
        assert_eq!(order("linux/arm64/v8"), [1, 9]);
        assert_eq!(order("linux/s390x"), [9]);
        let is_best = |wanted: &str, image: &str| is_best(&wanted.parse().unwrap(), &image.parse().unwrap());
        assert!(is_best("linux/amd64/v3", "linux/amd64") && is_best("linux/arm64/v8", "linux/arm64"));
        assert!(!is_best("linux/amd64", "linux/386") && !is_best("linux/amd64/v3", "linux/amd64/v2"));
    }

    #[test]
    fn texts_are_dockers() {
        let wanted: Platform = "linux/s390x".parse().unwrap();
        assert_eq!(
            no_match(Some(&wanted)).to_string(),
            "no matching manifest for linux/s390x in the manifest list entries"
        );
        assert!(schema1(&"x:y".parse().unwrap()).to_string().contains("author of docker.io/library/x:y to"));
    }

    #[test]
    fn only_images_are_taken() {
        let layer = media_type::OCI_LAYER_ZSTD;
        assert!(check_media_types(&manifest(media_type::OCI_CONFIG, layer)).is_ok());
        assert!(check_media_types(&manifest("", media_type::DOCKER_FOREIGN_LAYER)).is_ok());
        for (config, layer, text) in [
            (media_type::OCI_EMPTY, layer, "unsupported media type application/vnd.oci.empty.v1+json"),
            (media_type::OCI_CONFIG, "application/vnd.wasm", "unsupported media type application/vnd.wasm"),
            ("application/vnd.oci.images", layer, "unsupported media type application/vnd.oci.images"),
            (
                "application/vnd.docker.ai.model.config.v0.1+json",
                layer,
                "AI models are not yet supported by the Engine, please use \"docker model pull/run\" instead",
            ),
        ] {
            assert_eq!(check_media_types(&manifest(config, layer)).unwrap_err().to_string(), text);
        }
        let plugin = check_is_image(&manifest(media_type::DOCKER_PLUGIN_CONFIG, layer)).unwrap_err();
        let text = "Encountered remote \"application/vnd.docker.plugin.v1+json\"(plugin) when fetching";
        assert_eq!(plugin.to_string(), text);
    }

    #[test]
    fn config_and_manifest_must_agree() {
        let config = |os: &str, layers: usize| ImageConfig {
            os: os.into(),
            rootfs: Some(RootFs {
                diff_ids: vec![wharf_spec::DiffId(Digest::from_bytes([1; 32])); layers],
                ..RootFs::default()
            }),
            ..ImageConfig::default()
        };
        let mut one = manifest("", "");
        let error = |config: &ImageConfig, manifest: &ImageManifest| {
            check_config(config, manifest).unwrap_err().to_string()
        };
        assert!(check_config(&config("", 1), &one).is_ok());
        assert_eq!(error(&config("windows", 1), &one), "operating system is not supported");
        let mismatch = "layers from manifest don't match image configuration";
        assert_eq!(error(&config("linux", 2), &one), mismatch);
        one.layers = vec![one.layers[0].clone(); 126];
        assert_eq!(error(&config("linux", 126), &one), "failed to register layer: max depth exceeded");
    }
}
