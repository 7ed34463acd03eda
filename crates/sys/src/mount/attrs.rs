//! Attributes and propagation of mounts, with the older mount(2) for kernels before 5.12.

use super::{Recursion, describe};
use crate::raw::check;
use crate::{Context, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::mount as sys;
use wharf_spec::plan::{MountAttrs, Propagation};

/// MOUNT_ATTR_* of linux/mount.h (u64 as in `struct mount_attr`).
const ATTR_RDONLY: u64 = 0x1;
const ATTR_NOSUID: u64 = 0x2;
const ATTR_NODEV: u64 = 0x4;
const ATTR_NOEXEC: u64 = 0x8;
const ATTR_ATIME_MASK: u64 = 0x70;
const ATTR_NOATIME: u64 = 0x10;
const ATTR_STRICTATIME: u64 = 0x20;
const ATTR_NODIRATIME: u64 = 0x80;
const ATTR_IDMAP: u64 = 0x0010_0000;
const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// `struct mount_attr` (source: mount_setattr(2)).
#[repr(C)]
#[derive(Default)]
struct RawMountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What [`set_attrs`] changes.
#[derive(Debug, Default, Clone, Copy)]
pub struct AttrChange<'a> {
    /// Switched on.
    pub set: MountAttrs,
    /// Switched off. Kernel refusals (locked flags in a user namespace) come back as EPERM.
    pub clear: MountAttrs,
    /// The new propagation; its own recursion letter is ignored, [`Recursion`] decides.
    pub propagation: Option<Propagation>,
    /// A user namespace whose mapping the mount takes on; only for a detached mount nobody has used yet.
    pub idmap: Option<BorrowedFd<'a>>,
}

/// Whether the kernel can change all mounts of a tree at once (mount_setattr(2), kernel 5.12).
pub fn has_recursive_attributes() -> bool {
    let nothing = RawMountAttr::default();
    let pipe = std::io::pipe();
    // What is no mount is refused for that, by a kernel that knows the call.
    pipe.is_ok_and(|(end, _)| {
        mount_setattr(end.as_fd(), &nothing, Recursion::Tree) != Err(crate::Errno::NOSYS)
    })
}

/// Changes a mount (mount_setattr(2), kernel 5.12; ENOSYS before: see [`remount_bind`]). Works on detached
/// and attached mounts of this mount namespace.
pub fn set_attrs(mount: impl AsFd, change: &AttrChange<'_>, recursion: Recursion) -> Result<()> {
    let mut raw =
        RawMountAttr { attr_set: bits(change.set), attr_clr: bits(change.clear), ..Default::default() };
    if raw.attr_set & ATTR_ATIME_MASK != 0 {
        raw.attr_clr |= ATTR_ATIME_MASK;
    }
    raw.propagation = change.propagation.map_or(0, |kind| u64::from(propagation_flags(kind).bits()));
    if let Some(userns) = change.idmap {
        raw.attr_set |= ATTR_IDMAP;
        raw.userns_fd = userns.as_raw_fd() as u64;
    }
    mount_setattr(mount.as_fd(), &raw, recursion).on("mount_setattr", || describe(mount.as_fd()))
}

fn mount_setattr(
    mount: BorrowedFd<'_>,
    raw: &RawMountAttr,
    recursion: Recursion,
) -> Result<(), crate::Errno> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursion == Recursion::Tree {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a static C string and `raw` is a live struct of the size given.
    let value = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            raw as *const RawMountAttr,
            size_of::<RawMountAttr>(),
        )
    };
    check(value).map(drop)
}

/// Sets the attributes of an attached mount to exactly these with mount(2) MS_REMOUNT | MS_BIND, for kernels
/// without mount_setattr(2). Not recursive.
pub fn remount_bind(mount: impl AsFd, attrs: MountAttrs) -> Result<()> {
    let target = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
    sys::mount_remount(target.as_str(), sys::MountFlags::BIND | mount_flags(attrs), c"")
        .on("mount", || format!("{} (remount)", describe(mount.as_fd())))
}

/// Changes the propagation of an attached mount (mount(2) MS_PRIVATE and friends). The recursive kinds cover
/// the mounts below it.
pub fn set_propagation(path: &std::path::Path, kind: Propagation) -> Result<()> {
    let mut flags = propagation_flags(kind);
    if matches!(kind, Propagation::RPrivate | Propagation::RSlave | Propagation::RShared) {
        flags |= sys::MountPropagationFlags::REC;
    }
    sys::mount_change(path, flags).on("mount", || format!("{} ({kind:?})", path.display()))
}

fn propagation_flags(kind: Propagation) -> sys::MountPropagationFlags {
    match kind {
        Propagation::RPrivate | Propagation::Private => sys::MountPropagationFlags::PRIVATE,
        Propagation::RSlave | Propagation::Slave => sys::MountPropagationFlags::DOWNSTREAM,
        Propagation::RShared | Propagation::Shared => sys::MountPropagationFlags::SHARED,
    }
}

const ATTR_TABLE: [(MountAttrs, u64, sys::MountFlags); 8] = [
    (MountAttrs::READONLY, ATTR_RDONLY, sys::MountFlags::RDONLY),
    (MountAttrs::NOSUID, ATTR_NOSUID, sys::MountFlags::NOSUID),
    (MountAttrs::NODEV, ATTR_NODEV, sys::MountFlags::NODEV),
    (MountAttrs::NOEXEC, ATTR_NOEXEC, sys::MountFlags::NOEXEC),
    (MountAttrs::NOATIME, ATTR_NOATIME, sys::MountFlags::NOATIME),
    (MountAttrs::NODIRATIME, ATTR_NODIRATIME, sys::MountFlags::NODIRATIME),
    (MountAttrs::STRICTATIME, ATTR_STRICTATIME, sys::MountFlags::STRICTATIME),
    // MS_NOSYMFOLLOW (256) has no name in rustix.
    (MountAttrs::NOSYMFOLLOW, ATTR_NOSYMFOLLOW, sys::MountFlags::from_bits_retain(256)),
];

fn bits(attrs: MountAttrs) -> u64 {
    ATTR_TABLE.iter().filter(|(flag, ..)| attrs.contains(*flag)).fold(0, |all, (_, bit, _)| all | bit)
}

fn mount_flags(attrs: MountAttrs) -> sys::MountFlags {
    ATTR_TABLE
        .iter()
        .filter(|(flag, ..)| attrs.contains(*flag))
        .fold(sys::MountFlags::empty(), |all, (.., flag)| all | *flag)
}

/// The same for fsmount(2).
pub(super) fn fsmount_flags(attrs: MountAttrs) -> sys::MountAttrFlags {
    sys::MountAttrFlags::from_bits_retain(bits(attrs) as u32)
}

/// The same for mount(2).
pub(super) fn legacy_flags(attrs: MountAttrs) -> sys::MountFlags {
    mount_flags(attrs)
}
