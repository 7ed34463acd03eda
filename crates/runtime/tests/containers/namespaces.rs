//! Shared, joined and user namespaces.

use crate::Test;
use crate::fixture::*;
use std::path::Path;
use wharf_spec::plan::*;

pub(crate) const TESTS: &[Test] = &[
    ("namespaces::host_namespaces_are_shared", host_namespaces_are_shared),
    ("namespaces::joined_by_path_and_descriptor", joined_by_path_and_descriptor),
    ("namespaces::user_namespace", user_namespace),
];

fn link(pid: i32, name: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string()
}

fn host_namespaces_are_shared() {
    let root = Rootfs::new();
    let mut plan =
        root.script("for n in pid net ipc uts cgroup user mnt; do readlink /proc/self/ns/$n; done");
    plan.hostname = None;
    let host = || Namespace::Host;
    let user = host();
    plan.namespaces = Namespaces {
        pid: host(),
        network: host(),
        ipc: host(),
        uts: host(),
        cgroup: host(),
        user,
        id_maps: None,
        time: Namespace::Host,
        time_offsets: Vec::new(),
    };
    let text = output(&plan);
    let seen: Vec<&str> = text.lines().collect();
    let own = |name| link(std::process::id() as i32, name);
    assert_eq!(seen[..6], ["pid", "net", "ipc", "uts", "cgroup", "user"].map(own));
    assert_ne!(seen[6], own("mnt"));
}

fn joined_by_path_and_descriptor() {
    let root = Rootfs::new();
    let first = Running::start(root.script("sleep 1000"));
    let pid = first.container.pid;
    let path = |name: &str| format!("/proc/{pid}/ns/{name}");
    let join = |name: &str| Namespace::Join(Source::Path(path(name)));
    let mut plan = root.script(
        "for n in pid net ipc uts; do readlink /proc/self/ns/$n; done; cat /proc/1/cmdline; hostname",
    );
    plan.hostname = None;
    plan.namespaces.ipc = join("ipc");
    plan.namespaces.uts = join("uts");
    plan.namespaces.pid = join("pid");
    plan.namespaces.network = Namespace::Join(Source::Fd(Fd(0)));
    let fds = [wharf_sys::process::open_namespace(Path::new(&path("net"))).unwrap()];
    let pipes = Pipes::new();
    let container = wharf_runtime::create(&plan, &fds, &options(pipes.io())).unwrap();
    let (out, _) = pipes.finish();
    wharf_sys::process::wait(&container.pidfd).unwrap();
    remove(&container);
    let expected: Vec<String> = ["pid", "net", "ipc", "uts"].iter().map(|name| link(pid, name)).collect();
    assert_eq!(out.lines().take(4).collect::<Vec<_>>(), expected);
    assert!(out.ends_with("sleep\x001000\0box\n") || out.ends_with("sh\0-c\0sleep 1000\0box\n"), "{out:?}");
    plan.namespaces.network = Namespace::Join(Source::Fd(Fd(9)));
    assert!(failure(&plan).message.contains("descriptor 9 did not come with the plan"));
    plan.namespaces.network = Namespace::Join(Source::Path("/proc/self/ns/uts".into()));
    assert!(failure(&plan).message.contains("join NET namespace"), "{:?}", failure(&plan));
}

fn user_namespace() {
    let root = Rootfs::new();
    let map = || IdMap { inside: 0, outside: 100_000, count: 65_536 };
    let mut plan = root.script(
        "id -u; cat /proc/self/uid_map; hostname; stat -c %u /etc/passwd /dev/shm; echo x > \
         /dev/null && touch /dev/shm/mine && stat -c %u /dev/shm/mine; ulimit -n; \
         cat /proc/self/cgroup",
    );
    plan.namespaces.user = Namespace::New;
    plan.namespaces.id_maps = Some(IdMaps { uids: vec![map()], gids: vec![map()] });
    plan.process.rlimits = vec![Rlimit { resource: 7, soft: 99, hard: 99 }];
    let text = output(&plan);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    assert_eq!(words[..9], ["0", "0", "100000", "65536", "box", "65534", "0", "0", "99"], "{text}");
    assert!(text.contains(&plan.cgroup.path), "{text}");
    plan.process.uid = 1000;
    plan.process.gid = 1000;
    plan.process.args = ["id", "-u"].map(str::to_owned).to_vec();
    assert_eq!(output(&plan), "1000\n");
    plan.process.uid = 70_000;
    assert!(failure(&plan).message.contains("unable to setup user"), "{:?}", failure(&plan));
    plan.namespaces.id_maps = None;
    assert!(failure(&plan).message.contains("no uid and gid mappings"));
}
