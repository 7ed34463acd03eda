//! Mount namespaces of our own, where file systems are put together that nobody else sees.

use crate::mount::set_propagation;
use crate::process::{Namespaces, open_namespace, unshare};
use crate::{Context, Error, Result};
use rustix::fd::OwnedFd;
use std::path::Path;
use wharf_spec::plan::Propagation;

/// Runs `body` on a fresh thread in a private copy of the mount namespace: what it mounts is seen through the
/// descriptors that it gives back, as long as the namespace, which comes with them, is held. Mounts of other
/// namespaces neither come nor go with it.
pub fn private<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<(T, OwnedFd)> {
    let on_thread = move || {
        unshare(Namespaces::MOUNT)?;
        set_propagation(Path::new("/"), Propagation::RPrivate)?;
        let made = body()?;
        Ok((made, open_namespace(Path::new("/proc/thread-self/ns/mnt"))?))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("wharf-mountns".to_owned());
        let thread =
            thread.spawn_scoped(scope, on_thread).on("clone", || "a thread for a mount namespace")?;
        thread.join().map_err(|_| Error::malformed("mount namespace", "its thread panicked"))?
    })
}
