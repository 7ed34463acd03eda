//! The mount points of a new container (source: moby `daemon/volumes.go`, registerMountPoints, and
//! `daemon/create_unix.go`, createContainerVolumesOS).

use super::{
    parse::{BindSource, parse_raw, parse_spec, parse_volumes_from},
    propagation::needs_slave,
};
use crate::{
    Error, Images, Result, Volumes,
    containers::{Index, record::MountPoint, validate_path},
    volumes::{CreateVolume, VolumeUse},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use wharf_api::container as api;
use wharf_spec::ContainerId;

/// What mount points are made of.
pub(in crate::containers) struct Sources<'a> {
    pub(in crate::containers) index: &'a Index,
    pub(in crate::containers) volumes: &'a Volumes,
    pub(in crate::containers) images: &'a Images,
    pub(in crate::containers) data_root: &'a Path,
}

/// The mount points of a container, and the volumes that were made for it.
#[derive(Debug, Default)]
pub(in crate::containers) struct Registered {
    /// By destination.
    pub(in crate::containers) points: BTreeMap<String, MountPoint>,
    /// Volumes that did not exist before: removed again when the create fails.
    pub(in crate::containers) made: Vec<String>,
    explicit: BTreeSet<String>,
}

impl Registered {
    /// What the request, other containers and the image say, in this order of weight.
    ///
    /// # Errors
    /// In Docker's words; volumes made so far are in `self.made`.
    pub(in crate::containers) async fn register(
        &mut self,
        id: &ContainerId,
        host: &api::HostConfig,
        config: &api::Config,
        sources: &Sources<'_>,
    ) -> Result<()> {
        let Sources { index, volumes, images, data_root } = *sources;
        self.take_over(host, index)?;
        for raw in host.binds.iter().flatten() {
            let mut point = parse_raw(raw, &host.volume_driver)?;
            if needs_slave(&point.spec, data_root)? {
                point.propagation = "rslave".into();
            }
            let over_tmpfs = host.tmpfs.contains_key(&point.destination);
            self.add_explicit(id, point, over_tmpfs, volumes).await?;
        }
        for spec in &host.mounts {
            let mut point = parse_spec(spec, BindSource::MustExist)?;
            point.skip_mountpoint_creation =
                point.kind == "bind" && !spec.bind_options.as_ref().is_some_and(|o| o.create_mountpoint);
            if needs_slave(&point.spec, data_root)? {
                point.propagation = "rslave".into();
            }
            if point.kind == "image" {
                name_image(&mut point, images).await?;
            }
            self.add_explicit(id, point, false, volumes).await?;
        }
        self.of_image(id, host, config, volumes).await
    }

    /// `VolumesFrom`
    fn take_over(&mut self, host: &api::HostConfig, index: &Index) -> Result<()> {
        for item in host.volumes_from.iter().flatten() {
            let (name, writable) = parse_volumes_from(item)?;
            let other = index.get(name).map_err(|e| Error::Invalid(e.to_string()))?;
            let points = other.with(|state| state.record.mount_points.clone());
            for (destination, mut point) in points {
                point.rw &= writable;
                point.copy_data = false;
                point.mode.clear();
                self.points.insert(destination, point);
            }
        }
        Ok(())
    }

    async fn add_explicit(
        &mut self,
        id: &ContainerId,
        mut point: MountPoint,
        over_tmpfs: bool,
        volumes: &Volumes,
    ) -> Result<()> {
        let destination = point.destination.clone();
        if over_tmpfs || !self.explicit.insert(destination.clone()) {
            return Err(Error::Invalid(format!("Duplicate mount point: {destination}")));
        }
        if point.kind == "volume" {
            self.make_volume(id, &mut point, volumes).await?;
            // Docker shows the shared SELinux label as the mode of local volumes without one.
            if point.mode.is_empty() && point.driver == "local" {
                point.mode = "z".into();
            }
        }
        self.points.insert(destination, point);
        Ok(())
    }

    async fn make_volume(
        &mut self,
        id: &ContainerId,
        point: &mut MountPoint,
        volumes: &Volumes,
    ) -> Result<()> {
        let options = point.spec.volume_options.clone().unwrap_or_default();
        let made = volumes
            .create_for(CreateVolume {
                name: point.name.clone(),
                driver: point.driver.clone(),
                options: options.driver_config.map(|d| d.options).filter(|o| !o.is_empty()),
                labels: (!options.labels.is_empty()).then_some(options.labels),
                used_by: Some(id.clone()),
            })
            .await?;
        if made.usage == VolumeUse::New {
            self.made.push(made.name.clone());
        }
        point.name = made.name;
        point.driver = made.driver;
        point.source = made.mountpoint;
        Ok(())
    }

    /// `VOLUME` of the image and `Volumes` of the request: an anonymous volume each, where nothing else is
    /// mounted.
    async fn of_image(
        &mut self,
        id: &ContainerId,
        host: &api::HostConfig,
        config: &api::Config,
        volumes: &Volumes,
    ) -> Result<()> {
        for target in config.volumes.iter().flat_map(|set| set.keys()) {
            let destination = validate_path(target);
            if self.points.contains_key(&destination) || host.tmpfs.contains_key(&destination) {
                continue;
            }
            if destination == "/" {
                return Err(Error::Invalid("invalid specification: destination can't be '/'".into()));
            }
            let mut point = MountPoint {
                kind: "volume".into(),
                destination: destination.clone(),
                driver: host.volume_driver.clone(),
                rw: true,
                copy_data: true,
                ..MountPoint::default()
            };
            self.make_volume(id, &mut point, volumes).await?;
            self.points.insert(destination, point);
        }
        Ok(())
    }
}

/// An image's files are what they are: the mount names it by its id from now on.
async fn name_image(point: &mut MountPoint, images: &Images) -> Result<()> {
    let image = images.resolve(&point.spec.source, None).await?;
    let directory = images.layers().image_directory(&image.id)?;
    let directory = directory.ok_or_else(|| Error::Refused("the image has no layers".into()))?;
    point.name = std::mem::replace(&mut point.spec.source, image.id.to_string());
    point.source = directory.to_string_lossy().into_owned();
    point.rw = false;
    Ok(())
}
