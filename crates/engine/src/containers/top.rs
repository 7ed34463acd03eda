//! `GET /containers/{id}/top`: the host's `ps`, and of its lines those of the container
//! (source: moby `daemon/top_unix.go`).

use super::Containers;
use crate::{Error, Result, blocking::blocking, error::invalid, state::Verb};
use std::collections::BTreeSet;
use tokio::process::Command;
use wharf_api::container::TopResponse;

impl Containers {
    /// The processes of a container, as the host's `ps` with these arguments shows them; empty is `-ef`.
    ///
    /// # Errors
    /// When it does not run, or `ps` does not.
    pub async fn top(&self, id_or_name: &str, ps_args: &str) -> Result<TopResponse> {
        let ps_args = if ps_args.is_empty() { "-ef" } else { ps_args };
        check_arguments(ps_args)?;
        let container = self.get(id_or_name)?;
        container.check(Verb::Top)?;
        let pids = self.pids(&container).await?;
        let output = run_ps(ps_args, &pids).await?;
        let listed = parse(&output, &pids)?;
        self.emit_plain(&container, "top");
        Ok(listed)
    }

    /// Every process of a running container, as the host sees them.
    pub(super) async fn pids(&self, container: &super::Container) -> Result<BTreeSet<i32>> {
        let path = super::plan::cgroup_path(self.config(), &container.host_config(), &container.id);
        blocking(move || {
            let failed = |e| Error::Io {
                step: "list processes of",
                path: path.clone().into(),
                source: std::io::Error::other(e),
            };
            let group =
                wharf_sys::cgroup::Hierarchies::detect().and_then(|all| all.group(&path)).map_err(failed)?;
            Ok(group.all_processes().map_err(failed)?.into_iter().collect())
        })
        .await
    }
}

/// Columns cannot be renamed: `pid` must be found again.
fn check_arguments(args: &str) -> Result<()> {
    let renames = args.split_whitespace().any(|word| {
        let word = word.trim_start_matches("-o").trim_start_matches('o');
        word.split(',')
            .any(|column| column.split_once('=').is_some_and(|(name, title)| name == "pid" && title != "PID"))
    });
    if renames { invalid("specifying \"pid=\" is not allowed") } else { Ok(()) }
}

/// First with `-q` and the processes; some options cannot go with it.
async fn run_ps(args: &str, pids: &BTreeSet<i32>) -> Result<String> {
    let words: Vec<&str> = args.split(' ').collect();
    let list: Vec<String> = pids.iter().map(i32::to_string).collect();
    let failed = |source| Error::Os { step: "ps", source };
    let narrow = Command::new("ps").args(&words).arg(format!("-q{}", list.join(","))).output();
    let narrow = narrow.await.map_err(failed)?;
    let output = match narrow.status.success() {
        true => narrow,
        false => Command::new("ps").args(&words).output().await.map_err(failed)?,
    };
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let why = why.lines().next().unwrap_or("failed").to_owned();
        return Err(Error::Refused(format!("ps: {why}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse(output: &str, pids: &BTreeSet<i32>) -> Result<TopResponse> {
    let mut lines = output.lines();
    let titles: Vec<String> = fields(lines.next().unwrap_or(""));
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::Refused("Couldn't find PID field in ps output".into()));
    };
    let mut processes = Vec::new();
    // With the option `m` a process's threads follow it, with `-` as their pid.
    let mut inside = false;
    for line in lines.filter(|line| !line.is_empty()) {
        let row = fields(line);
        let pid = row.get(column).map_or("", String::as_str);
        if pid != "-" {
            let number: i32 =
                pid.parse().map_err(|_| Error::Refused(format!("Unexpected pid '{pid}': invalid syntax")))?;
            inside = pids.contains(&number);
        }
        if inside {
            processes.push(join_last(row, titles.len()));
        }
    }
    Ok(TopResponse { processes, titles })
}

fn fields(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The last column, the command, has blanks.
fn join_last(mut row: Vec<String>, columns: usize) -> Vec<String> {
    if row.len() > columns && columns > 0 {
        let rest = row.split_off(columns - 1).join(" ");
        row.push(rest);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_processes_are_picked() {
        let output = "UID  PID PPID CMD\nroot 10 1 sleep 300 x\nroot 11 1 other\nbob 12 10 sh\n";
        let got = parse(output, &BTreeSet::from([10, 12])).unwrap();
        assert_eq!(got.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(got.processes, [vec!["root", "10", "1", "sleep 300 x"], vec!["bob", "12", "10", "sh"]]);
        let threads = "PID TT\n10 a\n- b\n11 c\n- d\n";
        assert_eq!(parse(threads, &BTreeSet::from([10])).unwrap().processes.len(), 2);
        assert!(parse("UID CMD\n", &BTreeSet::new()).is_err());
        assert!(parse("PID\nx\n", &BTreeSet::new()).is_err());
    }

    #[test]
    fn pid_cannot_be_renamed() {
        assert!(check_arguments("-o pid=Process").is_err());
        assert!(check_arguments("-opid=x,comm").is_err());
        assert!(check_arguments("-o pid,comm").is_ok());
        assert!(check_arguments("-ef").is_ok());
    }
}
