//! `wharfd --check`: whether the data-root is whole. One line per finding on standard output.

use crate::{
    config::{Flags, Settings},
    logging, pidfile,
};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};
use wharf_engine::{
    Remap,
    check::{self, Depth, Report},
    remap::MissingUser,
};

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// A daemon uses the data-root, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] pidfile::Error),
    /// The data-root cannot be read, or repaired.
    #[error(transparent)]
    Engine(#[from] wharf_engine::Error),
    /// Nobody reads what was found.
    #[error("write: {0}")]
    Write(#[from] io::Error),
}

/// Checks, after a repair if asked for. The status is 0 when everything is as it should be, else 1.
pub(crate) fn run(flags: &Flags, settings: &Settings) -> ExitCode {
    logging::start(&settings.log_level, settings.debug, crate::log_format(settings));
    match data_root(settings).and_then(|data_root| checked(flags, &data_root)) {
        Ok(report) if report.findings.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// That of the remapped ids, if there are any.
fn data_root(settings: &Settings) -> Result<PathBuf, Error> {
    let remap = Remap::resolve(&settings.userns_remap, MissingUser::Refuse)?;
    Ok(remap.map_or_else(|| settings.data_root.clone(), |remap| remap.data_root(&settings.data_root)))
}

fn checked(flags: &Flags, data_root: &Path) -> Result<Report, Error> {
    let depth = if flags.deep { Depth::Deep } else { Depth::Quick };
    let _lock = pidfile::RootLock::take(data_root)?;
    if flags.repair {
        check::repair(data_root)?;
    }
    let report = check::look(data_root, depth)?;
    let mut out = io::stdout().lock();
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    out.flush()?;
    let Report { images, layers, containers, findings } = &report;
    eprintln!("{images} images, {layers} layers, {containers} containers: {} findings", findings.len());
    Ok(report)
}
