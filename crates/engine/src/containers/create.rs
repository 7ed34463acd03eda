//! `POST /containers/create`: validate, resolve the image, make layer, volumes and record.

use super::{
    Container, Containers, CreateOptions, Endpoint, NetworkRecord, adapt, merge,
    mounts::{Registered, Sources},
    name, plan,
    record::Record,
    validate::{self, Against, Purpose},
};
use crate::{Error, Result, blocking::blocking, images::Image, random, undo::Undo};
use std::sync::Arc;
use wharf_api::{container as api, network::NetworkingConfig, time::Time};
use wharf_spec::{ContainerId, ContainerName, ErrorKind, Platform};
use wharf_sys::fault;

/// More tries than names can be taken by chance.
const NAME_TRIES: usize = 32;

/// Everything about a container that is being made.
struct New {
    id: ContainerId,
    name: ContainerName,
    config: api::Config,
    host: api::HostConfig,
    image: Option<Image>,
    security: plan::SecurityOptions,
    networks: NetworkRecord,
}

impl Containers {
    /// Makes a container.
    ///
    /// # Errors
    /// In Docker's words and order; nothing is left then.
    pub async fn create(&self, options: CreateOptions) -> Result<api::CreateResponse> {
        let CreateOptions { id, name, platform, request } = options;
        let id = id.unwrap_or_else(|| ContainerId::from_random(random::bytes32()));
        let api::CreateRequest { mut config, host_config, networking_config } = request;
        let mut host = host_config.unwrap_or_default();
        if host.restart_policy.name.is_empty() {
            host.restart_policy.name = "no".into();
        }
        let against = Against { engine: self.config(), kernel: self.kernel(), purpose: Purpose::Create };
        let mut warnings = validate::settings(&against, &mut host, Some(&mut config))?;
        let image = self.image_of(&config, platform.as_ref(), &mut warnings).await?;
        validate::networking(networking_config.as_ref())?;
        let endpoints = networking_config.iter().flat_map(|n| n.endpoints_config.iter().flatten());
        for (name, settings) in endpoints {
            let checked = self.parts().networks.validate_endpoint(name, settings);
            checked.map_err(|e| Error::Invalid(e.to_string()))?;
        }
        adapt::adapt(self.config(), self.kernel(), &self.parts().index, &mut host);
        if host.network_mode.is_bridge() && host.links.as_ref().is_some_and(|links| !links.is_empty()) {
            warnings.push(
                "Links on the default bridge network are deprecated and will be removed in a future release. Use a custom network instead."
                    .into(),
            );
        }
        merge::merge(&mut config, image.as_ref().and_then(|i| i.config.config.as_ref()))?;
        validate::merge_log_config(self.config(), &mut host.log_config)?;
        let options = host.security_opt.as_deref().unwrap_or_default();
        warnings.extend(plan::check_security_options(options, self.kernel().apparmor)?);
        let mut undo = Undo::default();
        let made = self.make(&mut undo, (id, name.as_deref()), config, host, image, networking_config).await;
        match made {
            Ok(container) => {
                undo.commit();
                self.parts().volumes.release(&container.id);
                fault::death("create.saved");
                self.parts().volumes.finish(&container.id).await;
                self.emit_plain(&container, "create");
                warnings.extend(self.ownership_warnings(&container).await);
                Ok(api::CreateResponse { id: container.id.to_string(), warnings })
            }
            Err(error) => {
                undo.run().await;
                Err(error)
            }
        }
    }

    async fn image_of(
        &self,
        config: &api::Config,
        platform: Option<&Platform>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Image>> {
        if config.image.is_empty() {
            return Ok(None);
        }
        let image = self.parts().images.resolve(&config.image, platform).await?;
        let (is, ours) = (image.config.platform(), crate::system::host_platform());
        if platform.is_none() && (is.os != ours.os || is.architecture != ours.architecture) {
            warnings.push(format!(
                "The requested image's platform ({}/{}) does not match the detected host platform ({}/{}) and no specific platform was requested",
                is.os, is.architecture, ours.os, ours.architecture
            ));
        }
        Ok(Some(image))
    }

    async fn make(
        &self,
        undo: &mut Undo,
        (id, wanted_name): (ContainerId, Option<&str>),
        mut config: api::Config,
        host: api::HostConfig,
        image: Option<Image>,
        networking: Option<NetworkingConfig>,
    ) -> Result<Arc<Container>> {
        let name = self.reserve_name(wanted_name, &id)?;
        let (index, reserved) = (self.parts().index.clone(), (name.clone(), id.clone()));
        undo.push("release name", async move { index.release(&reserved.0, &reserved.1) });
        if config.hostname.is_empty() {
            config.hostname = default_hostname(&host, &id);
        }
        let options = host.security_opt.as_deref().unwrap_or_default();
        let security = plan::parse_security_options(options, self.config().no_new_privileges)?;
        self.check_links(&host)?;
        let networks = self.initial_networks(&config, &host, networking);
        let points = self.register_mounts(undo, &id, &host, &config).await?;
        let new = New { id, name, config, host, image, security, networks };
        self.write_down(undo, new, points).await
    }

    fn reserve_name(&self, wanted: Option<&str>, id: &ContainerId) -> Result<ContainerName> {
        let index = &self.parts().index;
        if let Some(wanted) = wanted.filter(|name| !name.is_empty()) {
            let name: ContainerName =
                wanted.parse().map_err(|e: wharf_spec::ParseIdError| Error::Invalid(e.to_string()))?;
            return index.reserve(&name, id).map(|()| name);
        }
        for attempt in 0..NAME_TRIES {
            let name = name::made_up(attempt);
            if index.reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        // The short id is as good as unique, as Docker's last resort.
        let name: ContainerName = id.short().parse().expect("hex is a valid name");
        index.reserve(&name, id).map(|()| name)
    }

    /// Links name containers that exist (source: moby `daemon/daemon_unix.go`, registerLinks).
    fn check_links(&self, host: &api::HostConfig) -> Result<()> {
        for link in legacy_links(host) {
            let (name, _) = parse_link(link);
            let child = self.get(name).map_err(|error| match error.kind() {
                ErrorKind::NotFound => Error::Invalid(format!("could not get container for {name}: {error}")),
                _ => error,
            })?;
            if child.host_config().network_mode.is_host() {
                return Err(Error::Conflict(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
                        .into(),
                ));
            }
        }
        Ok(())
    }

    /// The networks of a new container: those asked for, and the one of its mode (source: moby
    /// `daemon/container_operations.go`, updateContainerNetworkSettings).
    fn initial_networks(
        &self,
        config: &api::Config,
        host: &api::HostConfig,
        networking: Option<NetworkingConfig>,
    ) -> NetworkRecord {
        let mut record = NetworkRecord::default();
        let mode = &host.network_mode;
        if config.network_disabled || mode.container().is_some() {
            return record;
        }
        let resolve = |name: &str| match mode.is_user_defined() {
            true => self.parts().networks.resolve(name).ok().map(|(name, _)| name),
            false => None,
        };
        let own = resolve(mode.as_str()).unwrap_or_else(|| mode.to_string());
        for (name, settings) in networking.and_then(|n| n.endpoints_config).unwrap_or_default() {
            // Clients may name the network of the mode as `default` or by its id.
            let is_own = name == "default" || name == mode.as_str() || resolve(&name).as_ref() == Some(&own);
            let name = if is_own { own.clone() } else { name };
            let desired_mac_address = settings.mac_address.clone();
            record.networks.insert(name, Endpoint { settings, ipam_operational: false, desired_mac_address });
        }
        let endpoint = record.networks.entry(own).or_default();
        if !config.mac_address.is_empty() && endpoint.desired_mac_address.is_empty() {
            endpoint.desired_mac_address.clone_from(&config.mac_address);
            endpoint.settings.mac_address.clone_from(&config.mac_address);
        }
        record
    }

    async fn register_mounts(
        &self,
        undo: &mut Undo,
        id: &ContainerId,
        host: &api::HostConfig,
        config: &api::Config,
    ) -> Result<Registered> {
        let mut registered = Registered::default();
        let parts = self.parts();
        let (index, images, data_root) = (&parts.index, &parts.images, self.config().data_root.as_path());
        let volumes = parts.volumes.clone();
        let sources = Sources { index, volumes: &volumes, images, data_root };
        let result = registered.register(id, host, config, &sources).await;
        let (made, id) = (registered.made.clone(), id.clone());
        undo.push("remove volumes", async move {
            volumes.release(&id);
            volumes.remove_abandoned(&made).await;
            volumes.finish(&id).await;
        });
        result.map(|()| registered)
    }

    async fn write_down(&self, undo: &mut Undo, new: New, mounts: Registered) -> Result<Arc<Container>> {
        let dir = self.config().containers_dir().join(new.id.as_str());
        let record = self.record(&new, &mounts);
        let New { id, name, host, image, .. } = new;
        let container = Arc::new(Container::new(dir.clone(), id.clone(), name, record, host));
        let (layers, cleanup) = (self.parts().images.layers().clone(), (id.clone(), dir.clone()));
        let remove = layers.clone();
        undo.push("remove layer and directory", async move {
            let removed = blocking(move || {
                let (id, dir) = cleanup;
                let layer = remove.remove(&id);
                super::remove::remove_dir(&dir).and(layer)
            });
            if let Err(error) = removed.await {
                tracing::warn!(%error, "a failed create left something");
            }
        });
        let (fresh, engine, made) = (Arc::clone(&container), Arc::clone(self.config()), dir.clone());
        blocking(move || {
            layers.create(&id, image.as_ref().map(|i| &i.id), &fresh.host_config().storage_opt)?;
            engine.make_container_dir(&made)
        })
        .await?;
        Box::pin(self.populate_volumes(&container)).await?;
        let fresh = Arc::clone(&container);
        blocking(move || {
            super::record::write(&dir.join("hostconfig.json"), &*fresh.host_config())?;
            fresh.save_now()
        })
        .await?;
        self.parts().index.add(Arc::clone(&container));
        Ok(container)
    }

    fn record(&self, new: &New, mounts: &Registered) -> Record {
        let mut command = merge::command(&new.config).into_iter();
        let path = command.next().unwrap_or_default();
        let mut record = Record {
            id: new.id.to_string(),
            created: Time::now(),
            path,
            args: Some(command.collect()),
            config: new.config.clone(),
            image: new.image.as_ref().map_or_else(String::new, |i| i.id.to_string()),
            network_settings: new.networks.clone(),
            driver: "overlay2".into(),
            os: "linux".into(),
            image_platform: new
                .image
                .as_ref()
                .map_or_else(crate::system::host_platform, |i| i.config.platform()),
            mount_points: mounts.points.clone(),
            app_armor_profile: new.security.apparmor_profile.clone(),
            seccomp_profile: new.security.seccomp_profile.clone(),
            no_new_privileges: new.security.no_new_privileges,
            writable_cgroups: new.security.writable_cgroups,
            ..Record::default()
        };
        record.set_paths(self.config(), &new.host);
        record
    }
}

/// Docker's default: the short id, or the host's own name where its network is shared.
fn default_hostname(host: &api::HostConfig, id: &ContainerId) -> String {
    if host.network_mode.is_host() {
        return crate::system::hostname();
    }
    id.short().to_owned()
}

/// The links that are not a network's own: those of the default bridge (source: moby `daemon/daemon_unix.go`,
/// registerLinks).
pub(super) fn legacy_links(host: &api::HostConfig) -> impl Iterator<Item = &String> {
    let legacy = host.links.iter().filter(|_| !host.network_mode.is_user_defined());
    legacy.flatten()
}

/// `container:alias`; the alias is the container's name where none is given.
pub(crate) fn parse_link(link: &str) -> (&str, &str) {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    // Docker before 1.10 wrote `/name:/parent/alias`.
    (name, alias.rsplit('/').next().unwrap_or(alias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_an_alias() {
        assert_eq!(parse_link("db:web"), ("db", "web"));
        assert_eq!(parse_link("db"), ("db", "db"));
        assert_eq!(parse_link("/db:/parent/web"), ("/db", "web"));
    }

    #[test]
    fn host_names() {
        let id = ContainerId::from_random([0xcd; 32]);
        assert_eq!(default_hostname(&api::HostConfig::default(), &id), "cdcdcdcdcdcd");
    }
}
