//! `POST /containers/{id}/resize`

use super::Containers;
use crate::{Result, state::Verb};
use wharf_spec::{plan::TerminalSize, shim::Call};

impl Containers {
    /// Sets the terminal's size; without a terminal nothing happens.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn resize(&self, id_or_name: &str, size: TerminalSize) -> Result<()> {
        let container = self.get(id_or_name)?;
        container.check(Verb::Resize)?;
        if container.with(|state| state.record.config.tty) {
            container.shim()?.call(Call::Resize { exec: None, size }, &[]).await?;
        }
        let attributes =
            [("height".to_owned(), size.rows.to_string()), ("width".to_owned(), size.columns.to_string())];
        self.emit(&container, "resize", attributes.into());
        Ok(())
    }
}
