//! Starting, ending, signals, the two-step start, hooks, limits.

use crate::Test;
use crate::fixture::*;
use rustix::fd::AsFd;
use std::time::Duration;
use wharf_runtime::{CreateOptions, Lifetime};
use wharf_spec::plan::*;
use wharf_sys::event::wait_readable;
use wharf_sys::process::{self, CloneOptions, Exit, Fork, SingleThreaded};

pub(crate) const TESTS: &[Test] = &[
    ("life::output_and_status_come_back", output_and_status_come_back),
    ("life::signals_end_it", signals_end_it),
    ("life::paused_means_stopped", paused_means_stopped),
    ("life::it_waits_at_its_gate", it_waits_at_its_gate),
    ("life::it_dies_with_its_parent", it_dies_with_its_parent),
    ("life::hooks_run_where_they_belong", hooks_run_where_they_belong),
    ("life::failing_hooks_undo_everything", failing_hooks_undo_everything),
    ("life::limits_are_seen_and_changed", limits_are_seen_and_changed),
    ("life::rlimits_and_oom_score", rlimits_and_oom_score),
    ("life::terminal_is_its_own", terminal_is_its_own),
    ("life::runs_under_an_init", runs_under_an_init),
];

fn output_and_status_come_back() {
    let root = Rootfs::new();
    let outcome = run(&root.script("echo out; echo err >&2; exit 7"));
    assert_eq!((outcome.exit, outcome.out.as_str(), outcome.err.as_str()), (Exit::Code(7), "out\n", "err\n"));
    assert_eq!(run(&root.script("sh -c 'kill -9 $$'; exit $?")).exit, Exit::Code(137));
    let env = Process { env: vec!["PATH=/bin".into(), "A=b c".into()], ..process(&["env"]) };
    let text = output(&Plan { process: env, ..root.plan(&[]) });
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=b c", "HOME=/root", "PATH=/bin"]);
}

fn signals_end_it() {
    let root = Rootfs::new();
    let running = Running::start(root.script("trap 'exit 3' TERM; while true; do sleep 0.01; done"));
    // The trap may not be set yet: asked again until it works.
    while !wait_readable(&running.container.pidfd, Some(Duration::from_millis(20))).unwrap() {
        wharf_runtime::signal(&running.container.pidfd, 15).unwrap();
    }
    assert_eq!(process::wait(&running.container.pidfd).unwrap(), Exit::Code(3));
    assert!(matches!(
        wharf_runtime::signal(&running.container.pidfd, 15),
        Err(wharf_runtime::Error::NotRunning)
    ));

    let running = Running::start(root.script("sleep 1000 & sleep 1000"));
    wharf_runtime::signal_all(running.container.cgroup.as_ref().unwrap(), 9).unwrap();
    assert_eq!(process::wait(&running.container.pidfd).unwrap(), Exit::Signal(9));
}

fn paused_means_stopped() {
    let root = Rootfs::new();
    let running = Running::start(root.script("i=0; while true; do i=$((i+1)); echo $i > /tmp/count; done"));
    let count = || std::fs::read_to_string(root.path("tmp/count")).unwrap_or_default();
    while count().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let cgroup = running.container.cgroup.as_ref().unwrap();
    wharf_runtime::pause(cgroup).unwrap();
    let before = count();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(count(), before);
    wharf_runtime::resume(cgroup).unwrap();
    while count() == before {
        std::thread::sleep(Duration::from_millis(1));
    }
    wharf_runtime::pause(cgroup).unwrap();
    wharf_runtime::signal_all(cgroup, 9).unwrap();
    assert_eq!(process::wait(&running.container.pidfd).unwrap(), Exit::Signal(9));
}

fn it_waits_at_its_gate() {
    let root = Rootfs::new();
    let fifo = root.outside("exec.fifo");
    let gate = wharf_runtime::make_gate(&fifo).unwrap();
    let pipes = Pipes::new();
    let mut plan = root.script("echo started");
    plan.process.uid = 1000;
    plan.process.seccomp = Seccomp::Default;
    let filter = wharf_runtime::seccomp::compile(&plan.process.seccomp, DEFAULT_CAPS).unwrap();
    let options =
        CreateOptions { gate: Some(gate.as_fd()), seccomp: filter.as_deref(), ..options(pipes.io()) };
    let container = wharf_runtime::create(&plan, &[], &options).unwrap();
    assert!(!wait_readable(&container.pidfd, Some(Duration::from_millis(20))).unwrap());
    let command = std::fs::read(format!("/proc/{}/cmdline", container.pid)).unwrap();
    assert!(!command.starts_with(b"sh\0"));
    wharf_runtime::start(&fifo, &container.pidfd).unwrap();
    assert!(!fifo.exists());
    assert_eq!(pipes.finish().0, "started\n");
    assert_eq!(process::wait(&container.pidfd).unwrap(), Exit::Code(0));
    remove(&container);

    let gate = wharf_runtime::make_gate(&fifo).unwrap();
    let pipes = Pipes::new();
    let plan = root.script("echo never");
    let options = CreateOptions { gate: Some(gate.as_fd()), ..crate::fixture::options(pipes.io()) };
    let container = wharf_runtime::create(&plan, &[], &options).unwrap();
    wharf_runtime::signal(&container.pidfd, 9).unwrap();
    assert!(matches!(wharf_runtime::start(&fifo, &container.pidfd), Err(wharf_runtime::Error::NotRunning)));
    process::wait(&container.pidfd).unwrap();
    remove(&container);
}

fn it_dies_with_its_parent() {
    let root = Rootfs::new();
    for (lifetime, dies) in [(Lifetime::OfParent, true), (Lifetime::Own, false)] {
        let plan = root.script("sleep 1000");
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let proof = SingleThreaded::check().unwrap();
        let Fork::Parent { pidfd, .. } = process::clone(proof, &CloneOptions::default()).unwrap() else {
            let pipes = Pipes::new();
            let options = CreateOptions { lifetime, ..options(pipes.io()) };
            let container = wharf_runtime::create(&plan, &[], &options).unwrap();
            rustix::io::write(&write, &container.pid.to_ne_bytes()).unwrap();
            process::exit(0);
        };
        process::become_subreaper().unwrap();
        process::wait(&pidfd).unwrap();
        let mut pid = [0u8; 4];
        assert_eq!(rustix::io::read(&read, &mut pid).unwrap(), 4);
        // It is ours now, dead or alive.
        let orphan = process::pidfd_open(i32::from_ne_bytes(pid)).unwrap();
        if !dies {
            assert!(!wait_readable(&orphan, Some(Duration::from_millis(50))).unwrap());
            process::pidfd_send_signal(&orphan, 15).unwrap();
            process::pidfd_send_signal(&orphan, 9).unwrap();
        }
        assert_eq!(process::wait(&orphan).unwrap(), Exit::Signal(9));
        let group = wharf_sys::cgroup::Hierarchies::detect().unwrap().group(&plan.cgroup.path).unwrap();
        wharf_runtime::delete(&group).unwrap();
    }
}

fn shell_hook(script: String) -> Hook {
    let args = vec!["sh".to_owned(), "-c".to_owned(), script];
    Hook { path: "/bin/sh".into(), args, env: vec!["PATH=/bin:/usr/bin".into()], timeout: Some(60) }
}

fn hooks_run_where_they_belong() {
    let root = Rootfs::new();
    let log = root.outside("log");
    let note = |word: &str| shell_hook(format!("read state; echo {word} $state >> {}", log.display()));
    let mut plan = root.script("cat /tmp/inside");
    plan.annotations = vec![("key".into(), "value".into())];
    plan.hooks = Hooks {
        prestart: vec![note("prestart")],
        create_runtime: vec![note("createRuntime")],
        create_container: vec![note("createContainer")],
        start_container: vec![shell_hook(
            "hostname > /tmp/inside; grep -o '\"status\":\"[a-z]*\"' >> /tmp/inside".into(),
        )],
        ..Hooks::default()
    };
    assert_eq!(output(&plan), "box\n\"status\":\"created\"\n");
    let log = std::fs::read_to_string(log).unwrap();
    let words: Vec<&str> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(words, ["prestart", "createRuntime", "createContainer"]);
    let state = format!("{{\"ociVersion\":\"1.2.1\",\"id\":\"{}\",\"status\":\"creating\",\"pid\":", plan.id);
    assert!(log.lines().all(|line| line.contains(&state) && line.contains("\"key\":\"value\"")), "{log}");
}

fn failing_hooks_undo_everything() {
    let root = Rootfs::new();
    let bad = || vec![shell_hook("echo no >&2; exit 1".into())];
    let cases = [
        Hooks { create_runtime: bad(), ..Hooks::default() },
        Hooks { create_container: bad(), ..Hooks::default() },
    ];
    for hooks in cases {
        let failure = failure(&Plan { hooks, ..root.script("true") });
        assert!(failure.message.contains("hook #0: exit status 1, stderr: no"), "{failure:?}");
    }
}

fn limits_are_seen_and_changed() {
    let root = Rootfs::new();
    let mut plan = root.script(
        "read x < /tmp/go; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes",
    );
    let v1 =
        matches!(wharf_sys::cgroup::Hierarchies::detect().unwrap(), wharf_sys::cgroup::Hierarchies::V1(_));
    if !v1 {
        plan.namespaces.cgroup = Namespace::New;
        plan.process.args[2] =
            "read x < /tmp/go; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max".into();
    }
    plan.cgroup.resources.memory = Some(64 << 20);
    plan.cgroup.resources.pids_limit = Some(50);
    std::fs::write(root.path("tmp/go"), "x\n").unwrap();
    assert_eq!(output(&plan), "50\n67108864\n");

    let running = Running::start(root.script("sleep 1000"));
    let cgroup = running.container.cgroup.as_ref().unwrap();
    let resources = Resources { pids_limit: Some(60), ..Resources::default() };
    wharf_runtime::update(cgroup, &resources).unwrap();
    assert_eq!(cgroup.stats().unwrap().pids.limit, 60);
    assert_eq!(cgroup.processes().unwrap(), [running.container.pid]);
}

fn rlimits_and_oom_score() {
    const NOFILE: u32 = 7;
    let root = Rootfs::new();
    let mut plan = root.script("ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj");
    plan.process.rlimits = vec![Rlimit { resource: NOFILE, soft: 100, hard: 200 }];
    plan.process.oom_score_adj = Some(500);
    assert_eq!(output(&plan), "100\n200\n500\n");
    // More than the hard limit needs CAP_SYS_RESOURCE, which may be missing.
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    plan.process.rlimits = vec![Rlimit { resource: NOFILE, soft: 100, hard: hard + 1 }];
    match wharf_sys::caps::has(wharf_sys::caps::SYS_RESOURCE) {
        true => assert!(run(&plan).warnings.is_empty()),
        false => {
            assert!(run(&plan).warnings[0].starts_with("resource limit 7 is not set"));
            plan.tolerate_missing_privilege = false;
            assert!(failure(&plan).message.contains("error setting rlimit type 7: prlimit"));
        }
    }
}

fn terminal_is_its_own() {
    use std::io::Read;
    let root = Rootfs::new();
    let script = "tty; stty size; test -c /dev/console && echo console; echo > \
         /dev/tty && echo controlling; ls /dev/pts";
    let mut plan = root.script(script);
    plan.process.uid = 1000;
    let size = TerminalSize { rows: 33, columns: 77 };
    let options = options(wharf_runtime::Io::Terminal(size));
    let mut container = wharf_runtime::create(&plan, &[], &options).unwrap();
    let mut text = Vec::new();
    // Reading ends with EIO when the last process has closed its end.
    let _ = std::fs::File::from(container.terminal.take().unwrap()).read_to_end(&mut text);
    assert_eq!(process::wait(&container.pidfd).unwrap(), Exit::Code(0));
    remove(&container);
    let text = String::from_utf8(text).unwrap().replace("\r\n", "\n");
    assert_eq!(text, "/dev/pts/0\n33 77\nconsole\n\ncontrolling\n0     ptmx\n");
}

fn runs_under_an_init() {
    use std::os::unix::fs::PermissionsExt;
    let root = Rootfs::new();
    let program = root.outside("init");
    std::fs::write(
        &program,
        "#!/bin/sh\necho \"$0 $1\"; shift; echo x 2>/dev/null >> /sbin/docker-init; exec \"$@\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = std::fs::File::open(&program).unwrap();
    let plan = Plan { init: true, ..root.plan(&["echo", "hello"]) };
    let outcome = try_run_with(&plan, Some(file.as_fd())).unwrap();
    assert_eq!(outcome.out, "/sbin/docker-init --\nhello\n");
    assert!(!std::fs::read_to_string(&program).unwrap().ends_with("x\n"), "written through the container");
    assert!(failure(&plan).message.contains("there is no init program"));
}
