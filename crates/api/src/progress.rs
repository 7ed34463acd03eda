//! Progress messages of pulls, pushes, loads and builds: JSON objects one after the other
//! (source: moby `api/types/jsonstream`).

use crate::is_zero;
use serde::{Deserialize, Serialize};

/// One message. A reader meets any combination of fields.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Text to print as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What goes on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it is.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The same as text, for clients that do not draw.
    #[serde(rename = "progress", skip_serializing_if = "String::is_empty")]
    pub progress_text: String,
    /// What it is about, such as a layer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Why it failed.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
    /// The same as text.
    #[serde(rename = "error", skip_serializing_if = "String::is_empty")]
    pub error_text: String,
    /// Data besides, such as digests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far something is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Done.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    /// To do in all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    /// When it began, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    /// Whether only the bar is to be drawn.
    #[serde(skip_serializing_if = "is_zero")]
    pub hidecounts: bool,
    /// Of what; empty is bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// Exit status of a build step.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    /// The message.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Message {
    /// Text to print as it is.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }

    /// A state of something named, or of the whole when `id` is empty.
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self { id: id.into(), status: status.into(), ..Self::default() }
    }

    /// A state with a number of bytes done and to do.
    pub fn progress(id: impl Into<String>, status: impl Into<String>, progress: Progress) -> Self {
        Self { progress: Some(progress), ..Self::status(id, status) }
    }

    /// A failure; it is the last message.
    pub fn error(message: impl Into<String>) -> Self {
        let message = message.into();
        let detail = ErrorDetail { code: 0, message: message.clone() };
        Self { error: Some(detail), error_text: message, ..Self::default() }
    }

    /// Data besides.
    pub fn aux(value: serde_json::Value) -> Self {
        Self { aux: Some(value), ..Self::default() }
    }

    /// The message as it is sent, with the line end of Docker's streams.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend_from_slice(b"\r\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let text = |m: Message| String::from_utf8(m.to_line()).unwrap();
        assert_eq!(
            text(Message::status("a1", "Pull complete")),
            "{\"status\":\"Pull complete\",\"id\":\"a1\"}\r\n"
        );
        assert_eq!(text(Message::error("no")), "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n");
        let p = Progress { current: 1, total: 2, ..Default::default() };
        assert_eq!(
            text(Message::progress("x", "Downloading", p)),
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"x\"}\r\n"
        );
    }
}
