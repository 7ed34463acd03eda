//! Platforms as parameters of requests: `linux/arm64` becomes JSON.

use crate::error::{Error, Result};
use wharf_spec::Platform;

/// The JSON of a platform; empty for none.
///
/// # Errors
/// When it is no platform.
pub(crate) fn parameter(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let platform: Platform = text.parse().map_err(|e| Error::text(format!("{e}")))?;
    serde_json::to_string(&platform).map_err(|e| Error::text(e.to_string()))
}

/// As [`parameter`], with the words that some commands put before the error.
///
/// # Errors
/// `invalid platform: ...`
pub(crate) fn valid_parameter(text: &str) -> Result<String> {
    parameter(text).map_err(|error| Error::text(format!("invalid platform: {error}")))
}
