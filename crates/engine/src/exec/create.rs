//! `POST /containers/{id}/exec`

use super::{Exec, Execs, Progress};
use crate::{
    Error, Result,
    blocking::blocking,
    containers::{Container, attach_keys, plan, resolve_user},
    error::invalid,
    random,
    state::Verb,
};
use std::sync::Arc;
use tokio::sync::watch;
use wharf_api::container::ExecCreateRequest;
use wharf_spec::{ExecId, user::User};

impl Execs {
    /// Prepares a process in a running container; returns its id.
    ///
    /// # Errors
    /// When there is no command, the user is unknown, or the container does not run, is paused or restarts.
    pub async fn create(&self, id_or_name: &str, request: ExecCreateRequest) -> Result<ExecId> {
        let command = request.cmd.clone().unwrap_or_default();
        if command.is_empty() {
            return invalid("No exec command specified");
        }
        let container = self.containers.get(id_or_name)?;
        container.check(Verb::Exec)?;
        if !request.user.is_empty() {
            let user = self.user(&container, &request.user).await;
            user.map_err(|e| Error::Invalid(e.to_string()))?;
        }
        let detach_keys = attach_keys(&request.detach_keys)?;
        let exec = Arc::new(prepare(&container, request, command, detach_keys));
        let id = exec.id.clone();
        self.table().add(Arc::clone(&exec));
        self.emit(&container, &exec, "exec_create");
        Ok(id)
    }

    /// Who a process runs as, by the container's files as they are now.
    pub(super) async fn user(&self, container: &Arc<Container>, spec: &str) -> Result<User> {
        let layers = self.containers.parts().images.layers().clone();
        let (id, host, spec) = (container.id.clone(), container.host_config(), spec.to_owned());
        blocking(move || {
            // It runs, so it is mounted: the use is counted and given back.
            let root = layers.mount(&id)?;
            let user = resolve_user(&root, &spec, host.group_add.as_deref().unwrap_or_default());
            layers.unmount(&id)?;
            user
        })
        .await
    }

    /// `exec_create: sh -c true`
    pub(super) fn emit(&self, container: &Container, exec: &Exec, action: &str) {
        let attributes = [("execID".to_owned(), exec.id.to_string())];
        self.containers.emit(container, format!("{action}: {}", exec.command.join(" ")), attributes.into());
    }
}

fn prepare(
    container: &Container,
    request: ExecCreateRequest,
    command: Vec<String>,
    detach_keys: Vec<u8>,
) -> Exec {
    container.with(|state| {
        let config = &state.record.config;
        let env = plan::daemon_environment(config, request.tty, &[]);
        let env = plan::replace_or_append(env, request.env.as_deref().unwrap_or_default());
        let or = |own: &String, default: &String| if own.is_empty() { default.clone() } else { own.clone() };
        Exec {
            id: ExecId::from_random(random::bytes32()),
            container: container.id.clone(),
            user: or(&request.user, &config.user),
            working_dir: or(&request.working_dir, &config.working_dir),
            request,
            detach_keys,
            command,
            env,
            progress: watch::channel(Progress::Created).0,
        }
    })
}
