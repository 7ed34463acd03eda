//! Network namespaces: made, named, entered. Entering is done by a thread that ends afterwards, so no other
//! code ever runs in the wrong namespace.

use crate::process::{Namespaces, open_namespace, set_namespace, unshare};
use crate::{Context, Error, Result};
use rustix::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The calling thread's network namespace.
pub fn current() -> Result<OwnedFd> {
    open_namespace(Path::new("/proc/thread-self/ns/net"))
}

/// A new network namespace with nothing but a loopback that is down. It lives as long as the descriptor, a
/// mount made by [`bind`], or a process in it.
pub fn create() -> Result<OwnedFd> {
    create_with(|| ()).map(|(namespace, ())| namespace)
}

/// The same, and what `body` returns in it: one thread for both.
pub fn create_with<T: Send>(body: impl FnOnce() -> T + Send) -> Result<(OwnedFd, T)> {
    on_thread(|| {
        unshare(Namespaces::NET)?;
        Ok((current()?, body()))
    })?
}

/// Gives a namespace a name: mounts it on the file `path`, which is made when missing.
pub fn bind(namespace: impl AsFd, path: &Path) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o444)).on("open", || path.display().to_string())?;
    let mount = crate::mount::clone_tree_of(namespace, crate::mount::Recursion::Single)?;
    crate::mount::attach_at(mount, path)
}

/// Undoes [`bind`]; a name that is already gone is fine.
pub fn unbind(path: &Path) -> Result<()> {
    crate::mount::detach_if_mounted(path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).on("unlink", || path.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Runs `body` on a fresh thread inside a network namespace and returns what it returns.
pub fn in_netns<T: Send>(namespace: impl AsFd, body: impl FnOnce() -> T + Send) -> Result<T> {
    let namespace = namespace.as_fd();
    on_thread(move || {
        set_namespace(namespace, Namespaces::NET)?;
        Ok(body())
    })?
}

fn on_thread<T: Send>(body: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("wharf-netns".to_owned());
        let thread = thread.spawn_scoped(scope, body).on("clone", || "a thread for a network namespace")?;
        thread.join().map_err(|_| Error::malformed("network namespace", "its thread panicked"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::stat;

    fn inode(fd: impl AsFd) -> u64 {
        stat(fd).unwrap().st_ino
    }

    #[test]
    fn threads_enter_and_leave() {
        let before = inode(current().unwrap());
        let namespace = create().unwrap();
        assert_ne!(inode(&namespace), before);
        let inside = in_netns(&namespace, || inode(current().unwrap())).unwrap();
        assert_eq!(inside, inode(&namespace));
        assert_eq!(inode(current().unwrap()), before);
        assert!(in_netns(std::fs::File::open("/").unwrap(), || ()).is_err());
    }

    #[test]
    fn names_are_mounts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns");
        crate::mount::tests::in_private_mounts(|| {
            let namespace = create().unwrap();
            bind(&namespace, &path).unwrap();
            let again = open_namespace(&path).unwrap();
            assert_eq!(inode(&again), inode(&namespace));
            unbind(&path).unwrap();
            unbind(&path).unwrap();
        });
        assert!(!path.exists());
    }
}
