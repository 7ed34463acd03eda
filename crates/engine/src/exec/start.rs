//! `POST /exec/{id}/start` and `POST /exec/{id}/resize`

use super::{Exec, Execs, Progress};
use crate::{
    Error, Result,
    blocking::blocking,
    containers::{Container, failure_text, plan, stream_pair},
    state::Verb,
};
use jiff::Timestamp;
use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
};
use wharf_spec::{
    plan::{Fd, Process, Stdio, TerminalSize},
    shim::{Answer, Call, ExecAttach, ExecPlan},
};
use wharf_sys::fault;

/// Docker's code for an exec that could not be started and has none of its own.
const CANNOT_START: i32 = 126;

/// For [`Execs::start`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecStart {
    /// Nobody is attached.
    pub detach: bool,
    /// First size of the terminal; `None`: as the create said.
    pub size: Option<TerminalSize>,
}

/// A process that runs.
#[derive(Debug)]
pub struct StartedExec {
    /// Bytes are raw, not frames.
    pub tty: bool,
    /// As [`crate::containers::Attached::stream`]; `None` when detached.
    pub stream: Option<tokio::net::UnixStream>,
}

impl Execs {
    /// Whether an exec has a terminal: what a client is told before the process starts.
    ///
    /// # Errors
    /// `No such exec instance: ...`.
    pub fn has_terminal(&self, id: &str) -> Result<bool> {
        Ok(self.get(id)?.request.tty)
    }

    /// Starts a prepared process.
    ///
    /// # Errors
    /// When it runs or ran already, the container cannot take it, or [`Error::ExecStart`] with Docker's exit
    /// code when its program cannot be run.
    pub async fn start(&self, id: &str, options: ExecStart) -> Result<StartedExec> {
        let exec = self.get(id)?;
        let container = self.container(&exec)?;
        container.check(Verb::Exec)?;
        exec.claim()?;
        self.emit(&container, &exec, "exec_start");
        match self.run(&container, &exec, options).await {
            Ok(started) => Ok(started),
            Err(error) => {
                let code = match &error {
                    Error::ExecStart { code, .. } => *code,
                    _ => CANNOT_START,
                };
                exec.progress.send_replace(Progress::Ended { code, at: Timestamp::now() });
                Err(error)
            }
        }
    }

    async fn run(
        &self,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
        options: ExecStart,
    ) -> Result<StartedExec> {
        let user = self.user(container, &exec.user).await?;
        let process = self.process(container, exec, user, options.size).await?;
        let attach = match options.detach {
            true => None,
            false => Some(stream_pair()?),
        };
        let (ours, theirs) = attach.map_or((None, None), |(ours, theirs)| (Some(ours), Some(theirs)));
        let call = Call::Exec(Box::new(exec.plan(process, theirs.is_some())));
        fault::point("exec.ask").map_err(|source| Error::Os { step: "exec", source })?;
        let fds: Vec<_> = theirs.iter().map(UnixStream::as_fd).collect();
        match container.shim()?.call(call, &fds).await {
            Ok(Answer::Started { pid }) => {
                fault::death("exec.started");
                exec.note_pid(pid);
            }
            Ok(other) => return Err(Error::Protocol(format!("shim answers an exec with {other:?}"))),
            Err(Error::Task(failure)) => {
                let program = exec.command.first().map_or("", String::as_str);
                let prefix = "OCI runtime exec failed: exec failed: ";
                let (code, message) = failure_text(&failure, program, prefix);
                return Err(Error::ExecStart { code, message });
            }
            Err(error) => return Err(error),
        }
        Ok(StartedExec { tty: exec.request.tty, stream: ours })
    }

    async fn process(
        &self,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
        user: wharf_spec::user::User,
        size: Option<TerminalSize>,
    ) -> Result<Process> {
        let engine = Arc::clone(self.containers.config());
        let (container, exec) = (Arc::clone(container), Arc::clone(exec));
        let asked = exec.request.console_size.map(|[rows, columns]| TerminalSize {
            rows: u16::try_from(rows).unwrap_or(u16::MAX),
            columns: u16::try_from(columns).unwrap_or(u16::MAX),
        });
        let terminal = exec.request.tty.then(|| size.or(asked).unwrap_or_default());
        blocking(move || {
            let host = container.host_config();
            container.with(|state| {
                plan::exec_process(plan::ExecInput {
                    engine: &engine,
                    host: &host,
                    command: &exec.command,
                    env: exec.env.clone(),
                    working_dir: &exec.working_dir,
                    user: &user,
                    terminal,
                    privileged: exec.request.privileged,
                    no_new_privileges: state.record.no_new_privileges,
                    seccomp_profile: &state.record.seccomp_profile,
                    apparmor_profile: &state.record.app_armor_profile,
                })
            })
        })
        .await
    }

    /// `POST /exec/{id}/resize`
    ///
    /// # Errors
    /// When it does not run.
    pub async fn resize(&self, id: &str, size: TerminalSize) -> Result<()> {
        let exec = self.get(id)?;
        let container = self.container(&exec)?;
        if !matches!(*exec.progress.borrow(), Progress::Running { .. }) {
            return Err(Error::Invalid("exec process is not started".into()));
        }
        let call = Call::Resize { exec: Some(exec.id.to_string()), size };
        container.shim()?.call(call, &[]).await.map(drop)
    }

    /// Kills a running exec.
    pub(crate) async fn kill(&self, id: &str) -> Result<()> {
        let exec = self.get(id)?;
        let container = self.container(&exec)?;
        let call = Call::Signal { exec: Some(exec.id.to_string()), signal: 9, all: false };
        container.shim()?.call(call, &[]).await.map(drop)
    }

    /// Waits until the end of an exec is known, if it has ended: when the stream of a client is at its end the
    /// shim has said so, but the news may still be on its way. A client that detached leaves a running process.
    pub async fn settle(&self, id: &str) {
        let Ok(exec) = self.get(id) else { return };
        let shim = self.container(&exec).and_then(|container| container.shim());
        let runs_on = match shim {
            Ok(shim) => matches!(shim.call(Call::State, &[]).await, Ok(Answer::State(s)) if s.runs(id)),
            Err(_) => false,
        };
        if !runs_on {
            self.wait(id).await.ok();
        }
    }

    /// Waits for the end of an exec: its exit code.
    pub(crate) async fn wait(&self, id: &str) -> Result<i32> {
        let mut progress = self.get(id)?.progress.subscribe();
        let ended = progress.wait_for(|p| matches!(p, Progress::Ended { .. })).await;
        match ended.map(|p| *p) {
            Ok(Progress::Ended { code, .. }) => Ok(code),
            Ok(_) | Err(_) => Err(Error::NoSuchExec(id.into())),
        }
    }
}

impl Exec {
    /// It is started once.
    fn claim(&self) -> Result<()> {
        let mut refused = None;
        self.progress.send_if_modified(|progress| match progress {
            Progress::Created => {
                *progress = Progress::Running { pid: 0 };
                true
            }
            Progress::Running { .. } => {
                refused = Some(format!("exec command {} is already running", self.id));
                false
            }
            Progress::Ended { .. } => {
                refused = Some(format!("exec command {} has already run", self.id));
                false
            }
        });
        refused.map_or(Ok(()), |why| Err(Error::Conflict(why)))
    }

    /// It may have ended before we learn of its pid.
    fn note_pid(&self, pid: i32) {
        self.progress.send_if_modified(|progress| match progress {
            Progress::Running { pid: known } => {
                *known = pid;
                true
            }
            Progress::Created | Progress::Ended { .. } => false,
        });
    }

    fn plan(&self, process: Process, attached: bool) -> ExecPlan {
        let request = &self.request;
        let attach = attached.then(|| ExecAttach {
            stream: Fd(0),
            stdin: request.attach_stdin,
            stdout: request.attach_stdout,
            stderr: request.attach_stderr,
            detach_keys: if request.tty { self.detach_keys.clone() } else { Vec::new() },
        });
        let stdio = Stdio::Shim { stdin: request.attach_stdin, stdin_once: true };
        ExecPlan { id: self.id.to_string(), process, stdio, attach }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;
    use wharf_spec::{ContainerId, ExecId};

    #[test]
    fn an_exec_is_started_once() {
        let exec = Exec {
            id: ExecId::from_random([1; 32]),
            container: ContainerId::from_random([2; 32]),
            request: Default::default(),
            detach_keys: vec![],
            command: vec!["true".into()],
            env: vec![],
            user: String::new(),
            working_dir: String::new(),
            progress: watch::channel(Progress::Created).0,
        };
        exec.claim().unwrap();
        assert!(exec.claim().unwrap_err().to_string().ends_with("is already running"));
        exec.progress.send_replace(Progress::Ended { code: 0, at: Timestamp::UNIX_EPOCH });
        exec.note_pid(7);
        assert!(matches!(*exec.progress.borrow(), Progress::Ended { .. }));
        assert!(exec.claim().unwrap_err().to_string().ends_with("has already run"));
    }
}
