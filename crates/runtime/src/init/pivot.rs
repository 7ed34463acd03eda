//! The container's root: attached first, so that everything else can be mounted into it, entered last.

use super::mounts::Made;
use crate::error::{Error, Result, Step};
use crate::rootfs::Handle;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::path::Path;
use wharf_spec::plan::{MountAttrs, Plan, Propagation};
use wharf_sys::mount::{self, AttrChange, Recursion};
use wharf_sys::path::Root;
use wharf_sys::{Context, Errno, process};

/// Attaches the detached root mount over this mount namespace's `/`, where nothing sees it but who holds its
/// descriptor. The host's mounts are cut off first: nothing done here may show there.
pub(super) fn attach_root(source: &Handle<'_>) -> Result<Root> {
    let step = || "error preparing rootfs";
    mount::set_propagation(Path::new("/"), Propagation::RSlave).step(step)?;
    mount::attach_at(source, Path::new("/")).step(step)?;
    // The descriptor of a mount is of its root directory: the same place, attached now.
    set_propagation(source, Propagation::RPrivate).step(step)?;
    let fd = rustix::io::fcntl_dupfd_cloexec(source.as_fd(), 3).on("dup", || "rootfs").step(step)?;
    Ok(Root::from_fd(fd))
}

/// Makes the root `/`, drops the host's, and gives root and temporary file systems their final attributes.
pub(super) fn enter(plan: &Plan, root: &Root, made: &Made, no_pivot: bool) -> Result<()> {
    let cwd = Path::new(&plan.process.cwd);
    if plan.process.make_cwd {
        root.mkdir_all(cwd, Mode::from_raw_mode(0o755)).step(|| format!("mkdir {}", cwd.display()))?;
    }
    for late in &made.readonly_at_the_end {
        set_readonly(late).step(|| "remount read-only")?;
    }
    match no_pivot {
        true => mount::change_root(root),
        false => mount::pivot_root(root),
    }
    .step(|| "error jailing process inside rootfs")?;
    if plan.root.readonly {
        set_readonly(root).step(|| "error setting rootfs as readonly")?;
    }
    // Private is what it is already.
    if !matches!(plan.root.propagation, Propagation::RPrivate | Propagation::Private) {
        mount::set_propagation(Path::new("/"), plan.root.propagation)
            .step(|| "unable to apply root propagation flags")?;
    }
    check_root(root)
}

/// `/` must be the directory that everything was mounted into.
fn check_root(root: &Root) -> Result<()> {
    let now = Root::open(Path::new("/")).step(|| "open /")?;
    match mount::same_mount(&now, root).step(|| "check /")? {
        true => Ok(()),
        false => Err(Error::refused("error jailing process inside rootfs", "/ is not the container's root")),
    }
}

/// Adds `ro` to an attached mount.
pub(super) fn set_readonly(target: impl AsFd) -> wharf_sys::Result<()> {
    add_attrs(target, MountAttrs::READONLY, Recursion::Single)
}

/// Adds attributes to an attached mount; before kernel 5.12 with mount(2), which is not recursive.
pub(super) fn add_attrs(target: impl AsFd, attrs: MountAttrs, recursion: Recursion) -> wharf_sys::Result<()> {
    let change = AttrChange { set: attrs, ..AttrChange::default() };
    match mount::set_attrs(target.as_fd(), &change, recursion) {
        Err(error) if error.is(Errno::NOSYS) => mount::remount_bind(target.as_fd(), attrs | kept(&target)?),
        other => other,
    }
}

/// The attributes a mount has, which mount(2) would take away.
fn kept(target: impl AsFd) -> wharf_sys::Result<MountAttrs> {
    use rustix::fs::StatVfsMountFlags as Flags;
    let flags = rustix::fs::fstatvfs(target.as_fd()).on("fstatfs", || "mount")?.f_flag;
    let table = [
        (Flags::RDONLY, MountAttrs::READONLY),
        (Flags::NOSUID, MountAttrs::NOSUID),
        (Flags::NODEV, MountAttrs::NODEV),
        (Flags::NOEXEC, MountAttrs::NOEXEC),
        (Flags::NOATIME, MountAttrs::NOATIME),
        (Flags::NODIRATIME, MountAttrs::NODIRATIME),
    ];
    let set = table.iter().filter(|(flag, _)| flags.contains(*flag));
    Ok(set.fold(MountAttrs::empty(), |all, (_, attr)| all | *attr))
}

/// Changes the propagation of an attached mount, and of those below it for the recursive kinds.
pub(super) fn set_propagation(target: impl AsFd, kind: Propagation) -> wharf_sys::Result<()> {
    use rustix::fd::AsRawFd;
    let recursion = match kind {
        Propagation::RPrivate | Propagation::RSlave | Propagation::RShared => Recursion::Tree,
        Propagation::Private | Propagation::Slave | Propagation::Shared => Recursion::Single,
    };
    let change = AttrChange { propagation: Some(kind), ..AttrChange::default() };
    match mount::set_attrs(target.as_fd(), &change, recursion) {
        Err(error) if error.is(Errno::NOSYS) => {
            let path = format!("/proc/self/fd/{}", target.as_fd().as_raw_fd());
            mount::set_propagation(Path::new(&path), kind)
        }
        other => other,
    }
}

/// Enters the working directory: looked up inside the root without magic links, so that no descriptor the
/// process may still hold is a way in or out (CVE-2024-21626).
pub(super) fn enter_directory(path: &str) -> Result<(), Errno> {
    let root = Root::open(Path::new("/")).map_err(|error| error.errno().unwrap_or(Errno::IO))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let dir: OwnedFd = root
        .open_file(Path::new(path), flags, Mode::empty())
        .map_err(|error| error.errno().unwrap_or(Errno::IO))?;
    rustix::process::fchdir(&dir)
}

/// Makes sure that the working directory is inside the container.
pub(super) fn check_directory() -> Result<()> {
    process::working_directory().map(drop).map_err(|error| {
        let problem = format!(
            "current working directory is outside of container mount namespace root -- \
             possible container breakout detected: {error}"
        );
        Error::refused("chdir", problem)
    })
}
