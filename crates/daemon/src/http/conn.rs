//! What the layers of one connection know of each other: the socket's adapter below hyper, and the
//! handlers above it.

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

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

    /// Marks a request as begun. Returns its body and the guard that marks it as over.
    pub(super) fn begin(self: &Arc<Self>, body: Incoming) -> (RequestBody, AnswerGuard) {
        self.busy.store(true, Ordering::Release);
        self.requests.fetch_add(1, Ordering::AcqRel);
        let finished = Arc::new(AtomicBool::new(body.is_end_stream()));
        let guard = AnswerGuard { connection: Arc::clone(self), body_finished: Arc::clone(&finished) };
        (RequestBody { body: Some(body), finished }, guard)
    }
}

#[cfg(test)]
impl Connection {
    /// As [`Self::begin`] for a request without body.
    pub(super) fn begin_for_test(self: &Arc<Self>) -> AnswerGuard {
        self.busy.store(true, Ordering::Release);
        self.requests.fetch_add(1, Ordering::AcqRel);
        AnswerGuard { connection: Arc::clone(self), body_finished: Arc::new(AtomicBool::new(true)) }
    }
}

/// A request's body that remembers whether it was read to its end.
pub(crate) struct RequestBody {
    body: Option<Incoming>,
    finished: Arc<AtomicBool>,
}

impl RequestBody {
    /// Whether there is no body at all.
    pub(super) fn is_empty(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.size_hint().exact() == Some(0))
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
            self.finished.store(true, Ordering::Release);
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

/// Marks a request as over when it is dropped with its answer.
#[derive(Debug)]
pub(crate) struct AnswerGuard {
    connection: Arc<Connection>,
    body_finished: Arc<AtomicBool>,
}

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        if self.body_finished.load(Ordering::Acquire) {
            self.connection.busy.store(false, Ordering::Release);
        }
    }
}
