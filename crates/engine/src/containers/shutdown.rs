//! What becomes of running containers when the daemon ends, or begins (source: moby `daemon/daemon.go`, Shutdown).

use super::{Container, Containers, StopOptions, kill::By};
use futures_util::future::join_all;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Why the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It alone: with live-restore containers run on.
    Daemon,
    /// The machine goes down: containers are stopped in any case.
    Machine,
}

/// Seconds that the daemon gives a container beyond its own timeout (moby: `graceTimeout`).
const GRACE: u64 = 5;

impl Containers {
    /// How long [`Self::shutdown`] may take; `None` for as long as it takes, zero where containers run on.
    pub(crate) fn shutdown_limit(&self, end: End) -> Option<Duration> {
        let live = self.config().live.get();
        if live.live_restore && end == End::Daemon {
            return Some(Duration::ZERO);
        }
        let own = |c: &Arc<Container>| c.with(|state| state.record.config.stop_timeout);
        let all = self.all();
        limit(live.shutdown_timeout, all.iter().map(|c| own(c).unwrap_or(live.default_stop_timeout)))
    }

    /// Ends this daemon's part. Without live-restore, and when the machine goes down, containers are stopped.
    pub(crate) async fn shutdown(&self, end: End) {
        self.0.shutting_down.store(true, Ordering::Relaxed);
        let limit = self.shutdown_limit(end);
        if limit == Some(Duration::ZERO) {
            return;
        }
        let running = self.all().into_iter().filter(|c| c.is_running()).collect();
        let stopped = self.stop_all(running);
        match limit {
            None => stopped.await,
            Some(limit) => {
                if tokio::time::timeout(limit, stopped).await.is_err() {
                    tracing::error!(?limit, "containers are still not stopped: they are left alone");
                }
            }
        }
    }

    /// Stops containers, all at a time, each with its own signal and timeout. Their restart policies are not told
    /// that anybody wanted it.
    pub(super) async fn stop_all(&self, containers: Vec<Arc<Container>>) {
        let stops = containers.into_iter().map(|container| {
            let engine = self.clone();
            tokio::spawn(async move {
                let stopped = engine.stop_container(&container, &StopOptions::default(), By::Daemon).await;
                if let Err(error) = stopped {
                    tracing::warn!(container = %container.id, %error, "not stopped");
                }
            })
        });
        join_all(stops).await;
    }
}

/// The longest timeout of a container with its grace, or the daemon's own if that is longer (source: moby
/// `daemon/daemon.go`, ShutdownTimeout).
fn limit(daemon: i64, mut containers: impl Iterator<Item = i64>) -> Option<Duration> {
    let daemon = u64::try_from(daemon).ok()?;
    let longest = containers.try_fold(daemon, |longest, own| {
        u64::try_from(own).ok().map(|own| longest.max(own.saturating_add(GRACE)))
    })?;
    Some(Duration::from_secs(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_timeout_counts() {
        let seconds =
            |daemon, containers: &[i64]| limit(daemon, containers.iter().copied()).map(|d| d.as_secs());
        assert_eq!(seconds(15, &[]), Some(15));
        assert_eq!(seconds(15, &[10, 10]), Some(15));
        assert_eq!(seconds(15, &[10, 60]), Some(65));
        assert_eq!(seconds(15, &[10, -1]), None);
        assert_eq!(seconds(-1, &[10]), None);
    }
}
