//! `GET /volumes`

use super::{Entry, Volumes, directory_size};
use crate::{Filters, Result, blocking::blocking};
use std::collections::{BTreeMap, BTreeSet};
use wharf_api::volume as api;

impl Volumes {
    /// The volumes that pass the filters, by name.
    ///
    /// # Errors
    /// For filters that are not known.
    pub async fn list(&self, filters: &Filters) -> Result<api::ListResponse> {
        filters.validate(&["dangling", "name", "driver", "label"])?;
        let dangling = filters.bool("dangling")?;
        let mut shown: Vec<api::Volume> = {
            let table = self.table();
            let local = table.iter().filter(|(_, entry)| entry.is_local());
            local.map(|(name, entry)| self.show(name, entry)).collect()
        };
        let (of_plugins, warnings) = self.of_plugins().await;
        shown.extend(of_plugins);
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        let wanted = |volume: &api::Volume| {
            let labels = volume.labels.clone().unwrap_or_default();
            filters.match_labels("label", &labels)
                && filters.exact_match("driver", &volume.driver)
                && (!filters.contains("name") || filters.regex_match("name", &volume.name))
                && dangling.is_none_or(|dangling| dangling == self.users(&volume.name).is_empty())
        };
        let volumes = shown.into_iter().filter(wanted).collect();
        Ok(api::ListResponse { volumes, warnings: (!warnings.is_empty()).then_some(warnings) })
    }

    /// The volumes of all plugins; of those that do not answer, what is known of them, and why they do not.
    async fn of_plugins(&self) -> (Vec<api::Volume>, Vec<String>) {
        let known: BTreeMap<String, Entry> = {
            let table = self.table();
            let plugged = table.iter().filter(|(_, entry)| !entry.is_local());
            plugged.map(|(name, entry)| (name.clone(), entry.clone())).collect()
        };
        let (mut shown, mut warnings) = (Vec::new(), Vec::new());
        let mut silent: BTreeSet<String> = known.values().map(|entry| entry.driver.clone()).collect();
        for driver in self.drivers().await {
            match driver.list().await {
                Ok(all) => {
                    silent.remove(driver.name());
                    let scope = driver.scope().await;
                    for told in all {
                        let stranger = Entry::of_plugin(driver.name(), None, None);
                        let entry = known.get(&told.name).unwrap_or(&stranger);
                        // A name is that of the volume that was here first.
                        if entry.driver == driver.name() && !self.is_local(&told.name) {
                            let name = told.name.clone();
                            shown.push(self.show_told(&name, entry, told, scope.clone()));
                        }
                    }
                }
                Err(error) => warnings.push(format!("list {}: {error}", driver.name())),
            }
        }
        let left = known.iter().filter(|(_, entry)| silent.contains(&entry.driver));
        shown.extend(left.map(|(name, entry)| self.show(name, entry)));
        (shown, warnings)
    }

    fn is_local(&self, name: &str) -> bool {
        self.table().get(name).is_some_and(Entry::is_local)
    }

    /// All volumes with their sizes and uses, for `GET /system/df`. Volumes with a mount of their own are not
    /// local, whatever their driver is called.
    ///
    /// # Errors
    /// When the engine is going down.
    pub async fn usage(&self) -> Result<Vec<api::Volume>> {
        let local: Vec<api::Volume> = {
            let table = self.table();
            let local =
                table.iter().filter(|(_, e)| e.is_local() && e.options.as_ref().is_none_or(|o| o.is_empty()));
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
