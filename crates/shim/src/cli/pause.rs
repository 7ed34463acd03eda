//! `pause` and `resume`: stop all processes of a container, and let them run again.

use super::error::{CliError, CliResult};
use super::store::Status;
use super::{Context, flags};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Pause,
    Resume,
}

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context, verb: Verb) -> CliResult<u8> {
    let command = if verb == Verb::Pause { "pause" } else { "resume" };
    let container = context.store.load(&flags::only_id(parser, command)?)?;
    let _lock = container.lock()?;
    let status = container.status()?;
    let group = container.cgroup()?;
    match (verb, status) {
        (Verb::Pause, Status::Running | Status::Created) => group.freeze()?,
        (Verb::Pause, _) => {
            return Err(CliError::text(format!("container not running or created: {}", status.word())));
        }
        (Verb::Resume, Status::Paused) => group.thaw()?,
        (Verb::Resume, _) => return Err(CliError::text("container not paused")),
    }
    Ok(0)
}
