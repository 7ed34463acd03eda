//! `POST /containers/{id}/update`

use super::{
    Container, Containers, plan,
    republish::PortChange,
    validate::{self, Against, Purpose},
};
use crate::{
    Error, Result,
    blocking::blocking,
    state::Verb,
    task::{read_exit_file, run_dir},
};
use std::{path::PathBuf, sync::Arc};
use wharf_api::container::{HostConfig, UpdateRequest, UpdateResponse};
use wharf_spec::{ErrorKind, plan::Resources, shim::Call};
use wharf_sys::fault;

/// A file in the run directory while an update is under way.
const MARK: &str = "updating";

impl Containers {
    /// Changes limits and restart policy, of a running container too.
    ///
    /// # Errors
    /// For values that make no sense, and limits that the kernel does not take; nothing is changed then.
    pub async fn update(&self, id_or_name: &str, request: UpdateRequest) -> Result<UpdateResponse> {
        // The settings that are checked are those of a create.
        let json =
            serde_json::to_value(&request).map_err(|source| Error::Encode { what: "update", source })?;
        let mut wanted: HostConfig =
            serde_json::from_value(json).map_err(|source| Error::Encode { what: "update", source })?;
        let ports = PortChange::of(&request);
        let against = Against { engine: self.config(), kernel: self.kernel(), purpose: Purpose::Update };
        let warnings = validate::settings(&against, &mut wanted, None)?;
        let container = self.get(id_or_name)?;
        let _one_verb = container.lifecycle.lock().await;
        container.check(Verb::Update)?;
        let updated = self.apply(&container, &wanted, &ports).await;
        updated.map_err(|e| e.context(format!("Cannot update container {}", container.id)))?;
        self.emit_plain(&container, "update");
        let bindings = || container.host_config().port_bindings.clone().unwrap_or_default();
        Ok(UpdateResponse {
            warnings: (!warnings.is_empty()).then_some(warnings),
            port_bindings: (!ports.is_none()).then(bindings),
        })
    }

    async fn apply(&self, container: &Arc<Container>, wanted: &HostConfig, ports: &PortChange) -> Result<()> {
        let old = container.host_config();
        let mut new = (*old).clone();
        merge(&mut new, wanted)?;
        ports.write(&mut new)?;
        let limits = {
            let new = new.clone();
            blocking(move || plan::resources(&new)).await?
        };
        let new = Arc::new(new);
        container.update(|state| state.host = new);
        // Ports come last: nothing can fail any more once they are changed.
        let done = match self.carry_out(container, limits).await {
            Ok(()) => self.republish(container, ports).await,
            failed => failed,
        };
        let Err(error) = done else { return Ok(()) };
        container.update(|state| state.host = Arc::clone(&old));
        if let Err(error) = container.save_all().await {
            tracing::warn!(container = %container.id, %error, "a failed update stays in the record");
        }
        self.limit_as_recorded(container).await;
        Err(error)
    }

    /// The record comes first: a daemon that finds the mark of an update that was torn gives the container the
    /// limits of its record.
    async fn carry_out(&self, container: &Arc<Container>, limits: Resources) -> Result<()> {
        let mark = run_dir(self.config(), &container.id).join(MARK);
        let runs = container.with(|state| state.status.has_process());
        if runs {
            set_mark(mark.clone()).await?;
        }
        container.save_all().await?;
        if runs {
            self.limit(container, limits).await?;
            fault::death("update.limited");
            remove_mark(mark).await?;
        }
        Ok(())
    }

    /// Limits the processes. One that has ended meanwhile needs no limits: its next start takes those of the record.
    async fn limit(&self, container: &Container, limits: Resources) -> Result<()> {
        let Err(error) = container.shim()?.call(Call::Update(Box::new(limits)), &[]).await else {
            return Ok(());
        };
        let run_dir = run_dir(self.config(), &container.id);
        let exit = blocking(move || Ok(read_exit_file(&run_dir))).await?;
        // The shim refuses by this kind when it knows of the end first.
        let refused = error.kind() == ErrorKind::Conflict;
        let ended = refused || exit.is_some() || !container.with(|state| state.status.has_process());
        if ended { Ok(()) } else { Err(error) }
    }

    /// After an update that was torn or failed, or a connection that was lost: a running container gets the limits
    /// that its record says. A failure is logged.
    pub(super) async fn limit_as_recorded(&self, container: &Container) {
        if !container.with(|state| state.status.has_process()) {
            return;
        }
        let (host, mark) = (container.host_config(), run_dir(self.config(), &container.id).join(MARK));
        let limited = async {
            let limits = blocking(move || plan::resources(&host)).await?;
            self.limit(container, limits).await?;
            remove_mark(mark).await
        };
        if let Err(error) = limited.await {
            tracing::warn!(container = %container.id, %error, "limits may not be those of the record");
        }
    }

    /// Whether a daemon died in an update of this running container.
    pub(super) fn has_torn_update(&self, container: &Container) -> bool {
        run_dir(self.config(), &container.id).join(MARK).exists()
    }
}

async fn set_mark(path: PathBuf) -> Result<()> {
    blocking(move || {
        std::fs::write(&path, "").map_err(|source| Error::Io { step: "mark update", path, source })
    })
    .await
}

async fn remove_mark(path: PathBuf) -> Result<()> {
    blocking(move || match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { step: "end update", path, source })
        }
        _ => Ok(()),
    })
    .await
}

/// Values that are set replace the old ones (source: moby `daemon/container/container_unix.go`,
/// UpdateContainer).
fn merge(host: &mut HostConfig, wanted: &HostConfig) -> Result<()> {
    if wanted.nano_cpus > 0 && (host.cpu_period > 0 || host.cpu_quota > 0) {
        let set = if host.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
        return Err(Error::Conflict(format!(
            "Conflicting options: Nano CPUs cannot be updated as {set} has already been set"
        )));
    }
    if (wanted.cpu_period > 0 || wanted.cpu_quota > 0) && host.nano_cpus > 0 {
        let asked = if wanted.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
        return Err(Error::Conflict(format!(
            "Conflicting options: {asked} cannot be updated as NanoCPUs has already been set"
        )));
    }
    merge_numbers(host, wanted);
    merge_memory(host, wanted)?;
    for (mine, theirs) in
        [(&mut host.cpuset_cpus, &wanted.cpuset_cpus), (&mut host.cpuset_mems, &wanted.cpuset_mems)]
    {
        if !theirs.is_empty() {
            mine.clone_from(theirs);
        }
    }
    if wanted.pids_limit.is_some() {
        host.pids_limit = wanted.pids_limit;
    }
    if wanted.blkio_weight != 0 {
        host.blkio_weight = wanted.blkio_weight;
    }
    if wanted.blkio_weight_device.is_some() {
        host.blkio_weight_device.clone_from(&wanted.blkio_weight_device);
    }
    for (mine, theirs) in [
        (&mut host.blkio_device_read_bps, &wanted.blkio_device_read_bps),
        (&mut host.blkio_device_write_bps, &wanted.blkio_device_write_bps),
        (&mut host.blkio_device_read_iops, &wanted.blkio_device_read_iops),
        (&mut host.blkio_device_write_iops, &wanted.blkio_device_write_iops),
    ] {
        if theirs.is_some() {
            mine.clone_from(theirs);
        }
    }
    if !wanted.restart_policy.name.is_empty() {
        if host.auto_remove && !wanted.restart_policy.is_none() {
            return Err(Error::Conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container".into(),
            ));
        }
        host.restart_policy = wanted.restart_policy.clone();
    }
    Ok(())
}

fn merge_numbers(host: &mut HostConfig, wanted: &HostConfig) {
    for (mine, theirs) in [
        (&mut host.cpu_shares, wanted.cpu_shares),
        (&mut host.nano_cpus, wanted.nano_cpus),
        (&mut host.cpu_period, wanted.cpu_period),
        (&mut host.cpu_quota, wanted.cpu_quota),
        (&mut host.cpu_realtime_period, wanted.cpu_realtime_period),
        (&mut host.cpu_realtime_runtime, wanted.cpu_realtime_runtime),
        (&mut host.memory_reservation, wanted.memory_reservation),
    ] {
        if theirs != 0 {
            *mine = theirs;
        }
    }
}

/// Memory cannot go above the limit of memory and swap together unless that is raised too. As in Docker this
/// holds where swap has no limit (-1) or none was set (0), which only `MemorySwap` beside it changes.
fn merge_memory(host: &mut HostConfig, wanted: &HostConfig) -> Result<()> {
    if wanted.memory != 0 {
        if wanted.memory_swap == 0 && wanted.memory > host.memory_swap {
            return Err(Error::Conflict(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
                    .into(),
            ));
        }
        host.memory = wanted.memory;
    }
    if wanted.memory_swap != 0 {
        host.memory_swap = wanted.memory_swap;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_replaces_and_the_rest_stays() {
        let mut host =
            HostConfig { memory: 64 << 20, memory_swap: 128 << 20, cpu_shares: 5, ..Default::default() };
        let wanted = HostConfig { cpu_shares: 512, memory: 32 << 20, memory_swap: -1, ..Default::default() };
        merge(&mut host, &wanted).unwrap();
        assert_eq!((host.cpu_shares, host.memory, host.memory_swap), (512, 32 << 20, -1));
        assert_eq!(host.restart_policy.name, "");
        let slow = vec![wharf_api::container::ThrottleDevice { path: "/dev/null".into(), rate: 7 }];
        let wanted = HostConfig { blkio_device_read_bps: Some(slow.clone()), ..Default::default() };
        merge(&mut host, &wanted).unwrap();
        assert_eq!(host.blkio_device_read_bps, Some(slow));
        let too_much = HostConfig { memory: 1 << 40, ..Default::default() };
        host.memory_swap = 128 << 20;
        assert!(merge(&mut host, &too_much).is_err());
        host.memory_swap = 0;
        assert!(merge(&mut host, &HostConfig { memory: 1 << 20, ..Default::default() }).is_err());
        let always = HostConfig {
            restart_policy: wharf_api::container::RestartPolicy {
                name: "always".into(),
                ..Default::default()
            },
            ..Default::default()
        };
        let mut vanishing = HostConfig { auto_remove: true, ..Default::default() };
        assert!(matches!(merge(&mut vanishing, &always), Err(Error::Conflict(_))));
        host.cpu_period = 1000;
        assert!(merge(&mut host, &HostConfig { nano_cpus: 1, ..Default::default() }).is_err());
    }
}
