//! Forwarders: one for each container whose lines go elsewhere, as long as there are lines.

use super::{Message, Origin, Target, cursor::Cursor, wire::Wire};
use crate::{
    Error, Result,
    blocking::blocking,
    clock,
    containers::{Progress, readable, watch_reader},
};
use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle};
use wharf_logs::{Follow, Format, Next, Position, ReadOptions, Reader};
use wharf_spec::ContainerId;

/// So many lines or bytes are sent before it is noted how far they are.
const BATCH_LINES: usize = 1024;
const BATCH_BYTES: usize = 256 << 10;

/// Between two attempts the time grows up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long the removal of a container waits for the rest of its lines to be sent.
const REST: Duration = Duration::from_secs(5);

/// All forwarders.
#[derive(Default)]
pub(crate) struct Forwarders(Arc<Mutex<HashMap<ContainerId, Entry>>>);

struct Entry {
    /// Counted up with every start of the container: a forwarder that comes to the end looks again.
    starts: u64,
    task: Option<JoinHandle<()>>,
}

/// What is to be sent, and where.
pub(crate) struct Forwarder {
    pub(crate) id: ContainerId,
    pub(crate) target: Target,
    pub(crate) origin: Origin,
    /// The local cache.
    pub(crate) log: PathBuf,
    pub(crate) progress: watch::Receiver<Progress>,
}

/// A connection, and since when it is there.
type Connected = (Wire, Instant);

/// What was read at once.
struct Batch {
    messages: Vec<Message>,
    /// Where its last entry ends.
    position: Option<Position>,
    is_end: bool,
}

impl Forwarders {
    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a container's lines from now on, from where an earlier forwarder had come to. One that is still at work
    /// goes on.
    pub(crate) fn run(&self, forwarder: Forwarder) {
        let mut all = self.lock();
        let id = forwarder.id.clone();
        let entry = all.entry(id).or_insert(Entry { starts: 0, task: None });
        entry.starts += 1;
        if entry.task.is_none() {
            let all = Self(Arc::clone(&self.0));
            entry.task = Some(tokio::spawn(async move { forwarder.work(&all).await }));
        }
    }

    /// Waits until everything a container has written is sent, but not for ever. The container has ended.
    pub(crate) async fn finish(&self, id: &ContainerId) {
        let Some(mut task) = self.lock().get_mut(id).and_then(|entry| entry.task.take()) else { return };
        if tokio::time::timeout(REST, &mut task).await.is_err() {
            tracing::warn!(container = %id, "removed before all of its log was sent");
            task.abort();
        }
        self.lock().remove(id);
    }

    fn starts(&self, id: &ContainerId) -> u64 {
        self.lock().get(id).map_or(0, |entry| entry.starts)
    }

    /// Whether a forwarder may go, the container not having been started meanwhile.
    fn leave(&self, id: &ContainerId, starts: u64) -> bool {
        let mut all = self.lock();
        match all.get(id) {
            Some(entry) if entry.starts != starts => false,
            _ => {
                all.remove(id);
                true
            }
        }
    }
}

impl Target {
    /// Refuses the start of a container whose receiver cannot be reached, as Docker does, whose drivers connect when
    /// the container starts.
    ///
    /// # Errors
    /// `failed to initialize logging driver: dial tcp ...`
    pub(crate) async fn reach(&self) -> Result<()> {
        if !self.must_connect() {
            return Ok(());
        }
        match self.connect().await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Refused(format!(
                "failed to create task for container: failed to initialize logging driver: {error}"
            ))),
        }
    }
}

impl Forwarder {
    async fn work(mut self, all: &Forwarders) {
        let mut wire = None;
        loop {
            let starts = all.starts(&self.id);
            if let Err(error) = self.follow(&mut wire).await {
                tracing::error!(container = %self.id, %error, "its log is not sent any further");
            }
            if all.leave(&self.id, starts) {
                return;
            }
        }
    }

    /// Reads the cache until the container has ended and sends what is in it.
    async fn follow(&mut self, wire: &mut Option<Connected>) -> Result<()> {
        let ends = self.progress.borrow().ends;
        let log = self.log.clone();
        let (mut reader, cursor) = blocking(move || open(log)).await?;
        let wakeup = watch_reader(&reader);
        loop {
            let (given_back, batch) = blocking(move || fill(reader)).await?;
            reader = given_back;
            if let Some(position) = batch.position {
                self.deliver(wire, &batch.messages).await;
                if let Err(error) = cursor.save(position) {
                    tracing::warn!(container = %self.id, %error, "how far its log is sent is not noted");
                }
                continue;
            }
            if batch.is_end {
                return Ok(());
            }
            let ended = |p: &Progress| !p.running || p.removed || p.ends > ends;
            tokio::select! {
                () = readable(wakeup.as_ref()) => {}
                // The shim wrote everything before it told of the end.
                _ = self.progress.wait_for(ended) => reader.finish(),
            }
        }
    }

    /// Sends a batch, again and again until it is gone, or has been tried often enough.
    async fn deliver(&self, wire: &mut Option<Connected>, batch: &[Message]) {
        let retry = self.target.retry();
        let (mut attempts, mut wait) = (0, retry.wait);
        while let Err(error) = self.try_send(wire, batch).await {
            *wire = None;
            attempts += 1;
            if retry.most.is_some_and(|most| attempts > most) {
                let lost = batch.len();
                tracing::error!(container = %self.id, %error, lost, "lines of its log could not be sent");
                return;
            }
            if attempts == 1 {
                tracing::warn!(container = %self.id, %error, "its log cannot be sent, and waits");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 3 / 2).min(LONGEST_WAIT.max(retry.wait));
        }
    }

    async fn try_send(&self, wire: &mut Option<Connected>, batch: &[Message]) -> io::Result<()> {
        let lifetime = self.target.lifetime();
        if wire.as_ref().is_some_and(|(_, since)| lifetime.is_some_and(|most| since.elapsed() > most)) {
            *wire = None;
        }
        let (wire, _) = match wire {
            Some(wire) => wire,
            none => none.insert((self.target.connect().await?, Instant::now())),
        };
        self.target.send(wire, &self.origin, batch).await
    }
}

fn open(log: PathBuf) -> Result<(Reader, Cursor)> {
    let (cursor, position) = Cursor::open(&log).map_err(|source| Error::Io {
        step: "open",
        path: super::cursor_path(&log),
        source,
    })?;
    let options = ReadOptions {
        path: log,
        format: Format::Local,
        tail: None,
        since: None,
        until: None,
        follow: Follow::Yes,
    };
    let opened = match position {
        None => Reader::open(options),
        Some(position) => Reader::open_after(options, position),
    };
    Ok((opened.map_err(|error| Error::Log(error.to_string()))?, cursor))
}

fn fill(mut reader: Reader) -> Result<(Reader, Batch)> {
    let mut batch = Batch { messages: Vec::new(), position: None, is_end: false };
    let mut bytes = 0;
    while batch.messages.len() < BATCH_LINES && bytes < BATCH_BYTES {
        match reader.poll_next().map_err(|error| Error::Log(error.to_string()))? {
            Next::Entry(entry) => {
                bytes += entry.line.len();
                batch.messages.push(Message {
                    stream: entry.stream,
                    time: clock::from_shim(entry.time),
                    line: entry.line.strip_suffix(b"\n").unwrap_or(entry.line).to_vec(),
                    partial: entry.partial.cloned(),
                });
            }
            Next::Pending => break,
            Next::End => {
                batch.is_end = true;
                break;
            }
        }
    }
    batch.position = (!batch.messages.is_empty()).then(|| reader.position());
    Ok((reader, batch))
}
