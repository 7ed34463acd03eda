//! Macvlan interfaces: a container is in the network of one of the host's devices with an address of its own there.
//! The host and such a container do not reach each other: the kernel keeps them apart.

use crate::{
    error::{Error, Result},
    sandbox::Host,
};
use serde::{Deserialize, Serialize};

/// What passes between the interfaces of one parent (`linux/if_link.h`, `enum macvlan_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MacvlanMode {
    /// Nothing.
    Private,
    /// What a switch outside sends back.
    Vepa,
    /// Everything, at once.
    Bridge,
    /// There is one only, and it has the parent to itself.
    Passthru,
}

impl MacvlanMode {
    /// The kernel's number.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

/// The parent's index now: it may have been made anew since the network was.
pub(crate) fn parent(host: &Host, name: &str) -> Result<u32> {
    host.channel.link(name)?.map(|link| link.index).ok_or_else(|| Error::NoParent(name.to_owned()))
}
