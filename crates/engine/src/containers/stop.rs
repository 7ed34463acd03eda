//! `POST /containers/{id}/stop`: the stop signal, a while to end, then SIGKILL.

use super::{Container, Containers, StopOptions, Wait, WaitCondition, kill::By};
use crate::{Error, Result, state::Verb};
use std::{sync::Arc, time::Duration};
use wharf_spec::signal;

/// SIGTERM
const DEFAULT_SIGNAL: i32 = 15;
/// How long a container gets whose signal could not be delivered.
const AFTER_FAILED_SIGNAL: Duration = Duration::from_secs(2);

impl Containers {
    /// Stops a container.
    ///
    /// # Errors
    /// [`Error::NotModified`] when it does not run.
    pub async fn stop(&self, id_or_name: &str, options: StopOptions) -> Result<()> {
        let container = self.get(id_or_name)?;
        container.check(Verb::Stop)?;
        let stopped = self.stop_container(&container, &options, By::Client).await;
        stopped.map_err(|error| Error::Refused(format!("cannot stop container: {id_or_name}: {error}")))
    }

    /// Stops a container and emits `stop`. One that does not run is no error.
    pub(super) async fn stop_container(
        &self,
        container: &Arc<Container>,
        options: &StopOptions,
        by: By,
    ) -> Result<()> {
        if !container.is_running() {
            return Ok(());
        }
        let own = container.with(|s| (s.record.config.stop_signal.clone(), s.record.config.stop_timeout));
        let signal = match &options.signal {
            Some(asked) if !asked.is_empty() => {
                signal::parse(asked).map_err(|e| Error::Invalid(e.to_string()))?
            }
            _ => stop_signal(&own.0),
        };
        let default = self.config().live.get().default_stop_timeout;
        let timeout = options.timeout.or(own.1).unwrap_or(default);
        let wait = Wait::new(container, WaitCondition::NotRunning);
        let sent = self.signal(container, signal, by).await;
        // Negative waits for ever.
        let patience = match (&sent, u64::try_from(timeout)) {
            (Ok(()), Ok(seconds)) => Some(Duration::from_secs(seconds)),
            (Ok(()), Err(_)) => None,
            (Err(_), _) => Some(AFTER_FAILED_SIGNAL),
        };
        let ended = match patience {
            Some(patience) => tokio::time::timeout(patience, wait.done()).await.is_ok(),
            None => wait.done().await.is_ok(),
        };
        if !ended {
            tracing::info!(container = %container.id, signal, "not ended in time: killing it");
            match self.kill_and_wait(container, by).await {
                Ok(()) | Err(Error::NotRunning(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.emit_plain(container, "stop");
        Ok(())
    }
}

/// The container's stop signal; one that is none is Docker's default.
pub(super) fn stop_signal(own: &str) -> i32 {
    if own.is_empty() { DEFAULT_SIGNAL } else { signal::parse(own).unwrap_or(DEFAULT_SIGNAL) }
}
