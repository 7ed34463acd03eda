//! `/sys/fs/cgroup` of a container: the v2 tree, or a tmpfs with one directory for each v1 hierarchy (source:
//! runc `mountCgroupV1`, `mountCgroupV2`).

use super::super::Setup;
use super::super::pivot::{add_attrs, set_readonly};
use super::{Made, attach_new, finish_bind, has_cgroup_namespace, target};
use crate::error::{Result, Step};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::path::Path;
use wharf_spec::plan::{Mount, MountAttrs};
use wharf_sys::cgroup::{Cgroup, Hierarchies, Hierarchy};
use wharf_sys::mount::{self, Recursion};
use wharf_sys::path::Root;
use wharf_sys::{Context, Errno};

pub(super) fn make(setup: &Setup<'_>, root: &Root, mount: &Mount, made: &mut Made) -> Result<()> {
    let hierarchies = Hierarchies::detect().step(String::new)?;
    let own;
    let group = match setup.cgroup {
        Some(group) => group,
        None => {
            own = hierarchies.of_process(std::process::id() as i32).step(String::new)?;
            &own
        }
    };
    match &hierarchies {
        Hierarchies::V2(top) => v2(setup, root, mount, top, group),
        Hierarchies::V1(all) => v1(setup, root, mount, (all, group), made),
    }
}

fn v2(setup: &Setup<'_>, root: &Root, mount: &Mount, top: &Path, group: &Cgroup) -> Result<()> {
    let target = target::directory(root, mount)?;
    match mount::new_filesystem("cgroup2", &[], mount.attrs) {
        Ok(filesystem) => attach_new(mount, &filesystem, &target),
        // In a user namespace without a cgroup namespace: a bind of what the namespace would show.
        Err(error) if error.is(Errno::PERM) || error.is(Errno::BUSY) => {
            let source = match (has_cgroup_namespace(setup), group.dir("")) {
                (true, Some(dir)) => dir,
                _ => top,
            };
            let bind = mount::clone_tree(source, Recursion::Tree).step(String::new)?;
            mount::attach(&bind, &target).step(String::new)?;
            finish_bind(mount, &bind, Recursion::Tree)
        }
        Err(error) => Err(error).step(String::new),
    }
}

fn v1(
    setup: &Setup<'_>,
    root: &Root,
    mount: &Mount,
    (all, group): (&[Hierarchy], &Cgroup),
    made: &mut Made,
) -> Result<()> {
    let target = target::directory(root, mount)?;
    let attrs = MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
    let top = mount::new_filesystem("tmpfs", &[("mode", "755")], attrs).step(String::new)?;
    attach_new(mount, &top, &target)?;
    for hierarchy in all {
        let Some(name) = hierarchy.mountpoint.file_name() else { continue };
        let Some(dir) = hierarchy.controllers.first().and_then(|controller| group.dir(controller)) else {
            continue;
        };
        rustix::fs::mkdirat(&top, name, Mode::from_raw_mode(0o755))
            .on("mkdir", || name.to_string_lossy())
            .step(String::new)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(&top, name, flags, Mode::empty())
            .on("open", || name.to_string_lossy())
            .step(String::new)?;
        match has_cgroup_namespace(setup) {
            true => attach_hierarchy(hierarchy, mount, attrs, &place)?,
            false => {
                let bind = mount::clone_tree(dir, Recursion::Tree).step(String::new)?;
                mount::attach(&bind, &place).step(String::new)?;
                finish_bind(mount, &bind, Recursion::Tree)?;
                add_attrs(&bind, attrs, Recursion::Single).step(String::new)?;
            }
        }
        link_controllers(&top, hierarchy, &name.to_string_lossy())?;
    }
    if mount.attrs.contains(MountAttrs::READONLY) {
        made.readonly_at_the_end.push(top);
    }
    Ok(())
}

/// Mounts a hierarchy anew: the cgroup namespace makes the container's group its root.
fn attach_hierarchy(hierarchy: &Hierarchy, mount: &Mount, attrs: MountAttrs, place: &OwnedFd) -> Result<()> {
    let mut options = Vec::new();
    for controller in &hierarchy.controllers {
        match controller.strip_prefix("name=") {
            Some(name) => options.extend([("none", ""), ("name", name)]),
            None => options.push((controller.as_str(), "")),
        }
    }
    let filesystem = mount::new_filesystem("cgroup", &options, attrs).step(String::new)?;
    mount::attach(&filesystem, place).step(String::new)?;
    match mount.attrs.contains(MountAttrs::READONLY) {
        true => set_readonly(&filesystem).step(String::new),
        false => Ok(()),
    }
}

/// `cpu` and `cpuacct` as links to `cpu,cpuacct`.
fn link_controllers(top: &OwnedFd, hierarchy: &Hierarchy, name: &str) -> Result<()> {
    if !name.contains(',') {
        return Ok(());
    }
    for controller in hierarchy.controllers.iter().filter(|controller| controller.as_str() != name) {
        match rustix::fs::symlinkat(name, top, controller.as_str()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).on("symlink", || controller.as_str()).step(String::new),
        }
    }
    Ok(())
}
