//! The tree of commands, and the first page of the help.

use crate::{
    cli,
    command::{Action, Command, Entry, entry, entry_or},
    commands::{
        build as b, container as c, image as i, manifest as m, network as n, system as s, volume as v,
    },
    help,
};

/// The root: `docker`.
pub(crate) const ROOT: Command = Command {
    usage: "[OPTIONS] COMMAND",
    about: "A self-sufficient runtime for containers",
    action: Action::Group(TOP),
    ..Command::LEAF
};

const COMMON: &[Entry] = &[
    entry("run", &c::run::COMMAND),
    entry("exec", &c::exec::COMMAND),
    entry("ps", &c::ls::COMMAND),
    entry("build", &b::COMMAND),
    entry("pull", &i::pull::COMMAND),
    entry("push", &i::push::COMMAND),
    entry("images", &i::ls::COMMAND),
    entry("login", &s::login::COMMAND),
    entry("logout", &s::logout::COMMAND),
    entry("search", &i::search::COMMAND),
    entry("version", &s::version::COMMAND),
    entry("info", &s::info::COMMAND),
];

const NOUNS: &[Entry] = &[
    entry("builder", &Command::group("Manage builds", BUILDER)),
    entry("buildx", &Command::group("Docker Buildx", BUILDER)),
    entry("container", &Command::group("Manage containers", CONTAINER)),
    entry("image", &Command::group("Manage images", IMAGE)),
    entry("manifest", &Command::group("Manage Docker image manifests and manifest lists", MANIFEST)),
    entry("network", &Command::group("Manage networks", NETWORK)),
    entry("system", &Command::group("Manage Docker", SYSTEM)),
    entry("volume", &Command::group("Manage volumes", VOLUME)),
];

const OTHERS: &[Entry] = &[
    entry("attach", &c::attach::COMMAND),
    entry("commit", &c::commit::COMMAND),
    entry("cp", &c::cp::COMMAND),
    entry("create", &c::create::COMMAND),
    entry("diff", &c::diff::COMMAND),
    entry("events", &s::events::COMMAND),
    entry("export", &c::export::COMMAND),
    entry("history", &i::history::COMMAND),
    entry("import", &i::import::COMMAND),
    entry("inspect", &s::inspect::COMMAND),
    entry("kill", &c::kill::COMMAND),
    entry("load", &i::load::COMMAND),
    entry("logs", &c::logs::COMMAND),
    entry("pause", &c::pause::COMMAND),
    entry("port", &c::port::COMMAND),
    entry("rename", &c::rename::COMMAND),
    entry("restart", &c::restart::COMMAND),
    entry("rm", &c::rm::COMMAND),
    entry("rmi", &i::rm::COMMAND),
    entry("save", &i::save::COMMAND),
    entry("start", &c::start::COMMAND),
    entry("stats", &c::stats::COMMAND),
    entry("stop", &c::stop::COMMAND),
    entry("tag", &i::tag::COMMAND),
    entry("top", &c::top::COMMAND),
    entry("unpause", &c::unpause::COMMAND),
    entry("update", &c::update::COMMAND),
    entry("wait", &c::wait::COMMAND),
];

const CONTAINER: &[Entry] = &[
    entry("attach", &c::attach::COMMAND),
    entry("commit", &c::commit::COMMAND),
    entry("cp", &c::cp::COMMAND),
    entry("create", &c::create::COMMAND),
    entry("diff", &c::diff::COMMAND),
    entry("exec", &c::exec::COMMAND),
    entry("export", &c::export::COMMAND),
    entry("inspect", &c::inspect::COMMAND),
    entry("kill", &c::kill::COMMAND),
    entry("logs", &c::logs::COMMAND),
    entry_or("ls", &["ps", "list"], &c::ls::COMMAND),
    entry("pause", &c::pause::COMMAND),
    entry("port", &c::port::COMMAND),
    entry("prune", &c::prune::COMMAND),
    entry("rename", &c::rename::COMMAND),
    entry("restart", &c::restart::COMMAND),
    entry_or("rm", &["remove"], &c::rm::COMMAND),
    entry("run", &c::run::COMMAND),
    entry("start", &c::start::COMMAND),
    entry("stats", &c::stats::COMMAND),
    entry("stop", &c::stop::COMMAND),
    entry("top", &c::top::COMMAND),
    entry("unpause", &c::unpause::COMMAND),
    entry("update", &c::update::COMMAND),
    entry("wait", &c::wait::COMMAND),
];

const BUILDER: &[Entry] = &[entry("build", &b::COMMAND), entry("prune", &b::prune::COMMAND)];

const IMAGE: &[Entry] = &[
    entry("build", &b::COMMAND),
    entry("history", &i::history::COMMAND),
    entry("import", &i::import::COMMAND),
    entry("inspect", &i::inspect::COMMAND),
    entry("load", &i::load::COMMAND),
    entry_or("ls", &["list"], &i::ls::COMMAND),
    entry("prune", &i::prune::COMMAND),
    entry("pull", &i::pull::COMMAND),
    entry("push", &i::push::COMMAND),
    entry_or("rm", &["remove"], &i::rm::COMMAND),
    entry("save", &i::save::COMMAND),
    entry("tag", &i::tag::COMMAND),
];

const MANIFEST: &[Entry] = &[
    entry("annotate", &m::annotate::COMMAND),
    entry("create", &m::create::COMMAND),
    entry("inspect", &m::inspect::COMMAND),
    entry("push", &m::push::COMMAND),
    entry("rm", &m::rm::COMMAND),
];

const NETWORK: &[Entry] = &[
    entry("connect", &n::connect::COMMAND),
    entry("create", &n::create::COMMAND),
    entry("disconnect", &n::disconnect::COMMAND),
    entry("inspect", &n::inspect::COMMAND),
    entry_or("ls", &["list"], &n::ls::COMMAND),
    entry("prune", &n::prune::COMMAND),
    entry_or("rm", &["remove"], &n::rm::COMMAND),
];

const SYSTEM: &[Entry] = &[
    entry("df", &s::df::COMMAND),
    entry("events", &s::events::COMMAND),
    entry("info", &s::info::COMMAND),
    entry("prune", &s::prune::COMMAND),
];

const VOLUME: &[Entry] = &[
    entry("create", &v::create::COMMAND),
    entry("inspect", &v::inspect::COMMAND),
    entry_or("ls", &["list"], &v::ls::COMMAND),
    entry("prune", &v::prune::COMMAND),
    entry_or("rm", &["remove"], &v::rm::COMMAND),
    entry("update", &v::update::COMMAND),
];

const TOP_LENGTH: usize = COMMON.len() + NOUNS.len() + OTHERS.len();

/// All words at the top, in one table.
const TOP: &[Entry] = &{
    let mut all = [COMMON[0]; TOP_LENGTH];
    let mut at = 0;
    while at < TOP_LENGTH {
        all[at] = if at < COMMON.len() {
            COMMON[at]
        } else if at < COMMON.len() + NOUNS.len() {
            NOUNS[at - COMMON.len()]
        } else {
            OTHERS[at - COMMON.len() - NOUNS.len()]
        };
        at += 1;
    }
    all
};

/// The first page of the help.
pub(crate) fn help(program: &str, width: usize) -> String {
    let mut out = format!("Usage:  {program} [OPTIONS] COMMAND\n\n{}\n", ROOT.about);
    out.push_str(&help::commands_in_order("Common Commands", COMMON));
    out.push_str(&help::commands("Management Commands", NOUNS));
    out.push_str(&help::commands("Commands", OTHERS));
    out.push_str(&format!("\nGlobal Options:\n{}", help::flag_usages(&[cli::FLAGS], width)));
    out.push_str(&format!("\nRun '{program} COMMAND --help' for more information on a command.\n"));
    out.push_str("\nFor more help on how to use Docker, head to https://docs.docker.com/go/guides/\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../docs/api-compat.md");

    fn words(entries: &[Entry], before: &str, all: &mut Vec<String>) {
        for entry in entries {
            let path = format!("{before}{}", entry.word);
            if let Action::Group(inner) = entry.command.action {
                words(inner, &format!("{path} "), all);
            }
            all.push(path);
        }
    }

    #[test]
    fn the_document_lists_the_commands_that_are_built() {
        let section = TEXT.split_once("\n## Commands\n").map_or("", |(_, rest)| rest);
        let section = section.split_once("\n## ").map_or(section, |(this, _)| this);
        let rows = section.lines().filter(|line| line.starts_with("| "));
        let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
        let mut documented: Vec<String> =
            cells.filter(|cells| cells[1] == "built").map(|cells| cells[0].to_owned()).collect();
        let mut built = Vec::new();
        words(TOP, "", &mut built);
        documented.sort();
        built.sort();
        assert_eq!(documented, built);
    }
}
