//! `GET /containers/{id}/json`

use super::{Container, Containers, create::parse_link};
use crate::{Result, blocking::blocking, clock, images::LayerSizes};
use std::sync::Arc;
use wharf_api::container as api;

impl Containers {
    /// Everything about a container; with `size` its layers are measured too.
    ///
    /// # Errors
    /// `No such container: ...`.
    pub async fn inspect(&self, id_or_name: &str, size: Sizes) -> Result<api::InspectResponse> {
        let container = self.get(id_or_name)?;
        let mut shown = self.show(&container);
        let (layers, id) = (self.parts().images.layers().clone(), container.id.clone());
        let data = blocking(move || Ok(layers.driver_data(&id))).await?;
        shown.graph_driver = Some(api::DriverData { data: Some(data), name: shown.driver.clone() });
        if size == Sizes::Measured {
            let sizes = self.sizes(&container).await?;
            (shown.size_rw, shown.size_root_fs) = (Some(sizes.rw), Some(sizes.root));
        }
        Ok(shown)
    }

    pub(super) async fn sizes(&self, container: &Arc<Container>) -> Result<LayerSizes> {
        let (layers, id) = (self.parts().images.layers().clone(), container.id.clone());
        blocking(move || layers.sizes(&id)).await
    }

    fn show(&self, container: &Container) -> api::InspectResponse {
        let exec_ids = self.execs().running(&container.id);
        let mut shown = container.with(|state| {
            let record = &state.record;
            api::InspectResponse {
                id: container.id.to_string(),
                created: record.created,
                path: record.path.clone(),
                args: record.args.clone().unwrap_or_default(),
                state: show_state(state),
                image: record.image.clone(),
                resolv_conf_path: record.resolv_conf_path.clone(),
                hostname_path: record.hostname_path.clone(),
                hosts_path: record.hosts_path.clone(),
                log_path: record.log_path.clone(),
                name: format!("/{}", state.name),
                restart_count: record.restart_count,
                driver: record.driver.clone(),
                platform: record.os.clone(),
                mount_label: record.mount_label.clone(),
                process_label: record.process_label.clone(),
                app_armor_profile: record.app_armor_profile.clone(),
                exec_ids,
                host_config: (*state.host).clone(),
                mounts: record.mount_points.values().map(|p| p.to_api()).collect(),
                config: record.config.clone(),
                network_settings: record.network_settings.to_api(),
                image_manifest_descriptor: record.image_manifest.clone(),
                ..api::InspectResponse::default()
            }
        });
        self.show_host(&shown.name.clone(), &mut shown.host_config);
        shown
    }

    /// Links in Docker's inner form, and the daemon's own ulimits.
    fn show_host(&self, name: &str, host: &mut api::HostConfig) {
        for link in host.links.iter_mut().flatten() {
            let (child, alias) = parse_link(link);
            let child = self.get(child).map_or_else(|_| child.to_owned(), |c| c.name().to_string());
            *link = format!("/{child}:{name}/{alias}");
        }
        if host.links.as_ref().is_some_and(Vec::is_empty) {
            host.links = None;
        }
        for (name, (soft, hard)) in &self.config().default_ulimits {
            let own = host.ulimits.get_or_insert_default();
            if !own.iter().any(|l| l.name == *name) {
                own.push(api::Ulimit { name: name.clone(), soft: *soft, hard: *hard });
            }
        }
    }
}

fn show_state(state: &super::State) -> api::State {
    let facts = state.status.facts();
    let mut health = state.health.clone();
    if let Some(health) = &mut health {
        health.log.get_or_insert_default();
    }
    api::State {
        status: facts.word.into(),
        running: facts.running,
        paused: facts.paused,
        restarting: facts.restarting,
        oom_killed: facts.oom_killed,
        dead: facts.dead,
        pid: facts.pid.into(),
        exit_code: facts.exit_code.into(),
        error: facts.error.into(),
        started_at: clock::or_zero(facts.started_at),
        finished_at: clock::or_zero(facts.finished_at),
        health,
    }
}

/// Whether an inspect measures the container's layers, which takes a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "self-evident")]
pub enum Sizes {
    #[default]
    Unknown,
    Measured,
}
