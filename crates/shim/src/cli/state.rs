//! `state`: prints where a container is in its life.

use super::error::{CliResult, pretty};
use super::store::Container;
use super::{Context, flags, print};
use serde_json::{Value, json};

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let id = flags::only_id(parser, "state")?;
    print(&(pretty(&document(&context.store.load(&id)?)?)? + "\n"))
}

/// The state document with what runc adds to it.
pub(super) fn document(container: &Container) -> CliResult<Value> {
    let state = container.state()?;
    Ok(json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": state.pid,
        "status": state.status,
        "bundle": state.bundle,
        "rootfs": container.record.rootfs,
        "created": container.record.created,
        "annotations": state.annotations,
        "owner": "",
    }))
}
