//! The most frequent reason why a container cannot write its data: the path of the host belongs to somebody else. Said
//! when the container is made, together with what helps.

use super::{Container, Containers, mounts, record::MountPoint, rootfs::resolve_user};
use crate::{Config, Result, blocking::blocking, images::Layers};
use rustix::io::Errno;
use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_spec::{plan::IdMaps, user::User};

impl Containers {
    /// A warning for each directory of the host that the container's user cannot write. Only its own mode is looked
    /// at; what cannot be found out is not told.
    pub(super) async fn ownership_warnings(&self, container: &Arc<Container>) -> Vec<String> {
        let points = candidates(container);
        let ids = self.config().ids_of(&container.host_config());
        let user = container.with(|state| state.record.config.user.clone());
        if points.is_empty() || ids.is_none() && is_root(&user) {
            return Vec::new();
        }
        let (engine, layers) = (Arc::clone(self.config()), self.parts().images.layers().clone());
        let container = Arc::clone(container);
        let found = blocking(move || {
            let user = user_of(&layers, &container, &user)?;
            let check = Check { engine: &engine, user: &user, ids: ids.as_deref() };
            Ok(points.iter().filter_map(|point| check.warning(point)).collect())
        });
        found.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "owners of mounts are not checked");
            Vec::new()
        })
    }
}

fn candidates(container: &Container) -> Vec<MountPoint> {
    let wanted = |point: &&MountPoint| point.kind == "bind" && point.rw && !mounts::is_mapped(point);
    container.with(|state| state.record.mount_points.values().filter(wanted).cloned().collect())
}

fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}

/// A user and group by number need no look into the image.
fn user_of(layers: &Layers, container: &Container, spec: &str) -> Result<User> {
    let host = container.host_config();
    let groups = host.group_add.as_deref().unwrap_or_default();
    if let Some((Ok(uid), Ok(gid))) = spec.split_once(':').map(|(user, group)| (user.parse(), group.parse()))
        && groups.is_empty()
    {
        return Ok(User { uid, gid, additional_gids: Vec::new(), home: "/".into() });
    }
    let mounted = layers.mount(&container.id)?;
    let user = resolve_user(&mounted, spec, groups);
    layers.unmount(&container.id)?;
    user
}

struct Check<'a> {
    engine: &'a Config,
    /// In the container.
    user: &'a User,
    ids: Option<&'a IdMaps>,
}

impl Check<'_> {
    fn warning(&self, point: &MountPoint) -> Option<String> {
        let MountPoint { source, destination, .. } = point;
        let missing = || self.engine.remap.as_ref().map_or((0, 0), |remap| remap.root);
        let (owner, mode) = match std::fs::metadata(source) {
            Ok(found) if !found.is_dir() || has_access_list(Path::new(source)) => return None,
            Ok(found) => ((found.uid(), found.gid()), mode(&found)),
            // It will be made when the container starts.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (missing(), 0o755),
            Err(_) => return None,
        };
        if self.may_write(owner, mode)? {
            return None;
        }
        let (uid, gid) = self.on_host()?;
        Some(format!(
            "The container's user {}:{} cannot write to {destination}: on the host {source} belongs to {}:{} with mode {mode:04o}. Give it to the user (chown {uid}:{gid} {source}), map its owner ({source}:{destination}:idmap), or mount it read-only.",
            self.user.uid, self.user.gid, owner.0, owner.1
        ))
    }

    /// The host's ids of the container's user.
    fn on_host(&self) -> Option<(u32, u32)> {
        let User { uid, gid, .. } = *self.user;
        match self.ids {
            None => Some((uid, gid)),
            Some(ids) => ids.to_host(uid, gid).ok(),
        }
    }

    /// Whether a directory's mode lets the user make files in it. Root may do so wherever it knows the owner.
    fn may_write(&self, (owner, group): (u32, u32), mode: u32) -> Option<bool> {
        if self.user.uid == 0 && self.ids.is_none_or(|ids| ids.to_container(owner, group).is_ok()) {
            return Some(true);
        }
        let (uid, gid) = self.on_host()?;
        let of_host = |gid: &u32| self.ids.map_or(Some(*gid), |ids| Some(ids.to_host(0, *gid).ok()?.1));
        let in_group =
            group == gid || self.user.additional_gids.iter().filter_map(of_host).any(|gid| gid == group);
        let bits = if owner == uid {
            mode >> 6
        } else if in_group {
            mode >> 3
        } else {
            mode
        };
        Some(bits & 0o3 == 0o3)
    }
}

fn mode(found: &Metadata) -> u32 {
    found.mode() & 0o7777
}

/// An access list says more than the mode.
fn has_access_list(path: &Path) -> bool {
    let path: PathBuf = path.into();
    !matches!(
        rustix::fs::getxattr(&path, "system.posix_acl_access", &mut [0u8; 0][..]),
        Err(Errno::NODATA | Errno::OPNOTSUPP)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::plan::IdMap;

    #[test]
    fn modes_are_read_as_the_kernel_does() {
        let engine = Config::default();
        let map = || vec![IdMap { inside: 0, outside: 100_000, count: 1000 }];
        let ids = IdMaps { uids: map(), gids: map() };
        let user = |uid| User { uid, gid: uid, additional_gids: vec![50], home: "/".into() };
        let may = |uid, ids: Option<&IdMaps>, owner, mode| {
            Check { engine: &engine, user: &user(uid), ids }.may_write(owner, mode).unwrap()
        };
        for (uid, owner, mode, expected) in [
            (0, (1, 1), 0o000, true),
            (5, (5, 0), 0o700, true),
            (5, (5, 0), 0o077, false),
            (5, (0, 5), 0o770, true),
            (5, (0, 50), 0o770, true),
            (5, (0, 0), 0o775, false),
            (5, (0, 0), 0o777, true),
        ] {
            assert_eq!(may(uid, None, owner, mode), expected, "{uid} {owner:?} {mode:o}");
        }
        assert!(!may(0, Some(&ids), (0, 0), 0o755));
        assert!(may(0, Some(&ids), (100_005, 100_005), 0o755));
        assert!(may(5, Some(&ids), (100_005, 0), 0o755));
        assert!(is_root("") && is_root("root") && is_root("0:5") && !is_root("5:0"));
    }
}
