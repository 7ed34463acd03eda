//! One file per noun: a handler reads the request, calls the engine, and renders the answer.
//! Version gates are here and nowhere else.

pub(crate) mod archive;
pub(crate) mod build;
pub(crate) mod containers;
mod create_compat;
pub(crate) mod disk_usage;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod images;
mod legacy;
pub(crate) mod logs;
pub(crate) mod networks;
pub(crate) mod plugins;
mod progress;
pub(crate) mod swarm;
pub(crate) mod system;
pub(crate) mod transfer;
pub(crate) mod volumes;

use crate::{
    error::{Error, Result},
    http::{call::Call, reply::Reply},
};

/// An endpoint of Docker's that is known and not built.
pub(crate) async fn not_built(call: Call) -> Result<Reply> {
    Err(call.not_built())
}

/// An endpoint of experimental daemons (source: moby `daemon/server/router/experimental.go`).
pub(crate) async fn experimental(call: Call) -> Result<Reply> {
    if call.app.experimental {
        return Err(call.not_built());
    }
    Err(Error::new(
        wharf_spec::ErrorKind::NotImplemented,
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.",
    ))
}
