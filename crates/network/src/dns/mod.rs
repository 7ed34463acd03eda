//! The embedded DNS server: what containers of user-defined networks ask on 127.0.0.11.
//!
//! It listens on ports of the kernel's choice in the container's namespace, where port 53 of 127.0.0.11 is
//! redirected to them: a program of the container may bind 0.0.0.0:53 itself. The shim keeps the sockets, so that
//! queries wait in them while no daemon runs. Names of other containers are answered from [`Names`], everything else
//! is asked of the servers that the container would have had otherwise
//! (source: moby `daemon/libnetwork/resolver.go`).
//!
//! | module | what it knows |
//! |---|---|
//! | `names` | who is called what, in which network |
//! | `message` | queries and answers as bytes |
//! | `sockets` | sockets and redirection in the namespace |
//! | `server` | the tasks that read and answer |
//! | `forward` | asking other servers |

mod forward;
mod message;
mod names;
mod server;
mod sockets;
#[cfg(test)]
mod tests;

pub(crate) use names::Names;
pub(crate) use server::Server;
pub(crate) use sockets::Sockets;

use crate::resolv::Upstream;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Where containers ask.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What is done with a container's questions that no name of ours answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    /// The servers behind ours, in this order.
    pub upstreams: Vec<Upstream>,
    /// The container's own `ndots` is above 0: names without a dot are not asked of others, but answered with
    /// nothing, so that the container tries its search domains.
    pub single_labels_stay: bool,
}
