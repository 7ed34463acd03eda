//! The unix socket: mode 0660, owned by root and a group; an old socket in its place is replaced.

use super::{Error, Listener, group};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt, chown},
            net::UnixListener as StdListener,
        },
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// The group that is asked for by default and may be missing.
const DEFAULT_GROUP: &str = "docker";

/// The path of a socket of ours; removed with it.
#[derive(Debug)]
pub(crate) struct OwnedPath(PathBuf);

impl Drop for OwnedPath {
    fn drop(&mut self) {
        // It is no harm when the next daemon finds the old socket.
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens on `path`.
pub(super) fn listen(path: &str, group_name: &str) -> Result<Listener, Error> {
    let gid = wanted_group(group_name)?;
    let fail = |source| Error::Unix { path: path.to_owned(), source };
    let listener = bind(Path::new(path), gid).map_err(fail)?;
    let owned = OwnedPath(path.into());
    Ok(Listener::unix(UnixListener::from_std(listener).map_err(fail)?, Some(owned)))
}

fn wanted_group(name: &str) -> Result<Option<u32>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    match group::number(name, Path::new("/etc/group")) {
        Some(gid) => Ok(Some(gid)),
        None if name == DEFAULT_GROUP => {
            tracing::warn!(
                "could not change group of the unix socket to {DEFAULT_GROUP}: group {DEFAULT_GROUP} not found"
            );
            Ok(None)
        }
        None => Err(Error::Group(name.to_owned())),
    }
}

/// Binds a temporary name, sets owner and mode, and moves it to its place: nobody can connect before the
/// mode is right, and the umask need not be touched.
fn bind(path: &Path, gid: Option<u32>) -> io::Result<StdListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is in its place",
            ));
        }
        _ => {}
    }
    // A socket's path holds 107 bytes only: through the directory's descriptor any path is short.
    let dir = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let temporary = PathBuf::from(format!("/proc/self/fd/{}/.sock-{}", dir.as_raw_fd(), std::process::id()));
    let _ = fs::remove_file(&temporary);
    let listener = StdListener::bind(&temporary)?;
    let finished = chown(&temporary, None, gid)
        .and_then(|()| fs::set_permissions(&temporary, fs::Permissions::from_mode(0o660)))
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| listener.set_nonblocking(true));
    if let Err(e) = finished {
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[tokio::test]
    async fn an_old_socket_is_replaced_and_another_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/x.sock");
        let text = path.to_str().unwrap();
        drop(bind(&path, None).unwrap());
        drop(bind(&dir.path().join("long".repeat(20)).join("name".repeat(20)), None).unwrap());
        assert!(path.exists(), "the old daemon died");
        let gid = fs::metadata(dir.path()).unwrap().gid();
        let listener = listen(text, &gid.to_string()).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.gid()), (0o660, gid));
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(listen(text, "").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn only_the_default_group_may_be_missing() {
        assert!(matches!(wanted_group("no-such-group-here"), Err(Error::Group(_))));
        assert!(wanted_group("").unwrap().is_none());
        assert_eq!(wanted_group("0").unwrap(), Some(0));
    }
}
