//! What registries and clients say of images.

use wharf_spec::{AnyRef, ImageConfig, ImageRef, Manifest, media_type};

/// A manifest, an index or a config.
pub fn manifest(bytes: &[u8]) {
    for media_type in [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
        "",
    ] {
        // Refused is fine; what is taken can be looked at.
        let _ = Manifest::parse(media_type, bytes).map(|manifest| format!("{manifest:?}"));
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let written = config.to_json();
        let again = ImageConfig::parse(&written).expect("what was written is read");
        assert_eq!(again.diff_ids(), config.diff_ids());
        let _ = (config.platform(), config.created_at());
    }
}

/// A reference, or whatever else may stand for an image.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = text.parse::<AnyRef>();
    let Ok(reference) = text.parse::<ImageRef>() else { return };
    let read = |written: &str| written.parse::<ImageRef>().unwrap_or_else(|e| panic!("{written:?}: {e}"));
    assert_eq!(read(&reference.to_string()), reference);
    // Not always the same: `docker.io/host.io/x` is `host.io/x` for short, in Docker too.
    read(&reference.familiar_string());
    let _ = reference.clone().or_latest();
    // It becomes part of a URL.
    assert!(!reference.path().contains("..") && !reference.path().starts_with('/'), "{reference}");
}
