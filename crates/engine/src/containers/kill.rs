//! `POST /containers/{id}/kill`, and the signals of stop and remove.

use super::{Container, Containers, State, Wait, WaitCondition, monitor::kill_cgroup, stop::stop_signal};
use crate::{Error, Result, blocking::blocking, state::Verb};
use std::{sync::Arc, time::Duration};
use wharf_spec::{ErrorKind, shim::Call, signal};
use wharf_sys::fault;

const SIGKILL: i32 = 9;
/// How long SIGKILL may take before the cgroup is killed, and then again.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// How long a shim that did not take the signal is given to be gone.
const SHIM_PATIENCE: Duration = Duration::from_millis(500);

/// On whose behalf a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A client: `unless-stopped` does not start it again.
    Client,
    /// The daemon, because it ends or begins: restart policies start it again.
    Daemon,
}

impl Containers {
    /// Sends a signal, by name or number; empty is SIGKILL, whose effect is waited for.
    ///
    /// # Errors
    /// With Docker's prefix `cannot kill container: ...`.
    pub async fn kill(&self, id_or_name: &str, signal: &str) -> Result<()> {
        let killed = self.try_kill(id_or_name, signal).await;
        killed.map_err(|error| error.context(format!("cannot kill container: {id_or_name}")))
    }

    async fn try_kill(&self, id_or_name: &str, name: &str) -> Result<()> {
        let number = match name {
            "" => SIGKILL,
            name => signal::parse(name).map_err(|e| Error::Invalid(e.to_string()))?,
        };
        if !signal::is_valid(number) {
            return Err(Error::Invalid(format!("the linux daemon does not support signal {number}")));
        }
        let container = self.get(id_or_name)?;
        match number {
            SIGKILL => self.kill_and_wait(&container, By::Client).await,
            other => self.signal(&container, other, By::Client).await,
        }
    }

    /// SIGKILL, until it has ended.
    pub(super) async fn kill_and_wait(&self, container: &Arc<Container>, by: By) -> Result<()> {
        container.check(Verb::Kill)?;
        let wait = || Wait::new(container, WaitCondition::NotRunning);
        let first = wait();
        match self.signal(container, SIGKILL, by).await {
            Ok(()) => {}
            // Either it has ended, or only the connection has, and is made again.
            Err(Error::ShimGone(_)) => {
                if tokio::time::timeout(SHIM_PATIENCE, wait().done()).await.is_ok() {
                    return Ok(());
                }
                self.signal(container, SIGKILL, by).await?;
            }
            Err(error) => return Err(error),
        }
        if tokio::time::timeout(FIRST_PATIENCE, first.done()).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(container = %container.id, "not ended by SIGKILL in time: killing its cgroup");
        let last = wait();
        let path = super::plan::cgroup_path(self.config(), &container.host_config(), &container.id);
        blocking(move || {
            kill_cgroup(&path).map_err(|e| Error::Io {
                step: "kill cgroup",
                path: path.into(),
                source: std::io::Error::other(e),
            })
        })
        .await?;
        match tokio::time::timeout(LAST_PATIENCE, last.done()).await {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(Error::Refused("tried to kill container, but did not receive an exit event".into()))
            }
        }
    }

    /// Sends a signal to the main process. A frozen container that the signal is to end is thawed; one that
    /// waits for its restart does not start again then.
    pub(super) async fn signal(&self, container: &Arc<Container>, signal: i32, by: By) -> Result<()> {
        let _one_verb = container.lifecycle.lock().await;
        container.check(Verb::Kill)?;
        let noted = container.update(|state| note_signal(state, signal, by));
        if noted.restarting {
            if noted.ends_it {
                self.cancel_restart(container);
            }
            container.save_or_warn().await;
            return Ok(());
        }
        if noted.has_policy {
            // A daemon that crashes before the container's end must not start it again.
            container.save_or_warn().await;
        }
        let shim = container.shim()?;
        fault::point("kill.signal").map_err(|source| Error::Os { step: "send signal", source })?;
        match shim.call(Call::Signal { exec: None, signal, all: false }, &[]).await {
            Ok(_) => {}
            // It has just ended: its monitor is about to notice.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // Not known whether it got there.
            Err(error @ Error::ShimGone(_)) => return Err(error),
            Err(error) => return Err(error.context(format!("Cannot kill container {}", container.id))),
        }
        fault::death("kill.signalled");
        self.emit(container, "kill", [("signal".to_owned(), signal.to_string())].into());
        if noted.paused && noted.ends_it {
            match shim.call(Call::Resume, &[]).await {
                Ok(_) => {
                    container.update(|state| state.status.unpaused());
                    self.watch_health(container);
                    self.emit_plain(container, "unpause");
                }
                Err(error) => tracing::warn!(container = %container.id, %error, "cannot unpause container"),
            }
        }
        Ok(())
    }
}

/// What a signal finds and means.
struct Noted {
    restarting: bool,
    paused: bool,
    has_policy: bool,
    ends_it: bool,
}

/// Without a stop signal of the container's own any signal is taken for the end (source: moby `daemon/kill.go`).
fn note_signal(state: &mut State, signal: i32, by: By) -> Noted {
    let own = &state.record.config.stop_signal;
    let ends_it = own.is_empty() || signal == SIGKILL || stop_signal(own) == signal;
    state.exit_on_next |= ends_it;
    state.record.has_been_manually_stopped |= by == By::Client;
    let facts = state.status.facts();
    Noted {
        restarting: facts.restarting,
        paused: facts.paused,
        has_policy: !state.host.restart_policy.is_none(),
        ends_it,
    }
}
