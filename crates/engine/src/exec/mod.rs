//! Processes started in running containers (source: moby `daemon/exec.go`).
//!
//! An exec is kept from its create until its container is removed, or some minutes after it ended. It is never on
//! disk: a daemon that restarts has forgotten it, though its process runs on.

mod create;
mod inspect;
mod start;

pub use start::{ExecStart, StartedExec};

use crate::{
    Error, Events, Result, clock,
    containers::{Container, Containers},
};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use wharf_api::container::ExecCreateRequest;
use wharf_spec::{ContainerId, ExecId, shim::ExitRecord};

/// How long an ended exec can still be inspected (source: moby `daemon/exec.go`, execCommandGC: 5 to 10
/// minutes).
const KEPT_SECONDS: i64 = 600;

/// The handle of execs: cheap to clone.
#[derive(Clone)]
pub struct Execs {
    containers: Containers,
}

/// All execs: cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Table(Arc<Mutex<HashMap<String, Arc<Exec>>>>);

/// One exec.
pub(crate) struct Exec {
    id: ExecId,
    container: ContainerId,
    request: ExecCreateRequest,
    detach_keys: Vec<u8>,
    /// Program and arguments, never empty.
    command: Vec<String>,
    env: Vec<String>,
    user: String,
    working_dir: String,
    progress: watch::Sender<Progress>,
}

/// How an exec stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Created,
    /// Its pid is 0 until the shim has told it.
    Running {
        pid: i32,
    },
    Ended {
        code: i32,
        at: Timestamp,
    },
}

impl Execs {
    pub(crate) fn new(containers: Containers, _events: Events) -> Self {
        Self { containers }
    }

    pub(crate) fn of(containers: Containers) -> Self {
        Self { containers }
    }

    fn table(&self) -> &Table {
        self.containers.execs()
    }

    fn get(&self, id: &str) -> Result<Arc<Exec>> {
        self.table().lock().get(id).cloned().ok_or_else(|| Error::NoSuchExec(id.into()))
    }

    /// The exec's container.
    fn container(&self, exec: &Exec) -> Result<Arc<Container>> {
        self.containers.get(exec.container.as_str()).map_err(|_| Error::NoSuchExec(exec.id.to_string()))
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, and forgets those that ended long ago.
    fn add(&self, exec: Arc<Exec>) {
        let now = Timestamp::now();
        let mut table = self.lock();
        table.retain(|_, old| match *old.progress.borrow() {
            Progress::Ended { at, .. } => now.duration_since(at).as_secs() < KEPT_SECONDS,
            Progress::Created | Progress::Running { .. } => true,
        });
        table.insert(exec.id.to_string(), exec);
    }

    /// A shim tells that an exec has ended.
    pub(crate) fn exited(&self, engine: &Containers, container: &Arc<Container>, id: &str, exit: ExitRecord) {
        let exec = self.lock().get(id).cloned();
        if let Some(exec) = exec {
            exec.progress.send_replace(Progress::Ended { code: exit.code, at: clock::from_shim(exit.at) });
        }
        let attributes =
            [("execID".to_owned(), id.to_owned()), ("exitCode".to_owned(), exit.code.to_string())];
        engine.emit(container, "exec_die", attributes.into());
        let (container, id) = (Arc::clone(container), id.to_owned());
        tokio::spawn(async move {
            if let Ok(shim) = container.shim() {
                // A shim that is gone has forgotten it.
                shim.call(wharf_spec::shim::Call::Forget { exec: id }, &[]).await.ok();
            }
        });
    }

    /// After a connection to a shim was lost: what the shim says of its execs is how they stand. One whose start
    /// could not be answered any more runs for nobody, and is killed.
    pub(crate) fn reconcile(
        &self,
        engine: &Containers,
        container: &Arc<Container>,
        execs: Vec<(String, i32, Option<ExitRecord>)>,
    ) {
        for (id, _, exit) in execs {
            let Some(progress) = self.lock().get(&id).map(|exec| *exec.progress.borrow()) else { continue };
            match (progress, exit) {
                (Progress::Created | Progress::Running { .. }, Some(exit)) => {
                    self.exited(engine, container, &id, exit);
                }
                (Progress::Running { pid: 0 } | Progress::Ended { .. }, None) => {
                    let execs = Execs::of(engine.clone());
                    tokio::spawn(async move { execs.kill(&id).await });
                }
                (Progress::Created | Progress::Running { .. }, None) | (Progress::Ended { .. }, Some(_)) => {}
            }
        }
    }

    /// Execs that run in a container, as an inspect shows them: `None` where there are none.
    pub(crate) fn running(&self, container: &ContainerId) -> Option<Vec<String>> {
        let table = self.lock();
        let running = |e: &&Arc<Exec>| {
            e.container == *container && !matches!(*e.progress.borrow(), Progress::Ended { .. })
        };
        let mut ids: Vec<String> = table.values().filter(running).map(|e| e.id.to_string()).collect();
        ids.sort();
        (!ids.is_empty()).then_some(ids)
    }

    /// What ran in a container that has ended was killed with it.
    pub(crate) fn container_ended(&self, container: &ContainerId) {
        let table = self.lock();
        for exec in table.values().filter(|e| e.container == *container) {
            exec.progress.send_if_modified(|progress| match progress {
                Progress::Running { .. } => {
                    *progress = Progress::Ended { code: 137, at: Timestamp::now() };
                    true
                }
                Progress::Created | Progress::Ended { .. } => false,
            });
        }
    }

    /// Nothing of a container that is gone is kept.
    pub(crate) fn container_removed(&self, container: &ContainerId) {
        self.lock().retain(|_, exec| exec.container != *container);
    }
}
