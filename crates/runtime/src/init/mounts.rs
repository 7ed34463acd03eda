//! The mounts of a plan, in its order: each target is resolved inside the root to a descriptor, checked, and
//! the detached mount is moved onto that.

mod cgroups;
mod copy_up;
mod target;

use super::Setup;
use super::pivot::{add_attrs, set_propagation};
use crate::error::{Error, Result, Step};
use crate::rootfs::{Handle, mounting};
use rustix::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_spec::plan::{IdMaps, Mount, MountAttrs, MountKind, Namespace, Propagation, Source};
use wharf_sys::mount::{self, FsContext, Recursion};
use wharf_sys::path::Root;
use wharf_sys::{Errno, errno_text};

/// What is left to do with what was mounted.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Temporary file systems that things are still made in.
    pub(super) readonly_at_the_end: Vec<OwnedFd>,
}

/// Makes all mounts.
pub(super) fn make(setup: &Setup<'_>, root: &Root, warnings: &mut Vec<String>) -> Result<Made> {
    let mut made = Made::default();
    for (mount, bind) in setup.plan.mounts.iter().zip(&setup.sources.binds) {
        make_one(setup, root, mount, bind.as_ref(), &mut made).map_err(|error| match error {
            Error::Step { step, source } if step.is_empty() => Error::Step { step: mounting(mount), source },
            Error::Refused { step, problem } if step.is_empty() => Error::refused(mounting(mount), problem),
            other => other,
        })?;
        if mount.idmap.is_some() && bind.is_none() {
            warnings.push(format!("ids of {} are not mapped: only bind mounts can be", mount.target));
        }
    }
    Ok(made)
}

/// Errors without a step get the mount's words in [`make`].
fn make_one(
    setup: &Setup<'_>,
    root: &Root,
    mount: &Mount,
    bind: Option<&Handle<'_>>,
    made: &mut Made,
) -> Result<()> {
    let nameless = String::new;
    match &mount.kind {
        MountKind::Bind { recursive, .. } => {
            let Some(source) = bind else { return Err(Error::refused("", "its source is not open")) };
            let recursion = if *recursive { Recursion::Tree } else { Recursion::Single };
            attach_bind(root, mount, source, recursion)
        }
        MountKind::Tmpfs { options, copy_up } => {
            let filesystem = temporary(root, mount, options)?;
            let target = target::directory(root, mount)?;
            if *copy_up {
                copy_up::fill(root, Path::new(&mount.target), &filesystem).step(nameless)?;
            }
            attach_new(mount, &filesystem, &target)?;
            if mount.attrs.contains(MountAttrs::READONLY) {
                made.readonly_at_the_end.push(filesystem);
            }
            Ok(())
        }
        MountKind::Cgroup => cgroups::make(setup, root, mount, made),
        MountKind::Sysfs => {
            let filesystem = match mount::new_filesystem("sysfs", &[], mount.attrs) {
                // The network namespace is not this user namespace's: the host's view, as a bind.
                Err(error) if error.is(Errno::PERM) => return attach_host_sysfs(root, mount),
                other => other.step(nameless)?,
            };
            attach_new(mount, &filesystem, &target::directory(root, mount)?)
        }
        MountKind::Proc | MountKind::Devpts | MountKind::Mqueue | MountKind::Other { .. } => {
            let filesystem = new_filesystem(mount, setup.plan.namespaces.id_maps.as_ref()).step(nameless)?;
            attach_new(mount, &filesystem, &target::directory(root, mount)?)
        }
    }
}

/// Makes a file system of the mount's own kind.
fn new_filesystem(mount: &Mount, maps: Option<&IdMaps>) -> wharf_sys::Result<OwnedFd> {
    match &mount.kind {
        MountKind::Proc => mount::new_filesystem("proc", &[], mount.attrs),
        MountKind::Mqueue => mount::new_filesystem("mqueue", &[], mount.attrs),
        MountKind::Devpts => {
            let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
            // Group tty; not there in a user namespace that does not map it.
            if maps.is_none_or(|maps| {
                maps.gids.iter().any(|map| (map.inside..map.inside + map.count).contains(&5))
            }) {
                options.push(("gid", "5"));
            }
            mount::new_filesystem("devpts", &options, mount.attrs)
        }
        MountKind::Other { fs_type, source, options } => {
            let context = FsContext::open(fs_type)?;
            if !source.is_empty() {
                context.set("source", source)?;
            }
            for (key, value) in options {
                context.set(key, value)?;
            }
            context.mount(mount.attrs)
        }
        MountKind::Sysfs | MountKind::Cgroup | MountKind::Tmpfs { .. } | MountKind::Bind { .. } => {
            Err(wharf_sys::Error::malformed(&mount.target, "is not made here"))
        }
    }
}

/// A tmpfs, writable for now, with the mode of the directory it covers unless the plan has another (source:
/// runc `createOpenMountpoint`).
fn temporary(root: &Root, mount: &Mount, options: &[(String, String)]) -> Result<OwnedFd> {
    let mut all: Vec<(&str, String)> = Vec::new();
    if mount.target == "/dev/shm" {
        // As Docker has it in the list of mounts.
        all.push(("source", "shm".to_owned()));
    }
    if !options.iter().any(|(key, _)| key == "mode")
        && let Ok(covered) = root.resolve(Path::new(&mount.target))
    {
        let mode = wharf_sys::path::stat(&covered).step(String::new)?.st_mode & 0o7777;
        all.push(("mode", format!("{mode:o}")));
    }
    all.extend(options.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let borrowed: Vec<(&str, &str)> = all.iter().map(|(key, value)| (*key, value.as_str())).collect();
    mount::new_filesystem("tmpfs", &borrowed, mount.attrs - MountAttrs::READONLY).step(String::new)
}

fn attach_new(mount: &Mount, filesystem: &OwnedFd, target: &OwnedFd) -> Result<()> {
    mount::attach(filesystem, target).step(String::new)?;
    match mount.propagation {
        Some(kind) => set_propagation(filesystem, kind).step(String::new),
        None => Ok(()),
    }
}

fn attach_bind(root: &Root, mount: &Mount, source: &Handle<'_>, recursion: Recursion) -> Result<()> {
    let source_is_dir = wharf_sys::path::file_type(source).step(String::new)?.is_dir();
    let target = match source_is_dir {
        true => target::directory_for_bind(root, mount, source)?,
        false => target::file(root, mount, source)?,
    };
    if wharf_sys::path::file_type(&target).step(String::new)?.is_dir() != source_is_dir {
        return Err(Error::refused("", format!("mount dst={}: {}", mount.target, errno_text(Errno::NOTDIR))));
    }
    mount::attach(source, &target).step(String::new)?;
    finish_bind(mount, source, recursion)
}

/// Puts the init program, read-only, where `--init` runs it from.
pub(super) fn bind_init(root: &Root, program: &Handle<'_>) -> Result<()> {
    let mount = Mount {
        target: super::program::INIT.to_owned(),
        kind: MountKind::Bind { source: Source::Path("docker-init".to_owned()), recursive: false },
        attrs: MountAttrs::READONLY,
        recursive_attrs: false,
        propagation: Some(Propagation::Private),
        idmap: None,
        idmap_single: false,
    };
    attach_bind(root, &mount, program, Recursion::Single)
}

/// Attributes and propagation of a bind that is attached. Unless asked for otherwise, mounts of the host come
/// in, none go out.
fn finish_bind(mount: &Mount, source: impl AsFd, recursion: Recursion) -> Result<()> {
    let default = match recursion {
        Recursion::Tree => Propagation::RSlave,
        Recursion::Single => Propagation::Slave,
    };
    set_propagation(source.as_fd(), mount.propagation.unwrap_or(default)).step(String::new)?;
    if mount.attrs.is_empty() {
        return Ok(());
    }
    let depth = if mount.recursive_attrs { Recursion::Tree } else { Recursion::Single };
    add_attrs(source, mount.attrs, depth).step(String::new)
}

fn attach_host_sysfs(root: &Root, mount: &Mount) -> Result<()> {
    let target = target::directory(root, mount)?;
    let source = mount::clone_tree(Path::new("/sys"), Recursion::Tree).step(String::new)?;
    mount::attach(&source, &target).step(String::new)?;
    finish_bind(mount, &source, Recursion::Tree)
}

/// Whether the container sees its own group as the root of the hierarchy.
fn has_cgroup_namespace(setup: &Setup<'_>) -> bool {
    setup.plan.namespaces.cgroup != Namespace::Host
}
