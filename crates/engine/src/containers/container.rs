//! One container: its state, its lock, who waits for it.

use super::record::{self, Record, StateRecord};
use crate::{
    Error, Result,
    blocking::blocking,
    state::{Refusal, Status, Verb},
    task::{AttachStream, Shim},
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wharf_api::container as api;
use wharf_spec::{ContainerId, ContainerName};

/// A container.
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    dir: PathBuf,
    /// One lifecycle verb at a time. Never held while waiting for the container to end.
    pub(crate) lifecycle: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// One writer of the records at a time; the state is read under it, so that the last write has the last
    /// state.
    saving: Mutex<()>,
    progress: watch::Sender<Progress>,
}

/// What is known of a container.
pub(crate) struct State {
    pub(crate) name: ContainerName,
    pub(crate) status: Status,
    /// `config.v2.json`, but for its state and name.
    pub(crate) record: Record,
    pub(crate) host: Arc<api::HostConfig>,
    pub(crate) health: Option<api::Health>,
    /// While its main process is there.
    pub(crate) shim: Option<Arc<Shim>>,
    /// A removal is under way.
    pub(crate) removing: bool,
    /// It is gone.
    pub(crate) removed: bool,
    /// How often it ended.
    pub(crate) ends: u64,
    /// Being stopped to be started again: its end is not the end of an `AutoRemove` container.
    pub(crate) restarting_by_request: bool,
    /// A signal was sent that ends it for good: its policy does not start it again.
    pub(crate) exit_on_next: bool,
    /// The pause before the next restart by policy; zero when it ran long enough or was started by a request.
    pub(crate) restart_delay: Duration,
    /// Waits to start it again.
    pub(crate) restart_task: Option<tokio::task::AbortHandle>,
    /// Ends its health checks.
    pub(crate) health_stop: Option<CancellationToken>,
    /// Clients that attached before the start.
    pub(crate) early: Vec<AttachStream>,
}

/// What waiters look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) running: bool,
    pub(crate) ends: u64,
    pub(crate) removed: bool,
    pub(crate) code: i32,
    pub(crate) error: String,
}

impl Container {
    /// A container with what its records say.
    pub(crate) fn new(
        dir: PathBuf,
        id: ContainerId,
        name: ContainerName,
        record: Record,
        host: api::HostConfig,
    ) -> Self {
        let state = State {
            name,
            status: record.state.status(),
            health: record.state.health.clone(),
            record,
            host: Arc::new(host),
            shim: None,
            removing: false,
            removed: false,
            ends: 0,
            restarting_by_request: false,
            exit_on_next: false,
            restart_delay: Duration::ZERO,
            restart_task: None,
            health_stop: None,
            early: Vec::new(),
        };
        let (progress, _) = watch::channel(state.progress());
        Self {
            id,
            dir,
            lifecycle: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
            saving: Mutex::default(),
            progress,
        }
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks at the state.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state and tells waiters.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let now = state.progress();
        self.progress.send_if_modified(|progress| {
            let differs = *progress != now;
            *progress = now;
            differs
        });
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A view of what waiters look at.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Its name, without a slash.
    pub fn name(&self) -> ContainerName {
        self.with(|state| state.name.clone())
    }

    /// Whether there is a main process, be it frozen, or is going to be by the restart policy.
    pub fn is_running(&self) -> bool {
        self.with(|state| state.status.facts().running)
    }

    /// The main process as the host sees it, 0 when there is none.
    pub fn pid(&self) -> i32 {
        self.with(|state| state.status.facts().pid)
    }

    /// Its settings for this host, as they are now.
    pub fn host_config(&self) -> Arc<api::HostConfig> {
        self.with(|state| Arc::clone(&state.host))
    }

    /// What its record says of its networks.
    pub fn networks(&self) -> super::NetworkRecord {
        self.with(|state| state.record.network_settings.clone())
    }

    /// Ports that its image or its request exposes.
    pub(crate) fn exposed_ports(&self) -> Vec<wharf_api::port::Port> {
        self.with(|state| state.record.config.exposed_ports.keys().cloned().collect())
    }

    /// Changes what its record says of its networks; the caller saves.
    pub fn update_networks<T>(&self, change: impl FnOnce(&mut super::NetworkRecord) -> T) -> T {
        self.update(|state| change(&mut state.record.network_settings))
    }

    /// The image it was made of, `sha256:...`; empty for none.
    pub fn image(&self) -> String {
        self.with(|state| state.record.image.clone())
    }

    /// Whether a volume is mounted in it.
    pub fn uses_volume(&self, name: &str) -> bool {
        self.with(|state| state.record.mount_points.values().any(|p| p.kind == "volume" && p.name == name))
    }

    /// The volumes mounted in it.
    pub(crate) fn volume_names(&self) -> Vec<String> {
        self.with(|state| {
            let points = state.record.mount_points.values();
            let mut names: Vec<String> =
                points.filter(|p| p.kind == "volume").map(|p| p.name.clone()).collect();
            names.sort();
            names.dedup();
            names
        })
    }

    /// Its shim.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub(crate) fn shim(&self) -> Result<Arc<Shim>> {
        self.with(|state| state.shim.clone()).ok_or_else(|| Error::NotRunning(self.id.clone()))
    }

    /// Refuses a verb in Docker's words, if it must be.
    ///
    /// # Errors
    /// As the verb's file of moby says.
    pub(crate) fn check(&self, verb: Verb) -> Result<()> {
        self.with(|state| match state.status.refuses(verb) {
            None => Ok(()),
            Some(refusal) => Err(self.refusal(verb, refusal, state)),
        })
    }

    fn refusal(&self, verb: Verb, refusal: Refusal, state: &State) -> Error {
        let (id, name) = (&self.id, &state.name);
        match (refusal, verb) {
            (Refusal::AlreadySo, _) => Error::NotModified,
            (Refusal::NotRunning, _) => Error::NotRunning(id.clone()),
            (Refusal::Paused, Verb::Start) => {
                Error::Conflict("cannot start a paused container, try unpause instead".into())
            }
            (Refusal::Paused, Verb::Pause) => Error::Conflict(format!("container {id} is already paused")),
            (Refusal::Paused, Verb::Attach) => {
                Error::Conflict(format!("container {name} is paused, unpause the container before attach"))
            }
            (Refusal::Paused, Verb::Remove) => {
                Error::Conflict("container is paused and must be unpaused first".into())
            }
            (Refusal::Paused, _) => {
                Error::Conflict(format!("Container {name} is paused, unpause the container before exec"))
            }
            (Refusal::NotPaused, _) => Error::Refused(format!("Container {id} is not paused")),
            (Refusal::Restarting | Refusal::Running, Verb::Remove) => {
                let word = state.status.word();
                Error::Conflict(format!(
                    "container is {word}: stop the container before removing or force remove"
                ))
            }
            (Refusal::Restarting | Refusal::Running, _) => {
                Error::Conflict(format!("Container {id} is restarting, wait until the container is running"))
            }
            (Refusal::MarkedForRemoval, Verb::Update) => Error::Conflict(format!(
                "Cannot update container {id}: container is marked for removal and cannot be \"update\""
            )),
            (Refusal::MarkedForRemoval, Verb::Export) => {
                Error::Conflict(format!("You cannot export container {id} which is Dead"))
            }
            (Refusal::MarkedForRemoval, Verb::Commit) => {
                let what = if state.status.facts().dead { "Dead" } else { "being removed" };
                Error::Conflict(format!("You cannot commit container {id} which is {what}"))
            }
            (Refusal::MarkedForRemoval, _) => {
                Error::Conflict("container is marked for removal and cannot be started".into())
            }
        }
    }

    /// Writes `config.v2.json` as it is now.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub async fn save(self: &Arc<Self>) -> Result<()> {
        let container = Arc::clone(self);
        blocking(move || container.save_now()).await
    }

    /// Writes both records as they are now.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(crate) async fn save_all(self: &Arc<Self>) -> Result<()> {
        let container = Arc::clone(self);
        blocking(move || {
            let host = container.host_config();
            record::write(&container.dir.join("hostconfig.json"), &*host)?;
            container.save_now()
        })
        .await
    }

    /// As [`Self::save`]; where a failure must not stop the verb it is logged.
    pub(crate) async fn save_or_warn(self: &Arc<Self>) {
        if let Err(error) = self.save().await {
            tracing::warn!(container = %self.id, %error, "record not written");
        }
    }

    /// As [`Self::save`], on a thread that may block.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(crate) fn save_now(&self) -> Result<()> {
        let _one_at_a_time = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.with(|state| {
            let mut record = state.record.clone();
            record.state = StateRecord::of(&state.status, state.health.clone());
            record.name = format!("/{}", state.name);
            record
        });
        record::write(&self.dir.join("config.v2.json"), &record)
    }
}

impl State {
    fn progress(&self) -> Progress {
        let facts = self.status.facts();
        Progress {
            running: facts.running,
            ends: self.ends,
            // Whoever waits for a removal that failed waits no longer.
            removed: self.removed || matches!(self.status, Status::Dead(_)),
            code: facts.exit_code,
            error: facts.error.to_owned(),
        }
    }
}
