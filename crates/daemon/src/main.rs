//! wharfd, which also answers as dockerd: the Docker Engine API over the engine.
//!
//! Role: flags and `daemon.json` ([`config`]), sockets ([`listen`]), HTTP ([`http`]), the route table
//! ([`routes`]) and its handlers ([`handlers`]), signals. What containers are is the engine's business; what
//! HTTP is stays here.
//!
//! Files: the pid file, `<data-root>/wharf.lock` (held while the daemon runs), the unix sockets.
//!
//! Invariants: status codes are chosen in [`error`] and nowhere else; every request that changes something
//! runs to its end even when its client goes away; an error is logged once, in [`http::dispatch`].
#![forbid(unsafe_code)]

mod app;
mod check;
mod config;
#[cfg(test)]
mod documented;
mod error;
mod handlers;
mod http;
mod listen;
mod logging;
mod machine;
mod metrics;
mod notify;
mod pidfile;
mod routes;
mod run;
mod stop_containers;

use config::{Flags, Settings};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status of a wrong command line, as cobra's commands of Docker have it.
const USAGE_STATUS: u8 = 125;

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args_os().skip(1)) {
        Ok(flags) => flags,
        Err(error) => {
            eprintln!("{error}\n\nUsage:  dockerd [OPTIONS]\n\nRun 'dockerd --help' for more information");
            return ExitCode::from(USAGE_STATUS);
        }
    };
    if flags.help {
        print!("{}", config::help());
        return ExitCode::SUCCESS;
    }
    if flags.version {
        println!("Docker version {}, build wharf-{}", run::docker_version(), env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match config::load(&flags) {
        Ok(_) if flags.validate => {
            eprintln!("configuration OK");
            ExitCode::SUCCESS
        }
        Ok(settings) if flags.check => check::run(&flags, &settings),
        Ok(settings) if flags.stop_containers => stop_containers::run(&settings),
        Ok(settings) => start(flags, settings),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn log_format(settings: &Settings) -> logging::Format {
    logging::Format::of(&settings.log_format, settings.raw_logs)
}

fn start(flags: Flags, settings: Settings) -> ExitCode {
    let level = logging::start(&settings.log_level, settings.debug, log_format(&settings));
    match run::runtime().and_then(|runtime| runtime.block_on(run::daemon(flags, settings, level))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
