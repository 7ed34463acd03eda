//! Removal of what ended containers leave behind, in the background: the kernel waits many milliseconds for
//! each removal of interfaces, so everything that is queued is removed together (28 ms each against 19 ms for
//! twenty, measured). The journal is the record on disk, removed last; what a crash leaves is removed by the
//! next daemon. The queue is bounded: a caller that is faster than the kernel waits.

use super::{Host, Sandbox};
use crate::{
    error::{Error, Result},
    nl::route,
};
use std::{
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};
use wharf_sys::netns;

/// How many removals may wait.
const QUEUE: usize = 256;

/// The group that interfaces are put in to be removed together. Another daemon's with the same number are
/// waiting to be removed as well.
const DOOMED: u32 = 0x7768_6166;

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
    pub(crate) fn start(host: Host) -> Result<Self> {
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
    while let Ok(first) = jobs.recv() {
        let (mut removals, mut waiting) = (Vec::new(), Vec::new());
        for job in std::iter::once(first).chain(jobs.try_iter().take(QUEUE)) {
            match job {
                Job::Remove(removal) => removals.push(removal),
                Job::Flush(done) => waiting.push(done),
            }
        }
        let interfaces = removals.iter().flat_map(|removal| &removal.interfaces);
        let gone = remove_interfaces(host, interfaces);
        for removal in removals {
            if let Err(error) = finish(removal, gone.is_ok()) {
                tracing::warn!(%error, "not removed; the next start tries again");
            }
        }
        if let Err(error) = gone {
            tracing::warn!(%error, "interfaces are not removed; the next start tries again");
        }
        for done in waiting {
            // Nobody waits any more: fine.
            let _ = done.send(());
        }
    }
}

/// Removes interfaces together. One that is gone already is fine.
fn remove_interfaces<'a>(host: &Host, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut doomed = 0;
    for name in names {
        match host.channel.ask(&route::set_group(name, DOOMED)) {
            Ok(_) => doomed += 1,
            Err(error) if route::is_gone(&error) => {}
            Err(source) => {
                return Err(Error::Netlink { operation: "mark for removal", subject: name.clone(), source });
            }
        }
    }
    if doomed == 0 {
        return Ok(());
    }
    match host.channel.ask(&route::delete_group(DOOMED)) {
        Ok(_) => Ok(()),
        Err(error) if route::is_gone(&error) => Ok(()),
        Err(source) => {
            let subject = format!("{doomed} interfaces");
            Err(Error::Netlink { operation: "remove", subject, source })
        }
    }
}

/// Removes the name and, if that was all, the record.
fn finish(removal: Removal, interfaces_gone: bool) -> Result<()> {
    if let Some(key) = &removal.key {
        netns::unbind(key).map_err(|error| Error::file("unmount", key)(error.into()))?;
    }
    drop(removal.sandbox);
    let Some(record) = removal.record.filter(|_| interfaces_gone) else { return Ok(()) };
    match std::fs::remove_file(&record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", record)(error)),
        _ => Ok(()),
    }
}
