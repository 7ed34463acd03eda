//! What the client hears (source: moby `daemon/internal/progress`, `daemon/internal/distribution/utils`).
//!
//! A client that does not read must not stop the downloads that others wait for: states queue up, of which
//! there is a bounded number per layer, and progress is left out while the queue is long.

use crate::images::{Progress as Sink, layers::signed};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use wharf_api::progress::{Message, Progress};

/// Progress is left out when so many messages wait.
const WAITING_MAX: usize = 16;
/// At most so often.
const EVERY: Duration = Duration::from_millis(100);
/// After so many bytes, or a hundredth of all.
const STEP: u64 = 512 << 10;

/// Where messages go. Cheap to clone.
#[derive(Clone)]
pub(in crate::images) enum Report {
    /// To a client.
    Client { queue: mpsc::UnboundedSender<Message>, waiting: Arc<AtomicUsize> },
    /// To all that watch.
    Shared(Arc<Mutex<Watched>>),
}

/// What several clients watch.
#[derive(Default)]
pub(in crate::images) struct Watched {
    clients: Vec<Report>,
    last: Option<Message>,
}

/// Whether a message may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    State,
    Progress,
}

impl Report {
    /// Messages for a client. When it went away they go nowhere, and whoever streams them ends the work.
    pub(in crate::images) fn start(sink: Sink) -> Self {
        let (queue, mut messages) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
                counter.fetch_sub(1, Ordering::Relaxed);
            }
        });
        Self::Client { queue, waiting }
    }

    /// For nobody yet.
    pub(in crate::images) fn shared() -> Self {
        Self::Shared(Arc::default())
    }

    /// Sends what is reported here to a client, too, beginning with the last that was.
    pub(in crate::images) fn watch(&self, client: &Report) {
        let Self::Shared(watched) = self else { return };
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = watched.last.clone() {
            client.send(last, Weight::State);
        }
        watched.clients.push(client.clone());
    }

    /// A line for the whole, or about a tag.
    pub(in crate::images) fn line(&self, id: impl Into<String>, text: impl Into<String>) {
        self.send(Message::status(id, text), Weight::State);
    }

    /// The state of a layer.
    pub(in crate::images) fn state(&self, id: &str, state: impl Into<String>) {
        self.send(Message::progress(id, state, Progress::default()), Weight::State);
    }

    /// All of a layer is done.
    pub(in crate::images) fn all(&self, id: &str, action: &str, total: u64) {
        self.send(bar(id, action, total, total), Weight::State);
    }

    /// Data besides, for the client's program.
    pub(in crate::images) fn aux(&self, value: serde_json::Value) {
        let message = Message { progress: Some(Progress::default()), ..Message::aux(value) };
        self.send(message, Weight::State);
    }

    /// How far a layer is.
    pub(in crate::images) fn progress(&self, id: &str, action: &str, current: u64, total: u64) {
        self.send(bar(id, action, current, total), Weight::Progress);
    }

    /// Whether there still is a client.
    fn send(&self, message: Message, weight: Weight) -> bool {
        match self {
            Self::Client { waiting, .. }
                if weight == Weight::Progress && waiting.load(Ordering::Relaxed) >= WAITING_MAX =>
            {
                true
            }
            Self::Client { queue, waiting } => {
                waiting.fetch_add(1, Ordering::Relaxed);
                queue.send(message).is_ok()
            }
            Self::Shared(watched) => {
                let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                watched.clients.retain(|client| client.send(message.clone(), weight));
                watched.last = Some(message);
                true
            }
        }
    }
}

fn bar(id: &str, action: &str, current: u64, total: u64) -> Message {
    let (current, total) = (signed(current), signed(total));
    Message::progress(id, action, Progress { current, total, ..Progress::default() })
}

/// How often progress is told (source: moby `daemon/internal/progress/progressreader.go`).
pub(in crate::images) struct Pace {
    total: u64,
    told: u64,
    at: Option<Instant>,
}

impl Pace {
    pub(in crate::images) fn new(total: u64) -> Self {
        Self { total, told: 0, at: None }
    }

    /// Whether it is time to tell that it is this far.
    pub(in crate::images) fn is_due(&mut self, current: u64, now: Instant) -> bool {
        let step = STEP.min(self.total / 100);
        let is_end = current == self.total && self.told < current;
        let is_time = self.at.is_none_or(|at| now.duration_since(at) >= EVERY);
        if is_end || (current > self.told + step && is_time) {
            (self.told, self.at) = (current, Some(now));
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_now_and_then() {
        let (mut pace, start) = (Pace::new(1000), Instant::now());
        let mut due = |current, ms| pace.is_due(current, start + Duration::from_millis(ms));
        assert!(!due(10, 0));
        assert!(due(11, 0));
        assert!(!due(500, 99));
        assert!(due(500, 100));
        assert!(!due(510, 900));
        assert!(due(1000, 901));
        assert!(!due(1000, 5000));
    }

    #[tokio::test]
    async fn who_comes_late_hears_where_it_is() {
        let shared = Report::shared();
        let (sink, mut first) = mpsc::channel(8);
        shared.watch(&Report::start(sink));
        shared.state("layer", "Waiting");
        let (sink, mut second) = mpsc::channel(8);
        shared.watch(&Report::start(sink));
        shared.state("layer", "Pull complete");
        drop(shared);
        for messages in [&mut first, &mut second] {
            assert_eq!(messages.recv().await.unwrap().status, "Waiting");
            assert_eq!(messages.recv().await.unwrap().status, "Pull complete");
            assert!(messages.recv().await.is_none());
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_stops_nothing() {
        let (sink, mut messages) = mpsc::channel(1);
        let report = Report::start(sink);
        for n in 0..100 {
            report.state("layer", n.to_string());
            report.progress("layer", "Downloading", n, 100);
        }
        report.line("", "last");
        drop(report);
        let mut heard = Vec::new();
        while let Some(message) = messages.recv().await {
            heard.push(message);
        }
        let states = heard.iter().filter(|m| m.progress == Some(Progress::default())).count();
        assert!(states >= 100 && heard.len() < 130, "{states} of {}", heard.len());
        assert_eq!(heard.pop().unwrap().status, "last");
    }
}
