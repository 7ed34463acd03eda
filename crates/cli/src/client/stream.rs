//! Answers that are one JSON value after the other: progress, events, statistics.

use crate::error::{Error, Result};
use bytes::BytesMut;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// The lines of an answer.
pub(crate) struct JsonLines {
    body: Incoming,
    buffer: BytesMut,
    scanned: usize,
}

/// A line longer than this is none.
const LINE_MAX: usize = 64 << 20;

impl JsonLines {
    pub(crate) fn of(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: BytesMut::new(), scanned: 0 }
    }

    /// The next line that is not empty, without its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn next(&mut self) -> Result<Option<BytesMut>> {
        loop {
            if let Some(end) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.scanned + end + 1);
                self.scanned = 0;
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            self.scanned = self.buffer.len();
            if self.scanned > LINE_MAX {
                return Err(Error::text("the daemon sent a line without end"));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(super::broken)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => {
                    self.scanned = 0;
                    return Ok(Some(self.buffer.split()));
                }
            }
        }
    }
}
