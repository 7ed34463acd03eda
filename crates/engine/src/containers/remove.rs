//! `DELETE /containers/{id}`

use super::{
    Container, Containers, RemoveOptions,
    create::parse_link,
    files,
    kill::By,
    record::{self, Record},
    removed_logs,
};
use crate::{
    Error, Result,
    blocking::blocking,
    state::Verb,
    task::{remove_run_dir, run_dir},
};
use std::{fs, path::Path, sync::Arc};
use wharf_sys::fault;

/// What becomes of the volumes that were made for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnonymousVolumes {
    Keep,
    Remove,
}

impl From<RemoveOptions> for AnonymousVolumes {
    fn from(options: RemoveOptions) -> Self {
        if options.volumes { Self::Remove } else { Self::Keep }
    }
}

/// A directory with this ending is being removed; restoring carries on with it.
pub(super) const REMOVING: &str = "-removing";
/// A file in such a directory: the container's anonymous volumes go too.
const WITH_VOLUMES: &str = "with-volumes";

impl Containers {
    /// Removes a container.
    ///
    /// # Errors
    /// `cannot remove container ...: ...` while it runs and `force` is not asked for.
    pub async fn remove(&self, id_or_name: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return self.remove_link(id_or_name).await;
        }
        let container = self.get(id_or_name)?;
        let already = container.update(|state| std::mem::replace(&mut state.removing, true));
        if already {
            return Err(Error::Conflict(format!("removal of container {id_or_name} is already in progress")));
        }
        let removed = self.remove_marked(&container, options).await;
        if removed.is_err() {
            container.update(|state| state.removing = false);
        }
        removed.map_err(|error| error.context(format!("cannot remove container {id_or_name:?}")))
    }

    async fn remove_marked(&self, container: &Arc<Container>, options: RemoveOptions) -> Result<()> {
        if container.is_running() {
            if !options.force {
                container.check(Verb::Remove)?;
            }
            match self.kill_and_wait(container, By::Client).await {
                Ok(()) | Err(Error::NotRunning(_)) => {}
                Err(error) => return Err(error.context("could not kill container")),
            }
        }
        let _one_verb = container.lifecycle.lock().await;
        // It may have been started again, or have removed itself.
        if container.with(|state| state.status.has_process()) {
            container.check(Verb::Remove)?;
        }
        self.cancel_restart(container);
        self.delete_locked(container, options.into()).await
    }

    /// Removes a link by its name, `parent/alias`: neither of its containers goes. A parent that runs finds the
    /// alias no more (source: moby `daemon/delete.go`, rmLink).
    async fn remove_link(&self, name: &str) -> Result<()> {
        let Some((parent, alias)) = name.trim_start_matches('/').rsplit_once('/') else {
            self.get(name)?;
            return Err(Error::Refused(
                "Conflict, cannot remove the default link name of the container".into(),
            ));
        };
        let missing = |_| Error::NoSuchContainer(name.to_owned());
        let parent = self.get(parent).map_err(missing)?;
        let _one_verb = parent.lifecycle.lock().await;
        let is_it = |link: &String| parse_link(link).1 == alias;
        let removed = parent.update(|state| {
            let links = Arc::make_mut(&mut state.host).links.get_or_insert_default();
            let before = links.len();
            links.retain(|link| !is_it(link));
            links.len() < before
        });
        if !removed {
            return Err(Error::NoSuchContainer(name.to_owned()));
        }
        parent.save_all().await?;
        if parent.is_running() {
            let (parent, alias) = (Arc::clone(&parent), alias.to_owned());
            blocking(move || files::forget_host(parent.dir(), &alias)).await?;
        }
        Ok(())
    }

    /// Removes what there is of a container that does not run. The lifecycle lock is held. One that is gone is
    /// no error.
    pub(super) async fn delete_locked(
        &self,
        container: &Arc<Container>,
        volumes: AnonymousVolumes,
    ) -> Result<()> {
        if container.with(|state| state.removed) {
            return Ok(());
        }
        container.update(|state| {
            state.removing = true;
            state.status.removing();
        });
        self.forwarders().finish(&container.id).await;
        let doomed_volumes = match volumes {
            AnonymousVolumes::Keep => Vec::new(),
            AnonymousVolumes::Remove => container.with(|state| anonymous_volumes(&state.record)),
        };
        if let Err(error) = self.delete_files(container, doomed_volumes).await {
            container.update(|state| state.status.removal_failed(error.to_string()));
            return Err(error);
        }
        self.execs().container_removed(&container.id);
        container.update(|state| {
            state.removed = true;
            state.early.clear();
        });
        self.emit_plain(container, "destroy");
        Ok(())
    }

    /// Layer, volumes, directory, in this order: what a crash leaves is removed by restoring.
    async fn delete_files(&self, container: &Arc<Container>, volumes: Vec<String>) -> Result<()> {
        let (layers, id, dir) =
            (self.parts().images.layers().clone(), container.id.clone(), container.dir().to_owned());
        let run_dir = run_dir(self.config(), &id);
        let has_volumes = !volumes.is_empty();
        let about = removed_logs::About::of(container);
        let config = Arc::clone(self.config());
        let doomed = blocking(move || {
            if has_volumes {
                mark_with_volumes(&dir)?;
            }
            // From the rename on it is no container any more, whatever happens.
            let doomed = rename_away(&dir)?;
            removed_logs::keep(&config, &about, &doomed);
            remove_run_dir(&run_dir)?;
            layers.remove(&id)?;
            fault::death("container.unlayered");
            if !has_volumes {
                remove_dir(&doomed)?;
            }
            Ok(doomed)
        })
        .await?;
        self.parts().index.take(&container.id);
        if has_volumes {
            self.parts().volumes.remove_abandoned(&volumes).await;
            fault::death("container.volumes");
            if let Err(error) = blocking(move || remove_dir(&doomed)).await {
                tracing::warn!(container = %container.id, %error, "directory of a removed container stays");
            }
        }
        Ok(())
    }
}

/// Volumes that nobody gave a name to.
fn anonymous_volumes(record: &Record) -> Vec<String> {
    let anonymous = record.mount_points.values().filter(|p| p.kind == "volume" && p.spec.source.is_empty());
    anonymous.map(|p| p.name.clone()).collect()
}

/// Volumes that are to go with the directory of a torn removal. Blocks.
pub(super) fn volumes_of_leftover(dir: &Path) -> Vec<String> {
    if !dir.join(WITH_VOLUMES).exists() {
        return Vec::new();
    }
    record::read_record(dir).map(|record| anonymous_volumes(&record)).unwrap_or_default()
}

fn mark_with_volumes(dir: &Path) -> Result<()> {
    let path = dir.join(WITH_VOLUMES);
    match fs::write(&path, b"") {
        // A second try: it is renamed already.
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { step: "unable to remove filesystem", path, source })
        }
        _ => Ok(()),
    }
}

/// Renames a container's directory to where it is none; returns the new path. Blocks.
fn rename_away(dir: &Path) -> Result<std::path::PathBuf> {
    let mut name = dir.as_os_str().to_owned();
    name.push(REMOVING);
    let doomed = std::path::PathBuf::from(name);
    match fault::point("container.retire").and_then(|()| fs::rename(dir, &doomed)) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { step: "unable to remove filesystem", path: dir.into(), source })
        }
        _ => Ok(doomed),
    }
}

/// Removes a directory with all that is in it; mounts in it are detached first. One that is not there is no
/// error. Blocks.
pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    let shm = dir.join("mounts/shm");
    if shm.exists()
        && let Err(error) = wharf_sys::mount::detach_if_mounted(&shm)
    {
        tracing::warn!(path = %shm.display(), %error, "shm stays mounted");
    }
    match fault::point("container.remove").and_then(|()| fs::remove_dir_all(dir)) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { step: "unable to remove filesystem", path: dir.into(), source })
        }
        _ => Ok(()),
    }
}
