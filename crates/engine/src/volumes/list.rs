//! `GET /volumes`

use super::{Volumes, directory_size};
use crate::{Filters, Result, blocking::blocking};
use wharf_api::volume as api;

impl Volumes {
    /// The volumes that pass the filters, by name.
    ///
    /// # Errors
    /// For filters that are not known.
    pub async fn list(&self, filters: &Filters) -> Result<api::ListResponse> {
        filters.validate(&["dangling", "name", "driver", "label"])?;
        let dangling = filters.bool("dangling")?;
        let shown: Vec<api::Volume> = {
            let table = self.table();
            table.iter().map(|(name, entry)| self.show(name, entry)).collect()
        };
        let wanted = |volume: &api::Volume| {
            let labels = volume.labels.clone().unwrap_or_default();
            filters.match_labels("label", &labels)
                && filters.exact_match("driver", &volume.driver)
                && (!filters.contains("name") || filters.regex_match("name", &volume.name))
                && dangling.is_none_or(|dangling| dangling == self.users(&volume.name).is_empty())
        };
        Ok(api::ListResponse { volumes: shown.into_iter().filter(wanted).collect(), warnings: None })
    }

    /// All volumes with their sizes and uses, for `GET /system/df`. Volumes with a mount of their own are not
    /// local, whatever their driver is called.
    ///
    /// # Errors
    /// When the engine is going down.
    pub async fn usage(&self) -> Result<Vec<api::Volume>> {
        let local: Vec<api::Volume> = {
            let table = self.table();
            let local = table.iter().filter(|(_, e)| e.options.as_ref().is_none_or(|o| o.is_empty()));
            local.map(|(name, entry)| self.show(name, entry)).collect()
        };
        let mut measured = blocking(move || {
            let mut local = local;
            for volume in &mut local {
                let size = directory_size(volume.mountpoint.as_ref());
                let size = i64::try_from(size).unwrap_or(i64::MAX);
                volume.usage_data = Some(api::UsageData { ref_count: 0, size });
            }
            Ok(local)
        })
        .await?;
        for volume in &mut measured {
            let users = i64::try_from(self.users(&volume.name).len()).unwrap_or(i64::MAX);
            if let Some(usage) = &mut volume.usage_data {
                usage.ref_count = users;
            }
        }
        Ok(measured)
    }
}
