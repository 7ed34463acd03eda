//! Answers that are progress messages: pulls, pushes, loads, imports.

use crate::{
    error::{Error, Result},
    http::reply::{self, Reply},
};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use std::{future::Future, io};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use wharf_api::progress::Message;

/// How many messages may wait for a slow client before the work waits too.
const BUFFER: usize = 64;

/// Where errors go that happen before the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EarlyErrors {
    /// Into the status of the answer.
    Status,
    /// Into the stream, like later ones.
    Stream,
}

/// Runs some work and streams its messages. An error after the first message is the last message. When the
/// client goes away the work is given up.
///
/// # Errors
/// Those that happen before the first message, if `early` says so.
pub(super) async fn run<W, F>(early: EarlyErrors, work: W) -> Result<Reply>
where
    W: FnOnce(mpsc::Sender<Message>) -> F,
    F: Future<Output = wharf_engine::Result<()>> + Send + 'static,
{
    let (sender, mut messages) = mpsc::channel(BUFFER);
    let mut work = AbortOnDropHandle::new(tokio::spawn(work(sender)));
    let first = messages.recv().await;
    let Some(first) = first else {
        // No message will ever come: the work is at its end.
        return match ((&mut work).await.map_err(|_| Error::Panicked)?, early) {
            (Err(e), EarlyErrors::Status) => Err(e.into()),
            (Err(e), EarlyErrors::Stream) => Ok(lines(stream::iter([failure_message(&e)]))),
            (Ok(()), _) => Ok(lines(stream::empty())),
        };
    };
    let rest = stream::unfold((messages, Some(work)), next);
    Ok(lines(stream::iter([first]).chain(rest)))
}

type Work = AbortOnDropHandle<wharf_engine::Result<()>>;

async fn next(
    (mut messages, work): (mpsc::Receiver<Message>, Option<Work>),
) -> Option<(Message, (mpsc::Receiver<Message>, Option<Work>))> {
    let work = work?;
    if let Some(message) = messages.recv().await {
        return Some((message, (messages, Some(work))));
    }
    match work.await {
        Ok(Ok(())) => None,
        Ok(Err(e)) => Some((failure_message(&e), (messages, None))),
        Err(_) => Some((Message::error(Error::Panicked.to_string()), (messages, None))),
    }
}

/// With the exit status of a build's command, if it was that.
fn failure_message(error: &wharf_engine::Error) -> Message {
    let mut message = Message::error(error.to_string());
    message.error.iter_mut().for_each(|detail| detail.code = error.code());
    message
}

fn lines(messages: impl Stream<Item = Message> + Send + 'static) -> Reply {
    reply::stream("application/json", messages.map(|m| io::Result::Ok(Bytes::from(m.to_line()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn failure() -> wharf_engine::Error {
        wharf_engine::Error::NotFound("nothing here".into())
    }

    async fn text(reply: Reply) -> String {
        String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn early_errors_have_a_status() {
        let result = run(EarlyErrors::Status, |_| async { Err(failure()) }).await;
        assert_eq!(result.unwrap_err().status(), 404);
        let reply = run(EarlyErrors::Stream, |_| async { Err(failure()) }).await.unwrap();
        assert_eq!(
            text(reply).await,
            "{\"errorDetail\":{\"message\":\"nothing here\"},\"error\":\"nothing here\"}\r\n"
        );
    }

    #[tokio::test]
    async fn late_errors_are_the_last_message() {
        let reply = run(EarlyErrors::Status, |sender| async move {
            for n in 0..200 {
                sender.send(Message::stream(n.to_string())).await.ok();
            }
            Err(failure())
        });
        let text = text(reply.await.unwrap()).await;
        assert_eq!(text.lines().count(), 201);
        assert!(text.lines().last().unwrap().contains("errorDetail"));
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_work() {
        let (done, gone) = tokio::sync::oneshot::channel::<()>();
        let reply = run(EarlyErrors::Status, |sender| async move {
            let _held = done;
            sender.send(Message::stream("one")).await.ok();
            std::future::pending().await
        });
        drop(reply.await.unwrap());
        assert!(gone.await.is_err(), "the work was dropped");
    }
}
