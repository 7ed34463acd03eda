//! The engine's side of the shims: the zygote that makes them, and a connection to each.
//!
//! Entry points: [`Tasks::spawn`] for a container that starts, [`Tasks::reconnect`] for one that an earlier
//! daemon started. Both give a [`Shim`] to ask and a channel of its events; the channel ends when the shim
//! is gone.

mod connection;
mod message;
mod namespaces;
mod spawn;
mod zygote;

pub(crate) use connection::{Events, Shim};
pub(crate) use spawn::{AttachStream, Spawn, SpawnError, Spawned, remove_run_dir};

use crate::{Config, Error, Result, blocking::blocking};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_spec::{
    ContainerId,
    shim::{Event, ExitRecord, State},
};
use wharf_sys::seqpacket;
use zygote::Zygote;

/// The handle of the zygote: cheap to clone.
#[derive(Clone)]
pub(crate) struct Tasks(Arc<Zygote>);

impl Tasks {
    /// Nothing is started yet: the zygote is with the first container, or with [`Self::prepare`].
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new(Zygote::new(config)))
    }

    /// Starts the zygote ahead of the first container.
    ///
    /// # Errors
    /// When the shim's executable is not found or does not start.
    pub(crate) async fn prepare(&self) -> Result<()> {
        self.0.prepare().await
    }

    /// Connects to the shim of a run directory. `None` when there is no shim any more.
    ///
    /// # Errors
    /// When the connection fails though the shim is there.
    pub(crate) async fn reconnect(
        &self,
        id: &ContainerId,
        run_dir: &Path,
    ) -> Result<Option<(Arc<Shim>, State, Events)>> {
        let dir = run_dir.to_owned();
        let connected = blocking(move || {
            let dir = std::fs::File::open(&dir).map_err(|source| Error::Io {
                step: "open run directory",
                path: dir,
                source,
            })?;
            Ok(seqpacket::connect(&dir, "shim.sock").ok())
        })
        .await?;
        let Some(socket) = connected else { return Ok(None) };
        let (shim, mut events) = Shim::new(id.clone(), socket)?;
        match events.next().await {
            Some(Event::Hello(state)) => Ok(Some((shim, state, events))),
            // It ended between our connect and its greeting.
            None => Ok(None),
            Some(other) => Err(Error::Protocol(format!("shim of {id} greets with {other:?}"))),
        }
    }
}

/// The exit file of a run directory: the truth about a container whose shim is gone. Blocks.
pub(crate) fn read_exit_file(run_dir: &Path) -> Option<ExitRecord> {
    let bytes = std::fs::read(run_dir.join("exit")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Where the container with this id has its run directory.
pub(crate) fn run_dir(config: &Config, id: &ContainerId) -> PathBuf {
    config.run_dir().join(id.as_str())
}
