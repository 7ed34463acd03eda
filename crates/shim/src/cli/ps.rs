//! `ps`: the processes of a container, as numbers or as lines of the host's ps(1).

use super::error::{CliError, CliResult};
use super::{Context, flags, print};
use lexopt::prelude::*;
use std::process::Command;

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let mut format = "table".to_owned();
    let id = loop {
        match parser.next()? {
            Some(Long("format") | Short('f')) => format = flags::text(parser)?,
            Some(Value(id)) => break flags::not_empty(id.string()?)?,
            Some(other) => return Err(other.unexpected().into()),
            None => return Err(CliError::text("wharf-runtime: \"ps\" requires a minimum of 1 argument(s)")),
        }
    };
    // What follows the id is for ps(1).
    let ps_args = parser.raw_args()?.map(|arg| Ok(arg.string()?)).collect::<CliResult<Vec<_>>>()?;
    let pids = context.store.load(&id)?.cgroup()?.all_processes()?;
    match format.as_str() {
        "json" => print(&format!("{}\n", serde_json::json!(pids))),
        "table" => print(&table(&ps_args, &pids)?),
        _ => Err(CliError::text("invalid format option")),
    }
}

fn table(args: &[String], pids: &[i32]) -> CliResult<String> {
    let mut command = Command::new("ps");
    if args.is_empty() {
        command.arg("-ef")
    } else {
        command.args(args)
    };
    let output = command.output().map_err(|source| CliError::io("exec: \"ps\"", source))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr);
        return Err(CliError::text(format!("{}: {text}{problem}", output.status)));
    }
    select(&text, pids).ok_or_else(|| CliError::text("couldn't find PID field in ps output"))
}

/// The title and the lines whose `PID` column has one of these numbers; `None` without such a column.
fn select(text: &str, pids: &[i32]) -> Option<String> {
    let mut lines = text.lines();
    let title = lines.next()?;
    let column = title.split_whitespace().position(|word| word == "PID")?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let chosen = std::iter::once(title).chain(lines.filter(is_ours));
    Some(chosen.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_shown() {
        let text = "UID PID PPID CMD\nroot 1 0 init\nroot 12 1 a 1\nroot 13 1 b\n";
        assert_eq!(select(text, &[12, 99]).unwrap(), "UID PID PPID CMD\nroot 12 1 a 1\n");
        assert_eq!(select("USER CMD\n", &[1]), None);
    }
}
