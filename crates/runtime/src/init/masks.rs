//! Paths that the container cannot see, and paths it can only read (source: runc `maskPaths`,
//! `readonlyPath`).

use super::pivot::add_attrs;
use crate::error::{Error, Result, Step};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::HashSet;
use std::path::Path;
use wharf_spec::plan::{MountAttrs, Plan};
use wharf_sys::fs::DeviceNumber;
use wharf_sys::mount::{self, Recursion};
use wharf_sys::path::{Root, file_type, stat};
use wharf_sys::{Context, Errno};

/// Applies both lists. Paths that do not exist need nothing.
pub(super) fn apply(plan: &Plan, root: &Root) -> Result<()> {
    for path in &plan.readonly_paths {
        make_readonly(root, path).step(|| format!("can't make {path:?} read-only"))?;
    }
    if plan.masked_paths.is_empty() {
        return Ok(());
    }
    let mut covers = Covers { null: host_null()?, empty: None };
    let mut hidden = HashSet::new();
    for path in &plan.masked_paths {
        if hidden.insert(Path::new(path)) {
            covers.hide(root, path)?;
        }
    }
    Ok(())
}

fn make_readonly(root: &Root, path: &str) -> wharf_sys::Result<()> {
    let Some(target) = existing(root, path)? else { return Ok(()) };
    let bind = mount::clone_tree_of(&target, Recursion::Tree)?;
    mount::attach(&bind, &target)?;
    add_attrs(&bind, MountAttrs::READONLY, Recursion::Single)
}

fn existing(root: &Root, path: &str) -> wharf_sys::Result<Option<OwnedFd>> {
    match root.resolve(Path::new(path)) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What paths are covered with.
struct Covers {
    /// The host's `/dev/null`.
    null: OwnedFd,
    /// An empty read-only directory: mounted over the first, bound over the others.
    empty: Option<OwnedFd>,
}

impl Covers {
    fn hide(&mut self, root: &Root, path: &str) -> Result<()> {
        let Some(target) = existing(root, path).step(|| format!("can't mask path {path:?}"))? else {
            return Ok(());
        };
        match file_type(&target).step(|| format!("can't mask path {path:?}"))?.is_dir() {
            true => self.cover_directory(&target).step(|| format!("can't mask dir {path:?}")),
            false => self.cover_file(&target).step(|| format!("can't mask path {path:?}")),
        }
    }

    fn cover_file(&self, target: &OwnedFd) -> wharf_sys::Result<()> {
        let bind = mount::clone_tree_of(&self.null, Recursion::Single)?;
        mount::attach(&bind, target)
    }

    fn cover_directory(&mut self, target: &OwnedFd) -> wharf_sys::Result<()> {
        if let Some(empty) = &self.empty {
            let bind = mount::clone_tree_of(empty, Recursion::Single)?;
            return mount::attach(&bind, target);
        }
        let options = [("nr_blocks", "1"), ("nr_inodes", "2")];
        let empty = mount::new_filesystem("tmpfs", &options, MountAttrs::READONLY)?;
        mount::attach(&empty, target)?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// Opens the host's `/dev/null`, before the host's root is gone, and makes sure that it is the null device:
/// what covers a path must not lead anywhere (CVE-2025-31133).
fn host_null() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/dev/null", flags, Mode::empty())
        .on("open", || "/dev/null")
        .step(|| "can't mask paths")?;
    require_null(fd.as_fd())?;
    Ok(fd)
}

/// An error unless a descriptor is the null device.
pub(super) fn require_null(fd: impl AsFd) -> Result<()> {
    match is_null(fd)? {
        true => Ok(()),
        false => Err(Error::refused("can't mask paths", "container's /dev/null is invalid")),
    }
}

/// Whether a descriptor is the null device (character 1:3).
pub(super) fn is_null(fd: impl AsFd) -> Result<bool> {
    let stat = stat(fd).step(|| "fstat")?;
    let character = FileType::from_raw_mode(stat.st_mode).is_char_device();
    Ok(character && DeviceNumber::from_raw(stat.st_rdev) == DeviceNumber { major: 1, minor: 3 })
}
