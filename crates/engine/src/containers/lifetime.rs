//! Restart policies, and the end of the daemon.

use super::{Container, Containers, StopOptions, start::Cause};
use crate::state::Status;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use wharf_api::container::RestartPolicy;

/// The first pause before a restart (source: moby `daemon/internal/restartmanager`).
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Who ran so long begins with the first pause again.
const LONG_ENOUGH: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// A container that has ended.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    pub(super) policy: &'a RestartPolicy,
    pub(super) code: i32,
    /// A signal was sent that ends it for good.
    pub(super) stopped: bool,
    /// Somebody stopped it since its start, or the daemon ends.
    pub(super) manually_stopped: bool,
    /// How often the policy has started it since a client did.
    pub(super) restarts: i64,
    pub(super) ran_for: jiff::SignedDuration,
    pub(super) last_delay: Duration,
}

/// Whether the container is started again, and after which pause.
pub(super) fn decide(ended: &Ended<'_>) -> Option<Duration> {
    if ended.stopped {
        return None;
    }
    let again = match ended.policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !ended.manually_stopped,
        "on-failure" => {
            let most = ended.policy.maximum_retry_count;
            ended.code != 0 && (most == 0 || ended.restarts < most)
        }
        _ => false,
    };
    let fresh = ended.ran_for >= LONG_ENOUGH || ended.last_delay.is_zero();
    let delay = if fresh { FIRST_DELAY } else { (ended.last_delay * 2).min(LONGEST_DELAY) };
    again.then_some(delay)
}

impl Containers {
    /// Starts a container again after a pause, unless somebody stops or removes it before.
    pub(super) fn restart_later(&self, container: Arc<Container>, delay: Duration) {
        let engine = self.clone();
        let cancel = container.with(|state| Arc::clone(&state.restart_cancel));
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = cancel.notified() => {}
            }
            // Boxed: a start that fails ends here again.
            Box::pin(engine.restart_by_policy(container)).await;
        });
    }

    async fn restart_by_policy(&self, container: Arc<Container>) {
        let _one_verb = container.lifecycle.lock().await;
        let waiting = container.with(|state| matches!(state.status, Status::Restarting(_)));
        if !waiting || self.is_shutting_down() {
            return;
        }
        if let Err(error) = self.start_locked(&container, Cause::Policy).await {
            tracing::warn!(container = %container.id, %error, "not restarted");
        }
    }

    /// A restart that waits is not to happen. True when one did. The lifecycle lock is held.
    pub(super) fn cancel_restart(&self, container: &Container) -> bool {
        container.update(|state| {
            let waiting = matches!(state.status, Status::Restarting(_));
            state.status.restart_cancelled();
            state.restart_cancel.notify_waiters();
            waiting
        })
    }

    /// Ends this daemon's part. Without live-restore running containers are stopped, as many at a time as
    /// there are.
    pub(crate) async fn shutdown(&self) {
        self.0.shutting_down.store(true, Ordering::Relaxed);
        if self.config().live_restore {
            return;
        }
        let running = self.all().into_iter().filter(|c| c.is_running());
        let stops = running.map(|container| {
            let engine = self.clone();
            tokio::spawn(async move {
                let timeout = container.with(|s| s.record.config.stop_timeout);
                let timeout = timeout
                    .unwrap_or(engine.config().default_stop_timeout)
                    .min(engine.config().shutdown_timeout);
                let options = StopOptions { signal: None, timeout: Some(timeout) };
                if let Err(error) = engine.stop_container(&container, &options).await {
                    tracing::warn!(container = %container.id, %error, "not stopped");
                }
            })
        });
        for stop in stops.collect::<Vec<_>>() {
            stop.await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended<'a>(policy: &'a RestartPolicy, code: i32) -> Ended<'a> {
        Ended {
            policy,
            code,
            stopped: false,
            manually_stopped: false,
            restarts: 0,
            ran_for: jiff::SignedDuration::ZERO,
            last_delay: Duration::ZERO,
        }
    }

    fn policy(name: &str, most: i64) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count: most }
    }

    #[test]
    fn policies() {
        let (always, unless, failure) =
            (policy("always", 0), policy("unless-stopped", 0), policy("on-failure", 2));
        let again = |e: Ended<'_>| decide(&e).is_some();
        assert!(again(ended(&always, 0)) && again(ended(&unless, 0)));
        assert!(!again(ended(&failure, 0)) && again(ended(&failure, 1)));
        assert!(!again(Ended { restarts: 2, ..ended(&failure, 1) }));
        assert!(!again(Ended { manually_stopped: true, ..ended(&unless, 1) }));
        assert!(again(Ended { manually_stopped: true, ..ended(&always, 1) }));
        assert!(!again(Ended { stopped: true, ..ended(&always, 1) }));
        assert!(!again(ended(&policy("no", 0), 1)) && !again(ended(&policy("", 0), 1)));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let always = policy("always", 0);
        let mut delay = Duration::ZERO;
        let mut seen = Vec::new();
        for _ in 0..12 {
            delay = decide(&Ended { last_delay: delay, ..ended(&always, 1) }).unwrap();
            seen.push(delay.as_millis());
        }
        assert_eq!(seen[..4], [100, 200, 400, 800]);
        assert_eq!(seen[11], 60_000);
        let long = Ended { last_delay: delay, ran_for: LONG_ENOUGH, ..ended(&always, 1) };
        assert_eq!(decide(&long), Some(FIRST_DELAY));
    }
}
