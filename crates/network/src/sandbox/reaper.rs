//! Removal of what ended containers leave behind, in the background: an interface takes the kernel many
//! milliseconds to remove. The journal is the record on disk, removed last; what a crash leaves is removed by
//! the next daemon. The queue is bounded: a caller that is faster than the kernel waits.

use super::{Host, Sandbox};
use crate::{
    error::{Error, Result},
    nl::route,
};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};
use wharf_sys::netns;

/// How many removals may wait.
const QUEUE: usize = 256;

/// What is left of a container.
#[derive(Debug)]
pub(crate) struct Removal {
    /// Interfaces of the host.
    pub(crate) interfaces: Vec<String>,
    /// The namespace's name.
    pub(crate) key: Option<PathBuf>,
    /// The record on disk, removed when everything else is.
    pub(crate) record: Option<PathBuf>,
    /// Kept until the interfaces are gone.
    pub(crate) sandbox: Option<Sandbox>,
}

#[derive(Debug)]
enum Job {
    Remove(Removal),
    /// Answered when everything before it is done.
    Flush(SyncSender<()>),
}

/// The thread that removes.
#[derive(Debug)]
pub(crate) struct Reaper {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Reaper {
    /// Starts the thread in the calling thread's network namespace.
    pub(crate) fn start(host: Arc<Host>) -> Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("netns-reaper".into())
            .spawn(move || work(&host, &jobs))
            .map_err(Error::system("start network reaper"))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands something over to be removed; waits only when the queue is full.
    pub(crate) fn remove(&self, removal: Removal) {
        self.send(Job::Remove(removal));
    }

    /// Waits until everything handed over before is removed.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        self.send(Job::Flush(done));
        // An error means the thread is gone: nothing left to wait for.
        let _ = wait.recv();
    }

    fn send(&self, job: Job) {
        if let Some(queue) = &self.queue
            && queue.send(job).is_err()
        {
            tracing::error!("the network reaper died; what is left is removed at the next start");
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn work(host: &Host, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Remove(removal) => {
                if let Err(error) = remove(host, removal) {
                    tracing::warn!(%error, "not removed; the next start tries again");
                }
            }
            // Nobody waits any more: fine.
            Job::Flush(done) => drop(done.send(())),
        }
    }
}

/// Removes everything it can, and the record only if that was all.
fn remove(host: &Host, removal: Removal) -> Result<()> {
    let mut result = Ok(());
    for name in &removal.interfaces {
        match host.channel.ask(&route::delete_link(name)) {
            Ok(_) => {}
            Err(error) if route::is_gone(&error) => {}
            Err(source) => {
                result = Err(Error::Netlink { operation: "remove interface", subject: name.clone(), source });
            }
        }
    }
    if let Some(key) = &removal.key {
        let unbound = netns::unbind(key).map_err(|error| Error::file("unmount", key)(error.into()));
        result = result.and(unbound);
    }
    drop(removal.sandbox);
    if let (Ok(()), Some(record)) = (&result, &removal.record) {
        match std::fs::remove_file(record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", record)(error));
            }
            _ => {}
        }
    }
    result
}
