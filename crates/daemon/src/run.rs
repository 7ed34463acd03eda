//! The life of the daemon: start in the right order, signals, stop in the right order.

use crate::{
    app::App,
    config::{self, Flags, Settings},
    http::server,
    listen, logging, metrics, notify, pidfile,
};
use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_engine::{Config as EngineConfig, Engine, Remap, remap::MissingUser};

/// How long requests may go on after the engine has stopped (moby: five seconds).
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// How many signals end the daemon at once.
const IMPATIENCE: u32 = 3;

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The asynchronous runtime did not start.
    #[error("start the runtime: {0}")]
    Runtime(#[source] io::Error),
    /// Signals cannot be waited for.
    #[error("wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// A root directory cannot be made.
    #[error("make directory {}: {source}", path.display())]
    Directory {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon is here.
    #[error(transparent)]
    PidFile(#[from] pidfile::Error),
    /// A host cannot be listened on.
    #[error("failed to load listeners: {0}")]
    Listen(#[from] listen::Error),
    /// The address for metrics cannot be had.
    #[error("failed to start metrics server: {0}")]
    Metrics(#[source] io::Error),
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] wharf_engine::Error),
}

/// The version told to clients, a Docker version since they compare it.
pub(crate) fn docker_version() -> String {
    wharf_engine::Config::default().server_version
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub(crate) async fn daemon(flags: Flags, mut settings: Settings, level: logging::Level) -> Result<(), Error> {
    let signals = Signals::new().map_err(Error::Signals)?;
    settings.data_root = directory(&settings.data_root, 0o710)?;
    let remap = Remap::resolve(&settings.userns_remap, MissingUser::Make)?;
    if remap.is_none() {
        keep_others_out(&settings.data_root)?;
    }
    if let Some(remap) = &remap {
        settings.data_root = remap.prepare_data_root(&settings.data_root)?;
    }
    settings.exec_root = directory(&settings.exec_root, 0o711)?;
    // Fields are dropped in the order they are named here, the last first: the lock goes last.
    let _lock = pidfile::RootLock::take(&settings.data_root)?;
    let pid_file =
        (!settings.pidfile.as_os_str().is_empty()).then(|| pidfile::PidFile::write(&settings.pidfile));
    let _pid_file = pid_file.transpose()?;
    let listeners = listen::all(&settings.hosts, &settings.group, settings.tls().as_ref()).await?;
    let metrics = match settings.metrics_addr.as_str() {
        "" => None,
        address => Some(metrics::listen(address).await.map_err(Error::Metrics)?),
    };
    let engine = Engine::open(EngineConfig { remap, ..settings.to_engine() }).await?;
    let app = Arc::new(App::new(engine, &settings, &docker_version()));
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(server::accept(Arc::clone(&app), listener)))
        .collect();
    if let Some(listener) = metrics {
        tokio::spawn(metrics::serve(Arc::clone(&app), listener));
    }
    tracing::info!("Daemon has completed initialization");
    notify::systemd("READY=1");
    signals.until_stop(|| reload(&flags, &app, &level)).await;
    notify::systemd("STOPPING=1");
    stop(&app).await;
    for task in accepting {
        // It ended with the token, and removed its socket.
        let _ = task.await;
    }
    tracing::info!("Daemon shutdown complete");
    Ok(())
}

/// Makes a root directory and returns its absolute path.
fn directory(path: &Path, mode: u32) -> Result<PathBuf, Error> {
    let fail = |source| Error::Directory { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(fail)?;
    path.canonicalize().map_err(fail)
}

/// Takes from a data-root that was there already what nobody else may have in it: images' set-id programs and
/// volumes lie below (CVE-2021-41091; source: moby `daemon/daemon_unix.go`, `setupDaemonRoot`).
fn keep_others_out(data_root: &Path) -> Result<(), Error> {
    let fail = |source| Error::Directory { path: data_root.to_owned(), source };
    std::fs::set_permissions(data_root, std::fs::Permissions::from_mode(0o710)).map_err(fail)
}

/// New clients are refused first, then containers stop, then the last requests may end.
async fn stop(app: &App) {
    app.stopping.cancel();
    app.engine.shutdown().await;
    app.stopped.cancel();
    app.connections.close();
    app.sessions.close();
    let all = async { tokio::join!(app.connections.wait(), app.sessions.wait()) };
    if tokio::time::timeout(LAST_REQUESTS, all).await.is_err() {
        let (requests, sessions) = (app.connections.len(), app.sessions.len());
        tracing::warn!(requests, sessions, "connections are broken off");
    }
}

/// Reads the file again and takes over what can change while the daemon runs
/// (source: moby `daemon/reload.go`).
fn reload(flags: &Flags, app: &App, level: &logging::Level) {
    tracing::info!("Got signal to reload configuration");
    match config::load(flags) {
        Ok(settings) => {
            level.set(&settings.log_level, settings.debug);
            app.reload(&settings);
            let running = app.engine.system.config();
            if settings.insecure_registries != running.insecure_registries
                || settings.registry_mirrors != running.registry_mirrors
            {
                tracing::warn!("insecure-registries and registry-mirrors take effect at the next start");
            }
            tracing::info!("Reloaded configuration");
        }
        Err(error) => tracing::error!(%error, "Error reloading configuration"),
    }
}

/// The signals that the daemon answers to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the signal to stop; reloads at each SIGHUP before. Afterwards further signals are counted,
    /// and the third ends the daemon at once.
    async fn until_stop(mut self, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => reload(),
            }
        }
        tracing::info!("Processing signal to stop");
        tokio::spawn(self.count_impatience());
    }

    async fn count_impatience(mut self) {
        for _ in 1..IMPATIENCE {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
        tracing::info!("Forcing docker daemon shutdown without cleanup; 3 interrupts received");
        std::process::exit(128 + 15);
    }
}
