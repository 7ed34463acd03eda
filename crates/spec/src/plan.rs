//! The runtime plan: everything a shim needs to know to make one container, in one flat message.
//!
//! The engine writes it, `runtime` carries it out; in between it travels as postcard bytes with the file
//! descriptors it names by index ([`Fd`]). Nothing in it is resolved later: users are numbers,
//! capabilities are masks, paths of the host are absolute. `runtime::oci` turns an OCI `config.json` into
//! a plan and a plan into a `config.json` for external runtimes.

use crate::tuning::Tuning;
use serde::{Deserialize, Serialize};

/// Index into the file descriptors that came with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fd(pub u16);

/// Something of the host, handed over open or by absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// An open file descriptor: a detached mount, a namespace, a file.
    Fd(Fd),
    /// An absolute path in the daemon's mount namespace.
    Path(String),
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The container's id (any text that OCI allows on the command line; 64 hex from the engine).
    pub id: String,
    /// The OCI bundle or the container's run directory: hooks see it in their state.
    pub bundle: String,
    /// The root file system.
    pub root: Root,
    /// What is mounted into it, in this order.
    pub mounts: Vec<Mount>,
    /// Device nodes made in `/dev`, besides the default ones that `runtime` always makes
    /// (null zero full random urandom tty; source: OCI runtime-spec, config-linux.md, "Default Devices").
    pub devices: Vec<Device>,
    /// The namespaces.
    pub namespaces: Namespaces,
    /// `None` leaves the UTS namespace's names as they are.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Where in the cgroup trees, and its limits.
    pub cgroup: Cgroup,
    /// Kernel parameters, written below `/proc/sys` of the container: (`net.core.somaxconn`, value).
    pub sysctls: Vec<(String, String)>,
    /// Paths hidden from the container.
    pub masked_paths: Vec<String>,
    /// Paths it can only read.
    pub readonly_paths: Vec<String>,
    /// The main process.
    pub process: Process,
    /// Run the main process under this init: the shim itself as `docker-init` (`--init`).
    pub init: bool,
    /// Where its input and output go.
    pub stdio: Stdio,
    /// What is done with its output.
    pub log: Log,
    /// OCI hooks, only from `wharf-runtime` and external configuration.
    pub hooks: Hooks,
    /// OCI annotations, kept for `state`.
    pub annotations: Vec<(String, String)>,
    /// How a memory-starved or capability-less daemon is treated: limits that the shim's own privileges do
    /// not allow (rlimits, oom score) are skipped with a warning when true, an error when false.
    pub tolerate_missing_privilege: bool,
    /// The OCI runtime that makes the container; `None` is Wharf's own.
    pub runtime: Option<ExternalRuntime>,
    /// Descriptors that the shim keeps open until the container's end, such as the sockets that hold published
    /// ports: they outlive the daemon. No process of the container ever sees them. Later daemons get them with
    /// [`crate::shim::Call::Held`].
    pub held: Vec<Fd>,
}

/// An OCI runtime with runc's command line, started by the shim. The plan's root is a path then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRuntime {
    /// Absolute path of the program.
    pub path: String,
    /// Arguments before its command.
    pub args: Vec<String>,
    /// Its state directory (`--root`), absolute.
    pub root: String,
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
}

/// The container's root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// A detached clone of the mounted root, or a directory.
    pub source: Source,
    /// Remounted read-only after everything is in place.
    pub readonly: bool,
    /// Propagation of the container's `/`; Docker's default is rprivate.
    pub propagation: Propagation,
}

/// Mount propagation (source: mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's own words; an r before them means recursively")]
pub enum Propagation {
    #[default]
    RPrivate,
    Private,
    RSlave,
    Slave,
    RShared,
    Shared,
}

bitflags::bitflags! {
    /// Attributes of a mount, independent of the kernel's two numberings (MS_* and MOUNT_ATTR_*).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
    pub struct MountAttrs: u32 {
        /// `ro`
        const READONLY = 1;
        /// `nosuid`
        const NOSUID = 2;
        /// `nodev`
        const NODEV = 4;
        /// `noexec`
        const NOEXEC = 8;
        /// `noatime`
        const NOATIME = 16;
        /// `nodiratime`
        const NODIRATIME = 32;
        /// `strictatime`
        const STRICTATIME = 64;
        /// `nosymfollow`
        const NOSYMFOLLOW = 128;
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container; made when missing, resolved inside the root.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Its attributes.
    pub attrs: MountAttrs,
    /// For binds: [`MountAttrs::READONLY`] holds for submounts too (mount_setattr AT_RECURSIVE).
    pub recursive_attrs: bool,
    /// Changed after mounting; `None` leaves what the mount came with.
    pub propagation: Option<Propagation>,
    /// Ids are mapped (idmapped mount), as (container id, host id, count) for users and groups.
    pub idmap: Option<IdMaps>,
    /// Not the ids of mounts below it (`idmap` in OCI's words, where `ridmap` is the whole tree).
    #[serde(skip)]
    pub idmap_single: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// The container's own `/proc`.
    Proc,
    /// `/sys`, of the container's network namespace.
    Sysfs,
    /// `/dev/pts` with the options of runc: newinstance, ptmxmode=0666, mode=0620, gid=5.
    Devpts,
    /// `/dev/mqueue`.
    Mqueue,
    /// The cgroup hierarchy as the container sees it: v2, or one v1 bind per controller.
    Cgroup,
    /// A tmpfs with file system options such as (`size`, `65536k`), (`mode`, `755`).
    Tmpfs {
        /// Options as fsconfig(2) takes them; an empty value is a flag.
        options: Vec<(String, String)>,
        /// Copy what the image has at the target into it (`tmpcopyup`).
        copy_up: bool,
    },
    /// A part of the host.
    Bind {
        /// What.
        source: Source,
        /// With its submounts (rbind).
        recursive: bool,
    },
    /// Another file system type by name, with its source and options (from a `config.json`).
    Other {
        /// As in /proc/filesystems.
        fs_type: String,
        /// The device or name.
        source: String,
        /// File system options.
        options: Vec<(String, String)>,
    },
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path in the container.
    pub path: String,
    /// `c`, `b`, `u` or `p`.
    pub kind: DeviceKind,
    /// Device number; 0 for a fifo.
    pub major: u32,
    /// Device number; 0 for a fifo.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
}

/// What kind of node a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
}

/// One namespace of the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Namespace {
    /// The shim's own, which is the host's.
    #[default]
    Host,
    /// A new one.
    New,
    /// An existing one.
    Join(Source),
}

/// All namespaces. The mount namespace is always new.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "one field per namespace of namespaces(7)")]
pub struct Namespaces {
    pub pid: Namespace,
    pub network: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub cgroup: Namespace,
    pub user: Namespace,
    /// Set when `user` is `New`.
    pub id_maps: Option<IdMaps>,
    /// Only OCI documents ask for it.
    #[serde(skip)]
    pub time: Namespace,
    /// Set when `time` is `New`: what its clocks are ahead of the host's.
    #[serde(skip)]
    pub time_offsets: Vec<TimeOffset>,
}

/// What a clock of a time namespace is ahead of the host's (source: time_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of /proc/<pid>/timens_offsets")]
pub struct TimeOffset {
    pub clock: String,
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// User and group mappings (source: user_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdMaps {
    /// For users.
    pub uids: Vec<IdMap>,
    /// For groups.
    pub gids: Vec<IdMap>,
}

/// One line of a uid_map or gid_map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Place and limits in the cgroup trees.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cgroup {
    /// Relative to each hierarchy's root, such as `/docker/<id>`; empty to stay in the shim's own.
    pub path: String,
    /// The limits.
    pub resources: Resources,
    /// systemd's scope that the group is, where systemd makes it.
    #[serde(default)]
    pub scope: Option<Scope>,
}

/// A scope of systemd: the unit that a container's control group belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The slice above it, such as `system.slice`.
    pub slice: String,
    /// First part of its name: `docker`.
    pub prefix: String,
    /// Second part of its name: the container's id.
    pub name: String,
}

impl Scope {
    /// Name of the unit, such as `docker-<id>.scope`.
    pub fn unit(&self) -> String {
        format!("{}-{}.scope", self.prefix, self.name)
    }

    /// As `cgroupsPath` of a `config.json` (source: runc `docs/systemd.md`).
    pub fn oci_path(&self) -> String {
        format!("{}:{}:{}", self.slice, self.prefix, self.name)
    }

    /// Its control group, relative to the hierarchy's root; `None` when the slice's name is none (source:
    /// systemd.slice(5); opencontainers/cgroups `systemd/common.go`, ExpandSlice).
    pub fn cgroup_path(&self) -> Option<String> {
        let name = self.slice.strip_suffix(".slice").filter(|name| !name.is_empty())?;
        let mut path = String::new();
        if name != "-" {
            let mut so_far = String::new();
            for part in name.split('-') {
                if part.is_empty() || part.contains('/') {
                    return None;
                }
                so_far += part;
                path += &format!("/{so_far}.slice");
                so_far.push('-');
            }
        }
        Some(format!("{path}/{}", self.unit()))
    }
}

/// Limits, in Docker's (cgroup v1) words and units; `sys::cgroup` converts them for v2. `None` or empty is
/// "not set".
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes; -1 is unlimited.
    pub memory: Option<i64>,
    /// Bytes, soft limit.
    pub memory_reservation: Option<i64>,
    /// Bytes, memory + swap; -1 is unlimited.
    pub memory_swap: Option<i64>,
    /// 0 to 100, v1 only.
    pub memory_swappiness: Option<u64>,
    /// v1 only.
    pub oom_kill_disable: Option<bool>,
    /// 2 to 262144, relative weight.
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; -1 is unlimited.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds, v1 only.
    pub cpu_rt_runtime: Option<i64>,
    /// Microseconds, v1 only.
    pub cpu_rt_period: Option<u64>,
    /// CPU list such as `0-1,3`.
    pub cpuset_cpus: Option<String>,
    /// Memory node list.
    pub cpuset_mems: Option<String>,
    /// Number of processes; -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Per device: weight.
    pub blkio_weight_device: Vec<DeviceLimit>,
    /// Bytes per second.
    pub blkio_read_bps: Vec<DeviceLimit>,
    /// Bytes per second.
    pub blkio_write_bps: Vec<DeviceLimit>,
    /// Operations per second.
    pub blkio_read_iops: Vec<DeviceLimit>,
    /// Operations per second.
    pub blkio_write_iops: Vec<DeviceLimit>,
    /// Huge page limits: (`2MB`, bytes).
    pub hugepage_limits: Vec<(String, u64)>,
    /// Which devices may be opened and made, in order. Empty: no device rules at all (privileged).
    pub devices: Vec<DeviceRule>,
    /// Files of the v2 hierarchy written as they are.
    pub unified: Vec<(String, String)>,
    /// Microseconds that may be saved up (`cpu.max.burst`). This and what follows only OCI documents ask for.
    #[serde(skip)]
    pub cpu_burst: Option<u64>,
    /// 1: only what nobody else wants (`cpu.idle`).
    #[serde(skip)]
    pub cpu_idle: Option<i64>,
    /// Mark of network packets, v1 only.
    #[serde(skip)]
    pub network_class: Option<u32>,
    /// Interfaces and the priority of packets that leave by them, v1 only.
    #[serde(skip)]
    pub network_priorities: Vec<(String, u32)>,
    /// RDMA devices and their limits in the kernel's words, such as (`mlx4_0`, `hca_handle=2 hca_object=max`).
    #[serde(skip)]
    pub rdma: Vec<(String, String)>,
}

/// A limit on one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "device number and the limit in the field's unit")]
pub struct DeviceLimit {
    pub major: u32,
    pub minor: u32,
    pub value: u64,
}

/// A rule of the device cgroup (source: cgroup v1 devices.rst; OCI config-linux.md "Allowed Device list").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `None` is all kinds (`a`).
    pub kind: Option<DeviceKind>,
    /// `None` is any (`*`).
    pub major: Option<u32>,
    /// `None` is any (`*`).
    pub minor: Option<u32>,
    /// May read (`r`).
    pub read: bool,
    /// May write (`w`).
    pub write: bool,
    /// May make nodes (`m`).
    pub mknod: bool,
}

/// A process in a container: the main one or an exec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments, never empty; a program without a slash is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute path in the container. Made (root-owned, 0755) when missing and `make_cwd`.
    pub cwd: String,
    /// Whether a missing `cwd` is made: Docker does for the main process, not for exec.
    pub make_cwd: bool,
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// File mode mask; `None` is 0022.
    pub umask: Option<u32>,
    /// A terminal is made for it, with this size if known (rows, columns).
    pub terminal: Option<TerminalSize>,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// No gain of privileges through execve.
    pub no_new_privileges: bool,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// -1000 to 1000; `None` leaves it at 0.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile name.
    pub apparmor_profile: Option<String>,
    /// SELinux process label.
    pub selinux_label: Option<String>,
    /// Scheduling, placement, personality.
    #[serde(skip)]
    pub tuning: Tuning,
}

/// Size of a terminal in characters; zeros leave the kernel's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-evident")]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// Capability sets as masks: bit n is capability n of `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the sets of capabilities(7)")]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// The system call filter of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// None at all.
    Unconfined,
    /// Docker's default profile, which depends on the capabilities.
    Default,
    /// A profile in Docker's JSON form (moby `profiles/seccomp`), compiled by `runtime`.
    Docker(Vec<u8>),
    /// A profile in the form of an OCI `config.json` (`linux.seccomp`).
    Oci(Vec<u8>),
}

/// A resource limit (source: getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The kernel's number, RLIMIT_*.
    pub resource: u32,
    /// Soft limit; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is infinity.
    pub hard: u64,
}

/// Where a main process's input and output go. The shim owns the other ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Pipes or a terminal held by the shim. `stdin`: keep it open for attaching clients, else `/dev/null`.
    /// `stdin_once`: close it when the first attached client is done.
    Shim {
        /// `OpenStdin`
        stdin: bool,
        /// `StdinOnce`
        stdin_once: bool,
    },
    /// The three given descriptors become 0, 1 and 2 (`wharf-runtime` on a bundle).
    Given([Fd; 3]),
}

/// What the shim does with output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Log {
    /// Nothing.
    None,
    /// Docker's json-file.
    JsonFile(LogFile),
    /// Docker's `local`.
    Local(LogFile),
    /// One of the others, written without holding the container back (`mode=non-blocking`).
    Buffered {
        /// What is written.
        log: Box<Log>,
        /// Bytes of output that wait at most (`max-buffer-size`); what is more is lost.
        bytes: u64,
    },
}

/// A log kept in files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Absolute path of the current file; older ones stand beside it as `.1`, `.2`.
    pub path: String,
    /// Bytes at which it is rotated; `None` never.
    pub max_size: Option<u64>,
    /// How many files there may be, at least 1.
    pub max_files: u32,
    /// Rotated files are gzip'ed.
    pub compress: bool,
    /// Written as `attrs` in each line (labels, env, tag).
    pub attrs: Vec<(String, String)>,
}

/// Commands run around a container's life (source: OCI runtime-spec, config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the specification")]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path.
    pub path: String,
    /// With `args[0]`.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<u32>,
}
