//! `wharf`, the command line, which also answers as `docker`.
//!
//! Role: reads a command line as Docker's does, talks to any Docker daemon over the Engine API, and writes
//! what Docker would write. It knows nothing of the daemon but its API.
//!
//! Entry point: `main`, which finds the command in the tree of [`tree`] and runs it; every command stands in
//! `commands/<noun>/<verb>.rs`.
//!
//! Files: reads `~/.docker/config.json` and `~/.docker/contexts/`; `login` writes the former.
//!
//! Invariants: nothing is done at start that the command does not need: no runtime for `--version` and
//! `--help`, no TLS for a unix socket. The exit status is Docker's: 125 for our errors in `run`, 126 and 127
//! for commands that cannot be started, else the container's.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod command;
mod commands;
mod config;
mod error;
mod flags;
mod format;
mod help;
mod opts;
mod progress;
mod streams;
mod terminal;
mod tree;

use command::{Action, Command};
use error::{Error, Result};
use std::io::Write;

fn main() {
    let mut words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = if words.is_empty() { String::new() } else { words.remove(0) };
    let program = if program.rsplit('/').next() == Some("docker") { "docker" } else { "wharf" };
    let code = match run(program, &words) {
        Ok(()) => 0,
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            error.code()
        }
    };
    let _ = std::io::stdout().flush();
    std::process::exit(code);
}

fn run(program: &'static str, words: &[String]) -> Result<()> {
    let global = cli::Global::parse(program, words)?;
    if global.version {
        commands::say(&format!("Docker version {}, build {}", cli::VERSION, cli::BUILD));
        return Ok(());
    }
    let rest = help_words(&global.rest);
    let found = command::find(&tree::ROOT, program, &rest)?;
    if std::ptr::eq(found.command, &tree::ROOT) {
        commands::print(&tree::help(program, terminal::help_width()));
        return Ok(());
    }
    let usage = help::usage_line(found.command, &found.path);
    let matches = found.matches(program).map_err(|error| with_usage(error, &usage, &found.path))?;
    match found.command.action {
        Action::Run(action) if !matches.help => {
            let cli = cli::Cli::new(program, global)?;
            runtime()?.block_on(action(cli, matches))
        }
        _ => {
            print_help(found.command, program, &found.path, matches.help);
            Ok(())
        }
    }
}

/// `docker help run` is `docker run --help`.
fn help_words(words: &[String]) -> Vec<String> {
    match words.split_first() {
        Some((first, rest)) if first == "help" => {
            let mut words = rest.to_vec();
            words.push("--help".to_owned());
            words
        }
        _ => words.to_vec(),
    }
}

/// A group that was called without a word shows its help on standard error.
fn print_help(command: &Command, program: &str, path: &str, asked_for: bool) {
    let text = help::text(command, program, path, terminal::help_width());
    if asked_for {
        commands::print(&text);
    } else {
        eprint!("{text}");
    }
}

/// A wrong flag, with the usage of its command.
fn with_usage(error: Error, usage: &str, path: &str) -> Error {
    match error {
        Error::Flag(text) => Error::Status {
            code: 125,
            text: format!("{text}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information"),
        },
        other => other,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting the runtime"))
}
