//! Restart policies.

use super::{Container, Containers, start::Cause};
use crate::state::Status;
use std::{sync::Arc, time::Duration};
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
        let (engine, owner) = (self.clone(), Arc::clone(&container));
        let task = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // Boxed: a start that fails ends here again.
            Box::pin(engine.restart_by_policy(owner)).await;
        });
        container.update(|state| state.restart_task = Some(task.abort_handle()));
    }

    /// Starts a container whose policy wants it now.
    pub(super) async fn restart_by_policy(&self, container: Arc<Container>) {
        let _one_verb = container.lifecycle.lock().await;
        let waiting = container.with(|state| matches!(state.status, Status::Restarting(_)));
        if !waiting || self.is_shutting_down() {
            return;
        }
        if let Err(error) = self.start_locked(&container, Cause::Policy).await {
            tracing::warn!(container = %container.id, %error, "not restarted");
        }
    }

    /// A restart that waits is not to happen. The lifecycle lock is held: nothing is being started now.
    pub(super) fn cancel_restart(&self, container: &Container) {
        let task = container.update(|state| {
            state.status.restart_cancelled();
            state.restart_task.take()
        });
        if let Some(task) = task {
            task.abort();
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
