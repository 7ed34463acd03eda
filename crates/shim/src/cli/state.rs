//! `state`: prints where a container is in its life.

use super::error::{CliResult, pretty};
use super::store::Container;
use super::{Context, flags, print};
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let id = flags::only_id(parser, "state")?;
    print(&(pretty(&document(&context.store.load(&id)?)?)? + "\n"))
}

/// The state document with what runc adds to it, in runc's order.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    #[serde(rename = "ociVersion")]
    pub(super) oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) status: String,
    pub(super) bundle: String,
    pub(super) rootfs: String,
    pub(super) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) owner: String,
}

/// A container's document; only `list` knows an owner.
pub(super) fn document(container: &Container) -> CliResult<Document> {
    let state = container.state()?;
    Ok(Document {
        oci_version: state.oci_version,
        id: state.id,
        pid: state.pid,
        status: state.status,
        bundle: state.bundle,
        rootfs: container.record.rootfs.clone(),
        created: container.record.created.clone(),
        annotations: state.annotations,
        owner: String::new(),
    })
}
