//! How far a copy has come, on standard error (docker/cli: `copyProgress`).

use crate::{opts::size::human_with_precision, terminal};
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

const PERIOD: Duration = Duration::from_millis(75);
/// Terminal control: save and restore the place of the cursor, hide and show it, clear its line.
const SAVE: &str = "\x1b[s";
const RESTORE: &str = "\x1b[u";
const HIDE: &str = "\x1b[?25l";
const SHOW: &str = "\x1b[?25h";
const CLEAR_LINE: &str = "\x1b[2K";

/// Bytes copied.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    /// How many so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn text(&self) -> String {
        human_with_precision(self.bytes() as f64, 3)
    }
}

/// What is shown; nothing when quiet, and only the end where standard error is no terminal.
pub(super) struct Progress {
    quiet: bool,
    counter: Counter,
    shown: Option<JoinHandle<()>>,
}

impl Progress {
    pub(super) fn begin(quiet: bool, head: &'static str, counter: &Counter) -> Self {
        let counter = counter.clone();
        let is_shown = !quiet && terminal::stderr_is_terminal();
        let shown = is_shown.then(|| {
            show(&format!("{SAVE}Preparing to copy...{HIDE}{RESTORE}{CLEAR_LINE}{head}{}", counter.text()));
            tokio::spawn(update(head, counter.clone()))
        });
        Self { quiet, counter, shown }
    }

    /// Says what was copied where, well or not, as Docker does.
    pub(super) fn end(self, target: &str) {
        if let Some(shown) = self.shown {
            shown.abort();
            show(&format!("{SHOW}{RESTORE}{CLEAR_LINE}"));
        }
        if !self.quiet {
            show(&format!("Successfully copied {} to {target}\n", self.counter.text()));
        }
    }
}

async fn update(head: &'static str, counter: Counter) {
    let mut last = counter.text();
    loop {
        tokio::time::sleep(PERIOD).await;
        let now = counter.text();
        if now != last {
            show(&format!("\x1b[{}G\x1b[K{now}", head.len() + 1));
            last = now;
        }
    }
}

/// A terminal that is gone needs no words.
fn show(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
