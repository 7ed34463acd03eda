//! What a container's file system is made of, opened by the parent: the host's paths are looked up once,
//! here, with the parent's privileges and in its mount namespace, so that shared subtrees of the host stay
//! what they are.

use crate::error::{Error, Result, Step};
use crate::spawn;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_spec::plan::{Fd, IdMaps, Mount, MountKind, Plan, Source};
use wharf_sys::Errno;
use wharf_sys::mount::{self, AttrChange, Recursion};
use wharf_sys::process::SingleThreaded;

/// A descriptor that came with the plan, or one opened here.
#[derive(Debug)]
pub(crate) enum Handle<'a> {
    Given(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Handle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Handle::Given(fd) => *fd,
            Handle::Opened(fd) => fd.as_fd(),
        }
    }
}

/// Detached mounts, ready to be attached in the new mount namespace.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) root: Handle<'a>,
    /// One for each mount of the plan; `None` for those that are not binds.
    pub(crate) binds: Vec<Option<Handle<'a>>>,
    /// The program of `--init`.
    pub(crate) init: Option<Handle<'a>>,
}

/// Opens everything. A [`Source::Fd`] is a detached mount already (open_tree(2) with OPEN_TREE_CLONE).
pub(crate) fn open<'a>(
    plan: &Plan,
    fds: &'a [OwnedFd],
    init_program: Option<BorrowedFd<'_>>,
    proof: SingleThreaded,
) -> Result<Sources<'a>> {
    let root = open_source(&plan.root.source, Recursion::Tree, fds).map_err(|error| match error {
        Error::Step { source, .. } => Error::Step { step: "error preparing rootfs".to_owned(), source },
        other => other,
    })?;
    let binds = plan.mounts.iter().map(|mount| open_bind(mount, fds, proof)).collect::<Result<_>>()?;
    let init = match (plan.init, init_program) {
        (false, _) => None,
        (true, Some(program)) => Some(open_init(program)?),
        (true, None) => return Err(Error::refused("docker-init", "there is no init program")),
    };
    Ok(Sources { root, binds, init })
}

fn open_bind<'a>(mount: &Mount, fds: &'a [OwnedFd], proof: SingleThreaded) -> Result<Option<Handle<'a>>> {
    let MountKind::Bind { source, recursive } = &mount.kind else { return Ok(None) };
    let recursion = if *recursive { Recursion::Tree } else { Recursion::Single };
    let handle = open_source(source, recursion, fds).map_err(|error| match error {
        Error::Step { source, .. } => Error::Step { step: mounting(mount), source },
        other => other,
    })?;
    if let Some(maps) = &mount.idmap {
        let recursion = if mount.idmap_single { Recursion::Single } else { recursion };
        map_ids(mount, &handle, maps, recursion, proof)?;
    }
    Ok(Some(handle))
}

/// Read-only, since the container's first process will be this file (CVE-2019-5736).
fn open_init<'a>(program: BorrowedFd<'_>) -> Result<Handle<'a>> {
    mount::clone_tree_of(program, Recursion::Single).map(Handle::Opened).step(|| "docker-init")
}

fn open_source<'a>(source: &Source, recursion: Recursion, fds: &'a [OwnedFd]) -> Result<Handle<'a>> {
    match source {
        Source::Fd(fd) => Ok(Handle::Given(given(*fd, fds)?)),
        Source::Path(path) => {
            mount::clone_tree(Path::new(path), recursion).map(Handle::Opened).step(|| "open mount source")
        }
    }
}

/// The descriptor that came with the plan under this index.
pub(crate) fn given(fd: Fd, fds: &[OwnedFd]) -> Result<BorrowedFd<'_>> {
    let missing =
        || Error::refused("invalid configuration", format!("descriptor {} did not come with the plan", fd.0));
    fds.get(usize::from(fd.0)).map(AsFd::as_fd).ok_or_else(missing)
}

/// runc's words for an error about a mount.
pub(crate) fn mounting(mount: &Mount) -> String {
    let source = match &mount.kind {
        MountKind::Proc => "proc",
        MountKind::Sysfs => "sysfs",
        MountKind::Devpts => "devpts",
        MountKind::Mqueue => "mqueue",
        MountKind::Cgroup => "cgroup",
        MountKind::Tmpfs { .. } => "tmpfs",
        MountKind::Bind { source: Source::Path(path), .. } => path,
        MountKind::Bind { source: Source::Fd(_), .. } => "bind",
        MountKind::Other { source, .. } => source,
    };
    format!("error mounting {source:?} to rootfs at {:?}", mount.target)
}

/// Makes a detached mount show its files under other ids: a user namespace with the mapping is made for the
/// purpose, which lives on in the mount.
fn map_ids(
    mount: &Mount,
    tree: &Handle<'_>,
    maps: &IdMaps,
    recursion: Recursion,
    proof: SingleThreaded,
) -> Result<()> {
    let namespace = spawn::user_namespace(maps, proof)?;
    let change = AttrChange { idmap: Some(namespace.as_fd()), ..AttrChange::default() };
    match mount::set_attrs(tree, &change, recursion) {
        // What the kernel answers for a file system that cannot, and a kernel that is too old (5.12).
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::NOSYS) => {
            let problem = "failed to set MOUNT_ATTR_IDMAP: the file system, or one that is mounted below it, or \
                           this kernel does not support idmapped mounts";
            Err(Error::refused(mounting(mount), problem))
        }
        other => other.step(|| format!("{}: failed to set MOUNT_ATTR_IDMAP", mounting(mount))),
    }
}
