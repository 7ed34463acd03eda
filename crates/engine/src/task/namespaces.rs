//! Namespaces that the zygote makes before there is a shim: only a process with one thread can enter a user namespace.

use super::{Tasks, message::encode};
use crate::{Error, Result, blocking::blocking};
use std::os::fd::{AsFd, OwnedFd};
use wharf_spec::{
    plan::{Fd, IdMaps},
    shim::ZygoteRequest,
};
use wharf_sys::seqpacket;

/// A user namespace and a network namespace that belongs to it.
#[derive(Debug)]
pub(crate) struct NamespacePair {
    pub(crate) user: OwnedFd,
    pub(crate) network: OwnedFd,
}

impl Tasks {
    /// Makes a network namespace in a new user namespace with these maps, or in an existing one.
    ///
    /// # Errors
    /// When there is no zygote to be had, or the kernel refuses.
    pub(crate) async fn namespaces(&self, maps: IdMaps, user: Option<OwnedFd>) -> Result<NamespacePair> {
        let failed = |text: String| Error::Refused(format!("make the container's namespaces: {text}"));
        let (ours, theirs) = seqpacket::pair().map_err(|error| failed(error.to_string()))?;
        let mut fds = vec![theirs];
        let user = user.map(|user| {
            fds.push(user);
            Fd(1)
        });
        let bytes = encode(&ZygoteRequest::Namespaces { reply: Fd(0), user, maps })?;
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.0.send(&bytes, &borrowed).await?;
        drop(fds);
        blocking(move || {
            let packet = seqpacket::recv(&ours).map_err(|error| failed(error.to_string()))?;
            let packet = packet.ok_or_else(|| failed("the zygote is gone".into()))?;
            let text = String::from_utf8_lossy(&packet.bytes).into_owned();
            match <[OwnedFd; 2]>::try_from(packet.fds) {
                Ok([user, network]) => Ok(NamespacePair { user, network }),
                Err(_) => Err(failed(text)),
            }
        })
        .await
    }
}
