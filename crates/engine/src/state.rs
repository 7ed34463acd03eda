//! How a container stands, and what may be done with it then. Pure: no clocks, no locks, no I/O.
//!
//! Docker keeps booleans (`Running`, `Paused`, `Restarting`, `Dead`, ...) that contradict each other at
//! times; here they are derived from one [`Status`] in one place, [`Status::facts`]
//! (source: moby `daemon/container/state.go`).

use jiff::Timestamp;

/// How a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    /// Never started with success. A failed start leaves its code and error.
    Created(Option<StartFailure>),
    /// Its main process runs.
    Running(Run),
    /// Its processes are frozen.
    Paused(Run),
    /// It ended and its restart policy starts it again soon.
    Restarting(Exit),
    /// It ended.
    Exited(Exit),
    /// It is being removed; what it was before stays visible.
    Removing(Option<Exit>),
    /// Removing it failed half-way: it can only be removed.
    Dead(Option<Exit>),
}

/// A start that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartFailure {
    /// 126, 127 or 128.
    pub(crate) code: i32,
    /// Docker's text.
    pub(crate) error: String,
}

/// A run that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// The main process as the host sees it.
    pub(crate) pid: i32,
    /// When it started.
    pub(crate) started_at: Timestamp,
    /// When the run before it ended.
    pub(crate) last_finished_at: Option<Timestamp>,
    /// The kernel killed something in it for memory.
    pub(crate) oom_killed: bool,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit status, or 128 + the signal's number.
    pub(crate) code: i32,
    /// What else went wrong, empty if nothing.
    pub(crate) error: String,
    /// When it had started; `None` is never.
    pub(crate) started_at: Option<Timestamp>,
    /// When it ended.
    pub(crate) finished_at: Option<Timestamp>,
    /// The kernel killed something in it for memory.
    pub(crate) oom_killed: bool,
}

/// What clients see of a status: Docker's words and booleans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts<'a> {
    /// `created`, `running`, ...
    pub(crate) word: &'static str,
    /// True also while paused and restarting.
    pub(crate) running: bool,
    /// Frozen.
    pub(crate) paused: bool,
    /// Waiting for its restart policy.
    pub(crate) restarting: bool,
    /// Removing failed.
    pub(crate) dead: bool,
    /// The kernel killed something in it for memory.
    pub(crate) oom_killed: bool,
    /// 0 when nothing runs.
    pub(crate) pid: i32,
    /// Of the last run or failed start.
    pub(crate) exit_code: i32,
    /// Of the last start or run.
    pub(crate) error: &'a str,
    /// Of this or the last run.
    pub(crate) started_at: Option<Timestamp>,
    /// Of the last run.
    pub(crate) finished_at: Option<Timestamp>,
}

/// What can be asked of a container and depends on how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the verbs of the API")]
pub(crate) enum Verb {
    Start,
    Stop,
    Kill,
    Pause,
    Unpause,
    Exec,
    Attach,
    Resize,
    Top,
    Update,
    Remove,
    Export,
    Commit,
}

/// Why a verb is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is so already: Docker's 304.
    AlreadySo,
    /// Nothing runs.
    NotRunning,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It is not frozen.
    NotPaused,
    /// It waits for its restart policy.
    Restarting,
    /// It is being removed or dead.
    MarkedForRemoval,
}

impl Status {
    /// Docker's booleans and words.
    pub(crate) fn facts(&self) -> Facts<'_> {
        let still = Facts {
            word: self.word(),
            running: false,
            paused: false,
            restarting: false,
            dead: false,
            oom_killed: false,
            pid: 0,
            exit_code: 0,
            error: "",
            started_at: None,
            finished_at: None,
        };
        match self {
            Self::Created(None) => still,
            Self::Created(Some(failure)) => Facts { exit_code: failure.code, error: &failure.error, ..still },
            Self::Running(run) => running(run, still),
            Self::Paused(run) => Facts { paused: true, ..running(run, still) },
            Self::Restarting(exit) => Facts { running: true, restarting: true, ..ended(Some(exit), still) },
            Self::Exited(exit) => ended(Some(exit), still),
            Self::Removing(exit) => ended(exit.as_ref(), still),
            Self::Dead(exit) => Facts { dead: true, ..ended(exit.as_ref(), still) },
        }
    }

    /// Docker's word for it, as in `State.Status`.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Restarting(_) => "restarting",
            Self::Exited(_) => "exited",
            Self::Removing(_) => "removing",
            Self::Dead(_) => "dead",
        }
    }

    /// Whether a main process is there, frozen or not.
    pub(crate) fn has_process(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Paused(_))
    }

    /// The run that goes on.
    pub(crate) fn run(&self) -> Option<&Run> {
        match self {
            Self::Running(run) | Self::Paused(run) => Some(run),
            _ => None,
        }
    }

    /// Whether a verb is refused, and why. The order of reasons is moby's.
    pub(crate) fn refuses(&self, verb: Verb) -> Option<Refusal> {
        use Refusal as R;
        let stopped = matches!(self, Self::Created(_) | Self::Exited(_));
        let marked = matches!(self, Self::Removing(_) | Self::Dead(_));
        match (verb, self) {
            (Verb::Start, Self::Paused(_)) => Some(R::Paused),
            (Verb::Start, Self::Running(_) | Self::Restarting(_)) => Some(R::AlreadySo),
            (Verb::Start | Verb::Update | Verb::Export | Verb::Commit, _) if marked => {
                Some(R::MarkedForRemoval)
            }
            (Verb::Start | Verb::Update | Verb::Export | Verb::Commit, _) => None,

            (Verb::Stop, _) if stopped || marked => Some(R::AlreadySo),
            (Verb::Stop, _) => None,

            (Verb::Kill | Verb::Resize, Self::Restarting(_)) => None,
            (Verb::Kill | Verb::Resize | Verb::Top | Verb::Exec | Verb::Pause, _) if stopped || marked => {
                Some(R::NotRunning)
            }
            (Verb::Kill | Verb::Resize, _) => None,
            (Verb::Top | Verb::Exec | Verb::Pause, Self::Restarting(_)) => Some(R::Restarting),
            (Verb::Top, _) => None,
            (Verb::Exec | Verb::Pause, Self::Paused(_)) => Some(R::Paused),
            (Verb::Exec | Verb::Pause, _) => None,

            (Verb::Unpause, Self::Paused(_)) => None,
            (Verb::Unpause, _) => Some(R::NotPaused),

            (Verb::Attach, Self::Paused(_)) => Some(R::Paused),
            (Verb::Attach, Self::Restarting(_)) => Some(R::Restarting),
            (Verb::Attach, _) => None,

            (Verb::Remove, Self::Paused(_)) => Some(R::Paused),
            (Verb::Remove, Self::Restarting(_)) => Some(R::Restarting),
            (Verb::Remove, Self::Running(_)) => Some(R::Running),
            (Verb::Remove, _) => None,
        }
    }

    /// The main process runs now.
    pub(crate) fn started(&mut self, pid: i32, at: Timestamp) {
        let last_finished_at = self.facts().finished_at;
        *self = Self::Running(Run { pid, started_at: at, last_finished_at, oom_killed: false });
    }

    /// A start failed: what it was before it stays, with this code and error.
    pub(crate) fn start_failed(&mut self, code: i32, error: String) {
        *self = match std::mem::replace(self, Self::Created(None)) {
            Self::Created(_) => Self::Created(Some(StartFailure { code, error })),
            Self::Exited(exit) | Self::Restarting(exit) => Self::Exited(Exit { code, error, ..exit }),
            other => other,
        };
    }

    /// The main process ended.
    pub(crate) fn exited(&mut self, exit: Exit) {
        *self = Self::Exited(exit);
    }

    /// It ended and is going to be started again.
    pub(crate) fn restarting(&mut self, exit: Exit) {
        *self = Self::Restarting(exit);
    }

    /// The start that its restart policy wanted failed: the code stays that of the run before, and it is not tried
    /// again (source: moby `daemon/monitor.go`, handleContainerExit).
    pub(crate) fn restart_failed(&mut self, error: String) {
        if let Self::Restarting(exit) = self {
            *self = Self::Exited(Exit { error, ..exit.clone() });
        }
    }

    /// It is not going to be started again after all.
    pub(crate) fn restart_cancelled(&mut self) {
        if let Self::Restarting(exit) = self {
            *self = Self::Exited(exit.clone());
        }
    }

    /// Frozen. Nothing changes unless it ran.
    pub(crate) fn paused(&mut self) {
        if let Self::Running(run) = self {
            *self = Self::Paused(run.clone());
        }
    }

    /// Thawed. Nothing changes unless it was frozen.
    pub(crate) fn unpaused(&mut self) {
        if let Self::Paused(run) = self {
            *self = Self::Running(run.clone());
        }
    }

    /// The kernel killed something in it for memory.
    pub(crate) fn out_of_memory(&mut self) {
        if let Self::Running(run) | Self::Paused(run) = self {
            run.oom_killed = true;
        }
    }

    /// Removing begins.
    pub(crate) fn removing(&mut self) {
        *self = Self::Removing(self.last_exit());
    }

    /// Removing failed half-way.
    pub(crate) fn removal_failed(&mut self, error: String) {
        let mut exit = self.last_exit();
        if let Some(exit) = &mut exit {
            exit.error = error;
        }
        *self = Self::Dead(exit);
    }

    fn last_exit(&self) -> Option<Exit> {
        match self {
            Self::Exited(exit) | Self::Restarting(exit) => Some(exit.clone()),
            Self::Removing(exit) | Self::Dead(exit) => exit.clone(),
            Self::Created(_) | Self::Running(_) | Self::Paused(_) => None,
        }
    }
}

fn running<'a>(run: &Run, still: Facts<'a>) -> Facts<'a> {
    Facts {
        running: true,
        pid: run.pid,
        oom_killed: run.oom_killed,
        started_at: Some(run.started_at),
        finished_at: run.last_finished_at,
        ..still
    }
}

fn ended<'a>(exit: Option<&'a Exit>, still: Facts<'a>) -> Facts<'a> {
    let Some(exit) = exit else { return still };
    Facts {
        exit_code: exit.code,
        error: &exit.error,
        oom_killed: exit.oom_killed,
        started_at: exit.started_at,
        finished_at: exit.finished_at,
        ..still
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal as R, *};

    fn exit(code: i32) -> Exit {
        Exit {
            code,
            error: String::new(),
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: Some(Timestamp::UNIX_EPOCH),
            oom_killed: false,
        }
    }

    fn run() -> Run {
        Run { pid: 42, started_at: Timestamp::UNIX_EPOCH, last_finished_at: None, oom_killed: false }
    }

    /// One of each.
    fn statuses() -> [Status; 7] {
        [
            Status::Created(None),
            Status::Running(run()),
            Status::Paused(run()),
            Status::Restarting(exit(1)),
            Status::Exited(exit(0)),
            Status::Removing(None),
            Status::Dead(None),
        ]
    }

    #[test]
    fn every_status_answers_every_verb() {
        let (n, p, r) = (Some(R::NotRunning), Some(R::Paused), Some(R::Restarting));
        let (so, m, np) = (Some(R::AlreadySo), Some(R::MarkedForRemoval), Some(R::NotPaused));
        // created, running, paused, restarting, exited, removing, dead
        let table = [
            (Verb::Start, [None, so, p, so, None, m, m]),
            (Verb::Stop, [so, None, None, None, so, so, so]),
            (Verb::Kill, [n, None, None, None, n, n, n]),
            (Verb::Pause, [n, None, p, r, n, n, n]),
            (Verb::Unpause, [np, np, None, np, np, np, np]),
            (Verb::Exec, [n, None, p, r, n, n, n]),
            (Verb::Attach, [None, None, p, r, None, None, None]),
            (Verb::Resize, [n, None, None, None, n, n, n]),
            (Verb::Top, [n, None, None, r, n, n, n]),
            (Verb::Update, [None, None, None, None, None, m, m]),
            (Verb::Remove, [None, Some(R::Running), p, r, None, None, None]),
            (Verb::Export, [None, None, None, None, None, m, m]),
            (Verb::Commit, [None, None, None, None, None, m, m]),
        ];
        for (verb, row) in table {
            for (status, wanted) in statuses().iter().zip(row) {
                assert_eq!(status.refuses(verb), wanted, "{verb:?} of {status:?}");
            }
        }
    }

    #[test]
    fn booleans_are_dockers() {
        let words: Vec<_> = statuses().iter().map(Status::word).collect();
        assert_eq!(words, ["created", "running", "paused", "restarting", "exited", "removing", "dead"]);
        for (status, (running, paused, restarting, dead)) in statuses().iter().zip([
            (false, false, false, false),
            (true, false, false, false),
            (true, true, false, false),
            (true, false, true, false),
            (false, false, false, false),
            (false, false, false, false),
            (false, false, false, true),
        ]) {
            let f = status.facts();
            assert_eq!((f.running, f.paused, f.restarting, f.dead), (running, paused, restarting, dead));
            assert_eq!(f.pid != 0, status.has_process(), "{status:?}");
        }
    }

    #[test]
    fn a_failed_start_keeps_what_was_before() {
        let mut never = Status::Created(None);
        never.start_failed(127, "gone".into());
        let facts = never.facts();
        assert_eq!((facts.word, facts.exit_code, facts.error), ("created", 127, "gone"));
        assert_eq!(facts.started_at, None);

        let mut again = Status::Restarting(exit(3));
        again.restart_failed("gone".into());
        assert_eq!((again.word(), again.facts().exit_code, again.facts().error), ("exited", 3, "gone"));

        let mut before = Status::Exited(exit(3));
        before.start_failed(126, "no".into());
        let facts = before.facts();
        assert_eq!((facts.word, facts.exit_code), ("exited", 126));
        assert!(facts.started_at.is_some());
    }

    #[test]
    fn a_run_goes_through_its_states() {
        let at = |s| Timestamp::new(s, 0).unwrap();
        let mut s = Status::Created(None);
        s.started(7, at(10));
        assert_eq!(s.facts().pid, 7);
        s.paused();
        assert_eq!(s.word(), "paused");
        s.unpaused();
        s.unpaused();
        s.out_of_memory();
        assert!(s.facts().oom_killed);
        s.exited(Exit { finished_at: Some(at(20)), ..exit(137) });
        s.paused();
        assert_eq!((s.word(), s.facts().exit_code, s.facts().pid), ("exited", 137, 0));
        s.started(8, at(30));
        assert_eq!(s.facts().finished_at, Some(at(20)));
        s.restarting(exit(1));
        s.restart_cancelled();
        assert_eq!(s.word(), "exited");
        s.removing();
        assert_eq!((s.word(), s.facts().exit_code), ("removing", 1));
        s.removal_failed("busy".into());
        assert_eq!((s.word(), s.facts().error), ("dead", "busy"));
    }
}
