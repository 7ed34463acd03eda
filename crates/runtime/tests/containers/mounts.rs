//! Mounts: kinds, attributes, and everything a hostile image tries with their targets.

use crate::Test;
use crate::fixture::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use wharf_spec::plan::*;
use wharf_sys::process::{self, CloneOptions, Exit, Fork, SingleThreaded};

pub(crate) const TESTS: &[Test] = &[
    ("mounts::the_usual_ones", the_usual_ones),
    ("mounts::binds_of_files_and_directories", binds_of_files_and_directories),
    ("mounts::readonly_root_and_tmpfs", readonly_root_and_tmpfs),
    ("mounts::tmpfs_takes_over_mode_and_content", tmpfs_takes_over_mode_and_content),
    ("mounts::ids_are_mapped", ids_are_mapped),
    ("mounts::propagation", propagation),
    ("mounts::proc_is_not_covered", proc_is_not_covered),
    ("mounts::symlinks_for_kernel_directories_are_refused", symlinks_for_kernel_directories_are_refused),
    ("mounts::symlinks_stay_inside", symlinks_stay_inside),
    ("mounts::swapped_targets_stay_inside", swapped_targets_stay_inside),
    ("mounts::detached_mounts_are_taken", detached_mounts_are_taken),
    ("mounts::kinds_must_fit", kinds_must_fit),
    ("mounts::cgroup_views", cgroup_views),
];

fn the_usual_ones() {
    let root = Rootfs::new();
    let text = output(&root.plan(&["cat", "/proc/mounts"]));
    let line = |target: &str| {
        let found = text.lines().find(|line| line.split(' ').nth(1) == Some(target));
        found.unwrap_or_else(|| panic!("{target} is missing: {text}")).to_owned()
    };
    assert!(line("/proc").contains(" proc rw,nosuid,nodev,noexec,relatime"));
    assert!(line("/dev").contains(" tmpfs rw,nosuid,relatime,size=65536k,mode=755"), "{text}");
    assert!(
        line("/dev/pts").contains(" devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666"),
        "{text}"
    );
    assert!(line("/sys").contains(" sysfs ro,nosuid,nodev,noexec,relatime"));
    assert!(line("/dev/mqueue").contains(" mqueue rw,nosuid,nodev,noexec,relatime"));
    assert!(line("/dev/shm").contains(" tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k"), "{text}");
    assert!(line("/proc/sys").contains(" proc ro,nosuid,nodev,noexec,relatime"));
    assert!(line("/sys/firmware").contains(" tmpfs ro,relatime"), "{text}");
    let own: Vec<&str> = text.lines().filter(|line| line.split(' ').nth(1) == Some("/")).collect();
    assert_eq!(own.len(), 1, "nothing of the host is left: {text}");
}

fn binds_of_files_and_directories() {
    let root = Rootfs::new();
    let (dir, file) = (root.outside("dir"), root.outside("file"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("x"), "in dir").unwrap();
    std::fs::write(&file, "a file").unwrap();
    let mut plan =
        root.script("cat /new/dir/x /etc/new/file; echo changed > /new/dir/x; echo changed > /etc/new/file");
    plan.mounts.push(bind(&dir, "/new/dir", MountAttrs::READONLY));
    plan.mounts.push(bind(&file, "/etc/new/file", MountAttrs::empty()));
    let outcome = run(&plan);
    assert_eq!(outcome.out, "in dira file");
    assert!(outcome.err.contains("/new/dir/x: Read-only file system"), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "changed\n");
    plan.mounts.push(bind(&root.outside("missing"), "/x", MountAttrs::empty()));
    let failure = failure(&plan);
    let expected = format!("error mounting {:?} to rootfs at \"/x\": ", root.outside("missing"));
    assert!(
        failure.message.starts_with(&expected) && failure.message.ends_with("no such file or directory"),
        "{failure:?}"
    );
}

fn readonly_root_and_tmpfs() {
    let root = Rootfs::new();
    let mut plan = root.script("touch /x; touch /ro/x; touch /dev/shm/x; touch /etc/rw/x && echo ok");
    plan.root.readonly = true;
    plan.mounts.push(Mount { attrs: MountAttrs::READONLY, ..tmpfs("/ro", &[]) });
    plan.mounts.push(tmpfs("/etc/rw", &[("size", "1m")]));
    plan.process.cwd = "/made".into();
    let outcome = run(&plan);
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Code(0), "ok\n"), "{outcome:?}");
    assert_eq!(outcome.err.matches("Read-only file system").count(), 2, "{outcome:?}");
}

fn tmpfs_takes_over_mode_and_content() {
    let root = Rootfs::new();
    let dir = root.path("data");
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("sub/file"), "content").unwrap();
    std::fs::set_permissions(dir.join("sub/file"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(dir.join("sub/file"), Some(11), Some(12)).unwrap();
    std::fs::set_permissions(dir.join("sub/file"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    symlink("sub/file", dir.join("link")).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o751)).unwrap();
    let mut plan = root.script(
        "stat -c %a /data; cat /data/link; stat -c '%a %u:%g' /data/sub/file; echo new > \
         /data/new; stat -c %a /fresh; ls -A /plain",
    );
    let mut with_content = tmpfs("/data", &[]);
    with_content.kind = MountKind::Tmpfs { options: Vec::new(), copy_up: true };
    std::fs::create_dir(root.path("plain")).unwrap();
    std::fs::write(root.path("plain/hidden"), "").unwrap();
    plan.mounts.extend([with_content, tmpfs("/fresh", &[("mode", "1777")]), tmpfs("/plain", &[])]);
    assert_eq!(output(&plan), "751\ncontent4751 11:12\n1777\n");
    assert!(!dir.join("new").exists());
}

fn ids_are_mapped() {
    let root = Rootfs::new();
    let dir = root.outside("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(dir.join("x"), "").unwrap();
    let mut plan = root.script("stat -c %u:%g /mapped/x; touch /mapped/new");
    plan.process.uid = 5001;
    plan.process.gid = 6002;
    let map = |outside| IdMap { inside: 0, outside, count: 100_000 };
    let mut mount = bind(&dir, "/mapped", MountAttrs::empty());
    mount.idmap = Some(IdMaps { uids: vec![map(5000)], gids: vec![map(6000)] });
    plan.mounts.push(mount);
    assert_eq!(output(&plan), "5000:6000\n");
    let new = std::fs::metadata(dir.join("new")).unwrap();
    assert_eq!(
        (std::os::unix::fs::MetadataExt::uid(&new), std::os::unix::fs::MetadataExt::gid(&new)),
        (1, 2)
    );
}

fn propagation() {
    let root = Rootfs::new();
    std::fs::create_dir(root.outside("dir")).unwrap();
    let mut plan = root.script("cat /proc/self/mountinfo");
    for (target, kind) in [("/private", Propagation::RPrivate), ("/shared", Propagation::RShared)] {
        let mount = bind(&root.outside("dir"), target, MountAttrs::empty());
        plan.mounts.push(Mount { propagation: Some(kind), ..mount });
    }
    plan.root.propagation = Propagation::Shared;
    let text = output(&plan);
    let shared = |target: &str| {
        let line = text.lines().find(|line| line.split(' ').nth(4) == Some(target)).unwrap();
        line.contains(" shared:")
    };
    assert!(!shared("/private") && shared("/shared") && shared("/"), "{text}");
}

fn proc_is_not_covered() {
    let root = Rootfs::new();
    let dir = root.outside("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(root.outside("file"), "").unwrap();
    symlink("/proc", root.path("link")).unwrap();
    let empty = MountAttrs::empty();
    let refused = [
        (bind(&dir, "/proc", empty), "not of type proc"),
        (bind(&dir, "/x/../proc/", empty), "not of type proc"),
        (bind(&dir, "/link", empty), "not of type proc"),
        (bind(&dir, "/proc/sys", empty), "is inside /proc"),
        (bind(&dir, "/link/self", empty), "is inside /proc"),
        (bind(&root.outside("file"), "/proc/1/status", empty), "is inside /proc"),
        (tmpfs("/proc/sys/kernel", &[]), "is inside /proc"),
        (bind(&dir, "/", empty), "on the top of rootfs"),
        (bind(&dir, "/tmp/..", empty), "on the top of rootfs"),
    ];
    for (mount, words) in refused {
        let mut plan = root.plan(&["true"]);
        plan.mounts.push(mount);
        let failure = failure(&plan);
        assert!(failure.message.contains(words), "{words}: {failure:?}");
        // The same before the container's own /proc is there.
        let last = plan.mounts.pop().unwrap();
        if !last.target.contains("proc/") && !last.target.contains("self") {
            plan.mounts.insert(0, last);
            assert!(try_run(&plan).is_err());
        }
    }
    let mut plan = root.plan(&["cat", "/proc/uptime"]);
    std::fs::write(root.outside("uptime"), "fake\n").unwrap();
    plan.mounts.push(bind(&root.outside("uptime"), "/proc/uptime", empty));
    assert_eq!(output(&plan), "fake\n");
}

fn symlinks_for_kernel_directories_are_refused() {
    for name in ["proc", "sys", "dev"] {
        let root = Rootfs::new();
        std::fs::create_dir(root.path("elsewhere")).unwrap();
        std::fs::remove_dir(root.path(name)).unwrap();
        symlink("/elsewhere", root.path(name)).unwrap();
        let failure = failure(&root.plan(&["true"]));
        assert!(failure.message.contains("must be mounted on ordinary directory"), "{failure:?}");
        assert_eq!(std::fs::read_dir(root.path("elsewhere")).unwrap().count(), 0);
    }
}

fn symlinks_stay_inside() {
    let root = Rootfs::new();
    let (victim, dir) = (root.outside("victim"), root.outside("dir"));
    std::fs::create_dir(&victim).unwrap();
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("x"), "x").unwrap();
    symlink(&victim, root.path("absolute")).unwrap();
    symlink("../../victim", root.path("relative")).unwrap();
    let mut plan = root.script("cat /absolute/x /relative/made/x");
    plan.mounts.push(bind(&dir, "/absolute", MountAttrs::empty()));
    plan.mounts.push(bind(&dir, "/relative/made", MountAttrs::empty()));
    plan.devices = vec![Device {
        path: "/absolute/deep/node".into(),
        kind: DeviceKind::Fifo,
        major: 0,
        minor: 0,
        mode: 0o600,
        uid: 0,
        gid: 0,
    }];
    assert_eq!(output(&plan), "xx");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
}

fn kinds_must_fit() {
    let root = Rootfs::new();
    std::fs::create_dir(root.outside("dir")).unwrap();
    std::fs::write(root.outside("file"), "").unwrap();
    for (source, target) in [("dir", "/etc/passwd"), ("file", "/etc"), ("file", "/etc/passwd/below")] {
        let mut plan = root.plan(&["true"]);
        plan.mounts.push(bind(&root.outside(source), target, MountAttrs::empty()));
        let failure = failure(&plan);
        assert!(
            failure.message.ends_with("not a directory"),
            "Docker adds its advice to these words: {failure:?}"
        );
    }
}

/// Without a namespace of its own a container sees its group on v1 and, as with runc, the whole tree on v2.
fn cgroup_views() {
    let root = Rootfs::new();
    let script = |group: &str| {
        root.script(&format!(
            "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory/cgroup.procs || \
             cat /sys/fs/cgroup{group}/cgroup.procs; mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x"
        ))
    };
    let mut plan = script("");
    let path = plan.cgroup.path.clone();
    let outcome = run(&Plan { cgroup: plan.cgroup.clone(), ..script(&path) });
    assert!(outcome.out.contains(&format!(":{path}\n")), "the host's view: {outcome:?}");
    assert!(outcome.out.contains("\n1\n"), "its own group: {outcome:?}");
    assert!(outcome.err.contains("Read-only file system"), "{outcome:?}");
    plan.namespaces.cgroup = Namespace::New;
    let outcome = run(&plan);
    assert!(!outcome.out.contains(&path), "its own root: {outcome:?}");
    assert!(outcome.out.contains("memory:/\n") || outcome.out.starts_with("0::/\n"), "{outcome:?}");
    assert!(outcome.out.contains("\n1\n"), "{outcome:?}");
}

/// Somebody exchanges a directory for a link to the host again and again while containers mount below it
/// (CVE-2021-30465).
fn swapped_targets_stay_inside() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let root = Rootfs::new();
    let (victim, dir) = (root.outside("victim"), root.outside("dir"));
    std::fs::create_dir(&victim).unwrap();
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir(root.path("swap")).unwrap();
    symlink(&victim, root.path("link")).unwrap();
    let proof = SingleThreaded::check().unwrap();
    let Fork::Parent { pidfd: swapper, .. } = process::clone(proof, &CloneOptions::default()).unwrap() else {
        process::set_parent_death_signal(9).unwrap();
        loop {
            let _ = renameat_with(CWD, root.path("swap"), CWD, root.path("link"), RenameFlags::EXCHANGE);
        }
    };
    let mut plan = root.plan(&["true"]);
    plan.mounts.push(bind(&dir, "/swap/made/deep", MountAttrs::empty()));
    let outcomes: Vec<bool> = (0..100).map(|_| try_run(&plan).is_ok()).collect();
    process::pidfd_send_signal(&swapper, 9).unwrap();
    process::wait(&swapper).unwrap();
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0, "something was made on the host");
    assert!(outcomes.contains(&true), "not one container was made");
}

/// As the engine hands them over: root and binds as descriptors of detached mounts.
fn detached_mounts_are_taken() {
    use wharf_sys::mount::{Recursion, clone_tree, new_filesystem};
    let root = Rootfs::new();
    std::fs::create_dir(root.outside("dir")).unwrap();
    std::fs::write(root.outside("dir/x"), "x").unwrap();
    let fds = [
        clone_tree(&root.path(""), Recursion::Tree).unwrap(),
        clone_tree(&root.outside("dir"), Recursion::Single).unwrap(),
        new_filesystem("tmpfs", &[("mode", "711")], MountAttrs::empty()).unwrap(),
    ];
    let mut plan = root.script("cat /dir/x; stat -c %a /tmpfs; touch /dir/y");
    plan.root.source = Source::Fd(Fd(0));
    let bind = |fd, target, attrs| {
        mount(target, MountKind::Bind { source: Source::Fd(Fd(fd)), recursive: false }, attrs)
    };
    plan.mounts.push(bind(1, "/dir", MountAttrs::READONLY));
    plan.mounts.push(bind(2, "/tmpfs", MountAttrs::empty()));
    let pipes = Pipes::new();
    let container = wharf_runtime::create(&plan, &fds, &options(pipes.io())).unwrap();
    let (out, err) = pipes.finish();
    process::wait(&container.pidfd).unwrap();
    remove(&container);
    assert_eq!(out, "x711\n");
    assert!(err.contains("Read-only file system"), "{err}");
    // Something that is no detached mount is refused, and the host's mount is left alone.
    let file = std::fs::File::open("/").unwrap();
    plan.root.source = Source::Fd(Fd(0));
    let fds = [file.into()];
    plan.mounts.truncate(plan.mounts.len() - 2);
    let pipes = Pipes::new();
    let error = wharf_runtime::create(&plan, &fds, &options(pipes.io())).unwrap_err();
    assert!(error.to_string().contains("error preparing rootfs"), "{error}");
}
