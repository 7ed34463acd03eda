//! `GET /images/{name}/json` and `/history` (source: moby `daemon/images/image_inspect.go`,
//! `image_history.go`).

use super::{
    Inner,
    layers::{driver_data, signed},
    store_error,
};
use crate::{Error, Result};
use std::collections::BTreeMap;
use wharf_api::{
    Empty, Set, container as container_api,
    container::{DriverData, HealthConfig},
    gojson, image as api,
    port::Port,
    time::Time,
};
use wharf_spec::{Healthcheck, ImageId, RunConfig};
use wharf_store::Image;

impl Inner {
    pub(super) fn inspect(&self, name: &str) -> Result<api::InspectResponse> {
        let image = self.find(name)?;
        let config = &image.config;
        let (tags, digests) = self.names(image.id);
        let mut comment = config.comment.clone();
        if comment.is_empty()
            && let Some(last) = config.history.last()
        {
            comment.clone_from(&last.comment);
        }
        let last_tag_time = self.store.images.last_tagged(image.id).map(Time).unwrap_or_default();
        Ok(api::InspectResponse {
            id: image.id.to_string(),
            repo_tags: tags,
            repo_digests: digests,
            comment,
            created: config.created_at().map(Time),
            author: config.author.clone(),
            config: Some(image_config(&config.config.clone().unwrap_or_default())),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
            os: if config.os.is_empty() { "linux".into() } else { config.os.clone() },
            os_version: config.os_version.clone(),
            size: signed(image.chain_id.map_or(0, |chain| self.store.layers.stack_size(chain))),
            graph_driver: Some(self.graph_driver(&image)?),
            root_fs: api::RootFs {
                kind: config.rootfs.as_ref().map(|rootfs| rootfs.kind.clone()).unwrap_or_default(),
                layers: config.diff_ids().iter().map(ToString::to_string).collect(),
            },
            metadata: api::Metadata { last_tag_time },
            descriptor: None,
            manifests: Vec::new(),
            parent: self.store.images.parent(image.id).map(|id| id.to_string()).unwrap_or_default(),
            docker_version: config.docker_version.clone(),
            legacy: api::LegacyInspect {
                container: config.container.clone(),
                container_config: container_config(&config.container_config),
            },
        })
    }

    fn graph_driver(&self, image: &Image) -> Result<DriverData> {
        let data = match image.chain_id {
            None => None,
            Some(chain) => Some(driver_data(&self.store.layers.graph_data(chain).map_err(store_error)?)),
        };
        Ok(DriverData { data, name: "overlay2".into() })
    }

    /// Tags and digests, familiar and sorted.
    pub(super) fn names(&self, image: ImageId) -> (Vec<String>, Vec<String>) {
        let names = self.store.references.of(image);
        let (digests, tags): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.digest().is_some());
        let texts =
            |names: Vec<wharf_spec::ImageRef>| names.iter().map(|name| name.familiar_string()).collect();
        (texts(tags), texts(digests))
    }

    /// Newest step first. Steps of images that were built here have those images' ids.
    pub(super) fn history(&self, name: &str) -> Result<Vec<api::HistoryItem>> {
        let image = self.find(name)?;
        let mut layers = wharf_store::chain_ids(image.config.diff_ids()).into_iter();
        let mut items = Vec::new();
        for step in &image.config.history {
            let mut size = 0;
            if !step.empty_layer {
                let too_few = || Error::Refused("too many non-empty layers in History section".into());
                let chain = layers.next().ok_or_else(too_few)?;
                let layer = self.store.layers.info(chain);
                size = layer.ok_or_else(|| store_error(wharf_store::Error::NoLayer(chain)))?.size;
            }
            items.push(api::HistoryItem {
                comment: step.comment.clone(),
                created: step.created_at().map_or(0, jiff::Timestamp::as_second),
                created_by: step.created_by.clone(),
                id: "<missing>".into(),
                size: signed(size),
                tags: None,
            });
        }
        items.reverse();
        let mut next = Some(image.id);
        for item in &mut items {
            let Some(id) = next else { break };
            item.id = id.to_string();
            let (tags, _) = self.names(id);
            item.tags = (!tags.is_empty()).then_some(tags);
            next = self.store.images.parent(id);
        }
        Ok(items)
    }
}

/// What the image runs, without what is empty.
fn image_config(run: &RunConfig) -> api::ImageConfig {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    api::ImageConfig {
        user: run.user.clone(),
        exposed_ports: ports(run),
        env: list(&run.env),
        entrypoint: list(&run.entrypoint),
        cmd: list(&run.cmd),
        volumes: volumes(run).unwrap_or_default(),
        working_dir: run.working_dir.clone(),
        labels: run.labels.clone().unwrap_or_default(),
        stop_signal: run.stop_signal.clone(),
        args_escaped: run.args_escaped,
        healthcheck: run.healthcheck.as_ref().and_then(health),
        on_build: list(&run.on_build),
        shell: list(&run.shell),
    }
}

/// The same with all that a container's config has.
fn container_config(run: &RunConfig) -> container_api::Config {
    container_api::Config {
        hostname: run.hostname.clone(),
        domainname: run.domainname.clone(),
        user: run.user.clone(),
        attach_stdin: run.attach_stdin,
        attach_stdout: run.attach_stdout,
        attach_stderr: run.attach_stderr,
        exposed_ports: ports(run),
        tty: run.tty,
        open_stdin: run.open_stdin,
        stdin_once: run.stdin_once,
        env: run.env.clone(),
        cmd: run.cmd.clone(),
        healthcheck: run.healthcheck.as_ref().and_then(health),
        args_escaped: run.args_escaped,
        image: run.image.clone(),
        volumes: volumes(run),
        working_dir: run.working_dir.clone(),
        entrypoint: run.entrypoint.clone(),
        network_disabled: run.network_disabled,
        mac_address: run.mac_address.clone(),
        on_build: run.on_build.clone(),
        labels: run.labels.clone(),
        stop_signal: run.stop_signal.clone(),
        stop_timeout: run.stop_timeout,
        shell: run.shell.clone(),
    }
}

/// Ports that are none are left out: an image may hold anything.
fn ports(run: &RunConfig) -> Set<Port> {
    run.exposed_ports.keys().filter_map(|port| port.parse().ok()).map(|port| (port, Empty {})).collect()
}

fn volumes(run: &RunConfig) -> Option<Set<String>> {
    let volumes = run.volumes.as_ref()?;
    Some(volumes.keys().map(|path| (path.clone(), Empty {})).collect::<BTreeMap<_, _>>())
}

/// Both types have the same JSON.
fn health(check: &Healthcheck) -> Option<HealthConfig> {
    gojson::from_slice(&wharf_spec::to_go_json(check)).ok()
}
