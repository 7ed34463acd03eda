//! What the layers of one connection know of each other: the socket's adapter below hyper, and the
//! handlers above it.

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

/// What is read of a body that no handler wants (Go: `maxPostHandlerReadBytes`).
const DRAIN_LIMIT: usize = 256 << 10;

/// The state of one connection.
///
/// The adapter may change the head of a request only where a head begins: when nothing of an earlier
/// request is left in the stream. Only hyper knows where bodies end, so this keeps count: `busy` from the
/// moment hyper hands out a request until its answer is over, and for good when the answer was over before
/// the request's body was.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    busy: AtomicBool,
    /// Requests so far.
    requests: AtomicU64,
    /// The next head that hyper writes is to be an unframed 200.
    raw_answer: AtomicBool,
}

impl Connection {
    /// The number of the request whose head comes next; `None` while one is being served.
    pub(super) fn awaited_request(&self) -> Option<u64> {
        (!self.busy.load(Ordering::Acquire)).then(|| self.requests.load(Ordering::Acquire))
    }

    /// Turns the 101 that hyper is about to write into a 200 without framing.
    pub(crate) fn answer_raw(&self) {
        self.raw_answer.store(true, Ordering::Release);
    }

    /// Whether the head being written is that 101; only the first caller hears yes.
    pub(super) fn take_raw_answer(&self) -> bool {
        self.raw_answer.load(Ordering::Acquire) && self.raw_answer.swap(false, Ordering::AcqRel)
    }

    /// Marks a request as begun. Returns its body, and the guard to keep until its answer is over.
    pub(super) fn begin(self: &Arc<Self>, body: Incoming) -> (RequestBody, Guard) {
        let guard = self.ongoing(body.is_end_stream());
        (RequestBody { body: Some(body), guard: Arc::clone(&guard) }, guard)
    }

    fn ongoing(self: &Arc<Self>, body_finished: bool) -> Guard {
        self.busy.store(true, Ordering::Release);
        self.requests.fetch_add(1, Ordering::AcqRel);
        Arc::new(Ongoing { connection: Arc::clone(self), body_finished: AtomicBool::new(body_finished) })
    }
}

/// Keeps a request marked as begun; shared by its body and its answer.
pub(crate) type Guard = Arc<Ongoing>;

/// A request whose body or answer is not over yet.
#[derive(Debug)]
pub(crate) struct Ongoing {
    connection: Arc<Connection>,
    body_finished: AtomicBool,
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        if self.body_finished.load(Ordering::Acquire) {
            self.connection.busy.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
impl Connection {
    /// As [`Self::begin`] for a request without body.
    pub(super) fn begin_for_test(self: &Arc<Self>) -> Guard {
        self.ongoing(true)
    }
}

/// A request's body. What a handler does not read of it is read and thrown away, up to a limit: a client
/// that is still sending would else see a broken connection instead of the answer (as Go's server does).
pub(crate) struct RequestBody {
    body: Option<Incoming>,
    guard: Guard,
}

impl RequestBody {
    /// Whether there is no body at all.
    pub(super) fn is_empty(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if self.guard.body_finished.load(Ordering::Acquire) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(throw_away(body, Arc::clone(&self.guard)));
        }
    }
}

async fn throw_away(mut body: Incoming, guard: Guard) {
    let mut read = 0;
    while read < DRAIN_LIMIT {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return,
            None => return guard.body_finished.store(true, Ordering::Release),
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        let ended = matches!(polled, Poll::Ready(None)) || body.is_end_stream();
        if ended {
            self.guard.body_finished.store(true, Ordering::Release);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}
