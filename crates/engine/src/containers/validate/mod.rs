//! Whether the settings of a container make sense, in the order and the words of moby
//! (source: `daemon/container.go`, verifyContainerSettings, and `daemon/daemon_unix.go`,
//! verifyPlatformContainerSettings). What the kernel cannot do is taken out with a warning.

mod config;
mod host;
mod log;
mod modes;
mod resources;

pub(crate) use config::clean_path;
pub(super) use log::merge_log_config;

use crate::{Config, Result, system::Kernel};
use wharf_api::{container as api, network::NetworkingConfig};

/// What settings are checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Create,
    Update,
}

/// What settings are checked against.
pub(super) struct Against<'a> {
    pub(super) engine: &'a Config,
    pub(super) kernel: &'a Kernel,
    pub(super) purpose: Purpose,
}

/// Checks and cleans a container's settings; the warnings are for the client.
///
/// # Errors
/// [`crate::Error::Invalid`] in Docker's words.
pub(super) fn settings(
    against: &Against<'_>,
    host: &mut api::HostConfig,
    config: Option<&mut api::Config>,
) -> Result<Vec<String>> {
    if against.purpose == Purpose::Create {
        resources::check_request(against.kernel, host)?;
    }
    let hostname = config.as_ref().map(|c| c.hostname.clone());
    if let Some(config) = config {
        modes::conflicts(config, host)?;
        config::check(config)?;
    }
    host::check(host)?;
    if let Some(hostname) = hostname {
        config::check_hostname(&hostname)?;
    }
    let mut warnings = resources::check(against, host)?;
    modes::check(against, host, &mut warnings)?;
    Ok(warnings)
}

/// Checks the networks that a new container is to join (source: moby `daemon/container_operations.go`,
/// validateNetworkingConfig).
///
/// # Errors
/// [`crate::Error::Invalid`] in Docker's words.
pub(super) fn networking(config: Option<&NetworkingConfig>) -> Result<()> {
    for (name, endpoint) in config.and_then(|c| c.endpoints_config.as_ref()).into_iter().flatten() {
        for alias in endpoint.aliases.iter().flatten() {
            if alias.is_empty() {
                return crate::error::invalid(format!("invalid endpoint settings: {name}: empty alias"));
            }
        }
    }
    Ok(())
}
