//! The user namespace of a container that starts (source: moby `daemon/oci_linux.go`, WithNamespaces).

use super::{Container, Containers, plan::Userns};
use crate::{Error, Result, containers::plan};
use std::{os::fd::OwnedFd, sync::Arc};
use wharf_api::container as api;

/// A user namespace, and the network namespace in it where the container has one of its own.
pub(super) struct UserNamespace {
    pub(super) user: Userns,
    pub(super) network: Option<Arc<OwnedFd>>,
}

/// Whether a network namespace is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    Own,
    Elsewhere,
}

impl Containers {
    /// Makes or joins it. Who shares a namespace with another container shares its user namespace too: in another one
    /// its root would have no rights there. With several of them the last of network, IPC and PID counts, as in
    /// Docker.
    ///
    /// # Errors
    /// When the other container has ended, or the kernel refuses.
    pub(super) async fn user_namespace(
        &self,
        host: &api::HostConfig,
        network: Network,
    ) -> Result<UserNamespace> {
        let Some(ids) = self.config().ids_of(host) else {
            return Ok(UserNamespace { user: Userns::Host, network: None });
        };
        let shared = self.sharing_users(host).map(|other| plan::open_namespace(other.pid(), "user"));
        let shared = shared.transpose()?;
        if network == Network::Elsewhere {
            let user =
                shared.map_or_else(|| Userns::New(Arc::clone(&ids)), |fd| Userns::Open(fd, ids.clone()));
            return Ok(UserNamespace { user, network: None });
        }
        let pair = self.tasks().namespaces((*ids).clone(), shared).await?;
        Ok(UserNamespace { user: Userns::Open(pair.user, ids), network: Some(Arc::new(pair.network)) })
    }

    fn sharing_users(&self, host: &api::HostConfig) -> Option<Arc<Container>> {
        let names = [host.pid_mode.container(), host.ipc_mode.container(), host.network_mode.container()];
        names.into_iter().flatten().find_map(|name| self.get(name).ok())
    }
}

/// Docker mounts the control groups writable there, where only the owner of the host's can write; an explicit wish
/// is refused as by Docker.
///
/// # Errors
/// When it was wished for.
pub(super) fn check_writable_cgroups(engine: &crate::Config, wished: Option<bool>) -> Result<()> {
    match (wished, &engine.remap) {
        (Some(_), Some(_)) => Err(Error::Refused(
            "option WritableCgroups conflicts with user namespaces and rootless mode".into(),
        )),
        _ => Ok(()),
    }
}
