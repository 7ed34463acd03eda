//! `POST /volumes/create`, and volumes made for a container.

use super::{ANONYMOUS, Entry, Volumes, disk};
use crate::{Error, Result, blocking::blocking, error::invalid, random};
use std::collections::BTreeSet;
use wharf_api::{StringMap, time::Time, volume as api};
use wharf_spec::{ContainerId, VolumeName};

/// A volume that is wanted.
#[derive(Debug, Default)]
pub(crate) struct CreateVolume {
    /// Empty: a random name.
    pub(crate) name: String,
    /// Empty is `local`.
    pub(crate) driver: String,
    pub(crate) options: Option<StringMap>,
    pub(crate) labels: Option<StringMap>,
    /// Held for this container until [`Volumes::release`].
    pub(crate) used_by: Option<ContainerId>,
}

/// Whether a volume was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VolumeUse {
    New,
    Existing,
}

/// A volume that is there now.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) mountpoint: String,
    pub(crate) usage: VolumeUse,
}

impl Volumes {
    /// Makes a volume. One of this name that exists is the answer as it is.
    ///
    /// # Errors
    /// `create ...: ...` for bad names, drivers and options.
    pub async fn create(&self, request: api::CreateRequest) -> Result<api::Volume> {
        if request.cluster_volume_spec.is_some() {
            return Err(Error::NotImplemented("cluster volumes"));
        }
        let made = self
            .create_for(CreateVolume {
                name: request.name,
                driver: request.driver,
                options: request.driver_opts,
                labels: request.labels,
                used_by: None,
            })
            .await?;
        self.inspect(&made.name).await
    }

    pub(crate) async fn create_for(&self, mut wanted: CreateVolume) -> Result<Made> {
        if wanted.name.is_empty() {
            wanted.name = VolumeName::from_random(random::bytes32()).to_string();
            wanted.labels.get_or_insert_default().insert(ANONYMOUS.into(), String::new());
            if let Some(container) = &wanted.used_by {
                self.begin(container, &wanted.name).await?;
            }
        }
        let name = wanted.name.clone();
        self.make(wanted).await.map_err(|error| error.context(format!("create {name}")))
    }

    async fn make(&self, wanted: CreateVolume) -> Result<Made> {
        let CreateVolume { name, driver, options, labels, used_by } = wanted;
        let _one_change = self.0.changing.lock().await;
        let for_container = used_by.is_some();
        let hold: BTreeSet<_> = used_by.into_iter().collect();
        let made = |usage| Made {
            name: name.clone(),
            driver: "local".into(),
            mountpoint: self.data_dir(&name).to_string_lossy().into_owned(),
            usage,
        };
        let existing = self.table().get_mut(&name).map(|entry| {
            entry.held.extend(hold.clone());
            entry.options.clone()
        });
        if let Some(existing) = existing {
            check_driver(&driver)?;
            let differs = options.as_ref().is_some_and(|o| !o.is_empty()) && existing != options;
            if differs {
                return Err(Error::Conflict(format!("volume {name} already exists with other options")));
            }
            return Ok(made(VolumeUse::Existing));
        }
        check_driver(&driver)?;
        check_name(&name)?;
        check_options(options.as_ref())?;
        let (dir, on_disk, owner) = (self.0.dir.join(&name), options.clone(), self.0.owner);
        blocking(move || disk::make(&dir, on_disk.as_ref(), owner)).await?;
        let entry = Entry { labels, options, created: Time::now(), held: hold, mounted: BTreeSet::new() };
        self.table().insert(name.clone(), entry);
        if let Err(error) = self.note().await {
            self.table().remove(&name);
            let dir = self.0.dir.join(&name);
            if let Err(left) = blocking(move || disk::remove(&dir)).await {
                tracing::warn!(volume = %name, error = %left, "could not take back a volume");
            }
            return Err(error);
        }
        match for_container {
            // A container does not wait for the disk to start.
            true => drop(tokio::spawn(self.clone().sync_or_warn())),
            false => self.sync().await?,
        }
        self.emit("create", &name, [("driver".to_owned(), "local".to_owned())].into());
        Ok(made(VolumeUse::New))
    }
}

fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "" | "local" => Ok(()),
        other => Err(Error::NotFound(format!(
            "error looking up volume plugin {other}: plugin \"{other}\" not found"
        ))),
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return invalid("volume name is too short, names should be at least two alphanumeric characters");
    }
    name.parse::<VolumeName>().map(drop).map_err(|e| Error::Invalid(e.to_string()))
}

/// Source: moby `daemon/volume/local/local_unix.go`, validateOpts.
fn check_options(options: Option<&StringMap>) -> Result<()> {
    let Some(options) = options else { return Ok(()) };
    if let Some(key) = options.keys().find(|k| !matches!(k.as_str(), "type" | "o" | "device" | "size")) {
        return invalid(format!("invalid option: {key:?}"));
    }
    if options.contains_key("size") {
        return invalid("quota size requested but no quota support");
    }
    for (key, needed) in [("device", &["type"][..]), ("type", &["device"]), ("o", &["device", "type"])] {
        let missing = needed.iter().find(|n| !options.contains_key(**n));
        if let (true, Some(missing)) = (options.contains_key(key), missing) {
            return invalid(format!("missing required option: {missing:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_dockers() {
        let options = |list: &[(&str, &str)]| {
            let map: StringMap = list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            check_options(Some(&map)).map_or_else(|e| e.to_string(), |()| "fine".into())
        };
        assert_eq!(options(&[("nosuch", "1")]), "invalid option: \"nosuch\"");
        assert_eq!(options(&[("type", "tmpfs")]), "missing required option: \"device\"");
        assert_eq!(options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]), "fine");
        assert!(
            check_name("-bad/name").unwrap_err().to_string().starts_with("\"-bad/name\" includes invalid")
        );
        assert!(check_name("a").is_err());
        assert_eq!(
            check_driver("nosuch").unwrap_err().to_string(),
            "error looking up volume plugin nosuch: plugin \"nosuch\" not found"
        );
    }
}
