//! An image's defaults under a request's settings (source: moby `daemon/commit.go`, merge, and
//! `daemon/daemon.go`, mergeAndVerifyConfig).

use crate::{Result, error::invalid};
use wharf_api::{Empty, container as api, port::Port};
use wharf_spec::{Healthcheck, RunConfig};

/// Merges the image's configuration into the request's.
///
/// # Errors
/// `no command specified`.
pub(super) fn merge(config: &mut api::Config, image: Option<&RunConfig>) -> Result<()> {
    if let Some(image) = image {
        merge_image(config, image);
    }
    if config.entrypoint.as_ref().is_some_and(|e| e.len() == 1 && e[0].is_empty()) {
        config.entrypoint = None;
    }
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if empty(&config.entrypoint) && empty(&config.cmd) {
        return invalid("no command specified");
    }
    Ok(())
}

/// Program and arguments: the entry point and then the command.
pub(super) fn command(config: &api::Config) -> Vec<String> {
    let lists = [&config.entrypoint, &config.cmd];
    lists.into_iter().flatten().flatten().cloned().collect()
}

/// Takes from the image what the settings leave open.
pub(super) fn merge_image(config: &mut api::Config, image: &RunConfig) {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    // Ports of images are written by anybody: those that are none are left out.
    for port in image.exposed_ports.keys().filter_map(|port| port.parse::<Port>().ok()) {
        config.exposed_ports.entry(port).or_insert(Empty {});
    }
    merge_env(config, image);
    let labels = config.labels.get_or_insert_default();
    for (key, value) in image.labels.iter().flatten() {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if let Some(health) = &image.healthcheck {
        merge_health(config.healthcheck.get_or_insert_default(), health);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    for path in image.volumes.iter().flat_map(|set| set.keys()) {
        config.volumes.get_or_insert_default().entry(path.clone()).or_insert(Empty {});
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
}

/// The request's variables first, then the image's others.
fn merge_env(config: &mut api::Config, image: &RunConfig) {
    let Some(own) = config.env.as_mut().filter(|env| !env.is_empty()) else {
        config.env.clone_from(&image.env);
        return;
    };
    let name = |variable: &str| variable.split('=').next().unwrap_or("").to_owned();
    let known: std::collections::BTreeSet<String> = own.iter().map(|v| name(v)).collect();
    let others = image.env.iter().flatten().filter(|v| !known.contains(&name(v)));
    own.extend(others.cloned());
}

fn merge_health(own: &mut api::HealthConfig, image: &Healthcheck) {
    if own.test.as_ref().is_none_or(Vec::is_empty) {
        own.test.clone_from(&image.test);
    }
    for (mine, theirs) in [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|s| (*s).to_owned()).collect())
    }

    fn image() -> RunConfig {
        RunConfig {
            env: words(&["PATH=/bin", "A=image"]),
            cmd: words(&["sh"]),
            entrypoint: words(&["/entry"]),
            labels: Some([("a".to_owned(), "image".to_owned()), ("b".to_owned(), "image".to_owned())].into()),
            working_dir: "/w".into(),
            exposed_ports: [("80/tcp".to_owned(), wharf_spec::Empty)].into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_request_wins() {
        let mut config = api::Config {
            env: words(&["A=own"]),
            cmd: words(&["run"]),
            labels: Some([("a".to_owned(), "own".to_owned())].into()),
            ..Default::default()
        };
        merge(&mut config, Some(&image())).unwrap();
        assert_eq!(config.env, words(&["A=own", "PATH=/bin"]));
        assert_eq!(command(&config), ["/entry", "run"]);
        assert_eq!(config.labels.unwrap()["a"], "own");
        assert_eq!(config.working_dir, "/w");
        assert_eq!(config.exposed_ports.len(), 1);
    }

    #[test]
    fn commands_of_the_image_go_with_its_entry_point() {
        let mut config = api::Config { entrypoint: words(&["own"]), ..Default::default() };
        merge(&mut config, Some(&image())).unwrap();
        assert_eq!(command(&config), ["own"]);
        let mut empty = api::Config { entrypoint: words(&[""]), cmd: words(&[]), ..Default::default() };
        assert_eq!(merge(&mut empty, Some(&image())).unwrap_err().to_string(), "no command specified");
        let mut none = api::Config::default();
        assert!(merge(&mut none, None).is_err());
        assert_eq!(none.labels, None);
        merge(&mut none, Some(&image())).unwrap();
        assert_eq!(command(&none), ["/entry", "sh"]);
    }
}
