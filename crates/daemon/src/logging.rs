//! The daemon's own log: to standard error, at a level that a reload can change.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Changes the level of a running log.
pub(crate) struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    /// Sets the level that flags, or `debug`, ask for.
    pub(crate) fn set(&self, level: &str, debug: bool) {
        // The only error is that the subscriber is gone, at the very end.
        let _ = self.0.reload(filter(level, debug));
    }
}

/// Starts logging.
pub(crate) fn start(level: &str, debug: bool) -> Level {
    let (filter, handle) = reload::Layer::new(filter(level, debug));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    // It fails where a subscriber is set already, as in tests: then that one has the log.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Level(handle)
}

fn filter(level: &str, debug: bool) -> LevelFilter {
    match level.to_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        _ if debug => LevelFilter::DEBUG,
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_wins() {
        assert_eq!(filter("warn", true), LevelFilter::DEBUG);
        assert_eq!(filter("trace", true), LevelFilter::TRACE);
        assert_eq!(filter("Fatal", false), LevelFilter::ERROR);
        assert_eq!(filter("info", false), LevelFilter::INFO);
    }
}
