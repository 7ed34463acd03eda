//! After a restart of the daemon: every container is what its record, its shim and its exit file say together.

use super::{Container, Containers, lifetime, record, remove};
use crate::{
    Error, Result,
    blocking::blocking,
    clock,
    state::Status,
    task::{read_exit_file, remove_run_dir, run_dir},
};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use wharf_api::container as api;
use wharf_spec::{
    ContainerId, ContainerName,
    shim::{Call, State},
};
use wharf_sys::fault;

/// Containers that are started by their policies at the same time.
const STARTS_AT_ONCE: usize = 8;

/// What a container's directory turned out to be.
enum Found {
    Container(Box<record::Record>, Box<api::HostConfig>),
    /// A create that was torn, or a removal: to be removed.
    Leftover {
        id: Option<ContainerId>,
        path: PathBuf,
    },
    /// Not ours to judge.
    Unreadable(Error),
}

impl Containers {
    /// Loads all records, reconnects to the shims of running containers, accounts for those that ended
    /// meanwhile, removes what crashes left, and starts what restart policies ask for.
    ///
    /// # Errors
    /// When the directory of containers cannot be read.
    pub(crate) async fn restore(&self) -> Result<()> {
        let dir = self.config().containers_dir();
        let found = blocking(move || read_all(&dir)).await?;
        for found in found {
            match found {
                Found::Container(record, host) => self.load(*record, *host),
                Found::Leftover { id, path } => self.remove_leftover(id, path).await,
                Found::Unreadable(error) => tracing::error!(%error, "container not loaded"),
            }
        }
        self.parts().volumes.remove_unfinished(&self.config().containers_dir()).await;
        fault::death("restore.loaded");
        let run_dirs = self.run_dirs().await?;
        for container in self.all() {
            let has_run_dir = run_dirs.contains(container.id.as_str());
            self.restore_one(&container, has_run_dir).await;
        }
        fault::death("restore.accounted");
        self.clean_up(&run_dirs).await;
        fault::death("restore.cleaned");
        let config = Arc::clone(self.config());
        blocking(move || {
            super::removed_logs::prune(&config);
            Ok(())
        })
        .await?;
        // Of those that ended too: their last lines may not be sent yet.
        self.all().iter().for_each(|container| self.forward_log(container));
        if let Err(error) = self.tasks().prepare().await {
            tracing::warn!(%error, "no zygote yet: the first start tries again");
        }
        if !self.config().live.get().live_restore {
            let alive = self.all().into_iter().filter(|c| c.with(|state| state.status.has_process()));
            self.stop_all(alive.collect()).await;
        }
        if self.config().auto_restart {
            self.start_by_policy().await;
        }
        Ok(())
    }

    fn load(&self, mut record: record::Record, host: api::HostConfig) {
        record.set_paths(self.config(), &host);
        let (Ok(id), Ok(name)) = (record.id.parse::<ContainerId>(), record.name.parse::<ContainerName>())
        else {
            tracing::error!(id = record.id, name = record.name, "container not loaded: bad id or name");
            return;
        };
        let index = &self.parts().index;
        let name = match index.reserve(&name, &id) {
            Ok(()) => name,
            Err(error) => {
                tracing::error!(%id, %error, "container gets its id as name");
                let own: ContainerName = id.short().parse().expect("hex is a valid name");
                if index.reserve(&own, &id).is_err() {
                    return;
                }
                own
            }
        };
        let dir = self.config().containers_dir().join(id.as_str());
        index.add(Arc::new(Container::new(dir, id, name, record, host)));
    }

    async fn remove_leftover(&self, id: Option<ContainerId>, path: PathBuf) {
        let layers = self.parts().images.layers().clone();
        let shown = path.display().to_string();
        let leftover = path.clone();
        let layer = blocking(move || {
            let volumes = remove::volumes_of_leftover(&leftover);
            id.map_or(Ok(()), |id| layers.remove(&id)).map(|()| volumes)
        });
        let volumes = match layer.await {
            Ok(volumes) => volumes,
            Err(error) => {
                tracing::warn!(path = shown, %error, "leftover of a crash stays");
                return;
            }
        };
        self.parts().volumes.remove_abandoned(&volumes).await;
        match blocking(move || remove::remove_dir(&path)).await {
            Ok(()) => tracing::info!(path = shown, "leftover of a crash removed"),
            Err(error) => tracing::warn!(path = shown, %error, "leftover of a crash stays"),
        }
    }

    async fn run_dirs(&self) -> Result<BTreeSet<String>> {
        let dir = self.config().run_dir();
        blocking(move || {
            let io = |source| Error::Io { step: "read", path: dir.clone(), source };
            let entries = fs::read_dir(&dir).map_err(io)?;
            Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
        })
        .await
    }

    async fn restore_one(&self, container: &Arc<Container>, has_run_dir: bool) {
        let _one_verb = container.lifecycle.lock().await;
        if has_run_dir {
            let run_dir = run_dir(self.config(), &container.id);
            match self.tasks().reconnect(&container.id, &run_dir).await {
                Ok(Some((shim, state, events))) if state.exit.is_none() => {
                    self.readopt(container, &shim, &state).await;
                    self.watch(Arc::clone(container), shim, events);
                    return;
                }
                Ok(Some((shim, _, _))) => {
                    shim.call(Call::Release, &[]).await.ok();
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(container = %container.id, %error, "shim not understood"),
            }
        }
        let (ran, dead) = container.with(|state| {
            (state.status.has_process(), matches!(state.status, Status::Dead(_) | Status::Removing(_)))
        });
        if dead {
            if let Err(error) = self.delete_locked(container, remove::AnonymousVolumes::Keep).await {
                tracing::warn!(container = %container.id, %error, "dead container stays");
            }
        } else if ran || has_run_dir {
            self.account_for(container, has_run_dir).await;
        } else if container.host_config().auto_remove
            && let Err(error) = self.delete_locked(container, remove::AnonymousVolumes::Remove).await
        {
            tracing::warn!(container = %container.id, %error, "container that was to remove itself stays");
        }
    }

    /// It runs: it is as if we had started it.
    async fn readopt(&self, container: &Arc<Container>, shim: &Arc<crate::task::Shim>, state: &State) {
        container.update(|own| {
            if own.status.run().is_none_or(|run| run.pid != state.pid) {
                own.status.started(state.pid, Timestamp::now());
            }
            match state.paused {
                true => own.status.paused(),
                false => own.status.unpaused(),
            }
            own.shim = Some(Arc::clone(shim));
        });
        let (layers, id) = (self.parts().images.layers().clone(), container.id.clone());
        if let Err(error) = blocking(move || layers.mount(&id)).await {
            tracing::warn!(container = %container.id, %error, "root file system not found mounted");
        }
        for name in container.volume_names() {
            if let Err(error) = self.parts().volumes.restore_mount(&name, &container.id).await {
                tracing::warn!(container = %container.id, volume = name, %error, "volume not found");
            }
        }
        fault::death("restore.mounted");
        let held = shim.held().await.unwrap_or_else(|error| {
            tracing::warn!(container = %container.id, %error, "published ports are held anew");
            Vec::new()
        });
        let networks = container.networks();
        if let Err(error) = self.parts().networks.restore(&container.id, &networks, held).await {
            tracing::warn!(container = %container.id, %error, "networks not restored");
        }
        fault::death("restore.networks");
        if self.has_torn_update(container) {
            self.limit_as_recorded(container).await;
        }
        match state.paused {
            true => self.stay_unchecked(container),
            false => self.begin_health(container),
        }
        container.save_or_warn().await;
    }

    /// It ran when an earlier daemon looked last, and does not any more. Whether it is started again comes later, when
    /// all are accounted for.
    async fn account_for(&self, container: &Arc<Container>, has_run_dir: bool) {
        let run_dir = run_dir(self.config(), &container.id);
        let exit_file = blocking(move || Ok(read_exit_file(&run_dir))).await.ok().flatten();
        if !container.with(|state| state.status.has_process()) {
            let noted = container.with(|state| state.status.facts().finished_at);
            // Either a start was torn and nothing ran, or the end is written down already.
            let Some(exit) = exit_file.filter(|exit| Some(clock::from_shim(exit.at)) != noted) else {
                self.remove_torn_start(container).await;
                return;
            };
            container.update(|state| state.status.started(0, clock::from_shim(exit.at)));
        }
        let exit = self.after_vanished_shim(container).await;
        for name in container.volume_names() {
            self.parts().volumes.remember_mount(&name, &container.id);
        }
        if self.put_away(container, exit).await.is_some() && !has_run_dir {
            // The machine has been started anew, and so are counts: that is left to `wants_start`.
            container.update(|state| {
                state.record.restart_count -= 1;
                state.status.restart_cancelled();
            });
        }
    }

    async fn remove_torn_start(&self, container: &Arc<Container>) {
        let (layers, owner) = (self.parts().images.layers().clone(), Arc::clone(container));
        let run_dir = run_dir(self.config(), &container.id);
        let removed = blocking(move || {
            // A shim without its run directory gives up: what is killed afterwards is all there will be.
            let removed = remove_run_dir(&run_dir);
            super::files::unmount_shm(&owner);
            removed.and(layers.unmount(&owner.id))
        });
        if let Err(error) = removed.await {
            tracing::warn!(container = %container.id, %error, "torn start not put away");
        }
        self.kill_unwatched(container).await;
    }

    /// Run directories, mounts and namespaces that belong to no running container.
    async fn clean_up(&self, run_dirs: &BTreeSet<String>) {
        let running: Vec<ContainerId> =
            self.all().iter().filter(|c| c.with(|s| s.status.has_process())).map(|c| c.id.clone()).collect();
        for name in run_dirs {
            if self.parts().index.get(name).is_ok() {
                continue;
            }
            let path = self.config().run_dir().join(name);
            let cgroup = super::plan::orphan_cgroup(self.config(), name);
            let removed = blocking(move || {
                if let Some(cgroup) = cgroup
                    && let Err(error) = super::monitor::kill_cgroup(&cgroup)
                {
                    tracing::warn!(cgroup, %error, "processes of an unknown container may be left");
                }
                remove_run_dir(&path)
            });
            match removed.await {
                Ok(()) => tracing::info!(name, "run directory of an unknown container removed"),
                Err(error) => tracing::warn!(name, %error, "run directory of an unknown container stays"),
            }
        }
        let (layers, mounted) = (self.parts().images.layers().clone(), running.clone());
        let cleaned = blocking(move || layers.unmount_all_but(&mounted));
        if let Err(error) = cleaned.await {
            tracing::warn!(%error, "root file systems of ended containers stay mounted");
        }
        self.parts().volumes.unmount_unused().await;
        self.parts().networks.collect_leftovers(&running).await;
    }

    /// Starts the containers that their policies want to run, those that others need before these; returns when
    /// all have been tried, since clients expect them to run (source: moby `daemon/daemon.go`, restore).
    async fn start_by_policy(&self) {
        let wanted: BTreeMap<ContainerId, _> =
            self.all().into_iter().filter(|c| c.with(wants_start)).map(|c| (c.id.clone(), c)).collect();
        let needs = wanted.iter().map(|(id, c)| (id.clone(), self.needed_by(c))).collect();
        for wave in waves(needs) {
            let wave = wave.iter().filter_map(|id| wanted.get(id).cloned());
            stream::iter(wave).for_each_concurrent(STARTS_AT_ONCE, |c| self.start_at_boot(c)).await;
        }
    }

    async fn start_at_boot(&self, container: Arc<Container>) {
        // A restart that an earlier daemon had decided keeps its count.
        if container.with(|state| matches!(state.status, Status::Restarting(_))) {
            return self.restart_by_policy(container).await;
        }
        let _one_verb = container.lifecycle.lock().await;
        if let Err(error) = self.start_locked(&container, super::start::Cause::Request).await {
            tracing::warn!(container = %container.id, %error, "not started by its policy");
        }
    }

    /// Whose network, IPC, processes or links a container uses, and whose volumes.
    fn needed_by(&self, container: &Container) -> BTreeSet<ContainerId> {
        let host = container.host_config();
        let modes = [host.network_mode.container(), host.ipc_mode.container(), host.pid_mode.container()];
        let links = host.links.iter().flatten().map(|link| super::create::parse_link(link).0);
        let volumes = host.volumes_from.iter().flatten().filter_map(|from| from.split(':').next());
        let names = modes.into_iter().flatten().chain(links).chain(volumes);
        names.filter_map(|name| self.get(name).ok()).map(|other| other.id.clone()).collect()
    }
}

/// Containers in the order of their needs: those of a wave need only those of earlier waves. Those that need each
/// other, or themselves, come last.
fn waves(mut needs: BTreeMap<ContainerId, BTreeSet<ContainerId>>) -> Vec<Vec<ContainerId>> {
    let mut waves = Vec::new();
    while !needs.is_empty() {
        let is_ready = |of: &BTreeSet<ContainerId>| !of.iter().any(|other| needs.contains_key(other));
        let mut wave: Vec<_> =
            needs.iter().filter(|(_, of)| is_ready(of)).map(|(id, _)| id.clone()).collect();
        if wave.is_empty() {
            wave = needs.keys().cloned().collect();
        }
        for id in &wave {
            needs.remove(id);
        }
        waves.push(wave);
    }
    waves
}

fn wants_start(state: &super::State) -> bool {
    if matches!(state.status, Status::Restarting(_)) {
        return true;
    }
    let facts = state.status.facts();
    let ended = lifetime::Ended {
        policy: &state.host.restart_policy,
        code: facts.exit_code,
        stopped: false,
        manually_stopped: state.record.has_been_manually_stopped,
        restarts: state.record.restart_count,
        ran_for: jiff::SignedDuration::ZERO,
        last_delay: Duration::ZERO,
    };
    !facts.running && state.record.has_been_started_before && lifetime::decide(&ended).is_some()
}

fn read_all(dir: &Path) -> Result<Vec<Found>> {
    let io = |source| Error::Io { step: "read", path: dir.into(), source };
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().is_dir() {
            all.push(read_one(entry.path(), &entry.file_name()));
        }
    }
    Ok(all)
}

fn read_one(path: PathBuf, name: &OsString) -> Found {
    let text = name.to_string_lossy();
    if let Some(id) = text.strip_suffix(remove::REMOVING) {
        return Found::Leftover { id: id.parse().ok(), path };
    }
    match record::read(&path) {
        Ok((record, host)) => Found::Container(Box::new(record), Box::new(host)),
        // The records are written last but one: a directory of ours without them is a torn create.
        Err(Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound && text.parse::<ContainerId>().is_ok() =>
        {
            Found::Leftover { id: text.parse().ok(), path }
        }
        Err(error) => Found::Unreadable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_needed_comes_first() {
        let id = |n| ContainerId::from_random([n; 32]);
        let needs = |pairs: &[(u8, &[u8])]| {
            waves(pairs.iter().map(|(n, of)| (id(*n), of.iter().map(|o| id(*o)).collect())).collect())
        };
        assert!(needs(&[]).is_empty());
        // 9 is not to be started.
        let order = needs(&[(1, &[2, 9]), (2, &[3]), (3, &[]), (4, &[])]);
        assert_eq!(order, [vec![id(3), id(4)], vec![id(2)], vec![id(1)]]);
        assert_eq!(needs(&[(1, &[2]), (2, &[1]), (3, &[])]), [vec![id(3)], vec![id(1), id(2)]]);
    }

    #[test]
    fn directories_are_told_apart() {
        let dir = std::env::temp_dir().join(format!("wharf-restore-{}", std::process::id()));
        let id = "ab".repeat(32);
        let make = |name: &str| fs::create_dir_all(dir.join(name)).unwrap();
        make(&format!("{}-removing", "cd".repeat(32)));
        make(&"ef".repeat(32));
        make("stranger");
        make(&id);
        let record = record::Record { id: id.clone(), ..Default::default() };
        record::write(&dir.join(&id).join("config.v2.json"), &record).unwrap();
        record::write(&dir.join(&id).join("hostconfig.json"), &api::HostConfig::default()).unwrap();
        let mut seen = [0; 3];
        for found in read_all(&dir).unwrap() {
            match found {
                Found::Container(record, _) => {
                    assert_eq!(record.id, id);
                    seen[0] += 1;
                }
                Found::Leftover { id, .. } => {
                    assert!(id.is_some());
                    seen[1] += 1;
                }
                Found::Unreadable(_) => seen[2] += 1,
            }
        }
        assert_eq!(seen, [1, 2, 1]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
