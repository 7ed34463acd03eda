//! Further processes in a running container.

use crate::Test;
use crate::fixture::*;
use rustix::fd::AsFd;
use std::io::Read;
use wharf_runtime::{Error, ExecOptions, Io, Lifetime};
use wharf_spec::plan::{self, *};
use wharf_spec::shim::{Failure, FailureKind};
use wharf_sys::process::Exit;

pub(crate) const TESTS: &[Test] = &[
    ("exec::is_inside", is_inside),
    ("exec::has_its_own_identity", has_its_own_identity),
    ("exec::failures_have_their_words", failures_have_their_words),
    ("exec::descriptors_are_no_working_directories", descriptors_are_no_working_directories),
    ("exec::has_a_terminal_of_the_container", has_a_terminal_of_the_container),
    ("exec::enters_user_namespaces", enters_user_namespaces),
    ("exec::cannot_be_looked_into_while_it_enters", cannot_be_looked_into_while_it_enters),
    ("exec::ended_containers_take_none", ended_containers_take_none),
];

fn options<'a>(running: &'a Running, io: Io<'a>) -> ExecOptions<'a> {
    ExecOptions {
        container_id: &running.plan.id,
        init: running.container.pidfd.as_fd(),
        init_pid: running.container.pid,
        cgroup: running.container.cgroup.as_ref(),
        io,
        seccomp: None,
        lifetime: Lifetime::OfParent,
        tolerate_missing_privilege: true,
        preserved: 0,
        plan: None,
    }
}

fn exec(running: &Running, process: &plan::Process) -> Result<(Exit, String, String), Error> {
    let pipes = Pipes::new();
    let filter = wharf_runtime::seccomp::compile(&process.seccomp, process.capabilities.bounding).unwrap();
    let started = {
        let options = ExecOptions { seccomp: filter.as_deref(), ..options(running, pipes.io()) };
        wharf_runtime::exec(process, &options)?
    };
    let (out, err) = pipes.finish();
    Ok((wharf_sys::process::wait(&started.pidfd).unwrap(), out, err))
}

fn running(root: &Rootfs) -> Running {
    Running::start(root.script("sleep 1000"))
}

fn script(script: &str) -> plan::Process {
    plan::Process { make_cwd: false, ..process(&["sh", "-c", script]) }
}

fn is_inside() {
    let root = Rootfs::new();
    let running = running(&root);
    let words = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; \
         cat /proc/self/cgroup; hostname; ls /proc/self/fd; exit 5";
    let (exit, out, err) = exec(&running, &script(words)).unwrap();
    assert_eq!((exit, err.as_str()), (Exit::Code(5), ""));
    let link = |name: &str| std::fs::read_link(format!("/proc/{}/ns/{name}", running.container.pid)).unwrap();
    let expected = ["pid", "net", "ipc", "uts", "mnt", "cgroup"].map(|name| link(name).display().to_string());
    assert_eq!(out.lines().take(6).collect::<Vec<_>>(), expected);
    let path = &running.plan.cgroup.path;
    let groups = out.lines().filter(|line| line.contains(':') && line.ends_with(path.as_str())).count();
    assert_eq!(groups, running.container.cgroup.as_ref().unwrap().all_dirs().len(), "{out}");
    let tail: Vec<&str> = out.split_ascii_whitespace().rev().take(5).collect();
    assert_eq!(tail, ["3", "2", "1", "0", "box"]);
}

fn has_its_own_identity() {
    let root = Rootfs::new();
    let running = running(&root);
    let mut process = script("cat /proc/self/status; unshare -r true; pwd; echo $HOME");
    process.uid = 1000;
    process.gid = 7;
    process.cwd = "/tmp".into();
    process.capabilities = Capabilities { bounding: 1, ..Capabilities::default() };
    process.seccomp = Seccomp::Default;
    process.no_new_privileges = true;
    let (_, out, err) = exec(&running, &process).unwrap();
    for line in [
        "Uid:\t1000\t1000\t1000\t1000",
        "CapInh:\t0000000000000000",
        "CapBnd:\t0000000000000001",
        "CapEff:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "/tmp",
        "/home/user",
    ] {
        assert!(out.lines().any(|seen| seen == line), "{line}: {out}");
    }
    assert!(err.contains("Operation not permitted"), "{err}");
}

fn failures_have_their_words() {
    let root = Rootfs::new();
    let running = running(&root);
    let failed = |process: &plan::Process| Failure::from(exec(&running, process).unwrap_err());
    let failure = failed(&process(&["nosuch"]));
    let words = "unable to start container process: exec: \"nosuch\": executable file not found in $PATH";
    assert_eq!((failure.message.as_str(), failure.kind), (words, FailureKind::ProgramNotFound));
    let failure = failed(&process(&["/etc"]));
    assert_eq!(failure.kind, FailureKind::ProgramNotRunnable);
    let missing = plan::Process { cwd: "/missing".into(), ..script("true") };
    let failure = failed(&missing);
    assert_eq!(failure.kind, FailureKind::WorkingDirectory);
    assert!(
        failure
            .message
            .ends_with("chdir to cwd (\"/missing\") set in config.json failed: no such file or directory")
    );
    // The intermediate process and the real one race with their reports.
    for _ in 0..200 {
        failed(&process(&["nosuch"]));
    }
    assert_eq!(running.container.cgroup.as_ref().unwrap().processes().unwrap().len(), 1, "all reaped");
}

fn descriptors_are_no_working_directories() {
    let root = Rootfs::new();
    let running = running(&root);
    let _host = std::fs::File::open("/").unwrap();
    for number in 0..64 {
        let process = plan::Process { cwd: format!("/proc/self/fd/{number}"), ..script("pwd") };
        let failure = Failure::from(exec(&running, &process).unwrap_err());
        assert_eq!(failure.kind, FailureKind::WorkingDirectory);
    }
}

fn has_a_terminal_of_the_container() {
    let root = Rootfs::new();
    let running = running(&root);
    let io = Io::Terminal(TerminalSize { rows: 5, columns: 6 });
    let process = script("tty; stty size; echo > /dev/tty && echo controlling");
    let mut started = wharf_runtime::exec(&process, &options(&running, io)).unwrap();
    let mut text = Vec::new();
    let _ = std::fs::File::from(started.terminal.take().unwrap()).read_to_end(&mut text);
    wharf_sys::process::wait(&started.pidfd).unwrap();
    assert_eq!(String::from_utf8(text).unwrap().replace("\r\n", "\n"), "/dev/pts/0\n5 6\n\ncontrolling\n");
}

fn enters_user_namespaces() {
    let root = Rootfs::new();
    let map = || IdMap { inside: 0, outside: 100_000, count: 65_536 };
    let mut plan = root.script("sleep 1000");
    plan.namespaces.user = Namespace::New;
    plan.namespaces.id_maps = Some(IdMaps { uids: vec![map()], gids: vec![map()] });
    let running = Running::start(plan);
    let mut process = script("id -u; cat /proc/self/uid_map; ulimit -n");
    process.rlimits = vec![Rlimit { resource: 7, soft: 98, hard: 98 }];
    let (_, out, err) = exec(&running, &process).unwrap();
    assert_eq!(
        out.split_ascii_whitespace().collect::<Vec<_>>(),
        ["0", "0", "100000", "65536", "98"],
        "{err}"
    );
}

fn cannot_be_looked_into_while_it_enters() {
    let root = Rootfs::new();
    let watch = "while true; do for p in /proc/[0-9]*; do ls -l $p/fd $p/exe $p/cwd 2>/dev/null >> \
         /tmp/seen; done; done";
    let running = Running::start(root.script(watch));
    for _ in 0..50 {
        exec(&running, &script("true")).unwrap();
    }
    let seen = std::fs::read_to_string(root.path("tmp/seen")).unwrap();
    assert!(seen.contains("/bin/busybox"), "it did look");
    let own = std::env::current_exe().unwrap().display().to_string();
    assert!(!seen.contains(&own) && !seen.contains("socket:"), "{seen}");
}

fn ended_containers_take_none() {
    let root = Rootfs::new();
    let running = running(&root);
    wharf_runtime::signal(&running.container.pidfd, 9).unwrap();
    wharf_sys::process::wait(&running.container.pidfd).unwrap();
    assert!(matches!(exec(&running, &script("true")), Err(Error::NotRunning)));
}
