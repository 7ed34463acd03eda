//! Namespaces made ahead, with a cable in the default bridge: making one takes milliseconds that a start need
//! not wait for.
//!
//! They have no name on disk: when the daemon dies, its descriptors close and the kernel removes them, cables
//! included.

use super::{Cable, Host, Sandbox, Wiring};
use crate::error::Result;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// The interface of a namespace made ahead; a container that wants another name gets a namespace of its own.
pub(crate) const READY_INTERFACE: &str = "eth0";
/// The filler leaves the machine to the container that just took a namespace for this long.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the filler waits after a failure before it tries again.
const RETRY: Duration = Duration::from_secs(5);

/// A namespace that waits for its container.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) sandbox: Sandbox,
    pub(crate) cable: Cable,
}

/// The waiting namespaces and the thread that makes them.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    filler: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    host: Host,
    size: usize,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Ready>,
    /// Into which bridge new cables go; `None` makes none.
    wiring: Option<Wiring>,
    /// The filler is at work on one more.
    making: bool,
    stopping: bool,
}

impl Pool {
    /// Starts the filler in the calling thread's network namespace. It makes nothing before [`Pool::rewire`].
    pub(crate) fn start(host: Host, size: usize) -> Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), host, size });
        let filler = (size > 0).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("netns-pool".into()).spawn(move || shared.fill())
        });
        let filler = filler.transpose().map_err(crate::Error::system("start netns pool"))?;
        Ok(Self { shared, filler })
    }

    /// Changes the bridge; what waits in another one is thrown away, and gone when this returns.
    pub(crate) fn rewire(&self, wiring: Option<Wiring>) {
        let mut state = self.shared.lock();
        if state.wiring == wiring {
            return;
        }
        state.wiring = wiring;
        let old = std::mem::take(&mut state.ready);
        self.shared.changed.notify_all();
        let idle = self.shared.changed.wait_while(state, |state| state.making);
        drop(idle.unwrap_or_else(PoisonError::into_inner));
        old.into_iter().for_each(|ready| self.shared.discard(ready));
    }

    /// A waiting namespace, or a new one if none waits.
    pub(crate) fn take(&self, wiring: &Wiring) -> Result<Ready> {
        let waiting = self.shared.lock().ready.pop_front();
        self.shared.changed.notify_all();
        let Some(mut ready) = waiting else { return self.shared.make(wiring) };
        match ready.sandbox.replug(&self.shared.host, &mut ready.cable, wiring) {
            Ok(()) => Ok(ready),
            Err(error) => {
                self.shared.discard(ready);
                Err(error)
            }
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().ready.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(filler) = self.filler.take() {
            // A panic of the filler was reported when it happened.
            let _ = filler.join();
        }
        let ready = std::mem::take(&mut self.shared.lock().ready);
        ready.into_iter().for_each(|ready| self.shared.discard(ready));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means a panic between two whole changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, wiring: &Wiring) -> Result<Ready> {
        let sandbox = Sandbox::create()?;
        let cable = sandbox.plug(&self.host, READY_INTERFACE, wiring)?;
        Ok(Ready { sandbox, cable })
    }

    /// Removes a namespace and its cable. The cable goes first: the kernel would remove it with the
    /// namespace, but some time later.
    fn discard(&self, ready: Ready) {
        let name = &ready.cable.host_name;
        let request = [crate::nl::route::delete_link(name)];
        if let Err(error) = self.host.channel.run(&request, "remove interface", name) {
            tracing::debug!(%error, "left to the kernel");
        }
    }

    fn fill(&self) {
        loop {
            let mut state = self.lock();
            let missing = |state: &mut State| {
                !state.stopping && (state.wiring.is_none() || state.ready.len() >= self.size)
            };
            let was_full = missing(&mut state);
            state = self.changed.wait_while(state, missing).unwrap_or_else(PoisonError::into_inner);
            if was_full && !state.stopping && !state.ready.is_empty() {
                state = self.pause(state, PAUSE);
            }
            if state.stopping {
                return;
            }
            let Some(wiring) = state.wiring.clone() else { continue };
            state.making = true;
            drop(state);
            let made = self.make(&wiring);
            let failed = made.as_ref().err().map(ToString::to_string);
            self.finish(made.ok());
            if let Some(error) = failed {
                tracing::warn!(error, "cannot make a network namespace ahead");
                drop(self.pause(self.lock(), RETRY));
            }
        }
    }

    /// Stores what was made, or removes it if nobody wants it any more.
    fn finish(&self, made: Option<Ready>) {
        let mut state = self.lock();
        let is_wanted = |ready: &Ready| !state.stopping && state.wiring == ready.cable.wiring;
        match made {
            Some(ready) if is_wanted(&ready) => state.ready.push_back(ready),
            Some(ready) => {
                drop(state);
                self.discard(ready);
                state = self.lock();
            }
            None => {}
        }
        state.making = false;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits, but not for a stop.
    fn pause<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
