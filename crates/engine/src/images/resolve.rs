//! What a name means (source: moby `daemon/images/image.go`, `GetImage`).

use super::{Image, Inner, store_error};
use crate::{Error, Result};
use std::sync::Arc;
use wharf_spec::{AnyRef, ImageId, ImageRef, Platform};

impl Inner {
    /// The image of a reference, an id or the beginning of one.
    pub(super) fn find(&self, name: &str) -> Result<Arc<wharf_store::Image>> {
        let named = match name.parse::<AnyRef>() {
            Err(error) => return Err(Error::Invalid(error.to_string())),
            Ok(AnyRef::Id(id)) => {
                let missing = |_| Error::NoSuchImage(id.to_string());
                return self.store.images.get(ImageId(id)).map_err(missing);
            }
            Ok(AnyRef::Named(named)) => named,
        };
        if let Some(image) = self.store.references.get(&named).and_then(|id| self.store.images.get(id).ok()) {
            return Ok(image);
        }
        let found = self.store.images.search(name).and_then(|id| self.store.images.get(id));
        found.map_err(|_| Error::NoSuchImage(named.or_latest().familiar_string()))
    }

    /// As [`Inner::find`], for a platform.
    pub(super) fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let image = self.find(name)?;
        if let Some(wanted) = platform {
            check_platform(name, &image.config.platform(), wanted)?;
        }
        Ok(Image { id: image.id, config: Arc::new(image.config.clone()) })
    }

    /// Config of a raw image, checked against its digest.
    pub(super) fn raw(&self, id: ImageId) -> Result<Vec<u8>> {
        self.store.images.raw(id).map_err(store_error)
    }
}

/// An image store of this kind has one platform of each image.
fn check_platform(name: &str, image: &Platform, wanted: &Platform) -> Result<()> {
    if wanted.can_run(image) || has_no_variant_of(image, wanted) {
        return Ok(());
    }
    let name = name.parse::<ImageRef>().map_or_else(|_| name.to_owned(), |named| named.familiar_string());
    Err(Error::NotFound(format!(
        "image with reference {name} was found but its platform ({image}) does not match the specified platform ({wanted})"
    )))
}

/// Images often leave the variant out, though they have one (source: moby, `OnlyPlatformWithFallback`).
fn has_no_variant_of(image: &Platform, wanted: &Platform) -> bool {
    let (here, wanted) = (image.normalized(), wanted.normalized());
    image.variant.is_empty() && here.os == wanted.os && here.architecture == wanted.architecture
}
