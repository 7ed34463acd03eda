//! `docker manifest rm` (source: docker/cli `cli/command/manifest/rm.go`).

use super::{
    lists::{Lists, missing},
    reference,
};
use crate::{
    cli::Cli,
    command::{Args, Command, runs},
    error::{Result, join},
    flags::Matches,
};

/// `docker manifest rm`.
pub(crate) const COMMAND: Command = Command {
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    about: "Delete one or more manifest lists from local storage",
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let lists = Lists::of(&cli);
    let remove = |name: &String| -> Result<()> {
        let list = reference(name)?;
        lists.entries(&list)?.ok_or_else(|| missing(&list))?;
        lists.remove(&list)
    };
    join(m.args.iter().filter_map(|name| remove(name).err()).collect())
}
