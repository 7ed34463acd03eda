//! One connection to one shim: requests matched with replies, events handed on.

use super::message::{decode, encode};
use crate::{Error, Result, polled};
use rustix::io::Errno;
use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
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
    plan::Fd,
    shim::{Answer, Call, Event, Message, Request},
};
use wharf_sys::{
    fault,
    seqpacket::{self, Packet},
};

/// A connected shim.
pub(crate) struct Shim {
    id: ContainerId,
    socket: Arc<AsyncFd<OwnedFd>>,
    waiting: Arc<Waiting>,
    next: AtomicU32,
}

/// Who waits for which reply. `None` when the shim is gone: nobody may wait any more.
struct Waiting(Mutex<Option<HashMap<u32, oneshot::Sender<Result<Answered>>>>>);

/// An answer, and the descriptors that came with it.
type Answered = (Answer, Vec<OwnedFd>);

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

    /// Ends the connection; the shim goes on.
    fn hang_up(&self) {
        // One that the shim has closed is at its end already.
        rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Both).ok();
    }

    /// Copies of the descriptors that the shim keeps for the container.
    ///
    /// # Errors
    /// As [`Self::call`]; a shim of an older build does not know the request.
    pub(crate) async fn held(&self) -> Result<Vec<OwnedFd>> {
        Ok(self.send(Call::Held, &[]).await?.receive_all().await?.1)
    }

    /// Gives the shim descriptors to keep for the container, beside those it has.
    ///
    /// # Errors
    /// As [`Self::held`].
    pub(crate) async fn hold(&self, fds: &[OwnedFd]) -> Result<()> {
        let named = (0..fds.len()).map(|index| Fd(index as u16)).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.call(Call::Hold(named), &fds).await.map(drop)
    }

    /// Gives the shim descriptors to keep in place of those that it has.
    ///
    /// # Errors
    /// As [`Self::held`]. A shim of an earlier build keeps what it has.
    pub(crate) async fn keep(&self, fds: &[OwnedFd]) -> Result<()> {
        let named = (0..fds.len()).map(|index| Fd(index as u16)).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.call(Call::Keep(named), &fds).await.map(drop)
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
        if fault::point("shim.asked").is_err() {
            self.hang_up();
        }
        if let Err(error) = sent {
            self.waiting.answer(seq, Err(Error::ShimGone(self.id.clone())));
            tracing::debug!(container = %self.id, %error, "shim does not take a request");
        }
        Ok(Pending { id: self.id.clone(), receiver })
    }
}

impl Drop for Shim {
    /// What reads from the socket has it open as well: without this it would wait for ever, and so would a shim
    /// that nobody knows of.
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// An answer under way.
pub(super) struct Pending {
    id: ContainerId,
    receiver: oneshot::Receiver<Result<Answered>>,
}

impl Pending {
    pub(super) async fn receive(self) -> Result<Answer> {
        self.receive_all().await.map(|(answer, _)| answer)
    }

    async fn receive_all(self) -> Result<Answered> {
        self.receiver.await.unwrap_or(Err(Error::ShimGone(self.id)))
    }
}

impl Waiting {
    /// False when the shim is gone.
    fn enter(&self, seq: u32, sender: oneshot::Sender<Result<Answered>>) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.as_mut().map(|table| table.insert(seq, sender)).is_some()
    }

    fn answer(&self, seq: u32, answer: Result<Answered>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = table.as_mut().and_then(|table| table.remove(&seq)) {
            // Who asked may have gone away.
            sender.send(answer).ok();
        }
    }

    /// A message was lost: whose answer it was is not known, so that all who wait now get none.
    fn disappoint(&self) {
        if let Some(table) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            table.clear();
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
        let received = socket.async_io(Interest::READABLE, receive).await;
        match received {
            // Such as one with more descriptors than this process may have: the shim is well.
            Ok(Err(error)) => {
                tracing::warn!(container = %id, %error, "message of shim not received");
                waiting.disappoint();
            }
            Ok(Ok(Some(packet))) => dispatch(&id, packet, &waiting, &events),
            Ok(Ok(None)) => break,
            Err(error) => {
                tracing::debug!(container = %id, %error, "connection to shim ends");
                break;
            }
        }
    }
    waiting.close();
}

/// The outer error is the connection's, the inner one that of a message, which is lost.
fn receive(socket: &OwnedFd) -> std::io::Result<std::result::Result<Option<Packet>, wharf_sys::Error>> {
    match seqpacket::recv(socket) {
        Ok(packet) => Ok(Ok(packet)),
        Err(error) if error.errno().is_none() => Ok(Err(error)),
        Err(error) => Err(io_error(error)),
    }
}

fn dispatch(id: &ContainerId, packet: Packet, waiting: &Waiting, events: &mpsc::UnboundedSender<Event>) {
    match decode::<Message>(&packet.bytes) {
        Ok(Message::Reply(reply)) => {
            let answered = reply.result.map(|answer| (answer, packet.fds));
            waiting.answer(reply.seq, answered.map_err(Error::Task));
        }
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
    use std::os::fd::AsFd;
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
    async fn descriptors_come_with_their_reply() {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let (shim, _events) = Shim::new(id(), ours).unwrap();
        let answer = std::thread::spawn(move || {
            let asked: Request = decode(&seqpacket::recv(&theirs).unwrap().unwrap().bytes).unwrap();
            assert_eq!(asked.call, Call::Held);
            let reply = Reply { seq: asked.seq, result: Ok(Answer::Held(vec![wharf_spec::plan::Fd(0)])) };
            let bytes = encode(&Message::Reply(reply)).unwrap();
            seqpacket::send(&theirs, &bytes, &[theirs.as_fd()]).unwrap();
        });
        assert_eq!(shim.held().await.unwrap().len(), 1);
        answer.join().unwrap();
    }

    #[tokio::test]
    async fn a_message_that_is_lost_does_not_end_the_connection() {
        let lost = std::sync::atomic::AtomicBool::new(false);
        let (ours, theirs) = seqpacket::pair().unwrap();
        let (shim, _events) = Shim::new(id(), ours).unwrap();
        std::thread::spawn(move || {
            while let Ok(Some(packet)) = seqpacket::recv(&theirs) {
                let asked: Request = decode(&packet.bytes).unwrap();
                if !lost.swap(true, Ordering::Relaxed) {
                    rustix::net::send(&theirs, b"\x07of no known form", rustix::net::SendFlags::empty())
                        .unwrap();
                    continue;
                }
                let reply = Message::Reply(Reply { seq: asked.seq, result: Ok(Answer::Done) });
                seqpacket::send(&theirs, &encode(&reply).unwrap(), &[]).unwrap();
            }
        });
        assert!(shim.held().await.is_err());
        assert_eq!(shim.call(Call::Pause, &[]).await.unwrap(), Answer::Done);
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
