//! `--metrics-addr`: what the daemon does, for Prometheus, under dockerd's names (source: moby
//! `daemon/internal/metrics`, `daemon/command/metrics.go`; docker/go-metrics for how names are made).
//!
//! Actions are timed where requests are answered: starts by a restart policy are not among them, nor what goes on while
//! an answer is sent, such as a pull. Numbers of Go's runtime, of the builder and of log drivers, which are in other
//! processes here, do not exist.

mod text;

use crate::{app::App, run::docker_version};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use text::Text;
use tokio::net::TcpListener;

/// Upper ends of a histogram's buckets in seconds: those of Prometheus's Go library.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What kinds of actions are timed: name, help, label.
const FAMILIES: [(&str, &str, &str); 4] = [
    ("container_actions", "The number of seconds it takes to process each container action", "action"),
    (
        "host_info_functions",
        "The number of seconds it takes to call functions gathering info about the host",
        "function",
    ),
    ("image_actions", "The number of seconds it takes to process each image action", "action"),
    ("network_actions", "The number of seconds it takes to process each network action", "action"),
];

/// Requests that are actions of dockerd: method, pattern, family, label.
const ACTIONS: [(Method, &str, &str, &str); 10] = [
    (Method::POST, "/containers/create", "container_actions", "create"),
    (Method::POST, "/containers/{name:.*}/start", "container_actions", "start"),
    (Method::DELETE, "/containers/{name:.*}", "container_actions", "delete"),
    (Method::GET, "/containers/{name:.*}/changes", "container_actions", "changes"),
    (Method::POST, "/commit", "container_actions", "commit"),
    (Method::GET, "/info", "host_info_functions", "system_info"),
    (Method::GET, "/version", "host_info_functions", "system_version"),
    (Method::DELETE, "/images/{name:.*}", "image_actions", "delete"),
    (Method::GET, "/images/{name:.*}/history", "image_actions", "history"),
    (Method::POST, "/networks/{id:.*}/connect", "network_actions", "connect"),
];

/// How long actions took, as a histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Timer {
    /// Not cumulative; the last is of those beyond all ends.
    counts: [u64; BUCKETS.len() + 1],
    sum: f64,
}

impl Timer {
    fn note(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// All timers, by family and label.
#[derive(Debug)]
pub(crate) struct Metrics(Mutex<BTreeMap<(&'static str, &'static str), Timer>>);

impl Default for Metrics {
    /// dockerd shows these five from the start.
    fn default() -> Self {
        let mut timers = BTreeMap::new();
        for action in ["start", "changes", "commit", "create", "delete"] {
            let timer: &mut Timer = timers.entry(("container_actions", action)).or_default();
            timer.note(Duration::ZERO);
        }
        Self(Mutex::new(timers))
    }
}

impl Metrics {
    /// Notes that a request was answered without failure.
    pub(crate) fn answered(&self, method: &Method, pattern: &str, took: Duration) {
        let Some((.., family, label)) = ACTIONS.iter().find(|(m, p, ..)| m == method && *p == pattern) else {
            return;
        };
        let mut timers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        timers.entry((family, label)).or_default().note(took);
    }

    fn timers(&self) -> BTreeMap<(&'static str, &'static str), Timer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Listens at an address.
///
/// # Errors
/// When it cannot be had.
pub(crate) async fn listen(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!("metrics API listening on {}", listener.local_addr()?);
    Ok(listener)
}

/// Answers until the daemon stops.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener) {
    let stopping = app.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (app, stopping) = (Arc::clone(&app), stopping.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&app), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                // Whoever asked has gone.
                _ = connection => {}
                () = stopping.cancelled() => {}
            }
        });
    }
}

async fn answer<B>(app: Arc<App>, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match request.uri().path() {
        "/metrics" => match page(&app).await {
            Ok(page) => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page),
            Err(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", format!("{error}\n"))
            }
        },
        _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(response)
}

async fn page(app: &App) -> Result<String, wharf_engine::Error> {
    let info = app.engine.system.info().await?;
    let mut text = Text::default();
    let stopped = info.containers - info.containers_running - info.containers_paused;
    text.gauge("container_states_containers", "The count of containers in various states");
    for (state, n) in
        [("paused", info.containers_paused), ("running", info.containers_running), ("stopped", stopped)]
    {
        text.sample("container_states_containers", &[("state", state)], n as f64);
    }
    text.gauge("engine_cpus_cpus", "The number of cpus that the host system of the engine has");
    text.sample("engine_cpus_cpus", &[], info.ncpu as f64);
    text.gauge("engine_info", "The information related to the engine and the OS it is running on");
    let labels = [
        ("architecture", info.architecture.as_str()),
        ("commit", env!("CARGO_PKG_VERSION")),
        ("daemon_id", &info.id),
        ("graphdriver", &info.driver),
        ("kernel", &info.kernel_version),
        ("os", &info.operating_system),
        ("os_type", &info.os_type),
        ("os_version", &info.os_version),
        ("version", &docker_version()),
    ];
    text.sample("engine_info", &labels, 1.0);
    text.gauge("engine_memory_bytes", "The number of bytes of memory that the host system of the engine has");
    text.sample("engine_memory_bytes", &[], info.mem_total as f64);
    text.gauge("events_subscribers_total", "The number of current subscribers to events");
    text.sample("events_subscribers_total", &[], info.n_events_listener as f64);
    text.counter("events_total", "The number of events logged");
    text.sample("events_total", &[], app.engine.events.emitted() as f64);
    let (checks, failed) = app.engine.containers.health_checks();
    text.counter("health_checks_failed_total", "The total number of failed health checks");
    text.sample("health_checks_failed_total", &[], failed as f64);
    text.counter("health_checks_total", "The total number of health checks");
    text.sample("health_checks_total", &[], checks as f64);
    let timers = app.metrics.timers();
    for (family, help, label) in FAMILIES {
        let of_family = timers.iter().filter(|((name, _), _)| *name == family);
        text.histogram(family, help, label, of_family.map(|((_, value), timer)| (*value, timer)));
    }
    text.process();
    Ok(text.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ROUTES;

    #[test]
    fn actions_are_routes() {
        for (method, pattern, family, label) in &ACTIONS {
            let route = ROUTES.iter().any(|route| route.method == *method && route.pattern == *pattern);
            assert!(route, "{method} {pattern}: {family} {label}");
            assert!(FAMILIES.iter().any(|(name, ..)| name == family), "{family}");
        }
    }

    #[test]
    fn requests_are_timed() {
        let metrics = Metrics::default();
        metrics.answered(&Method::POST, "/containers/create", Duration::from_millis(30));
        metrics.answered(&Method::GET, "/_ping", Duration::from_millis(30));
        let timers = metrics.timers();
        let create = &timers[&("container_actions", "create")];
        assert_eq!((create.counts[0], create.counts[3], timers.len()), (1, 1, 5));
        let mut text = Text::default();
        text.histogram("container_actions", "help", "action", [("create", create)].into_iter());
        let page = text.finish();
        for line in [
            "# TYPE engine_daemon_container_actions_seconds histogram",
            "engine_daemon_container_actions_seconds_bucket{action=\"create\",le=\"0.025\"} 1",
            "engine_daemon_container_actions_seconds_bucket{action=\"create\",le=\"0.05\"} 2",
            "engine_daemon_container_actions_seconds_bucket{action=\"create\",le=\"+Inf\"} 2",
            "engine_daemon_container_actions_seconds_count{action=\"create\"} 2",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
    }
}
