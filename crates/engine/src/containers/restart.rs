//! `POST /containers/{id}/restart`

use super::{Containers, StopOptions, kill::By, start::Cause};
use crate::{Error, Result};

impl Containers {
    /// Stops a container, if it runs, and starts it. It is not removed in between though it be `AutoRemove`.
    ///
    /// # Errors
    /// With Docker's prefix `Cannot restart container ...`.
    pub async fn restart(&self, id_or_name: &str, options: StopOptions) -> Result<()> {
        let container = self.get(id_or_name)?;
        let failed = |e: Error| Error::Refused(format!("Cannot restart container {id_or_name}: {e}"));
        if container.is_running() {
            container.update(|state| state.restarting_by_request = true);
            if let Err(error) = self.stop_container(&container, &options, By::Client).await {
                container.update(|state| state.restarting_by_request = false);
                return Err(failed(error));
            }
        }
        let _one_verb = container.lifecycle.lock().await;
        match self.start_locked(&container, Cause::Request).await {
            // Somebody else was faster.
            Ok(()) | Err(Error::NotModified) => {}
            Err(error) => return Err(failed(error)),
        }
        self.emit_plain(&container, "restart");
        Ok(())
    }
}
