//! `wharfd --stop-containers`: what runs on without a daemon is stopped, before the machine goes down.

use crate::{
    config::Settings,
    log_format, logging, pidfile,
    run::{Error, runtime},
};
use std::{fs, path::Path, process::ExitCode};
use wharf_engine::{End, Engine, config::Config};

/// Stops the containers that an earlier daemon left running, each with its own signal and timeout; their restart
/// policies start them again with the next daemon. The status is 0 when nothing runs any more.
pub(crate) fn run(settings: &Settings) -> ExitCode {
    logging::start(&settings.log_level, settings.debug, log_format(settings));
    match runtime().and_then(|runtime| runtime.block_on(stop(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn stop(settings: &Settings) -> Result<(), Error> {
    let config = Config { auto_restart: false, ..settings.to_engine() };
    // Without this there is no need to touch networks and mounts of a machine that goes down.
    if is_empty(&config.run_dir()) {
        return Ok(());
    }
    let _lock = pidfile::RootLock::take(&settings.data_root)?;
    let engine = Engine::open(config).await?;
    engine.shutdown(End::Machine).await;
    Ok(())
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()) || !dir.exists()
}
