//! `DELETE /volumes/{name}` and `POST /volumes/prune`

use super::{ANONYMOUS, LOCAL, Volumes, directory_size, disk};
use crate::{Error, Filters, Result, blocking::blocking, events::EventKind};
use wharf_api::volume as api;

impl Volumes {
    /// Removes a volume.
    ///
    /// # Errors
    /// `get ...: no such volume`, unless forced; a conflict while it is in use; what its plugin says: forced, it is
    /// forgotten all the same.
    pub async fn remove(&self, name: &str, force: Force) -> Result<()> {
        let _one_change = self.one_change(name).await;
        let driver = self.table().get(name).map(|entry| entry.driver.clone());
        let driver = match driver {
            Some(driver) => driver,
            None => match self.probe(name).await {
                Ok(found) => found.driver,
                Err(_) if force == Force::Yes => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        self.refuse_in_use(name)?;
        match driver.as_str() {
            LOCAL => self.remove_local(name).await,
            driver => self.remove_by(driver, name, force).await,
        }
    }

    fn refuse_in_use(&self, name: &str) -> Result<()> {
        let users = self.users(name);
        if users.is_empty() {
            return Ok(());
        }
        let users: Vec<_> = users.iter().map(|id| id.as_str()).collect();
        Err(Error::Conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))))
    }

    async fn remove_local(&self, name: &str) -> Result<()> {
        self.unmount_forgotten(name).await?;
        let dir = self.0.dir.join(name);
        blocking(move || disk::remove(&dir)).await.map_err(|e| e.context(format!("remove {name}")))?;
        self.forget(name).await?;
        self.emit("destroy", name, [("driver".to_owned(), LOCAL.to_owned())].into());
        Ok(())
    }

    async fn remove_by(&self, driver: &str, name: &str, force: Force) -> Result<()> {
        let removed = match self.driver(driver).await {
            Ok(Some(plugin)) => plugin.remove(name).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if removed.is_ok() || force == Force::Yes {
            self.forget(name).await?;
        }
        removed.map_err(|error| error.context(format!("remove {name}")))?;
        self.emit("destroy", name, [("driver".to_owned(), driver.to_owned())].into());
        Ok(())
    }

    async fn forget(&self, name: &str) -> Result<()> {
        self.table().remove(name);
        self.save().await
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
                entry.is_local()
                    && entry.options.as_ref().is_none_or(|o| o.is_empty())
                    && (all || labels.contains_key(ANONYMOUS))
                    && filters.match_label_pair(&labels)
            });
            wanted.map(|(name, _)| name.clone()).collect()
        };
        let mut report = api::PruneReport::default();
        for name in candidates {
            let _one_change = self.one_change(&name).await;
            if !self.users(&name).is_empty() {
                continue;
            }
            let dir = self.data_dir(&name);
            let size = blocking(move || Ok(directory_size(&dir))).await?;
            match self.remove_local(&name).await {
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
