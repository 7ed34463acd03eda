//! Swarm: Wharf is never part of one, and says so in Docker's words
//! (source: moby `daemon/cluster/errors.go`).

use crate::{
    error::{Error, Result},
    http::{call::Call, reply::Reply},
};
use wharf_spec::ErrorKind;

/// What only a manager can do.
pub(crate) async fn not_a_manager(_: Call) -> Result<Reply> {
    Err(Error::new(
        ErrorKind::Unavailable,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

/// What only a node can do.
pub(crate) async fn not_a_node(_: Call) -> Result<Reply> {
    Err(Error::new(ErrorKind::Unavailable, "This node is not part of a swarm"))
}

/// `PUT /volumes/{name}`
pub(crate) async fn volume_update(_: Call) -> Result<Reply> {
    Err(Error::new(
        ErrorKind::Unavailable,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    ))
}
