//! `wharf-runtime`: the OCI runtime as a command line, for callers of runc (podman, containerd, conmon).
//!
//! Role: commands, options, exit codes, log lines and messages of runc 1.3 (source: runc's `*.go` of that
//! name), around [`wharf_runtime`]. One file per command; [`store`] keeps what has to be known between two
//! invocations.
//!
//! Files on disk: `<root>/<id>/state.json` and `<root>/<id>/exec.fifo`, the log and pid files asked for.
//!
//! Differences from runc: no `checkpoint` and `restore`, no systemd cgroup driver (refused, not ignored), and
//! `run` in the foreground without a terminal hands its own standard streams on instead of copying.

mod bundle;
mod console;
mod create;
mod delete;
mod error;
mod events;
mod exec;
mod flags;
mod foreground;
mod help;
mod kill;
mod launch;
mod list;
mod log;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod store;
mod subgroup;
mod update;

use error::{CliError, CliResult};
use lexopt::prelude::*;
use log::Log;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use store::Store;

/// What every command has to do with.
struct Context {
    store: Store,
    log: Log,
}

/// Runs as `wharf-runtime`; `args` are those after the program's name.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut parser = lexopt::Parser::from_args(args);
    let mut log = Log::to_stderr();
    match run(&mut parser, &mut log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.fatal(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Global options as written.
#[derive(Default)]
struct Globals {
    root: Option<PathBuf>,
    log: Option<PathBuf>,
    json: bool,
    debug: bool,
}

fn run(parser: &mut lexopt::Parser, log: &mut Log) -> CliResult<u8> {
    let mut globals = Globals::default();
    let command = loop {
        let Some(arg) = parser.next()? else { return print(&help::usage()) };
        match arg {
            Long("root") => globals.root = Some(PathBuf::from(parser.value()?)),
            Long("log") => globals.log = Some(PathBuf::from(parser.value()?)),
            Long("log-format") => globals.json = is_json(&flags::text(parser)?)?,
            Long("debug") => globals.debug = flags::switch(parser)?,
            Long("systemd-cgroup") => refuse_systemd(flags::switch(parser)?)?,
            Long("rootless" | "criu") => drop(parser.value()?),
            Long("version") | Short('v') => return print(&version()),
            Long("help") | Short('h') => return print(&help::usage()),
            Value(command) => break command,
            other => return Err(other.unexpected().into()),
        }
    };
    *log = Log::open(globals.log.as_deref(), globals.json, globals.debug)?;
    log.debug(&format!("wharf-runtime {}: {}", env!("CARGO_PKG_VERSION"), command.to_string_lossy()));
    let context = Context { store: store(globals.root)?, log: log.clone() };
    if let Some(page) = help::asked_for(&command.to_string_lossy(), parser) {
        return print(&page);
    }
    dispatch(&command.to_string_lossy(), parser, &context)
}

fn dispatch(command: &str, parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    match command {
        "create" => create::main(parser, context),
        "delete" => delete::main(parser, context),
        "events" => events::main(parser, context),
        "exec" => exec::main(parser, context),
        "features" => features(parser),
        "kill" => kill::main(parser, context),
        "list" => list::main(parser, context),
        "pause" => pause::main(parser, context, pause::Verb::Pause),
        "resume" => pause::main(parser, context, pause::Verb::Resume),
        "ps" => ps::main(parser, context),
        "run" => run::main(parser, context),
        "spec" => spec::main(parser),
        "start" => start::main(parser, context),
        "state" => state::main(parser, context),
        "update" => update::main(parser, context),
        "help" | "h" => print(&help::usage()),
        "checkpoint" | "restore" => Err(CliError::text(format!("{command} is not supported"))),
        other => Err(CliError::text(format!("No help topic for '{other}'"))),
    }
}

fn print(text: &str) -> CliResult<u8> {
    // Who closes its end has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(0)
}

fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("wharf-runtime version {version}\nspec: {}\n", wharf_runtime::oci::OCI_VERSION)
}

fn is_json(format: &str) -> CliResult<bool> {
    match format {
        "json" => Ok(true),
        "" | "text" => Ok(false),
        other => Err(CliError::text(format!("invalid log-format: {other}"))),
    }
}

fn refuse_systemd(asked: bool) -> CliResult<()> {
    if asked {
        return Err(CliError::text(
            "--systemd-cgroup is not supported: this runtime writes to the cgroup file system itself; use the \
             caller's cgroupfs manager (podman: --cgroup-manager cgroupfs)",
        ));
    }
    Ok(())
}

/// The containers below the state directory.
fn store(root: Option<PathBuf>) -> CliResult<Store> {
    let Some(given) = root else {
        let run = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
        let root = run.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("wharf-runtime");
        return Ok(Store::default_at(root));
    };
    let absolute = std::path::absolute(&given).map_err(|source| CliError::io("root", source))?;
    if absolute == std::path::Path::new("/") {
        return Err(CliError::text("Option --root argument should not be set to /"));
    }
    Ok(Store::at(absolute))
}

fn features(parser: &mut lexopt::Parser) -> CliResult<u8> {
    flags::no_arguments(parser, "features")?;
    let document = wharf_runtime::oci::features(env!("CARGO_PKG_VERSION"));
    print(&(error::pretty(&document)? + "\n"))
}
