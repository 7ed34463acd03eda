//! What happens to a running container: its shim's events, until it ends; then everything is put away.

use super::{Container, Containers, lifetime, remove::AnonymousVolumes};
use crate::{
    Result,
    blocking::blocking,
    clock,
    state::Exit,
    task::{Events, Shim, read_exit_file, remove_run_dir, run_dir},
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use wharf_api::StringMap;
use wharf_spec::shim::{Call, Event, ExitRecord};
use wharf_sys::fault;

/// Exit code of a container whose processes were killed: 128 + SIGKILL.
const KILLED: i32 = 137;
/// Exit code of a container of which nothing is left, as after a power failure (source: moby `daemon/daemon.go`,
/// restore).
const LOST: i32 = 255;

impl Containers {
    /// Listens to a container's shim from now on.
    pub(super) fn watch(&self, container: Arc<Container>, shim: Arc<Shim>, events: Events) {
        let engine = self.clone();
        tokio::spawn(async move {
            let (mut shim, mut events) = (shim, events);
            loop {
                let exit = engine.listen(&container, events).await;
                if exit.is_none()
                    && let Some(again) = engine.connect_again(&container, &shim).await
                {
                    (shim, events) = again;
                    continue;
                }
                return engine.ended(&container, &shim, exit).await;
            }
        });
    }

    /// Handles events until the main process has ended; `None` when the shim vanished before.
    async fn listen(&self, container: &Arc<Container>, mut events: Events) -> Option<ExitRecord> {
        while let Some(event) = events.next().await {
            match event {
                Event::Exited(exit) => return Some(exit),
                Event::ExecExited { exec, exit } => self.execs().exited(self, container, &exec, exit),
                Event::OutOfMemory => {
                    container.update(|state| state.status.out_of_memory());
                    container.save_or_warn().await;
                    self.emit_plain(container, "oom");
                }
                Event::Detached { exec: None } => self.emit_plain(container, "detach"),
                Event::Detached { exec: Some(exec) } => {
                    self.emit(container, "exec_detach", [("execID".to_owned(), exec)].into());
                }
                event @ (Event::Hello(_) | Event::Started { .. } | Event::Failed(_)) => {
                    tracing::warn!(container = %container.id, ?event, "shim says this too late");
                }
            }
        }
        None
    }

    /// A connection can end though the shim is there, which hangs up on a daemon that does not read: what it says
    /// on a new one is how things stand. `None` when there is no such shim, or its container has ended.
    async fn connect_again(
        &self,
        container: &Arc<Container>,
        old: &Arc<Shim>,
    ) -> Option<(Arc<Shim>, Events)> {
        let _one_verb = container.lifecycle.lock().await;
        if !container.with(|state| state.shim.as_ref().is_some_and(|shim| Arc::ptr_eq(shim, old))) {
            return None;
        }
        let found = self.tasks().reconnect(&container.id, &run_dir(self.config(), &container.id)).await;
        let (shim, state, events) = match found {
            Ok(found) => found.filter(|(_, state, _)| state.exit.is_none())?,
            Err(error) => {
                tracing::warn!(container = %container.id, %error, "shim not reached again");
                return None;
            }
        };
        tracing::warn!(container = %container.id, "connection to shim lost and made again");
        let was_paused = container.update(|own| {
            let was_paused = own.status.facts().paused;
            own.shim = Some(Arc::clone(&shim));
            match state.paused {
                true => own.status.paused(),
                false => own.status.unpaused(),
            }
            was_paused
        });
        match (was_paused, state.paused) {
            (false, true) => self.end_health(container),
            (true, false) => self.watch_health(container),
            _ => {}
        }
        container.save_or_warn().await;
        // What was under way may have been done or not.
        self.limit_as_recorded(container).await;
        self.execs().reconcile(self, container, state.execs);
        Some((shim, events))
    }

    /// Puts a container away that has ended, and starts it again if its policy says so.
    async fn ended(&self, container: &Arc<Container>, shim: &Arc<Shim>, exit: Option<ExitRecord>) {
        let _one_verb = container.lifecycle.lock().await;
        let current = container.with(|state| state.shim.as_ref().is_some_and(|s| Arc::ptr_eq(s, shim)));
        if !current {
            return;
        }
        fault::death("end.seen");
        let exit = match exit {
            Some(exit) => {
                // The shim has nothing more to do. One that is gone by now needs no telling.
                shim.call(Call::Release, &[]).await.ok();
                clean_exit(container, exit)
            }
            None => self.after_vanished_shim(container).await,
        };
        if let Some(delay) = self.put_away(container, exit).await {
            self.restart_later(Arc::clone(container), delay);
        }
    }

    /// The exit file is the truth. Without one nobody watches over the container's processes any more: they
    /// are killed.
    pub(super) async fn after_vanished_shim(&self, container: &Arc<Container>) -> Exit {
        let run_dir = run_dir(self.config(), &container.id);
        let found = blocking(move || Ok((read_exit_file(&run_dir), run_dir.exists()))).await;
        self.kill_unwatched(container).await;
        let (exit, had_run_dir) = found.unwrap_or((None, true));
        let (code, error) = match exit {
            Some(exit) => return clean_exit(container, exit),
            None if had_run_dir => {
                let error = "the shim of the container ended unexpectedly; its processes were killed";
                tracing::error!(container = %container.id, error);
                (KILLED, error)
            }
            None => {
                tracing::info!(container = %container.id, "nothing is left of its run: the machine was started anew");
                (LOST, "")
            }
        };
        Exit {
            code,
            error: error.to_owned(),
            started_at: container.with(|state| state.status.facts().started_at),
            finished_at: Some(Timestamp::now()),
            oom_killed: false,
        }
    }

    /// Kills what runs of a container that has no shim any more, and removes its cgroup. A failure is logged.
    pub(super) async fn kill_unwatched(&self, container: &Container) {
        let path = super::plan::cgroup_path(self.config(), &container.host_config(), &container.id);
        let killed = blocking(move || {
            if let Err(error) = kill_cgroup(&path) {
                tracing::warn!(cgroup = path, %error, "processes without a shim may be left");
            }
            Ok(())
        });
        killed.await.ok();
    }

    /// Releases what the container had, notes its end, and removes it if it wishes so. Where its policy starts it
    /// again, after the pause that is returned, it waits for that. The lifecycle lock is held.
    pub(super) async fn put_away(&self, container: &Arc<Container>, exit: Exit) -> Option<Duration> {
        self.end_health(container);
        self.execs().container_ended(&container.id);
        fault::death("end.told");
        self.release(container).await;
        fault::death("end.released");
        let ran_for = ran_for(&exit);
        let decision = container.with(|state| {
            if state.restarting_by_request {
                return None;
            }
            lifetime::decide(&lifetime::Ended {
                policy: &state.host.restart_policy,
                code: exit.code,
                stopped: state.exit_on_next,
                manually_stopped: state.record.has_been_manually_stopped || self.is_shutting_down(),
                restarts: state.record.restart_count,
                ran_for,
                last_delay: state.restart_delay,
            })
        });
        // It may have happened unseen, while there was no daemon.
        if exit.oom_killed && !container.with(|state| state.status.facts().oom_killed) {
            self.emit_plain(container, "oom");
        }
        let code = exit.code;
        let (by_request, auto_remove) = container.update(|state| {
            state.shim = None;
            match decision {
                Some(delay) => {
                    state.record.restart_count += 1;
                    state.restart_delay = delay;
                    state.status.restarting(exit);
                }
                None => state.status.exited(exit),
            }
            // Whoever waits for an `AutoRemove` container learns of its end with its removal at the latest.
            state.ends += 1;
            (state.restarting_by_request, state.host.auto_remove)
        });
        self.emit(container, "die", exit_attributes(code, ran_for.as_secs()));
        if auto_remove && decision.is_none() && !by_request {
            if let Err(error) = self.delete_locked(container, AnonymousVolumes::Remove).await {
                tracing::warn!(container = %container.id, %error, "ended container not removed");
            }
        } else {
            self.note_end(container).await;
        }
        decision
    }

    /// Writes the end down; only then the exit file goes, from which a later daemon would learn of it.
    async fn note_end(&self, container: &Arc<Container>) {
        if let Err(error) = container.save().await {
            tracing::warn!(container = %container.id, %error, "end not written down: the exit file stays");
            return;
        }
        fault::death("end.noted");
        let run_dir = run_dir(self.config(), &container.id);
        if let Err(error) = blocking(move || remove_run_dir(&run_dir)).await {
            tracing::warn!(container = %container.id, %error, "run directory of an ended container stays");
        }
    }

    /// Gives back everything that only a running container has. Errors are logged: the end goes on.
    async fn release(&self, container: &Arc<Container>) {
        let networks = self.parts().networks.detach(&container.id, container.networks()).await;
        container.update_networks(|record| *record = networks);
        fault::death("end.detached");
        let (layers, owner) = (self.parts().images.layers().clone(), Arc::clone(container));
        let released = blocking(move || {
            super::files::unmount_shm(&owner);
            layers.unmount(&owner.id)
        })
        .await;
        if let Err(error) = released {
            tracing::warn!(container = %container.id, %error, "ended container not put away");
        }
        for name in container.volume_names() {
            self.parts().volumes.unmount(&name, &container.id).await;
            self.parts().volumes.emit_unmount(&name, &container.id);
        }
    }
}

fn clean_exit(container: &Container, exit: ExitRecord) -> Exit {
    if exit.log_bytes_lost > 0 {
        tracing::warn!(container = %container.id, bytes = exit.log_bytes_lost, "output missing from the log");
    }
    container.with(|state| {
        let facts = state.status.facts();
        Exit {
            code: exit.code,
            error: String::new(),
            started_at: facts.started_at,
            finished_at: Some(clock::from_shim(exit.at)),
            oom_killed: exit.oom_killed || facts.oom_killed,
        }
    })
}

/// Attributes of an event about an exit.
fn exit_attributes(code: i32, seconds: i64) -> StringMap {
    [("exitCode".to_owned(), code.to_string()), ("execDuration".to_owned(), seconds.to_string())].into()
}

fn ran_for(exit: &Exit) -> jiff::SignedDuration {
    match (exit.started_at, exit.finished_at) {
        (Some(from), Some(to)) => to.duration_since(from),
        _ => jiff::SignedDuration::ZERO,
    }
}

/// Kills every process of a cgroup and removes it. One that is not there is no error. Blocks.
pub(super) fn kill_cgroup(path: &str) -> Result<(), wharf_sys::Error> {
    let group = wharf_sys::cgroup::Hierarchies::detect()?.group(path)?;
    if !group.exists() {
        return Ok(());
    }
    // A frozen process does not die.
    group.thaw().ok();
    group.kill_all()?;
    group.remove()
}
