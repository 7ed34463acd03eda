//! `POST /containers/{id}/pause` and `unpause`

use super::{Container, Containers};
use crate::{Error, Result, state::Verb};
use std::sync::Arc;
use wharf_spec::shim::Call;
use wharf_sys::fault;

impl Containers {
    /// Freezes a container.
    ///
    /// # Errors
    /// When it does not run, restarts or is frozen.
    pub async fn pause(&self, id_or_name: &str) -> Result<()> {
        let container = self.get(id_or_name)?;
        let _one_verb = container.lifecycle.lock().await;
        container.check(Verb::Pause)?;
        let shim = container.shim()?;
        let failed = |e| Error::Refused(format!("cannot pause container {}: {e}", container.id));
        shim.call(Call::Pause, &[]).await.map_err(failed)?;
        fault::death("pause.asked");
        container.update(|state| state.status.paused());
        self.end_health(&container);
        self.emit_plain(&container, "pause");
        save_later(&container);
        Ok(())
    }

    /// Thaws a container.
    ///
    /// # Errors
    /// When it is not frozen.
    pub async fn unpause(&self, id_or_name: &str) -> Result<()> {
        let container = self.get(id_or_name)?;
        let _one_verb = container.lifecycle.lock().await;
        container.check(Verb::Unpause)?;
        let shim = container.shim()?;
        let failed = |e| Error::Refused(format!("Cannot unpause container {}: {e}", container.id));
        shim.call(Call::Resume, &[]).await.map_err(failed)?;
        fault::death("unpause.asked");
        container.update(|state| state.status.unpaused());
        self.watch_health(&container);
        self.emit_plain(&container, "unpause");
        save_later(&container);
        Ok(())
    }
}

/// The shim knows it too: no client waits for the disk.
fn save_later(container: &Arc<Container>) {
    let container = Arc::clone(container);
    tokio::spawn(async move { container.save_or_warn().await });
}
