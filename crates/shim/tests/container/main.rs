//! The shim as a daemon sees it: the real binary, real containers.
//!
//! Needs root, busybox-static, and cgroups that can be written.

mod support;
mod throughput;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use support::*;
use wharf_spec::plan::{Fd, Log, Stdio, TerminalSize};
use wharf_spec::shim::*;

const STDIN_ONCE: Stdio = Stdio::Shim { stdin: true, stdin_once: true };
const STDIN_KEPT: Stdio = Stdio::Shim { stdin: true, stdin_once: false };

#[test]
fn output_goes_to_the_log_and_the_exit_is_told_and_recorded() {
    let host = Host::new("log");
    let shim = host.start(host.plan("c", "echo out; echo err >&2; printf last; exit 3"));
    let run_dir = shim.run_dir.clone();
    for name in ["shim.pid", "init.pid"] {
        assert!(std::fs::read_to_string(run_dir.join(name)).unwrap().contains(' '), "{name}");
    }
    let file = {
        let shim_pid = shim.shim_pid;
        let record = shim.end();
        assert_eq!(record.code, 3);
        assert_eq!((record.oom_killed, record.log_bytes_lost), (false, 0));
        assert!(!Path::new(&format!("/proc/{shim_pid}")).exists());
        record
    };
    let on_disk: ExitRecord = serde_json::from_slice(&std::fs::read(run_dir.join("exit")).unwrap()).unwrap();
    assert_eq!(on_disk, file);
    let mut texts = log_texts(&host.log_path("c"));
    texts.sort();
    let want = [("stderr", "err\n"), ("stdout", "last"), ("stdout", "out\n")];
    assert_eq!(texts, want.map(|(s, t)| (s.to_string(), t.to_string())));
    assert!(host.cgroup_dirs("c").is_empty());
}

#[test]
fn thousands_of_lines_arrive_in_order() {
    let host = Host::new("lines");
    let shim = host.start(host.plan("c", "seq 1 20000"));
    assert_eq!(shim.end().code, 0);
    let texts = log_texts(&host.log_path("c"));
    assert_eq!(texts.len(), 20_000);
    assert!(texts.iter().enumerate().all(|(n, (_, text))| *text == format!("{}\n", n + 1)));
}

#[test]
fn a_client_talks_to_the_process_and_its_end_of_input_ends_it() {
    let host = Host::new("attach");
    let mut plan = host.plan("c", "cat; echo bye >&2");
    plan.stdio = STDIN_ONCE;
    let mut shim = host.start(plan);
    let mut client = shim.attach(None, b"");
    client.write_all(b"hello\n").unwrap();
    assert!(read_until(&mut client, "hello\n").starts_with('\u{1}'));
    client.write_all(b"again").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_frames(client), (b"again".to_vec(), b"bye\n".to_vec()));
    assert_eq!(shim.end().code, 0);
}

#[test]
fn clients_that_were_there_before_the_container_miss_nothing() {
    let host = Host::new("early");
    for round in 0..20 {
        let id = format!("c{round}");
        let mut plan = host.plan(&id, "");
        plan.process = process(&["/bin/seq", "1", "3"]);
        let mut shim = host.spawn_with(plan, |shim| shim.send_attach());
        let client = shim.early_client.take().unwrap();
        assert_eq!(read_frames(client).0, b"1\n2\n3\n");
        assert!(matches!(shim.event(), Event::Started { .. }));
        assert!(matches!(shim.event(), Event::Exited(_)));
        assert_eq!(shim.ask(Call::Release, &[]), Ok(Answer::Done));
    }
}

#[test]
fn input_larger_than_all_buffers_gets_through() {
    let host = Host::new("stdin");
    let mut plan = host.plan("c", "cat");
    plan.stdio = STDIN_ONCE;
    plan.log = Log::None;
    let mut shim = host.start(plan);
    let mut client = shim.attach(None, b"");
    let data: Vec<u8> = (0..20_000_000u32).map(|n| (n / 7) as u8).collect();
    let mut writer = client.try_clone().unwrap();
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&data).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        read_frames(client.try_clone().unwrap()).0
    });
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
    client.flush().unwrap();
    assert_eq!(shim.end().code, 0);
}

#[test]
fn a_client_that_hangs_up_leaves_all_its_input_behind() {
    let host = Host::new("hangup");
    let mut plan = host.plan("c", "sleep 0.2; cat");
    plan.stdio = STDIN_ONCE;
    let mut shim = host.start(plan);
    let mut client = shim.attach(None, b"");
    // More than the pipe holds: the rest is in the socket when the client is gone.
    let line = [b'x'; 999];
    for _ in 0..100 {
        client.write_all(&line).unwrap();
        client.write_all(b"\n").unwrap();
    }
    drop(client);
    assert_eq!(shim.end().code, 0);
    assert_eq!(log_texts(&host.log_path("c")).len(), 100);
}

#[test]
fn without_stdin_once_other_clients_go_on() {
    let host = Host::new("keep");
    let mut plan = host.plan("c", "cat");
    plan.stdio = STDIN_KEPT;
    let mut shim = host.start(plan);
    let mut first = shim.attach(None, b"");
    let mut second = shim.attach(None, b"");
    first.write_all(b"one\n").unwrap();
    read_until(&mut first, "one\n");
    read_until(&mut second, "one\n");
    // As in Docker, the end of its input ends this client's attachment, and nothing else.
    first.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).unwrap();
    second.write_all(b"two\n").unwrap();
    read_until(&mut second, "two\n");
    shim.signal(9);
    assert_eq!(shim.end().code, 137);
}

#[test]
fn a_client_that_does_not_read_holds_the_process_back_until_it_is_gone() {
    let host = Host::new("slow");
    let mut plan = host.plan("c", "read x; head -c 30000000 /dev/zero; echo done >&2");
    plan.stdio = STDIN_KEPT;
    plan.log = Log::None;
    let mut shim = host.start(plan);
    let slow = shim.attach(None, b"");
    let mut fast = shim.attach(None, b"");
    fast.write_all(b"\n").unwrap();
    // What the fast one gets while the slow one reads nothing is bounded by buffers.
    fast.set_nonblocking(true).unwrap();
    let mut got = Vec::new();
    let mut quiet = 0;
    let mut part = vec![0; 1 << 16];
    while quiet < 100 {
        match fast.read(&mut part) {
            Ok(0) => panic!("everything came through"),
            Ok(count) => {
                got.extend_from_slice(&part[..count]);
                quiet = 0;
            }
            Err(_) => {
                quiet += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
    assert!(got.len() < 10_000_000, "{}", got.len());
    // Calls are answered meanwhile.
    assert!(shim.state().exit.is_none());
    drop(slow);
    fast.set_nonblocking(false).unwrap();
    fast.read_to_end(&mut got).unwrap();
    let (out, err) = read_frames(&got[..]);
    assert_eq!((out.len(), err.as_slice()), (30_000_000, &b"done\n"[..]));
    assert_eq!(shim.end().code, 0);
}

#[test]
fn terminals_have_sizes_and_detach_keys() {
    let host = Host::new("tty");
    let mut plan = host.plan("c", "stty size; read line; stty size; read line; exit 5");
    plan.stdio = STDIN_KEPT;
    plan.process.terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let mut shim = host.start(plan);
    let mut client = shim.attach(None, b"\x10\x11");
    // What was written before the client came is in the log only.
    await_that("the first size", || {
        log_texts(&host.log_path("c")).contains(&("stdout".into(), "24 80\r\n".into()))
    });
    shim.ask(Call::Resize { exec: None, size: TerminalSize { rows: 50, columns: 132 } }, &[]).unwrap();
    client.write_all(b"x\x10y\n").unwrap();
    read_until(&mut client, "50 132\r\n");
    client.write_all(b"z\x10").unwrap();
    client.write_all(b"\x11").unwrap();
    assert_eq!(shim.event(), Event::Detached { exec: None });
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    let mut client = shim.attach(None, b"");
    client.write_all(b"\n").unwrap();
    assert_eq!(shim.end().code, 5);
}

#[test]
fn what_a_shim_holds_is_held_until_the_end_and_seen_by_nobody() {
    let host = Host::new("held");
    // More than one packet takes, with a terminal and an exec that could see them.
    let sockets: Vec<_> = (0..300).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let mut plan = host.plan("c", "while :; do sleep 1000; done");
    plan.process.terminal = Some(TerminalSize::default());
    let mut first = host.start_holding(plan, sockets.into_iter().map(OwnedFd::from).collect());
    let (pid, shim_pid, run_dir) = (first.pid, first.shim_pid, first.run_dir.clone());
    assert!(addresses.iter().all(|address| TcpListener::bind(address).is_err()), "held by the shim alone");
    let answer = first.ask(Call::Exec(Box::new(exec_plan("e1", "sleep 1000"))), &[]);
    let Ok(Answer::Started { pid: exec }) = answer else { panic!("{answer:?}") };
    for process in [pid, exec] {
        let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        let links = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        assert_eq!(links.filter(|link| link.to_string_lossy().starts_with("socket:")).count(), 0);
    }
    drop(first);
    let mut later = Shim::connect(&run_dir);
    (later.pid, later.shim_pid) = (pid, shim_pid);
    assert!(matches!(later.event(), Event::Hello(_)));
    let Ok(Answer::Held(held)) = later.ask(Call::Held, &[]) else { panic!("no answer") };
    assert_eq!(held, (0..300).map(Fd).collect::<Vec<_>>());
    let sockets: Vec<_> = later.fds.drain(..).map(TcpListener::from).collect();
    assert!(sockets.iter().map(|socket| socket.local_addr().unwrap()).eq(addresses.iter().copied()));
    drop(sockets);
    later.signal(9);
    while !matches!(later.event(), Event::Exited(_)) {}
    assert!(addresses.iter().all(|address| TcpListener::bind(address).is_ok()), "free with the end");
    assert_eq!(later.ask(Call::Held, &[]), Ok(Answer::Held(Vec::new())));
    assert_eq!(later.ask(Call::Release, &[]), Ok(Answer::Done));
    later.await_shim_end();
}

#[test]
fn execs_run_in_the_container_and_are_remembered_until_forgotten() {
    let host = Host::new("exec");
    let mut shim = host.start(host.plan("c", "sleep 1000"));
    let (answer, mut client) = shim.exec_attached(exec_plan("e1", "cat; echo $$ >&2; exit 7"));
    let Ok(Answer::Started { pid }) = answer else { panic!("{answer:?}") };
    assert!(shim.state().execs.contains(&("e1".into(), pid, None)));
    client.write_all(b"input").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (out, err) = read_frames(client);
    assert_eq!(out, b"input");
    assert!(!err.is_empty());
    let Event::ExecExited { exec, exit } = shim.event() else { panic!("no exit of the exec") };
    assert_eq!((exec.as_str(), exit.code), ("e1", 7));
    assert_eq!(shim.state().execs, [("e1".to_string(), 0, Some(exit))]);
    assert_eq!(shim.ask(Call::Forget { exec: "e1".into() }, &[]), Ok(Answer::Done));
    assert!(shim.state().execs.is_empty());
    let missing = shim.ask(Call::Forget { exec: "e1".into() }, &[]).unwrap_err();
    assert_eq!(missing.kind, FailureKind::NotFound);
    // Detached, with a terminal, and killed.
    let mut plan = exec_plan("e2", "sleep 1000");
    plan.process.terminal = Some(TerminalSize::default());
    let answer = shim.ask(Call::Exec(Box::new(plan)), &[]);
    assert!(matches!(answer, Ok(Answer::Started { .. })), "{answer:?}");
    let twice = shim.ask(Call::Exec(Box::new(exec_plan("e2", "true"))), &[]).unwrap_err();
    assert_eq!(twice.kind, FailureKind::Conflict);
    shim.ask(Call::Signal { exec: Some("e2".into()), signal: 15, all: false }, &[]).unwrap();
    let Event::ExecExited { exit, .. } = shim.event() else { panic!("no exit of the exec") };
    assert_eq!(exit.code, 143);
    shim.signal(9);
    assert_eq!(shim.end().code, 137);
}

#[test]
fn an_exec_ends_with_its_process_even_if_a_child_holds_its_output() {
    let host = Host::new("background");
    let mut shim = host.start(host.plan("c", "sleep 1000"));
    let (_, client) = shim.exec_attached(exec_plan("e", "echo hello; sleep 1000 &"));
    assert_eq!(read_frames(client).0, b"hello\n");
    assert!(matches!(shim.event(), Event::ExecExited { .. }));
    shim.signal(9);
    shim.end();
}

#[test]
fn pause_stops_and_resume_goes_on() {
    let host = Host::new("pause");
    let mut shim = host.start(host.plan("c", "while true; do echo x; done"));
    shim.ask(Call::Pause, &[]).unwrap();
    assert!(shim.state().paused);
    let size = || std::fs::metadata(host.log_path("c")).unwrap().len();
    // What was in the pipe still comes; then there is silence.
    let mut last = size();
    await_that("silence", || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::mem::replace(&mut last, size()) == size()
    });
    let refused = shim.ask(Call::Exec(Box::new(exec_plan("e", "true"))), &[]).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Conflict);
    shim.ask(Call::Resume, &[]).unwrap();
    await_that("more output", || size() > last);
    shim.ask(Call::Signal { exec: None, signal: 9, all: true }, &[]).unwrap();
    assert_eq!(shim.end().code, 137);
}

#[test]
fn daemons_come_and_go() {
    let mut host = Host::new("daemons");
    let mut first = host.start(host.plan("c", "sleep 1000"));
    let (pid, shim_pid, run_dir) = (first.pid, first.shim_pid, first.run_dir.clone());
    // The zygote goes, the connection breaks in the middle of a request.
    host.end_zygote();
    rustix_send_garbage(&first);
    assert_eq!(first.state().pid, pid);
    first.pid = 0;
    drop(first);
    let mut second = Shim::connect(&run_dir);
    (second.pid, second.shim_pid) = (pid, shim_pid);
    let Event::Hello(state) = second.event() else { panic!("no hello") };
    assert_eq!((state.pid, state.paused, state.exit), (pid, false, None));
    let early = second.ask(Call::Release, &[]).unwrap_err();
    assert_eq!(early.kind, FailureKind::Conflict);
    // A service manager's stop of the whole group does not reach the container.
    for signal in [1, 2, 15] {
        wharf_sys::process::kill(shim_pid, signal).unwrap();
    }
    assert_eq!(second.state().pid, pid);
    // Two daemons at once both learn of the exit.
    let mut third = Shim::connect(&run_dir);
    assert!(matches!(third.event(), Event::Hello(_)));
    second.signal(9);
    assert!(matches!(third.event(), Event::Exited(record) if record.code == 137));
    drop(third);
    second.end();
}

fn rustix_send_garbage(shim: &Shim) {
    for bytes in [&b""[..], b"\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        wharf_sys::seqpacket::send(&shim.socket, bytes, &[]).unwrap();
    }
}

#[test]
fn an_exit_without_a_daemon_is_found_on_disk() {
    let host = Host::new("alone");
    let mut plan = host.plan("c", "cat; echo end; exit 9");
    plan.stdio = STDIN_ONCE;
    let mut shim = host.start(plan);
    let client = shim.attach(None, b"");
    let (run_dir, shim_pid) = (shim.run_dir.clone(), shim.shim_pid);
    shim.pid = 0;
    drop(shim);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_frames(client).0, b"end\n");
    await_that("the shim's end", || !Path::new(&format!("/proc/{shim_pid}")).exists());
    let record: ExitRecord = serde_json::from_slice(&std::fs::read(run_dir.join("exit")).unwrap()).unwrap();
    assert_eq!(record.code, 9);
    assert!(!run_dir.join("shim.sock").exists());
    assert_eq!(log_texts(&host.log_path("c")), [("stdout".to_string(), "end\n".to_string())]);
    assert!(host.cgroup_dirs("c").is_empty());
}

#[test]
fn a_container_that_cannot_start_leaves_nothing() {
    let host = Host::new("failed");
    let mut plan = host.plan("c", "");
    plan.process = process(&["/bin/nothing"]);
    let mut shim = host.spawn(plan);
    let Event::Failed(failure) = shim.event() else { panic!("it cannot have started") };
    assert_eq!(failure.kind, FailureKind::ProgramNotFound, "{failure}");
    await_that("the end", || !shim.run_dir.join("shim.sock").exists());
    assert!(host.cgroup_dirs("c").is_empty());
    // The zygote is well.
    assert_eq!(host.start(host.plan("d", "exit 0")).end().code, 0);
}

#[test]
fn two_containers_at_once_have_a_shim_each() {
    let host = Host::new("two");
    let mut a = host.start(host.plan("a", "sleep 1000"));
    let mut b = host.start(host.plan("b", "sleep 1000"));
    assert_ne!(a.shim_pid, b.shim_pid);
    assert_ne!(a.shim_pid, host.zygote_pid());
    // A shim's death is its own container's only.
    wharf_sys::process::kill(a.shim_pid, 9).unwrap();
    let (pid, shim_pid) = (a.pid, a.shim_pid);
    await_that("the container's end", || !Path::new(&format!("/proc/{pid}")).exists());
    await_that("the shim's end", || !Path::new(&format!("/proc/{shim_pid}")).exists());
    a.pid = 0;
    assert!(b.state().exit.is_none());
    b.signal(9);
    b.end();
    for dir in host.cgroup_dirs("a") {
        let _ = std::fs::remove_dir(dir);
    }
}

#[test]
fn what_a_slow_client_is_due_reaches_it_after_the_end() {
    let host = Host::new("due");
    let mut plan = host.plan("c", "read x; head -c 1200000 /dev/zero");
    plan.stdio = STDIN_ONCE;
    let mut shim = host.start(plan);
    let mut client = shim.attach(None, b"");
    client.write_all(b"\n").unwrap();
    assert!(matches!(shim.event(), Event::Exited(record) if record.code == 0));
    assert_eq!(shim.ask(Call::Release, &[]), Ok(Answer::Done));
    assert_eq!(read_frames(client).0.len(), 1_200_000);
    shim.await_shim_end();
}

#[test]
fn the_death_for_memory_is_told() {
    let host = Host::new("oom");
    let mut plan = host.plan("c", "dd if=/dev/zero of=/dev/null bs=200M count=1; echo survived; sleep 1000");
    plan.cgroup.resources.memory = Some(32 << 20);
    plan.cgroup.resources.memory_swap = Some(32 << 20);
    let mut shim = host.start(plan);
    assert_eq!(shim.event(), Event::OutOfMemory);
    await_that("the shell's word", || log_texts(&host.log_path("c")).iter().any(|(_, t)| t == "survived\n"));
    shim.signal(9);
    let record = shim.end();
    assert_eq!((record.code, record.oom_killed), (137, true));
}

#[test]
fn limits_change_while_running() {
    let host = Host::new("update");
    let mut shim = host.start(host.plan("c", "sleep 1000"));
    let resources = wharf_spec::plan::Resources { pids_limit: Some(77), ..Default::default() };
    assert_eq!(shim.ask(Call::Update(Box::new(resources)), &[]), Ok(Answer::Done));
    let limits: Vec<_> = host
        .cgroup_dirs("c")
        .iter()
        .filter_map(|d| std::fs::read_to_string(d.join("pids.max")).ok())
        .collect();
    assert_eq!(limits, ["77\n"]);
    shim.signal(9);
    shim.end();
}

#[test]
fn a_full_disk_costs_log_bytes_and_nothing_else() {
    let host = Host::new("full");
    std::os::unix::fs::symlink("/dev/full", host.log_path("c")).unwrap();
    let shim = host.start(host.plan("c", "seq 1 1000; exit 6"));
    let record = shim.end();
    assert_eq!((record.code, record.log_bytes_lost), (6, 3893));
}

#[test]
fn an_exec_of_nothing_fails_alone() {
    let host = Host::new("nothing");
    let mut shim = host.start(host.plan("c", "sleep 1000"));
    let mut plan = exec_plan("e", "");
    plan.process = process(&["nothing"]);
    let (answer, mut client) = shim.exec_attached(plan);
    assert_eq!(answer.unwrap_err().kind, FailureKind::ProgramNotFound);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert!(shim.state().execs.is_empty());
    shim.signal(9);
    shim.end();
}

#[test]
#[ignore = "needs the static build, named by WHARF_SHIM: a container has no libraries for another"]
fn the_first_process_can_be_docker_init() {
    let host = Host::new("init");
    let mut plan = host.plan("c", "cat /proc/1/comm; echo $$ >&2; exit 5");
    plan.init = true;
    assert_eq!(host.start(plan).end().code, 5);
    let texts = log_texts(&host.log_path("c"));
    assert!(texts.contains(&("stdout".into(), "docker-init\n".into())), "{texts:?}");
    assert!(!texts.contains(&("stderr".into(), "1\n".into())), "{texts:?}");
}
