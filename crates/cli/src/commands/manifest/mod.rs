//! `docker manifest`: what registries have, asked by ourselves, and lists in the making.

mod entry;
mod lists;
mod remote;

pub(crate) mod annotate;
pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod push;
pub(crate) mod rm;

use crate::error::{Error, Result};
use serde::Serialize;
use wharf_spec::ImageRef;

/// A name with tag or digest; without both, `latest`.
fn reference(text: &str) -> Result<ImageRef> {
    text.parse::<ImageRef>().map(ImageRef::or_latest).map_err(|error| Error::text(error.to_string()))
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::text(error.to_string()))
}
