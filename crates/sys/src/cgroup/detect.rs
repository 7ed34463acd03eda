//! Which hierarchies there are, and where a process is in them.

use super::{Cgroup, Dirs, Hierarchies, Hierarchy, v1};
use crate::mount::MountInfo;
use crate::{Error, Result};
use std::path::Path;

/// Words in a v1 hierarchy's super block options that are no controllers.
const OPTIONS: [&str; 8] =
    ["rw", "ro", "none", "noprefix", "clone_children", "xattr", "cpuset_v2_mode", "nsdelegate"];

/// v1 as soon as one of its controllers is mounted, else v2.
pub(super) fn from_mounts(mounts: &[MountInfo]) -> Result<Hierarchies> {
    let mut v1: Vec<Hierarchy> = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.fs_type == "cgroup") {
        let controllers = controllers_of(&mount.super_options);
        // A hierarchy may be mounted in several places; the first is the usual one.
        if !controllers.is_empty() && !v1.iter().any(|known| known.controllers == controllers) {
            v1.push(Hierarchy { controllers, mountpoint: mount.target.clone() });
        }
    }
    if v1.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| !name.starts_with("name="))) {
        return Ok(Hierarchies::V1(v1));
    }
    let v2 = mounts.iter().find(|mount| mount.fs_type == "cgroup2");
    match v2 {
        Some(mount) => Ok(Hierarchies::V2(mount.target.clone())),
        None => Err(Error::malformed("/proc/self/mountinfo", "no control group hierarchy is mounted")),
    }
}

fn controllers_of(super_options: &str) -> Vec<String> {
    let words = super_options
        .split(',')
        .filter(|word| !OPTIONS.contains(word) && !word.starts_with("release_agent="));
    words.map(str::to_owned).collect()
}

/// A group's path without a leading slash, refused when it could leave the hierarchy.
pub(super) fn checked_path(path: &str) -> Result<String> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    let hostile = path.contains('\0') || path.split('/').any(|part| part == ".." || part == ".");
    if hostile || parts.peek().is_none() {
        return Err(Error::malformed(format!("cgroup path {path:?}"), "is empty or not plain"));
    }
    Ok(parts.collect::<Vec<_>>().join("/"))
}

/// Builds the group that the text of `/proc/<pid>/cgroup` names.
pub(super) fn of_process(hierarchies: &Hierarchies, text: &str) -> Option<Cgroup> {
    let place = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let matches = controllers.split(',').any(|name| name == wanted);
            matches.then(|| fields.next().map(|path| path.trim_start_matches('/').to_owned()))?
        })
    };
    match hierarchies {
        Hierarchies::V2(root) => {
            let path = place("")?;
            Some(Cgroup { dirs: Dirs::V2(join(root, &path)), path })
        }
        Hierarchies::V1(all) => {
            let dir = |hierarchy: &Hierarchy| {
                let path = place(hierarchy.controllers.first()?)?;
                Some(v1::Dir {
                    controllers: hierarchy.controllers.clone(),
                    root: hierarchy.mountpoint.clone(),
                    path: join(&hierarchy.mountpoint, &path),
                })
            };
            let dirs: Vec<v1::Dir> = all.iter().filter_map(dir).collect();
            let path = place("memory").or_else(|| place("cpu")).or_else(|| place("pids")).unwrap_or_default();
            (!dirs.is_empty()).then_some(Cgroup { path, dirs: Dirs::V1(dirs) })
        }
    }
}

fn join(root: &Path, path: &str) -> std::path::PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::parse_mountinfo;

    const HYBRID: &str = "\
30 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
33 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
34 30 0:29 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct
";
    const UNIFIED: &str = "33 30 0:31 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn hybrid_is_v1_and_unified_is_v2() {
        let Hierarchies::V1(all) = from_mounts(&parse_mountinfo(HYBRID)).unwrap() else { panic!("not v1") };
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(all[1].controllers, ["name=systemd"]);
        assert_eq!(from_mounts(&parse_mountinfo(UNIFIED)).unwrap(), Hierarchies::V2("/sys/fs/cgroup".into()));
        assert!(from_mounts(&[]).is_err());
        let named =
            "32 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n".to_owned() + UNIFIED;
        assert_eq!(from_mounts(&parse_mountinfo(&named)).unwrap(), Hierarchies::V2("/sys/fs/cgroup".into()));
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(checked_path("/docker/abc").unwrap(), "docker/abc");
        assert_eq!(checked_path("docker//abc/").unwrap(), "docker/abc");
        for bad in ["", "/", "a/../b", "..", "./a", "a\0b"] {
            assert!(checked_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn finds_the_group_of_a_process() {
        let v1 = from_mounts(&parse_mountinfo(HYBRID)).unwrap();
        let group = of_process(&v1, "4:cpu,cpuacct:/docker/x\n1:name=systemd:/\n0::/\n").unwrap();
        assert_eq!(group.dir("cpuacct").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/docker/x"));
        let v2 = from_mounts(&parse_mountinfo(UNIFIED)).unwrap();
        assert_eq!(of_process(&v2, "0::/a/b:c\n").unwrap().path(), "/a/b:c");
    }
}
