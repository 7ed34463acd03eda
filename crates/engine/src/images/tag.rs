//! `POST /images/{name}/tag` (source: moby `daemon/images/image_tag.go`, `daemon/server/httputils`,
//! `RepoTagReference`).

use super::{Inner, store_error};
use crate::{Error, Result};
use jiff::Timestamp;
use wharf_spec::{ImageId, ImageRef};
use wharf_store::Force;

impl Inner {
    pub(super) fn tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let Some(reference) = repository_and_tag(repository, tag)? else {
            return Err(Error::Invalid("invalid reference format".into()));
        };
        if reference.familiar_name() == "sha256" {
            return Err(Error::Invalid(
                "refusing to create an ambiguous tag using digest algorithm as name".into(),
            ));
        }
        let image = self.find(name)?;
        self.add_tag(image.id, &reference)
    }

    /// Gives an image a name, taking it from another one.
    pub(super) fn add_tag(&self, image: ImageId, reference: &ImageRef) -> Result<()> {
        self.store.references.add_tag(reference, image, Force::Yes).map_err(store_error)?;
        self.store.images.set_last_tagged(image, Timestamp::now()).map_err(store_error)?;
        self.emit("tag", image, &reference.familiar_string());
        Ok(())
    }
}

/// A name with a tag, `latest` if there is none; `None` for no name at all.
///
/// # Errors
/// When it is no name, or one with a digest.
pub fn repository_and_tag(repository: &str, tag: &str) -> Result<Option<ImageRef>> {
    if repository.is_empty() {
        return Ok(None);
    }
    let invalid = |error: wharf_spec::ParseReferenceError| Error::Invalid(error.to_string());
    let reference: ImageRef = repository.parse().map_err(invalid)?;
    if reference.digest().is_some() {
        return Err(Error::Invalid("cannot import digest reference".into()));
    }
    if tag.is_empty() {
        return Ok(Some(reference.or_latest()));
    }
    reference.with_tag(tag).map(Some).map_err(invalid)
}
