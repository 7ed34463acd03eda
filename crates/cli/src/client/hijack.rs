//! Connections that are ours after the answer: attach and exec.

use crate::error::{Error, Result};
use http::{Response, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

/// Both directions of a hijacked connection.
pub(crate) struct Hijacked {
    pub(crate) output: Output,
    pub(crate) input: Option<Input>,
    /// Whether output is in frames of standard output and error (a daemon's media type says so).
    pub(crate) multiplexed: Option<bool>,
}

/// What the container writes.
pub(crate) enum Output {
    Raw(ReadHalf<TokioIo<Upgraded>>),
    Body(Incoming),
}

/// What the container reads.
pub(crate) struct Input(WriteHalf<TokioIo<Upgraded>>);

impl Hijacked {
    pub(super) async fn of(response: Response<Incoming>) -> Result<Self> {
        let multiplexed = multiplexed(&response);
        let upgraded = hyper::upgrade::on(response).await.map_err(|e| Error::Connect(e.to_string()))?;
        let (read, write) = tokio::io::split(TokioIo::new(upgraded));
        Ok(Self { output: Output::Raw(read), input: Some(Input(write)), multiplexed })
    }

    /// An answer without upgrade: we can only listen.
    pub(super) fn output_only(response: Response<Incoming>) -> Self {
        let multiplexed = multiplexed(&response);
        Self { output: Output::Body(response.into_body()), input: None, multiplexed }
    }
}

fn multiplexed(response: &Response<Incoming>) -> Option<bool> {
    match response.headers().get(header::CONTENT_TYPE)?.to_str().ok()? {
        "application/vnd.docker.multiplexed-stream" => Some(true),
        "application/vnd.docker.raw-stream" => Some(false),
        _ => None,
    }
}

impl Output {
    /// The next bytes; empty at the end.
    pub(crate) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        match self {
            Self::Raw(stream) => {
                buffer.reserve(READ_SIZE);
                stream.read_buf(buffer).await.map(drop)
            }
            Self::Body(body) => {
                while let Some(frame) = body.frame().await {
                    if let Ok(data) = frame.map_err(io::Error::other)?.into_data()
                        && !data.is_empty()
                    {
                        buffer.extend_from_slice(&data);
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

const READ_SIZE: usize = 64 * 1024;

impl Input {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Tells the container that there is no more.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
