//! The environment of a container's processes.

use wharf_api::container as api;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What Docker gives every process: `PATH`, `HOSTNAME`, `TERM` on a terminal, what links bring, then the
/// container's own (source: moby `daemon/container/container.go`, CreateDaemonEnvironment).
pub(crate) fn daemon_environment(config: &api::Config, tty: bool, links: &[String]) -> Vec<String> {
    let mut env = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={}", config.hostname)];
    if tty {
        env.push("TERM=xterm".into());
    }
    env.extend_from_slice(links);
    replace_or_append(env, config.env.as_deref().unwrap_or_default())
}

/// Overrides replace variables of the same name; one without `=` removes the variable; new ones follow
/// (source: moby `daemon/container/env.go`).
pub(crate) fn replace_or_append(mut env: Vec<String>, overrides: &[String]) -> Vec<String> {
    for new in overrides {
        let (name, is_set) = match new.split_once('=') {
            Some((name, _)) => (name, true),
            None => (new.as_str(), false),
        };
        let at = env.iter().position(|old| old.split('=').next() == Some(name));
        match (at, is_set) {
            (Some(at), true) => env[at] = new.clone(),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(new.clone()),
            (None, false) => {}
        }
    }
    env
}

/// Adds `HOME` where it is not set, as runc does from the passwd file.
pub(crate) fn with_home(mut env: Vec<String>, home: &str) -> Vec<String> {
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variables_win() {
        let config = api::Config {
            hostname: "h".into(),
            env: Some(vec!["PATH=/x".into(), "A=1".into(), "TERM".into(), "NOSUCH".into(), "A=2".into()]),
            ..Default::default()
        };
        let env = daemon_environment(&config, true, &["L=1".into()]);
        assert_eq!(env, ["PATH=/x", "HOSTNAME=h", "L=1", "A=2"]);
        let env = with_home(env, "/root");
        assert_eq!(env.last().unwrap(), "HOME=/root");
        assert_eq!(with_home(env.clone(), "/other"), env);
    }
}
