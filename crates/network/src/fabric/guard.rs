//! The firewall's rules, kept as they are to be: a thread that hears when somebody else flushes them.

use super::Inner;
use crate::{
    error::{Error, Result},
    firewall::{Changes, Watch},
};
use std::{
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError, Weak},
    thread::JoinHandle,
    time::Duration,
};
use wharf_sys::event::{Epoll, EventFlags, eventfd, eventfd_signal};

const STOP: u64 = 0;
const RULES: u64 = 1;
/// After this long a restoration that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The thread.
#[derive(Debug)]
pub(super) struct Guard {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Starts it.
    pub(super) fn start(watch: Watch, inner: Weak<Mutex<Inner>>) -> Result<Self> {
        let stop = eventfd().map_err(Error::system("start firewall guard"))?;
        let poll = poll(&stop, &watch).map_err(Error::system("start firewall guard"))?;
        let thread = std::thread::Builder::new()
            .name("firewall-guard".into())
            .spawn(move || work(&poll, &watch, &inner))
            .map_err(Error::system("start firewall guard"))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It cannot fail: the counter is far from full.
        let _ = eventfd_signal(&self.stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn poll(stop: &OwnedFd, watch: &Watch) -> wharf_sys::Result<Epoll> {
    let poll = Epoll::new()?;
    poll.add(stop, STOP, EventFlags::IN)?;
    poll.add(watch, RULES, EventFlags::IN)?;
    Ok(poll)
}

fn work(poll: &Epoll, watch: &Watch, inner: &Weak<Mutex<Inner>>) {
    let mut pending = Changes::default();
    loop {
        let timeout = pending.matter().then_some(AGAIN);
        match poll.wait(timeout) {
            Ok(ready) if ready.iter().any(|one| one.token == STOP) => return,
            Ok(ready) if ready.iter().any(|one| one.token == RULES) => {
                pending = pending.and(watch.changes());
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "nobody watches the firewall any more");
                return;
            }
        }
        if !pending.matter() {
            continue;
        }
        let Some(inner) = inner.upgrade() else { return };
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.restore_rules(pending) {
            Ok(()) => pending = Changes::default(),
            Err(error) => tracing::warn!(%error, "firewall rules that somebody removed are not restored"),
        }
    }
}

impl Inner {
    /// Makes the rules again that somebody changed.
    fn restore_rules(&mut self, changes: Changes) -> Result<()> {
        if changes.allowed && !changes.own_table {
            self.firewall.follow_allowed()?;
        }
        if !changes.own_table {
            self.firewall.allow_beside_others();
            return Ok(());
        }
        let ports = self.published_ports();
        self.firewall.read_allowed()?;
        self.firewall.rebuild(&ports)?;
        self.firewall.adopt_flows(&ports);
        tracing::info!("somebody changed our firewall table; it is as it was");
        Ok(())
    }
}
