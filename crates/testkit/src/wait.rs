//! Waiting for something that another process does.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Polls until `check` gives a value. The bound is generous: it catches hangs, it measures nothing.
///
/// # Errors
/// When `check` fails, or gave nothing for 30 seconds; `what` says what was waited for.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = check()? {
            return Ok(value);
        }
        if start.elapsed() > Duration::from_secs(30) {
            bail!("waited 30 s for: {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
