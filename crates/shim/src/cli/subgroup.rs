//! `exec --cgroup`: a group below the container's (source: runc `exec.go`, `getSubCgroupPaths`, and
//! `libcontainer/process_linux.go`).

use super::error::{CliError, CliResult};
use std::path::{Component, Path};
use wharf_sys::cgroup::Cgroup;

/// The container's group, or what the options make of it.
pub(super) fn below(group: Cgroup, options: &[String]) -> CliResult<Cgroup> {
    if options.is_empty() {
        return Ok(group);
    }
    let mut chosen: Vec<(Option<String>, String)> = Vec::new();
    for option in options {
        let (controllers, path) = match option.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').map(|c| Some(c.to_owned())).collect(), path),
            None => (vec![None], option.as_str()),
        };
        let path = checked(path)?;
        for controller in controllers {
            if chosen.iter().any(|(known, _)| *known == controller) {
                let name = controller.unwrap_or_default();
                return Err(CliError::text(format!(
                    "controller \"{name}\" specified twice: invalid --cgroup argument: {option}"
                )));
            }
            chosen.push((controller, path.clone()));
        }
    }
    group.below(&chosen).map_err(CliError::from)
}

/// A path that stays below the container's group.
fn checked(path: &str) -> CliResult<String> {
    let mut clean: Vec<&str> = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.extend(name.to_str()),
            Component::ParentDir if clean.pop().is_none() => {
                return Err(CliError::text(format!("bad sub cgroup path: {path}")));
            }
            _ => {}
        }
    }
    Ok(clean.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        assert_eq!(checked("/a/./b/../c").unwrap(), "a/c");
        assert_eq!(checked("/").unwrap(), "");
        for bad in ["..", "/..", "a/../../b"] {
            assert_eq!(checked(bad).unwrap_err().to_string(), format!("bad sub cgroup path: {bad}"));
        }
    }
}
