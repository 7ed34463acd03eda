//! One connection to one shim: requests matched with replies, events handed on.

use super::message::{decode, encode};
use crate::{Error, Result, polled};
use rustix::io::Errno;
use std::{
    collections::HashMap,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};
use wharf_spec::{
    ContainerId,
    shim::{Answer, Call, Event, Message, Request},
};
use wharf_sys::seqpacket::{self, Packet};

/// A connected shim.
pub(crate) struct Shim {
    id: ContainerId,
    socket: Arc<AsyncFd<OwnedFd>>,
    waiting: Arc<Waiting>,
    next: AtomicU32,
}

/// Who waits for which reply. `None` when the shim is gone: nobody may wait any more.
struct Waiting(Mutex<Option<HashMap<u32, oneshot::Sender<Result<Answer>>>>>);

/// A shim's events, until it is gone.
pub(crate) struct Events(mpsc::UnboundedReceiver<Event>);

impl Events {
    /// The next event; `None` when the shim is gone.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl Shim {
    /// Takes over a connected socket and begins to read from it.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(super) fn new(id: ContainerId, socket: OwnedFd) -> Result<(Arc<Self>, Events)> {
        let os = |step| move |source| Error::Os { step, source };
        seqpacket::set_nonblocking(&socket, true)
            .map_err(|e| Error::Protocol(format!("shim of {id}: {e}")))?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let socket = Arc::new(polled::watch(socket, both).map_err(os("watch shim"))?);
        let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(read_messages(id.clone(), Arc::clone(&socket), Arc::clone(&waiting), sender));
        Ok((Arc::new(Self { id, socket, waiting, next: AtomicU32::new(1) }), Events(receiver)))
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The shim's own as [`Error::Task`]; [`Error::ShimGone`].
    pub(crate) async fn call(&self, call: Call, fds: &[BorrowedFd<'_>]) -> Result<Answer> {
        self.send(call, fds).await?.receive().await
    }

    /// Asks; the answer is waited for with [`Pending::receive`].
    ///
    /// # Errors
    /// [`Error::ShimGone`].
    pub(super) async fn send(&self, call: Call, fds: &[BorrowedFd<'_>]) -> Result<Pending> {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = encode(&Request { seq, call })?;
        let (sender, receiver) = oneshot::channel();
        if !self.waiting.enter(seq, sender) {
            return Err(Error::ShimGone(self.id.clone()));
        }
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, |socket| seqpacket::send(socket, &bytes, fds).map_err(io_error))
            .await;
        if let Err(error) = sent {
            self.waiting.answer(seq, Err(Error::ShimGone(self.id.clone())));
            tracing::debug!(container = %self.id, %error, "shim does not take a request");
        }
        Ok(Pending { id: self.id.clone(), receiver })
    }
}

/// An answer under way.
pub(super) struct Pending {
    id: ContainerId,
    receiver: oneshot::Receiver<Result<Answer>>,
}

impl Pending {
    pub(super) async fn receive(self) -> Result<Answer> {
        self.receiver.await.unwrap_or(Err(Error::ShimGone(self.id)))
    }
}

impl Waiting {
    /// False when the shim is gone.
    fn enter(&self, seq: u32, sender: oneshot::Sender<Result<Answer>>) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.as_mut().map(|table| table.insert(seq, sender)).is_some()
    }

    fn answer(&self, seq: u32, answer: Result<Answer>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = table.as_mut().and_then(|table| table.remove(&seq)) {
            // Who asked may have gone away.
            sender.send(answer).ok();
        }
    }

    /// Nobody gets an answer any more: their channels close.
    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

async fn read_messages(
    id: ContainerId,
    socket: Arc<AsyncFd<OwnedFd>>,
    waiting: Arc<Waiting>,
    events: mpsc::UnboundedSender<Event>,
) {
    loop {
        let received =
            socket.async_io(Interest::READABLE, |socket| seqpacket::recv(socket).map_err(io_error)).await;
        match received {
            Ok(Some(packet)) => dispatch(&id, &packet, &waiting, &events),
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(container = %id, %error, "connection to shim ends");
                break;
            }
        }
    }
    waiting.close();
}

fn dispatch(id: &ContainerId, packet: &Packet, waiting: &Waiting, events: &mpsc::UnboundedSender<Event>) {
    match decode::<Message>(&packet.bytes) {
        Ok(Message::Reply(reply)) => waiting.answer(reply.seq, reply.result.map_err(Error::Task)),
        // The container's monitor may have ended: then nobody wants to know.
        Ok(Message::Event(event)) => drop(events.send(event)),
        Err(error) => tracing::warn!(container = %id, %error, "message of shim not understood"),
    }
}

/// `WouldBlock` must be told apart for tokio to wait; the rest keeps its text.
pub(super) fn io_error(error: wharf_sys::Error) -> std::io::Error {
    match error.errno() {
        Some(Errno::AGAIN) => std::io::ErrorKind::WouldBlock.into(),
        _ => std::io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::shim::{Failure, FailureKind, Reply};

    fn id() -> ContainerId {
        ContainerId::from_random([7; 32])
    }

    /// A shim that answers on its own thread as the function says.
    fn answering(answer: impl Fn(Request) -> Option<Message> + Send + 'static) -> OwnedFd {
        let (ours, theirs) = seqpacket::pair().unwrap();
        std::thread::spawn(move || {
            while let Ok(Some(packet)) = seqpacket::recv(&theirs) {
                let request: Request = decode(&packet.bytes).unwrap();
                match answer(request) {
                    Some(message) => {
                        seqpacket::send(&theirs, &encode(&message).unwrap(), &[]).unwrap();
                    }
                    None => break,
                }
            }
        });
        ours
    }

    #[tokio::test]
    async fn replies_find_who_asked() {
        let socket = answering(|request| {
            let result = match request.call {
                Call::Pause => Ok(Answer::Done),
                _ => Err(Failure {
                    kind: FailureKind::Conflict,
                    step: "x".into(),
                    errno: 0,
                    message: "no".into(),
                }),
            };
            Some(Message::Reply(Reply { seq: request.seq, result }))
        });
        let (shim, _events) = Shim::new(id(), socket).unwrap();
        assert_eq!(shim.call(Call::Pause, &[]).await.unwrap(), Answer::Done);
        let error = shim.call(Call::Resume, &[]).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), ("no", wharf_spec::ErrorKind::Conflict));
    }

    #[tokio::test]
    async fn who_asks_a_shim_that_goes_away_is_told() {
        let socket = answering(|_| None);
        let (shim, mut events) = Shim::new(id(), socket).unwrap();
        assert!(matches!(shim.call(Call::State, &[]).await, Err(Error::ShimGone(_))));
        assert!(events.next().await.is_none());
        assert!(matches!(shim.call(Call::State, &[]).await, Err(Error::ShimGone(_))));
    }

    #[tokio::test]
    async fn events_are_handed_on_in_order() {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let (_shim, mut events) = Shim::new(id(), ours).unwrap();
        for pid in 1..100 {
            let message = Message::Event(Event::Started { pid, shim_pid: 1, warnings: vec![] });
            seqpacket::send(&theirs, &encode(&message).unwrap(), &[]).unwrap();
        }
        seqpacket::send(&theirs, b"nonsense", &[]).unwrap();
        drop(theirs);
        for wanted in 1..100 {
            assert!(matches!(events.next().await, Some(Event::Started { pid, .. }) if pid == wanted));
        }
        assert!(events.next().await.is_none());
    }
}
