//! `POST /containers/{id}/rename`

use super::{Containers, State};
use crate::{Error, Result, error::invalid, networks::dns_names};
use wharf_spec::{ContainerId, ContainerName, ParseIdError};
use wharf_sys::fault;

impl Containers {
    /// Gives a container another name.
    ///
    /// # Errors
    /// For empty, malformed and taken names.
    pub async fn rename(&self, id_or_name: &str, new: &str) -> Result<()> {
        let (old, new) = (id_or_name.trim(), new.trim());
        if old.trim_start_matches('/').is_empty() || new.trim_start_matches('/').is_empty() {
            return invalid("Neither old nor new names may be empty");
        }
        let container = self.get(old)?;
        self.pin_links(&container).await?;
        let _one_verb = container.lifecycle.lock().await;
        let old = container.name();
        if new.strip_prefix('/').unwrap_or(new) == old.as_str() {
            return invalid("Renaming a container with the same name as its current name");
        }
        let allocating = |e: Error| e.context("Error when allocating new name");
        // Docker's message has the name with a slash.
        let slashed = format!("/{}", new.strip_prefix('/').unwrap_or(new));
        let parsed: Result<ContainerName, ParseIdError> = slashed.parse();
        let name = parsed.map_err(|e| allocating(Error::Invalid(e.to_string())))?;
        let index = &self.parts().index;
        index.reserve(&name, &container.id).map_err(allocating)?;
        container.update(|state| {
            state.name = name.clone();
            if state.status.has_process() {
                name_endpoints(&container.id, state);
            }
        });
        if let Err(error) = container.save().await {
            container.update(|state| state.name = old);
            index.release(&name, &container.id);
            return Err(error);
        }
        fault::death("rename.saved");
        index.release(&old, &container.id);
        if let Err(error) = self.parts().networks.rename(&container).await {
            tracing::warn!(container = %container.id, %error, "others find the container under its old name");
        }
        self.emit(&container, "rename", [("oldName".to_owned(), format!("/{old}"))].into());
        Ok(())
    }
}

/// The names by which others find the container (source: moby `daemon/rename.go`).
fn name_endpoints(id: &ContainerId, state: &mut State) {
    let hostname = state.record.config.hostname.clone();
    for endpoint in state.record.network_settings.networks.values_mut() {
        let settings = &mut endpoint.settings;
        let names = dns_names(state.name.as_str(), id, &hostname, settings.aliases.as_deref());
        settings.dns_names = Some(names);
    }
}
