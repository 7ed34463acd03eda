//! What every request shares.

use crate::{config::Settings, http::router::Router, metrics::Metrics, routes::ROUTES};
use http::HeaderValue;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wharf_api::Version;
use wharf_engine::Engine;

/// The daemon, as handlers see it.
pub(crate) struct App {
    /// The engine.
    pub(crate) engine: Engine,
    /// The compiled route table.
    pub(crate) router: Router,
    /// The oldest API version served.
    pub(crate) min_version: Version,
    /// `--experimental`.
    pub(crate) experimental: bool,
    /// The `Server` header.
    pub(crate) server_header: HeaderValue,
    /// The `Api-Version` header.
    pub(crate) version_header: HeaderValue,
    /// How long requests took.
    pub(crate) metrics: Metrics,
    /// Cancelled when the daemon ends.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when the engine has stopped too: who waits for a container waits in vain from then on.
    pub(crate) stopped: CancellationToken,
    /// Connections being served.
    pub(crate) connections: TaskTracker,
    /// Connections taken over.
    pub(crate) sessions: TaskTracker,
}

impl App {
    /// Puts the shared parts together.
    pub(crate) fn new(engine: Engine, settings: &Settings, server_version: &str) -> Self {
        let header =
            |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Docker"));
        Self {
            engine,
            router: Router::new(ROUTES),
            min_version: settings.min_version(),
            experimental: settings.experimental,
            server_header: header(format!("Docker/{server_version} (linux)")),
            version_header: header(Version::MAX.to_string()),
            metrics: Metrics::default(),
            stopping: CancellationToken::new(),
            stopped: CancellationToken::new(),
            connections: TaskTracker::new(),
            sessions: TaskTracker::new(),
        }
    }
}
