//! Project quotas: a limit on the blocks of a tree of directories, which ext4 (`prjquota`) and xfs (`pquota`) have
//! (source: quotactl(2), `linux/dqblk_xfs.h`, `linux/fs.h`; commands as moby `daemon/internal/quota`).

use crate::raw::check;
use crate::{Context, Result};
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const PROJECTS: i32 = 2;
/// `QCMD(Q_XGETQSTAT, PRJQUOTA)` and `QCMD(Q_XSETQLIM, PRJQUOTA)`: a command and the kind of quota.
const GET_STATE: i32 = (0x5805 << 8) | PROJECTS;
const SET_LIMIT: i32 = (0x5804 << 8) | PROJECTS;
/// `FS_QUOTA_PDQ_ACCT | FS_QUOTA_PDQ_ENFD`: usage of projects is counted and limited.
const COUNTED_AND_LIMITED: u16 = (1 << 4) | (1 << 5);
/// `FS_DQ_BSOFT | FS_DQ_BHARD`
const BLOCKS: u16 = (1 << 2) | (1 << 3);
/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`
const GET_ATTRIBUTES: u64 = 0x801c_581f;
const SET_ATTRIBUTES: u64 = 0x401c_5820;
/// What is made below has the same project.
const INHERIT: u32 = 0x200;
/// Limits are counted in these.
const BLOCK: u64 = 512;

/// `struct fs_quota_stat`
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    flags: u16,
    pad: i8,
    files: [u64; 6],
    counts_and_limits: [u32; 4],
    warnings: [u16; 2],
}

/// `struct fs_disk_quota`
#[repr(C)]
#[derive(Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    block_hard: u64,
    block_soft: u64,
    rest: [u64; 11],
}

/// `struct fsxattr`
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_on_write_extent_size: u32,
    pad: [u8; 8],
}

/// Whether the file system on this block device limits projects.
pub fn limits_projects(device: &Path) -> bool {
    let mut state = State::default();
    let asked = quotactl(GET_STATE, device, 0, (&raw mut state).cast());
    asked.is_ok() && state.flags & COUNTED_AND_LIMITED == COUNTED_AND_LIMITED
}

/// Limits a project of the file system on this device to so many bytes.
pub fn limit_project(device: &Path, project: u32, bytes: u64) -> Result<()> {
    let blocks = bytes / BLOCK;
    let mut quota = DiskQuota {
        version: 1,
        flags: PROJECTS as i8,
        fields: BLOCKS,
        id: project,
        block_hard: blocks,
        block_soft: blocks,
        ..DiskQuota::default()
    };
    quotactl(SET_LIMIT, device, project, (&raw mut quota).cast())
        .on("quotactl", || format!("{bytes} bytes for project {project} on {}", device.display()))
}

/// The project of a directory; 0 is none.
pub fn project_of(directory: impl AsFd) -> Result<u32> {
    attributes(directory.as_fd())
        .map(|attributes| attributes.project)
        .on("ioctl", || "project of a directory")
}

/// Gives an empty directory to a project, and what will be made in it.
pub fn set_project(directory: impl AsFd, project: u32) -> Result<()> {
    let directory = directory.as_fd();
    let set = attributes(directory).and_then(|mut attributes| {
        attributes.project = project;
        attributes.flags |= INHERIT;
        let fd = directory.as_raw_fd();
        // SAFETY: the descriptor is open, and `attributes` is a live struct fsxattr, which the kernel only reads.
        let value = unsafe { libc::syscall(libc::SYS_ioctl, fd, SET_ATTRIBUTES, &raw mut attributes) };
        check(value).map(drop)
    });
    set.on("ioctl", || format!("project {project} of a directory"))
}

fn attributes(directory: rustix::fd::BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mut attributes = Attributes::default();
    let fd = directory.as_raw_fd();
    // SAFETY: the descriptor is open, and `attributes` is a live struct fsxattr for the kernel to fill.
    let value = unsafe { libc::syscall(libc::SYS_ioctl, fd, GET_ATTRIBUTES, &raw mut attributes) };
    check(value).map(|_| attributes)
}

/// `data` points to the live structure that the command is for.
fn quotactl(command: i32, device: &Path, id: u32, data: *mut libc::c_void) -> Result<(), Errno> {
    let device = CString::new(device.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the path ends with a nul byte, and both callers give the structure of their command.
    let value = unsafe { libc::syscall(libc::SYS_quotactl, command, device.as_ptr(), id, data) };
    check(value).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<State>(), 80);
        assert_eq!(std::mem::offset_of!(State, files), 8);
    }

    #[test]
    fn what_is_no_device_limits_nothing() {
        assert!(!limits_projects(Path::new("/dev/null")));
        assert!(limit_project(Path::new("/dev/null"), 1, 1 << 20).is_err());
    }
}
