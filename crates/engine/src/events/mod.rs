//! What happened and happens: a day of the past on disk, and listeners (source: moby `daemon/events/events.go`,
//! which keeps 256 events in memory).
//!
//! Entry point: [`Events::subscribe`]. Emitting never blocks and never fails: a thread writes to disk, and a listener
//! that does not keep up loses the oldest events and is told so in the log.

mod filter;
mod journal;

use crate::{Filters, Result, blocking::blocking};
use filter::EventFilter;
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use journal::{Journal, OnDisk, Past, nanos};
use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::broadcast::{self, error::RecvError};
use wharf_api::{
    StringMap,
    event::{Actor, Message},
};

/// How many events are kept in memory that are not on disk yet, or cannot be.
const UNWRITTEN: usize = 4096;
/// How often the writer looks whether there is anybody left.
const IDLE: std::time::Duration = std::time::Duration::from_secs(60);
/// How many past events are read at a time.
const CHUNK: usize = 512;
/// How many events a listener may be behind (moby: `bufferSize`).
const BUFFER: usize = 1024;

/// Events of the engine: cheap to clone.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    history: Mutex<History>,
    /// Something is to be written.
    written: Condvar,
    live: broadcast::Sender<Arc<Message>>,
    emitted: AtomicU64,
}

/// The past. An event is in one of the two.
struct History {
    on_disk: Option<OnDisk>,
    unwritten: VecDeque<Arc<Message>>,
}

/// What a listener wants.
#[derive(Debug, Clone, Default)]
pub struct EventsQuery {
    /// Past events from then on; `None`: none, unless `until` is given.
    pub since: Option<Timestamp>,
    /// The stream ends then; `None`: never.
    pub until: Option<Timestamp>,
    /// `?filters=`.
    pub filters: Filters,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Docker's event types")]
pub enum EventKind {
    Builder,
    Container,
    Daemon,
    Image,
    Network,
    Plugin,
    Volume,
}

impl EventKind {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builder => "builder",
            Self::Container => "container",
            Self::Daemon => "daemon",
            Self::Image => "image",
            Self::Network => "network",
            Self::Plugin => "plugin",
            Self::Volume => "volume",
        }
    }
}

impl Events {
    /// With the past of this data-root, which is added to. Without a file to write to, what fits into memory is kept.
    pub(crate) fn open(data_root: &Path) -> Self {
        let path = data_root.join("events.jsonl");
        match Journal::open(&path) {
            Ok(journal) => {
                let events = Self::with(Some(journal.on_disk()));
                let (inner, of) = (Arc::downgrade(&events.0), "wharf-events".to_owned());
                let writer = std::thread::Builder::new().name(of).spawn(move || write(&inner, journal));
                if let Err(error) = writer {
                    tracing::warn!(%error, "events are not written to disk");
                }
                events
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "events are not written to disk");
                Self::with(None)
            }
        }
    }

    /// Without a past on disk.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    fn with(on_disk: Option<OnDisk>) -> Self {
        let (live, _) = broadcast::channel(BUFFER);
        let history = Mutex::new(History { on_disk, unwritten: VecDeque::new() });
        Self(Arc::new(Inner { history, written: Condvar::new(), live, emitted: AtomicU64::new(0) }))
    }

    /// Tells everybody that something happened just now.
    pub fn emit(
        &self,
        kind: EventKind,
        action: impl Into<String>,
        id: impl Into<String>,
        attributes: StringMap,
    ) {
        let now = Timestamp::now();
        let message = Arc::new(Message {
            kind: kind.as_str().into(),
            action: action.into(),
            actor: Actor { id: id.into(), attributes },
            scope: "local".into(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            ..Message::default()
        });
        let mut history = self.0.lock();
        if history.unwritten.len() == UNWRITTEN {
            history.unwritten.pop_front();
        }
        history.unwritten.push_back(Arc::clone(&message));
        self.0.written.notify_one();
        self.0.emitted.fetch_add(1, Ordering::Relaxed);
        // Under the lock: a listener that subscribes meanwhile sees each event once. No listener is no error.
        self.0.live.send(message).ok();
    }

    /// The events a listener wants: past ones, then live ones until `until`.
    ///
    /// # Errors
    /// For a filter that is not known.
    pub fn subscribe(&self, query: EventsQuery) -> Result<impl Stream<Item = Message> + Send + use<>> {
        let filter = EventFilter::new(query.filters)?;
        let history = self.0.lock();
        let live = self.0.live.subscribe();
        // Without a time nothing of the past is wanted.
        let wants_past = query.since.is_some() || query.until.is_some();
        let from = query.since.map_or(i64::MIN, nanos);
        let on_disk = history.on_disk.as_ref().filter(|_| wants_past).map(OnDisk::open);
        let recent: Vec<_> = match wants_past {
            true => history.unwritten.iter().filter(|m| m.time_nano >= from).cloned().collect(),
            false => Vec::new(),
        };
        drop(history);
        let until = query.until;
        let past = stream::unfold(on_disk, move |past| read_past(past, from)).flat_map(stream::iter);
        let live = stream::unfold(live, next_live).take_until(wait_until(until));
        let all = past.chain(stream::iter(recent)).chain(live);
        Ok(all.filter_map(move |message| {
            let wanted = filter.wants(&message) && until.is_none_or(|t| message.time_nano <= nanos(t));
            async move { wanted.then(|| Arc::unwrap_or_clone(message)) }
        }))
    }

    /// How many events there have been.
    pub fn emitted(&self) -> u64 {
        self.0.emitted.load(Ordering::Relaxed)
    }

    /// How many listeners there are.
    pub fn listeners(&self) -> usize {
        self.0.live.receiver_count()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what comes until nobody is left who could add anything.
fn write(inner: &Weak<Inner>, mut journal: Journal) {
    while let Some(inner) = inner.upgrade() {
        let idle = |history: &mut History| history.unwritten.is_empty();
        let waited = inner.written.wait_timeout_while(inner.lock(), IDLE, idle);
        let history = waited.unwrap_or_else(PoisonError::into_inner).0;
        let batch: Vec<_> = history.unwritten.iter().cloned().collect();
        drop(history);
        let Some(last) = batch.last() else { continue };
        // Nobody waits for the disk.
        let appended = journal.append(&batch);
        let mut history = inner.lock();
        if let Err(error) = appended.and_then(|()| journal.rotate_if_full()) {
            tracing::warn!(%error, "events are not written to disk any more");
            return;
        }
        history.on_disk = Some(journal.on_disk());
        if let Some(at) = history.unwritten.iter().rposition(|message| Arc::ptr_eq(message, last)) {
            history.unwritten.drain(..=at);
        }
    }
}

async fn read_past(past: Option<Past>, from: i64) -> Option<(Vec<Arc<Message>>, Option<Past>)> {
    let mut past = past?;
    let read = blocking(move || {
        let events = past.next(from, CHUNK);
        Ok((events, past))
    });
    let (events, past) = read.await.ok()?;
    let is_end = events.is_empty();
    (!is_end).then_some((events, Some(past)))
}

async fn next_live(
    mut live: broadcast::Receiver<Arc<Message>>,
) -> Option<(Arc<Message>, broadcast::Receiver<Arc<Message>>)> {
    loop {
        match live.recv().await {
            Ok(message) => return Some((message, live)),
            Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "a listener of events is too slow"),
            Err(RecvError::Closed) => return None,
        }
    }
}

async fn wait_until(until: Option<Timestamp>) {
    match until {
        None => std::future::pending().await,
        Some(until) => {
            let left = until.duration_since(Timestamp::now());
            tokio::time::sleep(left.try_into().unwrap_or_default()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emit(events: &Events, action: &str) {
        events.emit(EventKind::Container, action, "id1", StringMap::new());
    }

    async fn actions(stream: impl Stream<Item = Message>) -> Vec<String> {
        stream.map(|m| m.action).collect().await
    }

    #[tokio::test]
    async fn the_past_comes_only_on_request_and_is_bounded() {
        let events = Events::new();
        for n in 0..UNWRITTEN + 44 {
            emit(&events, &n.to_string());
        }
        let past = |since, until| EventsQuery { since, until, filters: Filters::default() };
        let now = Timestamp::now();
        let all = actions(events.subscribe(past(None, Some(now))).unwrap()).await;
        assert_eq!((all.len(), all[0].as_str()), (UNWRITTEN, "44"));
        let later = now + jiff::SignedDuration::from_hours(1);
        let none = events.subscribe(past(Some(later), Some(now))).unwrap();
        assert_eq!(actions(none).await.len(), 0);
    }

    #[tokio::test]
    async fn the_past_is_that_of_earlier_daemons_too() {
        let dir = tempfile::tempdir().unwrap();
        let now = |n: i64| Some(Timestamp::now() + jiff::SignedDuration::from_millis(n));
        let past = || EventsQuery { until: now(0), ..EventsQuery::default() };
        let events = Events::open(dir.path());
        for n in 0..1500 {
            emit(&events, &n.to_string());
        }
        // Written or not, each is there once.
        assert_eq!(actions(events.subscribe(past()).unwrap()).await.len(), 1500);
        while !events.0.lock().unwritten.is_empty() {
            tokio::task::yield_now().await;
        }
        let next = Events::open(dir.path());
        emit(&next, "last");
        let all = actions(next.subscribe(past()).unwrap()).await;
        assert_eq!((all.len(), all[0].as_str(), all[1500].as_str()), (1501, "0", "last"));
    }

    #[tokio::test]
    async fn live_events_follow_the_past_without_a_gap() {
        let events = Events::new();
        emit(&events, "one");
        let query = EventsQuery { since: Some(Timestamp::UNIX_EPOCH), ..Default::default() };
        let mut stream = Box::pin(events.subscribe(query).unwrap());
        emit(&events, "two");
        assert_eq!(stream.next().await.unwrap().action, "one");
        let two = stream.next().await.unwrap();
        assert_eq!((two.action.as_str(), two.scope.as_str()), ("two", "local"));
        assert_eq!(events.listeners(), 1);
        drop(stream);
        assert_eq!(events.listeners(), 0);
    }

    #[tokio::test]
    async fn unknown_filters_are_refused() {
        let query =
            EventsQuery { filters: Filters::from_json(r#"{"nosuch":["1"]}"#).unwrap(), ..Default::default() };
        let error = Events::new().subscribe(query).err().unwrap();
        assert_eq!(error.to_string(), "invalid filter 'nosuch'");
    }
}
