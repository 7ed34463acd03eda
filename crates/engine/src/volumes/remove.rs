//! `DELETE /volumes/{name}` and `POST /volumes/prune`

use super::{ANONYMOUS, Volumes, directory_size, disk};
use crate::{Error, Filters, Result, blocking::blocking, events::EventKind};
use wharf_api::volume as api;

impl Volumes {
    /// Removes a volume.
    ///
    /// # Errors
    /// `get ...: no such volume`, unless forced; a conflict while it is in use.
    pub async fn remove(&self, name: &str, force: Force) -> Result<()> {
        let _one_change = self.0.changing.lock().await;
        if !self.table().contains_key(name) {
            return match force {
                Force::Yes => Ok(()),
                Force::No => Err(Error::NoSuchVolume(name.into())),
            };
        }
        self.remove_unlocked(name).await
    }

    async fn remove_unlocked(&self, name: &str) -> Result<()> {
        let users = self.users(name);
        if !users.is_empty() {
            let users: Vec<_> = users.iter().map(|id| id.as_str()).collect();
            return Err(Error::Conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        self.unmount_forgotten(name).await?;
        let dir = self.0.dir.join(name);
        blocking(move || disk::remove(&dir)).await.map_err(|e| e.context(format!("remove {name}")))?;
        self.table().remove(name);
        self.save().await?;
        self.emit("destroy", name, [("driver".to_owned(), "local".to_owned())].into());
        Ok(())
    }

    /// Removes volumes that nobody uses: anonymous ones, with the filter `all` named ones too.
    ///
    /// # Errors
    /// For filters that are not known.
    pub async fn prune(&self, filters: &Filters) -> Result<api::PruneReport> {
        filters.validate(&["label", "label!", "all"])?;
        let all = filters.bool("all")?.unwrap_or(false);
        let candidates: Vec<String> = {
            let table = self.table();
            let wanted = table.iter().filter(|(_, entry)| {
                let labels = entry.labels.clone().unwrap_or_default();
                entry.options.as_ref().is_none_or(|o| o.is_empty())
                    && (all || labels.contains_key(ANONYMOUS))
                    && filters.match_label_pair(&labels)
            });
            wanted.map(|(name, _)| name.clone()).collect()
        };
        let mut report = api::PruneReport::default();
        for name in candidates {
            let _one_change = self.0.changing.lock().await;
            if !self.users(&name).is_empty() {
                continue;
            }
            let dir = self.data_dir(&name);
            let size = blocking(move || Ok(directory_size(&dir))).await?;
            match self.remove_unlocked(&name).await {
                Ok(()) => {
                    report.space_reclaimed += size;
                    report.volumes_deleted.push(name);
                }
                Err(error) => tracing::warn!(volume = name, %error, "volume not pruned"),
            }
        }
        let reclaimed = [("reclaimed".to_owned(), report.space_reclaimed.to_string())].into();
        self.0.events.emit(EventKind::Volume, "prune", "", reclaimed);
        Ok(report)
    }

    /// Removes volumes that a container leaves behind: anonymous ones. What is in use elsewhere stays.
    pub(crate) async fn remove_abandoned(&self, names: &[String]) {
        for name in names {
            match self.remove(name, Force::Yes).await {
                Ok(()) => {}
                Err(error) if error.kind() == wharf_spec::ErrorKind::Conflict => {}
                Err(error) => tracing::warn!(volume = name, %error, "volume of a removed container stays"),
            }
        }
    }
}

/// Whether a volume that does not exist is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub enum Force {
    No,
    Yes,
}
