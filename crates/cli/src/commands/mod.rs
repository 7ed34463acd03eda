//! The commands, one file each, and what they share.

pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod manifest;
pub(crate) mod network;
pub(crate) mod system;
pub(crate) mod volume;

use crate::{
    cli::Cli,
    error::{Error, Result, join},
    opts::filter,
};
use futures_util::StreamExt;
use std::io::Write;
use wharf_api::filters::Filters;

/// Writes a line to standard output. A reader that is gone is no failure.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Writes a text to standard output.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// How many objects are worked on at once.
const PARALLEL: usize = 50;

/// Does the same with several objects at once and writes the name of each where it went well, in order.
///
/// # Errors
/// All errors together, after everything was tried.
pub(crate) async fn each<F>(names: &[String], act: F) -> Result<()>
where
    F: AsyncFn(&str) -> Result<()>,
{
    let mut errors = Vec::new();
    let act = &act;
    let mut results =
        futures_util::stream::iter(names).map(async |name| (name, act(name).await)).buffered(PARALLEL);
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(()) => say(name),
            // Told already, and no failure.
            Err(Error::Status { code: 0, .. }) => {}
            Err(error) => errors.push(error),
        }
    }
    join(errors)
}

/// Asks a question that is answered with `y` or not at all (docker/cli: `prompt.Confirm`).
pub(crate) fn confirm(question: &str) -> bool {
    print(&format!("{question} [y/N] "));
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok_and(|length| length == 0) {
        say("");
    }
    answer.trim().eq_ignore_ascii_case("y")
}

/// The filters of a prune: those of the command line and those of `config.json`, unless the former
/// contradict them (docker/cli: `command.PruneFilters`).
pub(crate) fn prune_filters(cli: &Cli, given: &[String]) -> Filters {
    let mut filters = filter::filters(given);
    for text in cli.config().prune_filters() {
        let Some((name, value)) = text.split_once('=') else { continue };
        let opposite = match name {
            "label" => "label!",
            "label!" => "label",
            _ => "",
        };
        if !filters.get(opposite).any(|v| v == value) {
            filters.add(name, value);
        }
    }
    filters
}

/// How a prune ends that was not confirmed: without a word, and well.
pub(crate) const fn cancelled() -> Error {
    Error::exit(0)
}
