//! What the daemon, the zygote and a shim say to each other.
//!
//! Transport: SOCK_SEQPACKET unix sockets, one message a packet: `[u16 LE protocol version][postcard]`.
//! A message larger than the socket takes travels in a sealed memfd, its first descriptor
//! (`sys::seqpacket` does that for every message). Descriptors named by [`Fd`] follow in order.
//!
//! The three conversations:
//! * daemon → zygote: [`ZygoteRequest::Spawn`] for each container, on the socket the zygote was born with, and
//!   before it [`ZygoteRequest::Namespaces`] for one in a user namespace.
//!   One of its descriptors is the shim's end of a fresh socket pair: the shim's first control connection.
//! * daemon ↔ shim: [`Request`] and [`Reply`] matched by `seq`; [`Event`] at any time. Later daemons
//!   connect to `shim.sock` in the container's run directory and get [`Event::Hello`] first.
//! * shim → disk: [`ExitRecord`] in the run directory's `exit` file (JSON, written before the
//!   [`Event::Exited`]), so that an exit is known to whoever asks later.
//!
//! Run directory of a container, `<exec-root>/containers/<id>/`: `shim.sock`, `shim.pid` (shim's pid and
//! start time), `init.pid` (the container's), `exit`, `plan` (the plan's bytes, for inspection).

use crate::plan::{Fd, IdMaps, Plan, Process, Resources, Stdio, TerminalSize};
use serde::{Deserialize, Serialize};

/// The protocol spoken by this build. Shims outlive daemons: a daemon understands every version from 1 on.
pub const VERSION: u16 = 1;

/// A time as seconds and nanoseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// Daemon to zygote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ZygoteRequest {
    /// Fork a shim that runs this container.
    Spawn {
        /// The shim's end of its first control connection.
        control: Fd,
        /// The container's run directory, open (O_PATH is enough).
        run_dir: Fd,
        /// The container.
        plan: Box<Plan>,
    },
    /// Make a network namespace that belongs to a user namespace. Answered on `reply` by one packet: `+` with the
    /// two descriptors, user first, or a text that says why not.
    Namespaces {
        /// A SOCK_SEQPACKET socket.
        reply: Fd,
        /// An existing user namespace; `None` for a new one.
        user: Option<Fd>,
        /// The maps of a new one.
        maps: IdMaps,
    },
}

/// Daemon to shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the daemon, repeated in the [`Reply`].
    pub seq: u32,
    /// What is asked.
    pub call: Call,
}

/// What a daemon can ask of a shim. `exec: None` means the main process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// How things stand. Answered by [`Answer::State`].
    State,
    /// Signal the main process or an exec; `all` signals every process of the container.
    Signal {
        /// An [`crate::ExecId`] as text.
        exec: Option<String>,
        /// Number.
        signal: i32,
        /// Every process.
        all: bool,
    },
    /// Freeze all processes.
    Pause,
    /// Thaw them.
    Resume,
    /// Change limits while running.
    Update(Box<Resources>),
    /// Set the terminal's size.
    Resize {
        /// Which process.
        exec: Option<String>,
        /// To what.
        size: TerminalSize,
    },
    /// Connect a client's stream to a process. The shim writes output to it (framed as stdcopy frames when
    /// there is no terminal, raw otherwise) and reads input from it; end of file on reading is the
    /// client's half-close; the shim closes it when the process's output ended. Answered when attached:
    /// every byte the process writes from then on reaches the stream.
    Attach {
        /// Which process.
        exec: Option<String>,
        /// A SOCK_STREAM socket.
        stream: Fd,
        /// The client's bytes go to the process.
        stdin: bool,
        /// Output is wanted.
        stdout: bool,
        /// Errors are wanted.
        stderr: bool,
        /// This key sequence in the input detaches the client: its bytes, empty for never.
        detach_keys: Vec<u8>,
    },
    /// Start a process in the container. Answered by [`Answer::Started`] once it runs its program.
    Exec(Box<ExecPlan>),
    /// The shim forgets a finished exec.
    Forget {
        /// Which.
        exec: String,
    },
    /// After the exit: everything is read, the shim may end. Before it: refused.
    Release,
    /// Copies of the descriptors that the shim keeps ([`Plan::held`]). Answered by [`Answer::Held`].
    Held,
    /// The shim keeps these as well.
    Hold(Vec<Fd>),
    /// Keep these descriptors in place of all that were kept before. At the end, since shims of earlier builds know the
    /// others by their number; to them this is no request at all.
    Keep(Vec<Fd>),
}

/// A process to be started in a running container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// Its [`crate::ExecId`] as text.
    pub id: String,
    /// What runs.
    pub process: Process,
    /// Where its input and output go. With [`Stdio::Shim`] output without an attached client is dropped.
    pub stdio: Stdio,
    /// Attach before starting, as [`Call::Attach`] does; `None` for detached.
    pub attach: Option<ExecAttach>,
}

/// The client of an exec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields of Call::Attach")]
pub struct ExecAttach {
    pub stream: Fd,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub detach_keys: Vec<u8>,
}

/// Shim to daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// To a request.
    Reply(Reply),
    /// At any time.
    Event(Event),
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub seq: u32,
    /// How it went.
    pub result: Result<Answer, Failure>,
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// To [`Call::State`].
    State(State),
    /// To [`Call::Exec`]: its pid as the host sees it.
    Started {
        /// On the host.
        pid: i32,
    },
    /// To [`Call::Held`]: the descriptors come with the reply, those of the plan first. None after the exit.
    Held(Vec<Fd>),
}

/// How a container stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The main process as the host sees it; 0 when it has ended.
    pub pid: i32,
    /// Frozen.
    pub paused: bool,
    /// When the main process has ended.
    pub exit: Option<ExitRecord>,
    /// Running and not yet forgotten execs: id, pid (0 when ended), exit.
    pub execs: Vec<(String, i32, Option<ExitRecord>)>,
}

impl State {
    /// Whether an exec is known and has not ended.
    pub fn runs(&self, exec: &str) -> bool {
        self.execs.iter().any(|(id, _, exit)| id == exec && exit.is_none())
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// First message to a later connection.
    Hello(State),
    /// First message on a new shim's first connection, good: the program runs.
    Started {
        /// The main process as the host sees it.
        pid: i32,
        /// The shim.
        shim_pid: i32,
        /// Things that could not be done and were not asked to be fatal.
        warnings: Vec<String>,
    },
    /// First message on a new shim's first connection, bad: everything is undone and the shim ends.
    Failed(Failure),
    /// The main process ended, its output is read and written to the log, and the exit file is there.
    Exited(ExitRecord),
    /// An exec ended and its output is delivered.
    ExecExited {
        /// Which.
        exec: String,
        /// How.
        exit: ExitRecord,
    },
    /// The kernel killed a process of the container for memory.
    OutOfMemory,
    /// An attached client used its detach keys.
    Detached {
        /// Which process it was attached to.
        exec: Option<String>,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Its exit status, or 128 + the signal's number.
    pub code: i32,
    /// When.
    pub at: Timestamp,
    /// The kernel killed something in the container for memory.
    pub oom_killed: bool,
    /// Bytes of output that could not be written to the log.
    pub log_bytes_lost: u64,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure, for the exit code that Docker derives from it.
    pub kind: FailureKind,
    /// The step that failed, such as `mount /proc`.
    pub step: String,
    /// The error number of the system call, 0 if none.
    pub errno: i32,
    /// In words, step included.
    pub message: String,
}

/// Kinds of failure that clients can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The program does not exist: exit code 127.
    ProgramNotFound,
    /// The program cannot be run (permission, a directory, no such format): exit code 126.
    ProgramNotRunnable,
    /// The working directory cannot be entered: exit code 126 for exec, 127/128 as Docker for run.
    WorkingDirectory,
    /// What is asked for is not there: an unknown exec, an ended process.
    NotFound,
    /// The request contradicts the container's state.
    Conflict,
    /// Anything else: exit code 128 or 125 as Docker chooses.
    Setup,
    /// An external runtime's own words: the exit code follows from the text, as in Docker.
    ExternalRuntime,
}
