//! Bodies of answers.

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use http_body::{Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// The body of an answer: nothing, a text, or a stream whose chunks go out as they come.
pub(crate) struct Body {
    content: Content,
    /// Dropped when the answer is over, be it sent or given up.
    guard: Option<super::conn::Guard>,
}

enum Content {
    Empty,
    Full(Bytes),
    Stream(BoxStream<'static, io::Result<Bytes>>),
}

impl Body {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self { content: Content::Empty, guard: None }
    }

    /// A body that is there already.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let content = if bytes.is_empty() { Content::Empty } else { Content::Full(bytes) };
        Self { content, guard: None }
    }

    /// A body that comes in chunks. An error breaks the connection off, which is how a client learns that
    /// the body is not whole.
    pub(crate) fn stream<S>(stream: S) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        Self { content: Content::Stream(stream.boxed()), guard: None }
    }

    /// Keeps `guard` until the answer is over.
    pub(crate) fn guarded(mut self, guard: super::conn::Guard) -> Self {
        self.guard = Some(guard);
        self
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.content {
            Content::Empty => "Body::Empty",
            Content::Full(_) => "Body::Full",
            Content::Stream(_) => "Body::Stream",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Stream(stream) => {
                stream.poll_next_unpin(cx).map(|item| item.map(|r| r.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
