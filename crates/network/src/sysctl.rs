//! Kernel parameters of the calling thread's network namespace.

use crate::error::{Error, Result};
use std::{fs, io, path::PathBuf};

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}

/// Sets `/proc/sys/net/<name>` when it has another value; true when it was changed.
pub(crate) fn set(name: &str, value: &str) -> Result<bool> {
    let path = path(name);
    let before = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    if before.trim() == value {
        return Ok(false);
    }
    fs::write(&path, value).map_err(Error::file("write", &path))?;
    Ok(true)
}

/// Sets a parameter of an interface, `net.X.Y.IFNAME.Z=V`, where the fourth part stands for its name
/// (source: moby `daemon/libnetwork/osl/interface_linux.go`, `setSysctls`).
pub(crate) fn set_of_interface(interface: &str, parameter: &str) -> Result<()> {
    let Some((key, value)) = parameter.split_once('=') else {
        return Err(Error::BadSysctl { parameter: parameter.to_owned(), format: "name=value" });
    };
    let ["net", family, group, _, name] = key.split('.').collect::<Vec<_>>()[..] else {
        return Err(Error::BadSysctl { parameter: key.to_owned(), format: "net.X.Y.IFNAME.Z" });
    };
    let name = format!("{family}/{group}/{interface}/{name}");
    if !path(&name).is_file() {
        return Err(Error::NoSysctl(path(&name)));
    }
    set(&name, value).map(drop)
}

/// As [`set`], but a kernel without the parameter is fine: it has not the feature either.
pub(crate) fn set_if_present(name: &str, value: &str) -> Result<bool> {
    match set(name, value) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result,
    }
}
