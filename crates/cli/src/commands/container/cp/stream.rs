//! Between the daemon's connection and work on files that blocks.

use super::{progress::Counter, rules::Place};
use crate::{
    error::{Error, Result},
    opts::keyvalue::go_error,
};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustix::fs::{CWD, Mode, OFlags};
use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
};
use tokio::sync::mpsc;
use wharf_archive::{PackOptions, Packer};

/// Pieces of this size are sent, and a few of them wait.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// An answer's body, for a thread that may block.
pub(crate) struct Fed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    counter: Counter,
}

/// The body to read, and what feeds it: it ends when the body does or nobody reads any more.
pub(crate) fn feed(response: Response<Incoming>, counter: Counter) -> (Fed, impl Future<Output = ()>) {
    let (sender, pieces) = mpsc::channel(WAITING);
    let feeding = async move {
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let data = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) => {
                    // The reader may have failed before.
                    let _ = sender.send(Err(io::Error::other(error))).await;
                    return;
                }
            };
            if sender.send(Ok(data)).await.is_err() {
                return;
            }
        }
    };
    (Fed { pieces, piece: Bytes::new(), counter }, feeding)
}

impl Read for Fed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
            self.counter.add(self.piece.len());
        }
        let take = self.piece.len().min(into.len());
        into[..take].copy_from_slice(&self.piece.split_to(take));
        Ok(take)
    }
}

/// An archive of a file or directory of this machine, whose first entry has this name.
pub(super) fn pack(
    source: &Place,
    name: String,
    counter: Counter,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
    let (parent, entry) = super::rules::split(&source.path);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, parent.as_str(), flags, Mode::empty())
        .map_err(|error| Error::text(format!("open {parent}: {}", go_error(&error.into()))))?;
    let entry = if entry == "/" { ".".to_owned() } else { entry };
    let tree =
        move |packer: &mut Packer<Pieces>| packer.tree(directory.as_fd(), entry.as_bytes(), name.as_bytes());
    Ok(archive(PackOptions::default(), counter, tree))
}

/// An archive that a thread writes while it is read.
pub(crate) fn archive(
    options: PackOptions,
    counter: Counter,
    add: impl FnOnce(&mut Packer<Pieces>) -> std::result::Result<(), wharf_archive::Error> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    archive_after(Vec::new(), options, counter, add)
}

/// As [`archive`], with something in front of it.
pub(crate) fn archive_after(
    head: Vec<u8>,
    options: PackOptions,
    counter: Counter,
    add: impl FnOnce(&mut Packer<Pieces>) -> std::result::Result<(), wharf_archive::Error> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, pieces) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let out = Pieces { sender: sender.clone(), buffer: BytesMut::from(head.as_slice()), counter };
        let mut packer = Packer::new(out, options);
        let packed = add(&mut packer);
        if let Err(error) = packed.and_then(|()| packer.finish().map(drop)) {
            // Whoever does not read any more has an error of his own.
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
    });
    let next = |mut pieces: mpsc::Receiver<_>| async move { Some((pieces.recv().await?, pieces)) };
    futures_util::stream::unfold(pieces, next)
}

/// Gathers what is written.
pub(crate) struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
    counter: Counter,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer.reserve(PIECE);
        }
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        let take = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..take]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = self.buffer.split().freeze();
        if piece.is_empty() {
            return Ok(());
        }
        self.counter.add(piece.len());
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
