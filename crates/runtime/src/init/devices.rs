//! Device nodes and the customary links of `/dev` (source: OCI runtime-spec, config-linux.md "Default
//! Devices", runtime-linux.md "Dev symbolic links"; runc `createDevices`, `setupPtmx`, `setupDevSymlinks`).

use crate::error::{Error, Result, Step};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use std::ffi::OsStr;
use std::path::Path;
use wharf_spec::plan::{Device, DeviceKind, MountKind, Namespace, Plan};
use wharf_sys::fs::{DeviceNumber, make_node};
use wharf_sys::mount::{self, Recursion};
use wharf_sys::path::{Root, stat};
use wharf_sys::{Context, Errno};

/// Made in every container: name, major, minor.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Whether `/dev` is the container's own: not when a directory of the host is bound there.
pub(super) fn wanted(plan: &Plan) -> bool {
    let bound = |mount: &wharf_spec::plan::Mount| {
        matches!(mount.kind, MountKind::Bind { .. }) && mount.target.trim_end_matches('/') == "/dev"
    };
    !plan.mounts.iter().any(bound)
}

/// Makes nodes and links.
pub(super) fn make(plan: &Plan, root: &Root) -> Result<()> {
    let step = || "error creating device nodes";
    let bind = plan.namespaces.user != Namespace::Host;
    let default = |&(path, major, minor): &(&str, u32, u32)| Device {
        path: path.to_owned(),
        kind: DeviceKind::Char,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let devices: Vec<Device> = DEFAULT.iter().map(default).collect();
    // A plan may have one of the default nodes with another mode: its own comes first.
    for device in plan.devices.iter().chain(&devices) {
        if device.path != "/dev/ptmx" {
            make_device(root, device, bind)?;
        }
    }
    let dev = root.mkdir_all(Path::new("/dev"), Mode::from_raw_mode(0o755)).step(step)?;
    make_links(&dev).step(|| "error setting up /dev symlinks")
}

fn make_device(root: &Root, device: &Device, bind: bool) -> Result<()> {
    let step = || format!("error creating device node {}", device.path);
    let path = Path::new(&device.path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::refused(step(), "not a path of a file"));
    };
    let dir = root.mkdir_all(parent, Mode::from_raw_mode(0o755)).step(step)?;
    if bind && device.kind != DeviceKind::Fifo {
        return bind_from_host(&dir, name, device).step(step);
    }
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = DeviceNumber { major: device.major, minor: device.minor };
    // The umask is 0 while a container is set up, so the mode is exact.
    match make_node(&dir, name, kind, Mode::from_raw_mode(device.mode & 0o7777), number) {
        Ok(()) => set_owner(&dir, name, device).step(step),
        Err(error) if error.is(Errno::EXIST) => Ok(()),
        Err(error) if error.is(Errno::PERM) && device.kind != DeviceKind::Fifo => {
            bind_from_host(&dir, name, device).step(step)
        }
        Err(error) => Err(error).step(step),
    }
}

fn set_owner(dir: &OwnedFd, name: &OsStr, device: &Device) -> wharf_sys::Result<()> {
    if device.uid == 0 && device.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .on("chown", || name.to_string_lossy())
}

/// Binds the host's node of the same path, if it is the device that is meant.
fn bind_from_host(dir: &OwnedFd, name: &OsStr, device: &Device) -> wharf_sys::Result<()> {
    let source = rustix::fs::open(device.path.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .on("open", || device.path.as_str())?;
    let number = DeviceNumber::from_raw(stat(&source)?.st_rdev);
    if (number.major, number.minor) != (device.major, device.minor) {
        return Err(wharf_sys::Error::malformed(&device.path, "is another device on the host"));
    }
    let target = empty_file(dir, name)?;
    let node = mount::clone_tree_of(&source, Recursion::Single)?;
    mount::attach(&node, &target)
}

/// Opens a file to mount something over, made when missing; never through a symlink.
pub(super) fn empty_file(dir: &OwnedFd, name: &OsStr) -> wharf_sys::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o666)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).on("create", || name.to_string_lossy()),
    }
    let fd = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .on("open", || name.to_string_lossy())?;
    match wharf_sys::path::file_type(&fd)? {
        FileType::Symlink | FileType::Directory => {
            Err(wharf_sys::Error::malformed(name.to_string_lossy(), "is in the way of a device"))
        }
        _ => Ok(fd),
    }
}

fn make_links(dev: &OwnedFd) -> wharf_sys::Result<()> {
    // An image may bring a node or link of its own; the terminals are those of this container's devpts.
    match rustix::fs::unlinkat(dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).on("unlink", || "/dev/ptmx"),
    }
    let core = Path::new("/proc/kcore").exists().then_some(("core", "/proc/kcore"));
    for (name, target) in LINKS.iter().copied().chain(core) {
        match rustix::fs::symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).on("symlink", || format!("/dev/{name}")),
        }
    }
    Ok(())
}
