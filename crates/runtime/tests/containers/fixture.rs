//! A root with busybox in it, a plan like Docker's, and what runs and cleans up containers.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::cell::Cell;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use wharf_runtime::{Container, CreateOptions, Error, Io, Lifetime};
use wharf_spec::plan::*;
use wharf_spec::shim::Failure;
use wharf_sys::process::Exit;

/// Docker's fourteen default capabilities.
pub(crate) const DEFAULT_CAPS: u64 = 0xa804_25fb;

const APPLETS: [&str; 27] = [
    "sh", "ls", "cat", "echo", "true", "false", "id", "sleep", "stat", "mount", "hostname", "readlink",
    "test", "tty", "stty", "touch", "mkdir", "chmod", "unshare", "dd", "head", "grep", "ps", "pwd", "kill",
    "mknod", "env",
];

thread_local! {
    static FDS: Cell<usize> = const { Cell::new(0) };
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

/// Before a test.
pub(crate) fn begin() {
    FDS.set(open_fds());
}

/// After a test: no descriptor, child, mount or group is left.
pub(crate) fn check_leaks() {
    assert_eq!(open_fds(), FDS.get(), "descriptors");
    assert_eq!(wharf_sys::process::reap_any().unwrap(), None, "children");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("wharf-runtime-test"), "mounts: {mounts}");
}

/// After all tests: their common parent group goes.
pub(crate) fn end() {
    let hierarchies = wharf_sys::cgroup::Hierarchies::detect().unwrap();
    let parent = hierarchies.group(&cgroup_parent()).unwrap();
    parent.remove().unwrap();
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn cgroup_parent() -> String {
    format!("/wharf-test-{}", std::process::id())
}

/// A container's root.
pub(crate) struct Rootfs {
    dir: tempfile::TempDir,
}

impl Rootfs {
    pub(crate) fn new() -> Rootfs {
        let dir = tempfile::Builder::new().prefix("wharf-runtime-test").tempdir().unwrap();
        let root = dir.path().join("rootfs");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "home/user", "sbin"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let busybox = Path::new("/bin/busybox");
        assert!(busybox.exists(), "these tests need a static /bin/busybox: apt-get install busybox-static");
        std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
        std::fs::write(root.join("etc/passwd"), passwd).unwrap();
        for dir in [dir.path(), &root] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Rootfs { dir }
    }

    /// A path of the host inside the container's root.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(inside.trim_start_matches('/'))
    }

    /// A path of the host beside the root.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A plan with Docker's defaults that runs these words.
    pub(crate) fn plan(&self, args: &[&str]) -> Plan {
        let number = COUNT.get() + 1;
        COUNT.set(number);
        let new = || Namespace::New;
        Plan {
            id: format!("test{number}"),
            bundle: self.dir.path().display().to_string(),
            root: Root {
                source: Source::Path(self.path("").display().to_string()),
                readonly: false,
                propagation: Propagation::RPrivate,
            },
            mounts: docker_mounts(),
            devices: Vec::new(),
            namespaces: Namespaces {
                pid: new(),
                network: new(),
                ipc: new(),
                uts: new(),
                cgroup: Namespace::Host,
                user: Namespace::Host,
                id_maps: None,
                time: Namespace::Host,
                time_offsets: Vec::new(),
            },
            hostname: Some("box".into()),
            domainname: None,
            cgroup: Cgroup {
                path: format!("{}/{number}", cgroup_parent()),
                resources: docker_resources(),
                scope: None,
            },
            sysctls: Vec::new(),
            masked_paths: MASKED.map(str::to_owned).to_vec(),
            readonly_paths: READONLY.map(str::to_owned).to_vec(),
            process: process(args),
            init: false,
            stdio: Stdio::Shim { stdin: false, stdin_once: false },
            log: Log::None,
            hooks: Hooks::default(),
            annotations: Vec::new(),
            tolerate_missing_privilege: true,
            runtime: None,
            held: Vec::new(),
        }
    }

    /// A plan that runs a shell script.
    pub(crate) fn script(&self, script: &str) -> Plan {
        self.plan(&["sh", "-c", script])
    }
}

const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Root with Docker's capabilities.
pub(crate) fn process(args: &[&str]) -> Process {
    Process {
        args: args.iter().map(|&word| word.to_owned()).collect(),
        env: vec!["PATH=/bin:/sbin".into()],
        cwd: "/".into(),
        make_cwd: true,
        uid: 0,
        gid: 0,
        additional_gids: Vec::new(),
        umask: None,
        terminal: None,
        capabilities: Capabilities {
            bounding: DEFAULT_CAPS,
            effective: DEFAULT_CAPS,
            permitted: DEFAULT_CAPS,
            inheritable: 0,
            ambient: 0,
        },
        no_new_privileges: false,
        seccomp: Seccomp::Unconfined,
        rlimits: Vec::new(),
        oom_score_adj: None,
        apparmor_profile: None,
        selinux_label: None,
        tuning: Default::default(),
    }
}

/// A mount without anything special.
pub(crate) fn mount(target: &str, kind: MountKind, attrs: MountAttrs) -> Mount {
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

/// A bind of a path of the host.
pub(crate) fn bind(source: &Path, target: &str, attrs: MountAttrs) -> Mount {
    let source = Source::Path(source.display().to_string());
    mount(target, MountKind::Bind { source, recursive: true }, attrs)
}

/// A tmpfs with these options.
pub(crate) fn tmpfs(target: &str, options: &[(&str, &str)]) -> Mount {
    let options = options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    mount(target, MountKind::Tmpfs { options, copy_up: false }, MountAttrs::NOSUID)
}

fn docker_mounts() -> Vec<Mount> {
    let safe = MountAttrs::NOSUID | MountAttrs::NOEXEC | MountAttrs::NODEV;
    let quiet = MountAttrs::NOSUID | MountAttrs::NOEXEC;
    vec![
        mount("/proc", MountKind::Proc, safe),
        tmpfs("/dev", &[("mode", "755"), ("size", "65536k")]),
        mount("/dev/pts", MountKind::Devpts, quiet),
        mount("/sys", MountKind::Sysfs, safe | MountAttrs::READONLY),
        mount("/sys/fs/cgroup", MountKind::Cgroup, safe | MountAttrs::READONLY),
        mount("/dev/mqueue", MountKind::Mqueue, safe),
        Mount { attrs: safe, ..tmpfs("/dev/shm", &[("mode", "1777"), ("size", "65536k")]) },
    ]
}

fn docker_resources() -> Resources {
    let deny = DeviceRule {
        allow: false,
        kind: None,
        major: None,
        minor: None,
        read: true,
        write: true,
        mknod: true,
    };
    Resources { devices: vec![deny], ..Resources::default() }
}

/// What a finished container left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) warnings: Vec<String>,
}

/// Ends of pipes that a process gets, and ours.
pub(crate) struct Pipes {
    theirs: [OwnedFd; 3],
    ours: [OwnedFd; 2],
}

impl Pipes {
    pub(crate) fn new() -> Pipes {
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (out, err) = (pipe(), pipe());
        Pipes { theirs: [null, out.1, err.1], ours: [out.0, err.0] }
    }

    pub(crate) fn io(&self) -> Io<'_> {
        Io::Given([self.theirs[0].as_fd(), self.theirs[1].as_fd(), self.theirs[2].as_fd()])
    }

    /// Reads what was written until all writers are gone.
    pub(crate) fn finish(self) -> (String, String) {
        drop(self.theirs);
        let read = |fd: OwnedFd| {
            let mut text = String::new();
            std::fs::File::from(fd).read_to_string(&mut text).unwrap();
            text
        };
        let [out, err] = self.ours;
        (read(out), read(err))
    }
}

pub(crate) fn options(io: Io<'_>) -> CreateOptions<'_> {
    CreateOptions {
        io,
        seccomp: None,
        gate: None,
        init_program: None,
        lifetime: Lifetime::OfParent,
        preserved: 0,
        no_pivot: false,
    }
}

/// Runs a container to its end and removes it.
pub(crate) fn try_run(plan: &Plan) -> Result<Outcome, Error> {
    try_run_with(plan, None)
}

/// The same with an init program.
pub(crate) fn try_run_with(plan: &Plan, init_program: Option<BorrowedFd<'_>>) -> Result<Outcome, Error> {
    let pipes = Pipes::new();
    let filter =
        wharf_runtime::seccomp::compile(&plan.process.seccomp, plan.process.capabilities.bounding).unwrap();
    let created = {
        let options = CreateOptions { seccomp: filter.as_deref(), init_program, ..options(pipes.io()) };
        wharf_runtime::create(plan, &[], &options)
    };
    let container = match created {
        Ok(container) => container,
        Err(error) => {
            assert_group_is_gone(plan);
            return Err(error);
        }
    };
    let (out, err) = pipes.finish();
    let exit = wharf_sys::process::wait(&container.pidfd).unwrap();
    remove(&container);
    assert_group_is_gone(plan);
    Ok(Outcome { exit, out, err, warnings: container.warnings })
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    match try_run(plan) {
        Ok(outcome) => outcome,
        Err(error) => panic!("create {:?}: {error}", plan.process.args),
    }
}

/// Runs a container that succeeds; its output.
pub(crate) fn output(plan: &Plan) -> String {
    let outcome = run(plan);
    assert_eq!(outcome.exit, Exit::Code(0), "{outcome:?}");
    outcome.out
}

/// Runs a container that cannot be made.
pub(crate) fn failure(plan: &Plan) -> Failure {
    match try_run(plan) {
        Ok(outcome) => panic!("{:?} was made: {outcome:?}", plan.process.args),
        Err(error) => error.into(),
    }
}

fn assert_group_is_gone(plan: &Plan) {
    let hierarchies = wharf_sys::cgroup::Hierarchies::detect().unwrap();
    assert!(!hierarchies.group(&plan.cgroup.path).unwrap().exists(), "the group is left");
}

pub(crate) fn remove(container: &Container) {
    if let Some(cgroup) = &container.cgroup {
        wharf_runtime::delete(cgroup).unwrap();
    }
}

/// A container that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) container: Container,
    pub(crate) plan: Plan,
    _pipes: Pipes,
}

impl Running {
    pub(crate) fn start(plan: Plan) -> Running {
        let pipes = Pipes::new();
        let container = wharf_runtime::create(&plan, &[], &options(pipes.io())).unwrap();
        Running { container, plan, _pipes: pipes }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = wharf_runtime::signal(&self.container.pidfd, 9);
        let _ = wharf_sys::process::wait(&self.container.pidfd);
        remove(&self.container);
    }
}
