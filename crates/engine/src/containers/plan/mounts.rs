//! What is mounted into a container: the kernel's file systems, `/etc/hosts` and its like, and the
//! container's own mounts (source: moby `daemon/oci_linux.go`, withMounts, and `daemon/pkg/oci/defaults.go`).

use super::propagation_of;
pub(super) use crate::containers::mounts::Owners;
use crate::{
    Error, Result,
    containers::{mounts::id_maps, record::MountPoint},
};
use std::{borrow::Cow, collections::BTreeMap};
use wharf_api::{container as api, mount::TmpfsOptions};
use wharf_spec::plan::{Fd, Mount, MountAttrs, MountKind, Propagation, Source};

/// What the mounts are made of.
pub(super) struct MountInput<'a> {
    pub(super) host: &'a api::HostConfig,
    pub(super) owners: Owners,
    pub(super) files: &'a [(&'static str, String)],
    pub(super) shm: Option<&'a str>,
    pub(super) points: &'a BTreeMap<String, MountPoint>,
    /// What mount points bring that no path says, by destination.
    pub(super) trees: BTreeMap<String, Fd>,
    pub(super) writable_cgroups: Option<bool>,
}

/// All mounts in the order they are made.
///
/// # Errors
/// For a target below `/proc`, and tmpfs options that make no sense.
pub(super) fn mounts(input: &MountInput<'_>) -> Result<Vec<Mount>> {
    let mut own = own_mounts(input)?;
    // A mount below another one comes after it (source: moby `daemon/volumes.go`, mountSort).
    own.sort_by_key(|mount| depth(&mount.target));
    let has = |target: &str| own.iter().any(|mount| mount.target == target);
    let mut all: Vec<Mount> = defaults(input)
        .into_iter()
        .filter(|mount| !has(&mount.target) && (!has("/dev") || !mount.target.starts_with("/dev/")))
        .collect();
    all.extend(own);
    Ok(all)
}

fn depth(target: &str) -> usize {
    target.split('/').filter(|part| !part.is_empty()).count()
}

/// What every container has.
fn defaults(input: &MountInput<'_>) -> Vec<Mount> {
    let closed = MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
    let privileged = input.host.privileged;
    let readonly_unless = |writable| if writable { MountAttrs::empty() } else { MountAttrs::READONLY };
    let tmpfs = |options: &[(&str, String)]| MountKind::Tmpfs {
        options: options.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
        copy_up: false,
    };
    let dev = tmpfs(&[("mode", "755".into()), ("size", "65536k".into())]);
    let mut all = vec![
        mount("/proc", MountKind::Proc, closed),
        mount("/dev", dev, MountAttrs::NOSUID | MountAttrs::STRICTATIME),
        mount("/dev/pts", MountKind::Devpts, MountAttrs::NOSUID | MountAttrs::NOEXEC),
        mount("/sys", MountKind::Sysfs, closed | readonly_unless(privileged)),
        mount(
            "/sys/fs/cgroup",
            MountKind::Cgroup,
            closed | readonly_unless(input.writable_cgroups.unwrap_or(privileged)),
        ),
        mount("/dev/mqueue", MountKind::Mqueue, closed),
    ];
    // A container without IPC has no /dev/shm either.
    if input.host.ipc_mode.as_str() != "none" {
        let shm = tmpfs(&[("mode", "1777".into()), ("size", input.host.shm_size.to_string())]);
        all.push(mount("/dev/shm", shm, closed));
    }
    all
}

fn mount(target: &str, kind: MountKind, attrs: MountAttrs) -> Mount {
    Mount {
        target: target.into(),
        kind,
        attrs,
        recursive_attrs: false,
        propagation: None,
        idmap: None,
        idmap_single: false,
    }
}

fn bind(source: &str, target: &str, recursive: bool) -> Mount {
    bind_of(Source::Path(source.into()), target, recursive)
}

fn bind_of(source: Source, target: &str, recursive: bool) -> Mount {
    let kind = MountKind::Bind { source, recursive };
    let propagation = Some(Propagation::RPrivate);
    Mount { propagation, ..mount(target, kind, MountAttrs::empty()) }
}

/// The container's own: mount points, tmpfs, `/etc/hosts` and its like, a shared `/dev/shm`.
fn own_mounts(input: &MountInput<'_>) -> Result<Vec<Mount>> {
    let mut all = Vec::new();
    for point in input.points.values() {
        refuse_proc(&point.destination)?;
        all.push(point_mount(point, input)?);
    }
    for (target, options) in &input.host.tmpfs {
        refuse_proc(target)?;
        all.push(tmpfs_mount(target, options)?);
    }
    for (target, file) in input.files {
        if !input.points.contains_key(*target) {
            let mut mount = bind(file, target, true);
            mount.attrs.set(MountAttrs::READONLY, input.host.readonly_rootfs);
            all.push(mount);
        }
    }
    if let Some(shm) = input.shm
        && !input.points.contains_key("/dev/shm")
        && !input.host.tmpfs.contains_key("/dev/shm")
    {
        all.push(bind(shm, "/dev/shm", true));
    }
    Ok(all)
}

/// Nothing may hide `/proc` or lie in it but the few files that lxcfs provides: what a container writes to
/// its own `/proc` is trusted by whoever enters it (CVE-2019-16884; source: runc `libcontainer/rootfs_linux.go`,
/// checkProcMount).
fn refuse_proc(target: &str) -> Result<()> {
    const ALLOWED: [&str; 10] = [
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/net/dev",
        "/proc/sys/kernel/ns_last_pid",
    ];
    let inside = target == "/proc" || target.starts_with("/proc/");
    if inside && !ALLOWED.contains(&target) {
        return Err(Error::Start {
            code: 128,
            message: format!(
                "failed to create shim task: OCI runtime create failed: check mountpoint: {target:?} cannot be mounted because it is inside /proc: unknown"
            ),
        });
    }
    Ok(())
}

fn point_mount(point: &MountPoint, input: &MountInput<'_>) -> Result<Mount> {
    if point.kind == "tmpfs" {
        let options = point.spec.tmpfs_options.clone().unwrap_or_default();
        return tmpfs_mount(&point.destination, &tmpfs_text(&options, !point.rw));
    }
    let options = point.spec.bind_options.clone().unwrap_or_default();
    let source = match input.trees.get(&point.destination) {
        Some(tree) => Source::Fd(*tree),
        None => Source::Path(point.source.clone()),
    };
    let mut mount = bind_of(source, &point.destination, !options.non_recursive);
    if !point.rw {
        mount.attrs |= MountAttrs::READONLY;
        mount.recursive_attrs = !options.read_only_non_recursive;
    }
    refuse_conflicts(point)?;
    if let Some(propagation) = propagation_of(&point.propagation) {
        mount.propagation = Some(propagation);
    }
    mount.idmap = id_maps(point, &input.owners)?;
    Ok(mount)
}

/// Source: moby `daemon/volumes_unix.go`, setupMounts, and `daemon/oci_linux.go`, supportsRecursivelyReadOnly.
fn refuse_conflicts(point: &MountPoint) -> Result<()> {
    let Some(options) = &point.spec.bind_options else { return Ok(()) };
    let (alone, forced) = (options.read_only_non_recursive, options.read_only_force_recursive);
    let conflict = match (point.spec.read_only, alone, forced) {
        (false, true, _) => "!ReadOnly && BindOptions.ReadOnlyNonRecursive",
        (false, _, true) => "!ReadOnly && BindOptions.ReadOnlyForceRecursive",
        (true, true, true) => "ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        (true, false, true) if !wharf_sys::mount::has_recursive_attributes() => {
            return Err(Error::Refused("rro is not supported: kernel is older than 5.12".into()));
        }
        _ => return Ok(()),
    };
    Err(Error::Refused(format!("mount options conflict: {conflict}")))
}

/// Docker's text for the options of a structured tmpfs mount (source: moby `linux_parser.go`,
/// ConvertTmpfsOptions).
fn tmpfs_text(options: &TmpfsOptions, readonly: bool) -> String {
    let mut words: Vec<Cow<'_, str>> = Vec::new();
    if readonly {
        words.push("ro".into());
    }
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode & 0o7777).into());
    }
    if options.size_bytes != 0 {
        words.push(format!("size={}", options.size_bytes).into());
    }
    for option in &options.options {
        words.push(option.join("=").into());
    }
    words.join(",")
}

/// A tmpfs with Docker's defaults `noexec,nosuid,nodev`, which its options can lift (source: moby
/// `daemon/pkg/...`, moby/sys/mount MergeTmpfsOptions).
fn tmpfs_mount(target: &str, options: &str) -> Result<Mount> {
    let mut attrs = MountAttrs::NOEXEC | MountAttrs::NOSUID | MountAttrs::NODEV;
    let mut data: Vec<(String, String)> = Vec::new();
    let mut propagation = Some(Propagation::RPrivate);
    for word in options.split(',').filter(|word| !word.is_empty()) {
        if let Some((flag, set)) = flag(word) {
            attrs.set(flag, set);
        } else if let Some(mode) = propagation_of(word) {
            propagation = Some(mode);
        } else {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let known =
                matches!(name, "size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol" | "huge");
            if !known || value.is_empty() {
                let parts: Vec<String> = word.splitn(2, '=').map(|part| format!("{part:?}")).collect();
                return Err(Error::Refused(format!("invalid tmpfs option [{}]", parts.join(" "))));
            }
            data.retain(|(old, _)| old != name);
            data.push((name.into(), value.into()));
        }
    }
    let kind = MountKind::Tmpfs { options: data, copy_up: false };
    Ok(Mount { propagation, ..mount(target, kind, attrs) })
}

/// Mount options in the form of an OCI `config.json`, sorted out.
#[derive(Debug, Default)]
pub(crate) struct MountOptions {
    pub(crate) attrs: MountAttrs,
    /// An attribute had an `r` before it, and holds for submounts too.
    pub(crate) recursive_attrs: bool,
    /// `bind` is `Some(false)`, `rbind` `Some(true)`.
    pub(crate) bind: Option<bool>,
    pub(crate) propagation: Option<Propagation>,
    /// What the file system gets; an empty value is a flag.
    pub(crate) data: Vec<(String, String)>,
}

/// Reads the options of a mount that somebody describes in OCI's words.
///
/// # Errors
/// With the word that cannot be had.
pub(crate) fn mount_options(words: &[String]) -> Result<MountOptions, String> {
    let mut options = MountOptions::default();
    for word in words.iter().flat_map(|words| words.split(',')).filter(|word| !word.is_empty()) {
        let recursive = word.strip_prefix('r').and_then(flag);
        match word {
            "bind" => options.bind = options.bind.or(Some(false)),
            "rbind" => options.bind = Some(true),
            "unbindable" | "runbindable" | "idmap" | "ridmap" => return Err(word.to_owned()),
            _ => {
                if let Some(propagation) = propagation_of(word) {
                    options.propagation = Some(propagation);
                } else if let Some((attrs, set)) = flag(word).or(recursive) {
                    options.attrs.set(attrs, set);
                    options.recursive_attrs |= flag(word).is_none();
                } else {
                    let (name, value) = word.split_once('=').unwrap_or((word, ""));
                    options.data.push((name.to_owned(), value.to_owned()));
                }
            }
        }
    }
    Ok(options)
}

/// A mount flag's word: which attribute it sets or lifts.
fn flag(word: &str) -> Option<(MountAttrs, bool)> {
    Some(match word {
        "defaults" | "relatime" | "atime" | "diratime" => (MountAttrs::empty(), false),
        "ro" => (MountAttrs::READONLY, true),
        "rw" => (MountAttrs::READONLY, false),
        "nosuid" => (MountAttrs::NOSUID, true),
        "suid" => (MountAttrs::NOSUID, false),
        "nodev" => (MountAttrs::NODEV, true),
        "dev" => (MountAttrs::NODEV, false),
        "noexec" => (MountAttrs::NOEXEC, true),
        "exec" => (MountAttrs::NOEXEC, false),
        "noatime" => (MountAttrs::NOATIME, true),
        "nodiratime" => (MountAttrs::NODIRATIME, true),
        "strictatime" => (MountAttrs::STRICTATIME, true),
        _ => return None,
    })
}

/// A shared mount needs a shared root, a slave one at least a slave (source: moby `daemon/oci_linux.go`).
pub(super) fn root_propagation(points: &BTreeMap<String, MountPoint>) -> Propagation {
    let has = |words: [&str; 2]| points.values().any(|p| words.contains(&p.propagation.as_str()));
    if has(["shared", "rshared"]) {
        Propagation::Shared
    } else if has(["slave", "rslave"]) {
        Propagation::RSlave
    } else {
        Propagation::RPrivate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(host: &api::HostConfig, points: &[MountPoint]) -> Result<Vec<Mount>> {
        let points = points.iter().map(|p| (p.destination.clone(), p.clone())).collect();
        mounts(&MountInput {
            host,
            owners: Owners::default(),
            files: &[("/etc/hosts", "/c/hosts".into())],
            shm: None,
            points: &points,
            trees: BTreeMap::new(),
            writable_cgroups: None,
        })
    }

    fn point(kind: &str, destination: &str) -> MountPoint {
        MountPoint {
            kind: kind.into(),
            source: "/src".into(),
            destination: destination.into(),
            rw: true,
            ..Default::default()
        }
    }

    fn targets(mounts: &[Mount]) -> Vec<&str> {
        mounts.iter().map(|m| m.target.as_str()).collect()
    }

    #[test]
    fn own_mounts_replace_and_follow_the_defaults() {
        let host = api::HostConfig { shm_size: 7, ..Default::default() };
        let plain = build(&host, &[]).unwrap();
        assert_eq!(
            targets(&plain),
            ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm", "/etc/hosts"]
        );
        let MountKind::Tmpfs { options, .. } = &plain[6].kind else { panic!() };
        assert!(options.contains(&("size".into(), "7".into())));
        let own =
            build(&host, &[point("bind", "/a/b"), point("bind", "/dev"), point("volume", "/a")]).unwrap();
        assert_eq!(targets(&own), ["/proc", "/sys", "/sys/fs/cgroup", "/a", "/dev", "/a/b", "/etc/hosts"]);
        let hosts = build(&host, &[point("bind", "/etc/hosts")]).unwrap();
        assert_eq!(targets(&hosts).iter().filter(|t| **t == "/etc/hosts").count(), 1);
    }

    #[test]
    fn flags_follow_the_request() {
        let mut host =
            api::HostConfig { readonly_rootfs: true, ipc_mode: "none".into(), ..Default::default() };
        host.tmpfs.insert("/t".into(), "size=1m,exec,mode=1777".into());
        let mut readonly = point("bind", "/r");
        (readonly.rw, readonly.propagation) = (false, "rslave".into());
        let all = build(&host, &[readonly]).unwrap();
        let get = |target: &str| all.iter().find(|m| m.target == target);
        assert!(get("/dev/shm").is_none());
        let r = get("/r").unwrap();
        assert!(r.attrs.contains(MountAttrs::READONLY) && r.recursive_attrs);
        assert_eq!(r.propagation, Some(Propagation::RSlave));
        assert!(get("/etc/hosts").unwrap().attrs.contains(MountAttrs::READONLY));
        let t = get("/t").unwrap();
        assert_eq!(t.attrs, MountAttrs::NOSUID | MountAttrs::NODEV);
        assert!(get("/sys").unwrap().attrs.contains(MountAttrs::READONLY));
        let privileged = build(&api::HostConfig { privileged: true, ..Default::default() }, &[]).unwrap();
        assert!(!privileged[3].attrs.contains(MountAttrs::READONLY));
    }

    #[test]
    fn proc_and_nonsense_are_refused() {
        let host = api::HostConfig::default();
        assert!(build(&host, &[point("volume", "/proc")]).is_err());
        assert!(build(&host, &[point("bind", "/proc/self")]).is_err());
        assert!(build(&host, &[point("bind", "/proc/cpuinfo")]).is_ok());
        assert!(tmpfs_mount("/t", "lowerdir=/x").is_err());
        assert!(tmpfs_mount("/t", "size").is_err());
    }

    #[test]
    fn options_in_ocis_words() {
        let read = |text: &str| mount_options(&[text.to_owned()]);
        let options = read("rbind,rro,nosuid,rslave,size=1m").unwrap();
        assert_eq!(options.attrs, MountAttrs::READONLY | MountAttrs::NOSUID);
        assert!(options.recursive_attrs && options.bind == Some(true));
        assert_eq!(options.propagation, Some(Propagation::RSlave));
        assert_eq!(options.data, [("size".to_owned(), "1m".to_owned())]);
        let plain = read("bind,rw").unwrap();
        assert!(plain.attrs.is_empty() && !plain.recursive_attrs && plain.bind == Some(false));
        assert_eq!(read("unbindable").unwrap_err(), "unbindable");
    }

    #[test]
    fn structured_tmpfs_options() {
        let options = TmpfsOptions { size_bytes: 1 << 20, mode: 0o777, ..Default::default() };
        assert_eq!(tmpfs_text(&options, true), "ro,mode=777,size=1048576");
        assert_eq!(root_propagation(&BTreeMap::new()), Propagation::RPrivate);
    }
}
