//! What propagation a source must have (source: moby `daemon/oci_linux.go`, ensureShared, ensureSharedOrSlave, and
//! `daemon/volumes_linux.go`, validateBindDaemonRoot).

use crate::{Error, Result, containers::record::MountPoint};
use std::path::Path;
use wharf_api::mount::Mount;
use wharf_sys::mount::{MountInfo, mountinfo};

/// Checks that mounts can come in, and go out, as the mount point asks. Blocks.
///
/// # Errors
/// `path ... is mounted on ... but it is not a shared mount`.
pub(in crate::containers) fn check_propagation(point: &MountPoint, data_root: &Path) -> Result<()> {
    let wanted = match point.propagation.as_str() {
        "shared" | "rshared" => &["shared:"][..],
        "slave" | "rslave" => &["shared:", "master:"],
        _ => return Ok(()),
    };
    let other = |source| Error::Io { step: "find mount of", path: (&point.source).into(), source };
    let source = std::fs::canonicalize(&point.source).map_err(other)?;
    let mounts = mountinfo().map_err(|error| other(std::io::Error::other(error)))?;
    let mount = mount_of(&mounts, &source)
        .ok_or_else(|| Error::Refused(format!("Can't find mount point of {}", point.source)))?;
    if mount.tags.iter().any(|tag| wanted.iter().any(|kind| tag.starts_with(kind))) {
        return Ok(());
    }
    let asked = point.spec.bind_options.as_ref().is_some_and(|options| !options.propagation.is_empty());
    if wanted.len() > 1 && !asked && concerns(&point.source, data_root) {
        // Nobody asked for it: it is the default for what holds the containers' own mounts.
        return Ok(());
    }
    let kind = if wanted.len() > 1 { "a shared or slave" } else { "a shared" };
    Err(Error::Refused(format!(
        "path {} is mounted on {} but it is not {kind} mount",
        point.source,
        mount.target.display()
    )))
}

/// The last of those that lie over each other.
fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.target));
    above.max_by_key(|mount| mount.target.components().count())
}

/// Whether a bind has the containers' own mounts in it, or is among them: compared as texts, as Docker does.
fn concerns(source: &str, data_root: &Path) -> bool {
    let root = data_root.to_string_lossy();
    source.starts_with(&*root) || root.starts_with(source)
}

/// Whether a bind gets `rslave` by itself, so that containers' mounts can be unmounted although it holds them.
///
/// # Errors
/// `invalid mount config: must use either propagation mode ...`
pub(super) fn needs_slave(spec: &Mount, data_root: &Path) -> Result<bool> {
    if spec.kind != "bind" || !concerns(&spec.source, data_root) {
        return Ok(false);
    }
    let asked = spec.bind_options.as_ref().map_or("", |options| options.propagation.as_str());
    match asked {
        "" => Ok(true),
        "rslave" | "rshared" => Ok(false),
        other => Err(Error::Invalid(format!(
            "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: {:?}, bind mount source: {:?}, propagation: {other:?}",
            data_root.display().to_string(),
            spec.source
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::mount::BindOptions;

    #[test]
    fn binds_of_the_data_root_are_slaves() {
        let told = |source: &str, propagation: &str| {
            let bind_options = (!propagation.is_empty())
                .then(|| BindOptions { propagation: propagation.into(), ..Default::default() });
            let spec = Mount { kind: "bind".into(), source: source.into(), bind_options, ..Mount::default() };
            needs_slave(&spec, Path::new("/var/lib/docker")).map_err(|error| error.to_string())
        };
        assert_eq!([told("/", ""), told("/var/lib/docker/volumes", "")], [Ok(true), Ok(true)]);
        assert_eq!([told("/etc", ""), told("/", "rshared")], [Ok(false), Ok(false)]);
        assert!(told("/var", "private").unwrap_err().starts_with("invalid mount config: must use either"));
    }

    #[test]
    fn a_private_mount_shares_nothing() {
        let point = |propagation: &str| MountPoint {
            source: "/proc/self".into(),
            propagation: propagation.into(),
            ..MountPoint::default()
        };
        let text = "1 0 0:1 / / rw shared:1 - ext4 d rw\n2 1 0:2 / /proc rw - proc p rw\n3 1 0:3 / /s rw master:1 - t t rw";
        let mounts = wharf_sys::mount::parse_mountinfo(text);
        let target = |path: &str| mount_of(&mounts, Path::new(path)).unwrap().target.clone();
        assert_eq!((target("/proc/x"), target("/processes")), ("/proc".into(), "/".into()));
        assert!(check_propagation(&point("rprivate"), Path::new("/d")).is_ok());
    }
}
