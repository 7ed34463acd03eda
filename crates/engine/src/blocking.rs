//! The one way from async code to work that blocks.

use crate::{Error, Result};

/// Runs work that blocks (files, mounts, cgroups) on tokio's blocking threads.
///
/// # Errors
/// The work's own; [`Error::Panicked`] when it panicked, [`Error::ShuttingDown`] when the runtime ends.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Error::Panicked),
        Err(_) => Err(Error::ShuttingDown),
    }
}
