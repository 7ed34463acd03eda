//! Power loss: layers are written without fsync. A background syncfs follows, and until it is done a mark
//! in the layer's directory holds the boot id; a mark of another boot at start means that the machine
//! stopped before, and the layer is checked against its record.
//!
//! File: `layerdb/sha256/<chain>/unsynced`, the boot id as text. Docker does not look at it.

use crate::{Result, files};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub(crate) const MARK: &str = "unsynced";

/// Layers of one pull are synced together, when it is over: writing to the disk takes from what writes layers.
const QUIET: Duration = Duration::from_secs(2);

/// A sync is not put off for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Syncs in the background, by a thread that lives as long as there is something to do.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
}

struct Shared {
    root: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<PathBuf>,
    running: bool,
    hurry: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one step, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no layer has come for a while.
    fn gather(&self) -> MutexGuard<'_, State> {
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            let pending = state.pending.len();
            let waited = self.changed.wait_timeout_while(state, QUIET, |state| !state.hurry);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.hurry || state.pending.len() == pending || start.elapsed() >= PATIENCE {
                return state;
            }
        }
    }

    fn run(&self) {
        loop {
            let mut state = self.gather();
            let batch = std::mem::take(&mut state.pending);
            if batch.is_empty() {
                state.running = false;
                state.hurry = false;
                self.changed.notify_all();
                return;
            }
            drop(state);
            match rustix::fs::syncfs(&self.root) {
                // A layer removed meanwhile took its mark with it.
                Ok(()) => batch.iter().for_each(|mark| drop(std::fs::remove_file(mark))),
                Err(error) => tracing::error!(%error, "could not sync the file system of the data root"),
            }
        }
    }
}

impl Syncer {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let root = files::open_directory(root)?;
        let shared = Shared { root, state: Mutex::default(), changed: Condvar::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Removes a mark once everything written so far is on the disk.
    pub(crate) fn schedule(&self, mark: PathBuf) {
        let mut state = self.shared.lock();
        state.pending.push(mark);
        if state.running {
            return;
        }
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name("syncfs".into()).spawn(move || shared.run());
        match spawned {
            Ok(_) => state.running = true,
            Err(error) => tracing::error!(%error, "could not start a thread to sync"),
        }
    }

    /// Waits until nothing is left to sync.
    pub(crate) fn flush(&self) {
        let mut state = self.shared.lock();
        while state.running {
            state.hurry = true;
            self.shared.changed.notify_all();
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// This boot's id (source: proc_sys_kernel(5), random/boot_id).
pub(crate) fn boot_id() -> Result<String> {
    files::read_text(Path::new("/proc/sys/kernel/random/boot_id"))
}
