//! The daemon's own log: to standard error, at a level that a reload can change.

use serde_json::{Map, Value};
use std::{
    fmt,
    io::{self, IsTerminal},
};
use tracing::{Event, Subscriber, field::Visit, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

/// Changes the level of a running log.
pub(crate) struct Level(reload::Handle<LevelFilter, Registry>);

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text; coloured on a terminal.
    Text,
    /// Text, never coloured (`--raw-logs`).
    Raw,
    /// An object a line, with logrus's keys.
    Json,
}

impl Format {
    /// What `--log-format` and `--raw-logs` ask for.
    pub(crate) fn of(log_format: &str, raw: bool) -> Self {
        match (log_format, raw) {
            ("json", _) => Self::Json,
            (_, true) => Self::Raw,
            (_, false) => Self::Text,
        }
    }
}

impl Level {
    /// Sets the level that flags, or `debug`, ask for.
    pub(crate) fn set(&self, level: &str, debug: bool) {
        // The only error is that the subscriber is gone, at the very end.
        let _ = self.0.reload(filter(level, debug));
    }
}

/// Starts logging.
pub(crate) fn start(level: &str, debug: bool, format: Format) -> Level {
    let (filter, handle) = reload::Layer::new(filter(level, debug));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let lines = match format {
        Format::Json => lines.with_ansi(false).event_format(Json).boxed(),
        Format::Raw => lines.with_ansi(false).boxed(),
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
    };
    // It fails where a subscriber is set already, as in tests: then that one has the log.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Level(handle)
}

/// Lines as logrus's JSON formatter writes them: the fields, `level`, `msg` and `time`, keys sorted.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = fields.0;
        let spans = context.event_scope().into_iter().flat_map(|scope| scope.from_root());
        let within: Vec<String> = spans
            .filter_map(|span| {
                let fields = span.extensions().get::<FormattedFields<N>>().map(|f| f.fields.clone());
                fields.map(|fields| format!("{}{{{fields}}}", span.name()))
            })
            .collect();
        if !within.is_empty() {
            line.insert("span".into(), within.join(":").into());
        }
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warning",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        line.insert("level".into(), level.into());
        line.insert("time".into(), jiff::Timestamp::now().to_string().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// An event's fields; the message is called `msg`.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: Value) {
        let name = if name == "message" { "msg" } else { name };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        self.put(field.name(), value.into());
    }
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

    #[test]
    fn formats_are_chosen() {
        assert_eq!(Format::of("json", true), Format::Json);
        assert_eq!(Format::of("text", true), Format::Raw);
        assert_eq!(Format::of("text", false), Format::Text);
    }
}
