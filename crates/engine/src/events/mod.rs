//! What happened and happens: a bounded memory of the past, and listeners (source: moby
//! `daemon/events/events.go`).
//!
//! Entry point: [`Events::subscribe`]. Emitting never blocks and never fails: a listener that does not keep
//! up loses the oldest events and is told so in the log.

mod filter;

use crate::{Filters, Result};
use filter::EventFilter;
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::broadcast::{self, error::RecvError};
use wharf_api::{
    StringMap,
    event::{Actor, Message},
};

/// How many past events are kept (moby: `eventsLimit`).
const HISTORY: usize = 256;
/// How many events a listener may be behind (moby: `bufferSize`).
const BUFFER: usize = 1024;

/// Events of the engine: cheap to clone.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    history: Mutex<VecDeque<Arc<Message>>>,
    live: broadcast::Sender<Arc<Message>>,
    emitted: AtomicU64,
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
    pub(crate) fn new() -> Self {
        let (live, _) = broadcast::channel(BUFFER);
        let history = Mutex::new(VecDeque::with_capacity(HISTORY));
        Self(Arc::new(Inner { history, live, emitted: AtomicU64::new(0) }))
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
        let mut history = self.0.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(Arc::clone(&message));
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
        let history = self.0.history.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.0.live.subscribe();
        let past = past(&history, query.since, query.until);
        drop(history);
        let until = query.until;
        let live = stream::unfold(live, next_live).take_until(wait_until(until));
        let all = stream::iter(past).chain(live);
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

fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Without a time nothing of the past is wanted.
fn past(
    history: &VecDeque<Arc<Message>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Vec<Arc<Message>> {
    if since.is_none() && until.is_none() {
        return Vec::new();
    }
    let from = since.map_or(i64::MIN, nanos);
    history.iter().filter(|m| m.time_nano >= from).cloned().collect()
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
        for n in 0..300 {
            emit(&events, &n.to_string());
        }
        let past = |since, until| EventsQuery { since, until, filters: Filters::default() };
        let now = Timestamp::now();
        let all = actions(events.subscribe(past(None, Some(now))).unwrap()).await;
        assert_eq!((all.len(), all[0].as_str()), (HISTORY, "44"));
        let later = now + jiff::SignedDuration::from_hours(1);
        let none = events.subscribe(past(Some(later), Some(now))).unwrap();
        assert_eq!(actions(none).await.len(), 0);
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
