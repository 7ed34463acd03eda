//! `POST /volumes/create`, and volumes made for a container.

use super::{ANONYMOUS, Entry, LOCAL, Volumes, disk, driver::Driver};
use crate::{Error, Result, blocking::blocking, containers::bytes, error::invalid, random};
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
        let _one_change = self.one_change(&wanted.name).await;
        let driver = self.driver(&wanted.driver).await?;
        if let Some(existing) = self.existing(&wanted)? {
            return Ok(existing);
        }
        let is_anonymous = wanted.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS));
        if driver.is_none()
            && wanted.driver.is_empty()
            && !is_anonymous
            && self.probe(&wanted.name).await.is_ok()
        {
            // A plugin has one of this name.
            return self.existing(&wanted)?.ok_or_else(|| Error::NoSuchVolume(wanted.name.clone()));
        }
        match driver {
            None => self.make_local(wanted).await,
            Some(driver) => self.make_by(&driver, wanted).await,
        }
    }

    /// The volume of this name, held for whom it is wanted.
    fn existing(&self, wanted: &CreateVolume) -> Result<Option<Made>> {
        let mut table = self.table();
        let Some(entry) = table.get_mut(&wanted.name) else { return Ok(None) };
        if !wanted.driver.is_empty() && wanted.driver != entry.driver {
            return Err(Error::Conflict(format!(
                "driver '{}' already has volume '{}': volume name must be unique",
                entry.driver, wanted.name
            )));
        }
        let differs =
            wanted.options.as_ref().is_some_and(|o| !o.is_empty()) && entry.options != wanted.options;
        if differs && entry.is_local() {
            return Err(Error::Conflict(format!("volume {} already exists with other options", wanted.name)));
        }
        entry.held.extend(wanted.used_by.clone());
        Ok(Some(self.made(&wanted.name, entry, VolumeUse::Existing)))
    }

    fn made(&self, name: &str, entry: &Entry, usage: VolumeUse) -> Made {
        let mountpoint = self.show(name, entry).mountpoint;
        Made { name: name.to_owned(), driver: entry.driver.clone(), mountpoint, usage }
    }

    async fn make_local(&self, wanted: CreateVolume) -> Result<Made> {
        let CreateVolume { name, options, labels, used_by, .. } = wanted;
        check_name(&name)?;
        check_options(options.as_ref())?;
        let (dir, on_disk, owner) = (self.0.dir.join(&name), options.clone(), self.0.owner);
        blocking(move || disk::make(&dir, on_disk.as_ref(), owner)).await?;
        let for_container = used_by.is_some();
        let held: BTreeSet<_> = used_by.into_iter().collect();
        let (driver, created) = (LOCAL.to_owned(), Time::now());
        let entry = Entry { driver, labels, options, created, held, ..Entry::default() };
        let made = self.made(&name, &entry, VolumeUse::New);
        if let Err(error) = self.enter(&name, entry).await {
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
        Ok(made)
    }

    /// A plugin's volume. One that the plugin has already is as good.
    async fn make_by(&self, driver: &Driver, wanted: CreateVolume) -> Result<Made> {
        let CreateVolume { name, options, labels, used_by, .. } = wanted;
        if driver.get(&name).await.is_err() {
            driver.create(&name, options.as_ref()).await?;
        }
        let mut entry = Entry::of_plugin(driver.name(), labels, options);
        entry.held.extend(used_by);
        let made = self.made(&name, &entry, VolumeUse::New);
        self.enter(&name, entry).await?;
        self.sync().await?;
        Ok(made)
    }

    /// Takes a new volume into the table and the notes, or into neither.
    async fn enter(&self, name: &str, entry: Entry) -> Result<()> {
        let driver = entry.driver.clone();
        self.table().insert(name.to_owned(), entry);
        if let Err(error) = self.note().await {
            self.table().remove(name);
            return Err(error);
        }
        self.emit("create", name, [("driver".to_owned(), driver)].into());
        Ok(())
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
    if options.get("type").is_some_and(|kind| kind == "cifs")
        && options.get("device").is_some_and(|device| has_port(device))
    {
        return invalid("port not allowed in CIFS device URL, include 'port' in 'o='");
    }
    if let Some(size) = options.get("size") {
        match bytes(size) {
            Some(0) => {}
            Some(_) => return invalid("quota size requested but no quota support"),
            None => return invalid(format!("invalid size: '{size}'")),
        }
    }
    for (key, needed) in [("device", &["type"][..]), ("type", &["device"]), ("o", &["device", "type"])] {
        let missing = needed.iter().find(|n| !options.contains_key(**n));
        if let (true, Some(missing)) = (options.contains_key(key), missing) {
            return invalid(format!("missing required option: {missing:?}"));
        }
    }
    Ok(())
}

/// Whether `//host:port/share` has a port.
fn has_port(device: &str) -> bool {
    let host = device.split_once("//").map_or("", |(_, rest)| rest).split('/').next().unwrap_or("");
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
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
        let cifs = |device| options(&[("type", "cifs"), ("device", device), ("o", "addr=h")]);
        assert_eq!(cifs("//h:445/s"), "port not allowed in CIFS device URL, include 'port' in 'o='");
        assert_eq!(cifs("//h/s:1"), "fine");
        assert_eq!(options(&[("size", "1g")]), "quota size requested but no quota support");
        assert_eq!(options(&[("size", "much")]), "invalid size: 'much'");
        assert!(
            check_name("-bad/name").unwrap_err().to_string().starts_with("\"-bad/name\" includes invalid")
        );
        assert!(check_name("a").is_err());
    }
}
