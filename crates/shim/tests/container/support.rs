//! A daemon for the tests (`WHARF_SHIM` names another binary than the one just built): starts a zygote, has it make containers of busybox, and talks to their shims.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wharf_spec::plan::*;
use wharf_spec::shim::*;
use wharf_sys::{event, seqpacket};

/// Nothing here takes long; whoever waits this long waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);
/// Docker's fourteen.
const CAPABILITIES: u64 = 0xa804_25fb;

/// A zygote and the place for its containers.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    zygote: Child,
    socket: Option<OwnedFd>,
    cgroup_parent: String,
}

impl Host {
    pub(crate) fn new(test: &str) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for name in ["sh", "cat", "sleep", "stty", "seq", "kill", "head", "dd", "yes", "test", "true"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        for name in ["proc", "sys", "dev", "tmp", "etc"] {
            std::fs::create_dir_all(dir.path().join("rootfs").join(name)).unwrap();
        }
        let (ours, theirs) = seqpacket::pair().unwrap();
        let program = std::env::var("WHARF_SHIM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wharf-shim").into());
        // The shell moves the socket to where the zygote looks for it.
        let zygote = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" zygote 3<&0 0</dev/null", &program])
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let cgroup_parent = format!("/wharf-test-{}-{test}", std::process::id());
        Host { dir, zygote, socket: Some(ours), cgroup_parent }
    }

    pub(crate) fn zygote_pid(&self) -> i32 {
        self.zygote.id() as i32
    }

    /// The daemon is gone; its zygote follows.
    pub(crate) fn end_zygote(&mut self) {
        self.socket = None;
        self.zygote.wait().unwrap();
    }

    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("{id}.log"))
    }

    pub(crate) fn run_dir(&self, id: &str) -> PathBuf {
        self.dir.path().join("run").join(id)
    }

    /// A plan for a shell command with a json log.
    pub(crate) fn plan(&self, id: &str, command: &str) -> Plan {
        Plan {
            id: id.into(),
            bundle: self.run_dir(id).display().to_string(),
            root: Root {
                source: Source::Path(self.dir.path().join("rootfs").display().to_string()),
                readonly: false,
                propagation: Propagation::RPrivate,
            },
            mounts: mounts(),
            devices: Vec::new(),
            namespaces: namespaces(),
            hostname: Some("shimtest".into()),
            domainname: None,
            cgroup: Cgroup {
                path: format!("{}/{id}", self.cgroup_parent),
                resources: Resources::default(),
                scope: None,
            },
            sysctls: Vec::new(),
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            process: process(&["/bin/sh", "-c", command]),
            init: false,
            stdio: wharf_spec::plan::Stdio::Shim { stdin: false, stdin_once: false },
            log: Log::JsonFile(LogFile {
                path: self.log_path(id).display().to_string(),
                max_size: None,
                max_files: 1,
                compress: false,
                attrs: Vec::new(),
            }),
            hooks: Hooks::default(),
            annotations: Vec::new(),
            tolerate_missing_privilege: true,
            runtime: None,
            held: Vec::new(),
        }
    }

    /// Has the zygote make a container; the connection's first event is still to be read.
    pub(crate) fn spawn(&self, plan: Plan) -> Shim {
        self.spawn_with(plan, |_| {})
    }

    /// The same; `before` may send requests that the shim then finds in its socket.
    pub(crate) fn spawn_with(&self, plan: Plan, before: impl FnOnce(&mut Shim)) -> Shim {
        self.spawn_all(plan, &[], before)
    }

    /// The same with descriptors, which the plan counts from 2.
    fn spawn_all(&self, plan: Plan, fds: &[OwnedFd], before: impl FnOnce(&mut Shim)) -> Shim {
        let run_dir = self.run_dir(&plan.id);
        std::fs::create_dir_all(&run_dir).unwrap();
        let dir = std::fs::File::open(&run_dir).unwrap();
        let (ours, theirs) = seqpacket::pair().unwrap();
        let request = ZygoteRequest::Spawn { control: Fd(0), run_dir: Fd(1), plan: Box::new(plan) };
        let bytes = encode(&request);
        let mut shim = Shim::new(ours, run_dir);
        before(&mut shim);
        let all: Vec<_> =
            [theirs.as_fd(), dir.as_fd()].into_iter().chain(fds.iter().map(AsFd::as_fd)).collect();
        seqpacket::send(self.socket.as_ref().unwrap(), &bytes, &all).unwrap();
        shim
    }

    /// Makes a container that must start.
    pub(crate) fn start(&self, plan: Plan) -> Shim {
        Self::started(self.spawn(plan))
    }

    /// Makes a container that must start, whose shim holds descriptors.
    pub(crate) fn start_holding(&self, mut plan: Plan, held: Vec<OwnedFd>) -> Shim {
        plan.held = (0..held.len()).map(|index| Fd(index as u16 + 2)).collect();
        Self::started(self.spawn_all(plan, &held, |_| {}))
    }

    fn started(mut shim: Shim) -> Shim {
        match shim.event() {
            Event::Started { pid, shim_pid, warnings } => {
                println!("started {pid} under {shim_pid}: {warnings:?}");
                (shim.pid, shim.shim_pid) = (pid, shim_pid);
            }
            other => panic!("not started: {other:?}"),
        }
        shim
    }

    /// The container's directory in each hierarchy that still has it.
    pub(crate) fn cgroup_dirs(&self, id: &str) -> Vec<PathBuf> {
        let path = format!("{}/{id}", self.cgroup_parent);
        let group = wharf_sys::cgroup::Hierarchies::detect().unwrap().group(&path).unwrap();
        group.all_dirs().into_iter().map(|(_, dir)| dir).filter(|dir| dir.exists()).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.zygote.wait();
        if let Ok(group) =
            wharf_sys::cgroup::Hierarchies::detect().and_then(|all| all.group(&self.cgroup_parent))
        {
            for (_, dir) in group.all_dirs() {
                let _ = std::fs::remove_dir(dir);
            }
        }
    }
}

fn mounts() -> Vec<Mount> {
    let mount = |target: &str, kind, attrs| Mount {
        target: target.into(),
        kind,
        attrs,
        recursive_attrs: false,
        propagation: None,
        idmap: None,
        idmap_single: false,
    };
    let closed = MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
    let options = vec![("mode".into(), "755".into()), ("size".into(), "65536k".into())];
    vec![
        mount("/proc", MountKind::Proc, closed),
        mount(
            "/dev",
            MountKind::Tmpfs { options, copy_up: false },
            MountAttrs::NOSUID | MountAttrs::STRICTATIME,
        ),
        mount("/dev/pts", MountKind::Devpts, MountAttrs::NOSUID | MountAttrs::NOEXEC),
    ]
}

fn namespaces() -> Namespaces {
    Namespaces {
        pid: Namespace::New,
        network: Namespace::New,
        ipc: Namespace::New,
        uts: Namespace::New,
        cgroup: Namespace::Host,
        user: Namespace::Host,
        id_maps: None,
        time: Namespace::Host,
        time_offsets: Vec::new(),
    }
}

pub(crate) fn process(args: &[&str]) -> Process {
    Process {
        args: args.iter().map(|a| a.to_string()).collect(),
        env: vec!["PATH=/bin".into(), "TERM=xterm".into()],
        cwd: "/".into(),
        make_cwd: true,
        uid: 0,
        gid: 0,
        additional_gids: Vec::new(),
        umask: None,
        terminal: None,
        capabilities: Capabilities {
            bounding: CAPABILITIES,
            effective: CAPABILITIES,
            permitted: CAPABILITIES,
            inheritable: 0,
            ambient: 0,
        },
        no_new_privileges: false,
        seccomp: Seccomp::Default,
        rlimits: Vec::new(),
        oom_score_adj: None,
        apparmor_profile: None,
        selinux_label: None,
        tuning: Default::default(),
    }
}

pub(crate) fn exec_plan(id: &str, command: &str) -> ExecPlan {
    ExecPlan {
        id: id.into(),
        process: process(&["/bin/sh", "-c", command]),
        stdio: wharf_spec::plan::Stdio::Shim { stdin: true, stdin_once: true },
        attach: None,
    }
}

fn encode<T: serde::Serialize>(message: &T) -> Vec<u8> {
    postcard::to_extend(message, VERSION.to_le_bytes().to_vec()).unwrap()
}

/// A connection to a shim.
pub(crate) struct Shim {
    pub(crate) socket: OwnedFd,
    pub(crate) run_dir: PathBuf,
    pub(crate) pid: i32,
    pub(crate) shim_pid: i32,
    pub(crate) early_client: Option<UnixStream>,
    /// What came with the last message.
    pub(crate) fds: Vec<OwnedFd>,
    seq: u32,
    events: Vec<Event>,
}

impl Shim {
    fn new(socket: OwnedFd, run_dir: PathBuf) -> Shim {
        Shim {
            socket,
            run_dir,
            pid: 0,
            shim_pid: 0,
            early_client: None,
            fds: Vec::new(),
            seq: 0,
            events: Vec::new(),
        }
    }

    /// Asks for an attachment without waiting for the answer.
    pub(crate) fn send_attach(&mut self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (stdin, stdout, stderr) = (true, true, true);
        let stream = Fd(0);
        let call = Call::Attach { exec: None, stream, stdin, stdout, stderr, detach_keys: Vec::new() };
        seqpacket::send(&self.socket, &encode(&Request { seq: 0, call }), &[theirs.as_fd()]).unwrap();
        self.early_client = Some(ours);
    }

    /// A second connection, as a later daemon makes it.
    pub(crate) fn connect(run_dir: &Path) -> Shim {
        let dir = std::fs::File::open(run_dir).unwrap();
        let socket = seqpacket::connect(&dir, "shim.sock").unwrap();
        Shim::new(socket, run_dir.into())
    }

    fn receive(&mut self) -> Option<Message> {
        assert!(event::wait_readable(&self.socket, Some(PATIENCE)).unwrap(), "the shim says nothing");
        let packet = seqpacket::recv(&self.socket).unwrap()?;
        self.fds = packet.fds;
        assert_eq!(packet.bytes[..2], VERSION.to_le_bytes());
        Some(postcard::from_bytes(&packet.bytes[2..]).unwrap())
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Event {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match self.receive() {
            Some(Message::Event(event)) => event,
            // Of the early attachment.
            Some(Message::Reply(Reply { seq: 0, result: Ok(_) })) => self.event(),
            other => panic!("an event is expected, not {other:?}"),
        }
    }

    /// Asks and waits for the answer; events that come first are kept.
    pub(crate) fn ask(&mut self, call: Call, fds: &[BorrowedFd<'_>]) -> Result<Answer, Failure> {
        self.seq += 1;
        seqpacket::send(&self.socket, &encode(&Request { seq: self.seq, call }), fds).unwrap();
        loop {
            match self.receive() {
                Some(Message::Event(event)) => self.events.push(event),
                Some(Message::Reply(Reply { seq: 0, .. })) => {}
                Some(Message::Reply(reply)) => {
                    assert_eq!(reply.seq, self.seq);
                    return reply.result;
                }
                None => panic!("the shim hung up"),
            }
        }
    }

    pub(crate) fn state(&mut self) -> State {
        match self.ask(Call::State, &[]) {
            Ok(Answer::State(state)) => state,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn signal(&mut self, signal: i32) {
        assert_eq!(self.ask(Call::Signal { exec: None, signal, all: false }, &[]), Ok(Answer::Done));
    }

    /// Attaches to everything.
    pub(crate) fn attach(&mut self, exec: Option<&str>, keys: &[u8]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let call = Call::Attach {
            exec: exec.map(str::to_string),
            stream: Fd(0),
            stdin: true,
            stdout: true,
            stderr: true,
            detach_keys: keys.to_vec(),
        };
        assert_eq!(self.ask(call, &[theirs.as_fd()]), Ok(Answer::Done));
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    }

    /// Starts an exec with a client attached to everything.
    pub(crate) fn exec_attached(&mut self, mut plan: ExecPlan) -> (Result<Answer, Failure>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        plan.attach = Some(ExecAttach {
            stream: Fd(0),
            stdin: true,
            stdout: true,
            stderr: true,
            detach_keys: Vec::new(),
        });
        let answer = self.ask(Call::Exec(Box::new(plan)), &[theirs.as_fd()]);
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        (answer, ours)
    }

    /// Waits for the exit, lets the shim go, and sees it gone.
    pub(crate) fn end(mut self) -> ExitRecord {
        let record = loop {
            if let Event::Exited(record) = self.event() {
                break record;
            }
        };
        assert_eq!(self.ask(Call::Release, &[]), Ok(Answer::Done));
        self.await_shim_end();
        record
    }

    pub(crate) fn await_shim_end(&self) {
        let pid = self.shim_pid;
        await_that("the shim's end", || !Path::new(&format!("/proc/{pid}")).exists());
        assert!(!self.run_dir.join("shim.sock").exists());
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // Only a failed test leaves something running.
        if std::thread::panicking() && self.pid > 0 {
            let _ = wharf_sys::process::kill(self.pid, 9);
        }
    }
}

/// Looks until something is so.
pub(crate) fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads stdcopy frames to the end: (stdout, stderr).
pub(crate) fn read_frames(mut stream: impl Read) -> (Vec<u8>, Vec<u8>) {
    let mut out = (Vec::new(), Vec::new());
    let mut header = [0; 8];
    loop {
        match stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return out,
            Err(e) => panic!("{e}"),
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data).unwrap();
        match header[0] {
            1 => out.0.extend(data),
            2 => out.1.extend(data),
            other => panic!("stream {other}"),
        }
    }
}

/// Reads until `text` has come.
pub(crate) fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let mut got = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&got).contains(text) {
        let count = stream.read(&mut part).expect(text);
        assert!(count > 0, "ended before {text:?}: {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&got).into_owned()
}

/// The `log` texts of a json log, by stream.
pub(crate) fn log_texts(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| value[name].as_str().unwrap().to_string();
            (field("stream"), field("log"))
        })
        .collect()
}
