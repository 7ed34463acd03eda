//! `POST /containers/{id}/start`: mount, attach, plan, spawn; each step pushes its undo.

use super::{
    Container, Containers,
    create::{legacy_links, parse_link},
    failure::start_error,
    files::{self, Names, Resolver},
    mounts,
    plan::{self, Joined, Netns, Userns},
    rootfs,
    userns::{Network, UserNamespace, check_writable_cgroups},
};
use crate::{
    Error, Result,
    blocking::blocking,
    images::Layers,
    networks::{AttachRequest, Attachment, Dns, Link},
    state::Verb,
    task::{Spawn, SpawnError, Spawned, run_dir},
    undo::Undo,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, net::IpAddr, os::fd::OwnedFd, sync::Arc, time::Duration};
use wharf_api::container as api;
use wharf_sys::fault;

/// Who starts a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A client, or the daemon's start: counters begin anew.
    Request,
    /// Its restart policy, after an end.
    Policy,
}

/// What a container shares with others that run.
struct Shared {
    netns: Option<Netns>,
    joined: Joined,
    /// The container whose `/etc/hosts` and its like are used, since its network is.
    names_of: Option<Arc<Container>>,
    /// The container whose `/dev/shm` is used, since its IPC is.
    shm_of: Option<Arc<Container>>,
    user: Userns,
}

impl Containers {
    /// Starts a container.
    ///
    /// # Errors
    /// [`Error::NotModified`] when it runs already; [`Error::Start`] with Docker's exit code when its program
    /// cannot be run. What was begun is taken back, and an `AutoRemove` container is removed.
    pub async fn start(&self, id_or_name: &str) -> Result<()> {
        let container = self.get(id_or_name)?;
        let _one_verb = container.lifecycle.lock().await;
        self.start_locked(&container, Cause::Request).await
    }

    /// As [`Self::start`], with the lifecycle lock held.
    pub(super) async fn start_locked(&self, container: &Arc<Container>, cause: Cause) -> Result<()> {
        if cause == Cause::Request {
            container.check(Verb::Start)?;
        }
        let mut undo = Undo::default();
        let begun = Timestamp::now();
        match self.try_start(container, &mut undo).await {
            Ok(spawned) => {
                fault::death("start.spawned");
                undo.commit();
                self.note_start(container, spawned, cause, begun);
                Ok(())
            }
            Err(error) => {
                undo.run().await;
                self.note_failed_start(container, &error, cause).await;
                Err(error)
            }
        }
    }

    fn note_start(&self, container: &Arc<Container>, spawned: Spawned, cause: Cause, begun: Timestamp) {
        let Spawned { shim, events, pid, warnings } = spawned;
        for warning in &warnings {
            tracing::warn!(container = %container.id, warning, "started with restrictions");
        }
        container.update(|state| {
            state.status.started(pid, begun);
            state.shim = Some(Arc::clone(&shim));
            state.record.has_been_started_before = true;
            state.record.set_log_path(self.config(), &state.host);
            if cause == Cause::Request {
                state.record.restart_count = 0;
                state.record.has_been_manually_stopped = false;
                state.exit_on_next = false;
                state.restart_delay = Duration::ZERO;
            }
            state.restarting_by_request = false;
        });
        self.watch(Arc::clone(container), shim, events);
        // The record is for after a restart of the daemon, which finds the shim even without it: no client
        // waits for the disk.
        let saving = Arc::clone(container);
        tokio::spawn(async move { saving.save_or_warn().await });
        self.forward_log(container);
        self.emit_plain(container, "start");
        self.begin_health(container);
    }

    async fn note_failed_start(&self, container: &Arc<Container>, error: &Error, cause: Cause) {
        let code = match error {
            Error::Start { code, .. } => *code,
            _ => 128,
        };
        container.update(|state| {
            match cause {
                Cause::Request => state.status.start_failed(code, error.to_string()),
                Cause::Policy => state.status.restart_failed(error.to_string()),
            }
            state.early.clear();
            state.restarting_by_request = false;
        });
        container.save_or_warn().await;
        if container.host_config().auto_remove
            && let Err(error) = self.delete_locked(container, super::remove::AnonymousVolumes::Remove).await
        {
            tracing::warn!(container = %container.id, %error, "container of a failed start stays");
        }
    }

    async fn try_start(&self, container: &Arc<Container>, undo: &mut Undo) -> Result<Spawned> {
        let host = container.host_config();
        if let Some((target, _)) = plan::log_target(container)? {
            target.reach().await?;
        }
        let mut shared = self.shared(container, &host)?;
        let network = if shared.netns.is_none() { Network::Own } else { Network::Elsewhere };
        let UserNamespace { user, network } = self.user_namespace(&host, network).await?;
        shared.user = user;
        let rootfs = self.mount_rootfs(container, undo).await?;
        fault::point("start.mounted").map_err(interrupted)?;
        self.mount_volumes(container, undo).await?;
        fault::point("start.volumes").map_err(interrupted)?;
        let attachment = self.attach_networks(container, &host, (&shared, network), undo).await?;
        self.share_realtime(&container.id, &host).await?;
        fault::point("start.attached").map_err(interrupted)?;
        let (plan, fds) = self.plan(container, &host, shared, rootfs, attachment, undo).await?;
        fault::point("start.planned").map_err(interrupted)?;
        let early = container.update(|state| std::mem::take(&mut state.early));
        let program = plan.process.args.first().cloned().unwrap_or_default();
        let id = container.id.clone();
        let run_dir = run_dir(self.config(), &id);
        match self.tasks().spawn(Spawn { id, run_dir, plan, fds, attach: early }).await {
            Ok(spawned) => Ok(spawned),
            // The shim has taken everything back.
            Err(SpawnError::Refused(failure)) => Err(start_error(&failure, &program)),
            Err(SpawnError::Engine(error)) => {
                self.kill_unwatched(container).await;
                Err(error)
            }
        }
    }

    /// What is shared with other containers must run now.
    fn shared(&self, container: &Container, host: &api::HostConfig) -> Result<Shared> {
        let mut shared = Shared {
            netns: None,
            joined: Joined::default(),
            names_of: None,
            shm_of: None,
            user: Userns::Host,
        };
        let disabled = container.with(|state| state.record.config.network_disabled);
        if let Some(other) = host.network_mode.container() {
            let other = self.networked(container, other)?;
            let netns = plan::open_namespace(other.pid(), "net")?;
            (shared.netns, shared.names_of) = (Some(Netns::Open(netns)), Some(other));
        } else if disabled {
            shared.netns = Some(Netns::New);
        }
        if let Some(other) = host.pid_mode.container() {
            let other = self
                .sharing(other)
                .map_err(|e| Error::Refused(format!("failed to join PID namespace: {e}")))?;
            shared.joined.pid = Some(other.pid());
        }
        if let Some(name) = host.ipc_mode.container() {
            let joining = |e: Error| Error::Refused(format!("failed to join IPC namespace: {e}"));
            let other = self.sharing(name).map_err(joining)?;
            if other.with(|state| state.record.shm_path.is_empty()) {
                return Err(joining(Error::Invalid(format!(
                    "container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                ))));
            }
            (shared.joined.ipc, shared.shm_of) = (Some(other.pid()), Some(other));
        }
        Ok(shared)
    }

    /// Source: moby `daemon/container_operations.go`, getNetworkedContainer.
    fn networked(&self, container: &Container, name: &str) -> Result<Arc<Container>> {
        let other = self
            .get(name)
            .map_err(|e| Error::Refused(format!("joining network namespace of container: {e}")))?;
        if other.id == container.id {
            return Err(Error::Refused("cannot join own network namespace".into()));
        }
        other.with(|state| {
            let facts = state.status.facts();
            if !facts.running {
                return Err(Error::Conflict(format!(
                    "cannot join network namespace of a non running container: container {} is {}",
                    state.name, facts.word
                )));
            }
            if facts.restarting {
                return Err(Error::Conflict(format!(
                    "cannot join network namespace of container: Container {name} is restarting, wait until the container is running"
                )));
            }
            Ok(())
        })?;
        Ok(other)
    }

    fn sharing(&self, name: &str) -> Result<Arc<Container>> {
        let other = self.get(name)?;
        let (running, restarting) = other.with(|state| {
            let facts = state.status.facts();
            (facts.running, facts.restarting)
        });
        match (running, restarting) {
            (false, _) => Err(Error::NotRunning(other.id.clone())),
            (true, true) => Err(Error::Conflict(format!(
                "Container {name} is restarting, wait until the container is running"
            ))),
            (true, false) => Ok(other),
        }
    }

    async fn mount_rootfs(&self, container: &Container, undo: &mut Undo) -> Result<Rootfs> {
        let (layers, id) = (self.parts().images.layers().clone(), container.id.clone());
        let (undo_layers, undo_id) = (layers.clone(), id.clone());
        let mounted = blocking(move || {
            let path = layers.mount(&id)?;
            match layers.open_tree(&id) {
                Ok(tree) => Ok(Rootfs { path, tree }),
                Err(error) => {
                    layers.unmount(&id).ok();
                    Err(error)
                }
            }
        })
        .await?;
        undo.push("unmount root file system", async move {
            if let Err(error) = blocking(move || undo_layers.unmount(&undo_id)).await {
                tracing::warn!(%error, "root file system of a failed start stays mounted");
            }
        });
        Ok(mounted)
    }

    async fn mount_volumes(&self, container: &Arc<Container>, undo: &mut Undo) -> Result<()> {
        for name in container.volume_names() {
            let mounted = self.parts().volumes.mount(&name, &container.id).await?;
            container.update(|state| state.record.found_volume(&name, &mounted.path));
            let (volumes, id) = (self.parts().volumes.clone(), container.id.clone());
            undo.push("unmount volume", async move { volumes.unmount(&name, &id).await });
        }
        let points = container.with(|state| state.record.mount_points.clone());
        for point in points.values().filter(|point| point.kind == "volume") {
            self.parts().volumes.emit_mount(point, &container.id);
        }
        Ok(())
    }

    /// Networks of the container's own; `None` where it uses another container's or has none.
    async fn attach_networks(
        &self,
        container: &Arc<Container>,
        host: &api::HostConfig,
        (shared, namespace): (&Shared, Option<Arc<OwnedFd>>),
        undo: &mut Undo,
    ) -> Result<Option<Attachment>> {
        if shared.netns.is_some() {
            return Ok(None);
        }
        let networks = self.parts().networks.clone();
        let attachment = networks
            .attach(AttachRequest { namespace, ..self.attach_request(container, host)? })
            .await
            .map_err(|e| e.context("failed to set up container networking"))?;
        container.update_networks(|record| *record = attachment.networks.clone());
        self.tell_parents(container).await;
        let detached = Arc::clone(container);
        undo.push("detach networks", async move {
            let record = networks.detach(&detached.id, detached.networks()).await;
            detached.update_networks(|networks| *networks = record);
        });
        Ok(Some(attachment))
    }

    fn attach_request(&self, container: &Container, host: &api::HostConfig) -> Result<AttachRequest> {
        let mut links = Vec::new();
        for link in legacy_links(host) {
            let (name, alias) = parse_link(link);
            let other = self.get(name)?;
            if !other.is_running() {
                return Err(Error::Refused(format!(
                    "Cannot link to a non running container: /{} AS {alias}",
                    other.name()
                )));
            }
            let ports = other.exposed_ports();
            links.push(Link { target: other.id.clone(), alias: alias.to_owned(), ports });
        }
        let dns = dns(self.config(), host);
        Ok(container.with(|state| AttachRequest {
            container: container.id.clone(),
            name: state.name.to_string(),
            hostname: state.record.config.hostname.clone(),
            domainname: state.record.config.domainname.clone(),
            mode: host.network_mode.clone(),
            networks: state.record.network_settings.clone(),
            exposed_ports: state.record.config.exposed_ports.keys().cloned().collect(),
            port_bindings: host.port_bindings.clone().unwrap_or_default(),
            publish_all: host.publish_all_ports,
            links,
            dns,
            namespace: None,
        }))
    }

    /// Everything between networks and spawn: files, user, plan.
    async fn plan(
        &self,
        container: &Arc<Container>,
        host: &Arc<api::HostConfig>,
        shared: Shared,
        rootfs: Rootfs,
        mut attachment: Option<Attachment>,
        undo: &mut Undo,
    ) -> Result<(wharf_spec::plan::Plan, Vec<OwnedFd>)> {
        let gateway = self.parts().networks.host_gateway();
        let names = names(self.config(), container, host, attachment.as_ref(), &gateway)?;
        let held = attachment.as_mut().map(|a| std::mem::take(&mut a.reservations)).unwrap_or_default();
        let netns = match (shared.netns, attachment) {
            (Some(netns), _) => netns,
            (None, Some(Attachment { netns: Some(fd), .. })) => Netns::Open(fd),
            (None, _) if host.network_mode.is_host() => Netns::Host,
            (None, _) => Netns::New,
        };
        if host.ipc_mode.as_str() == "shareable" {
            let owner = Arc::clone(container);
            undo.push("unmount shm", async move {
                blocking(move || {
                    files::unmount_shm(&owner);
                    Ok(())
                })
                .await
                .ok();
            });
        }
        let (engine, container, host) = (Arc::clone(self.config()), Arc::clone(container), Arc::clone(host));
        let (names_of, shm_of, joined, user) = (shared.names_of, shared.shm_of, shared.joined, shared.user);
        let (networks, layers) = (self.parts().networks.clone(), self.parts().images.layers().clone());
        let link_environment = self.link_environment(&container)?;
        blocking(move || {
            let files = write_files(&engine, &container, names_of.as_deref(), &names)?;
            if names.resolver == Resolver::Embedded {
                networks.serve_names(&container.id, files::forwarding(&names.dns))?;
            }
            let shm = prepare_shm(&engine, &container, &host, shm_of.as_deref())?;
            files::make_bind_sources(&engine, &container)?;
            let trees = open_trees(&container, &layers)?;
            let inputs = Inputs { netns, held, joined, userns: user, link_environment, files, shm, trees };
            build_plan(&engine, &container, &host, rootfs, inputs)
        })
        .await
    }
}

fn interrupted(source: std::io::Error) -> Error {
    Error::Os { step: "start", source }
}

/// A mounted root.
struct Rootfs {
    path: std::path::PathBuf,
    tree: OwnedFd,
}

/// What was prepared for a plan.
struct Inputs {
    netns: Netns,
    held: Vec<OwnedFd>,
    joined: Joined,
    userns: Userns,
    link_environment: Vec<String>,
    files: Vec<(&'static str, String)>,
    shm: Option<String>,
    trees: BTreeMap<String, OwnedFd>,
}

/// Images and parts of volumes that are mounted, by destination.
fn open_trees(container: &Container, layers: &Layers) -> Result<BTreeMap<String, OwnedFd>> {
    let points = container.with(|state| state.record.mount_points.clone());
    let trees = points.into_iter().filter(|(_, point)| mounts::is_tree(point));
    trees.map(|(destination, point)| Ok((destination, mounts::open_tree(&point, layers)?))).collect()
}

fn build_plan(
    engine: &crate::Config,
    container: &Container,
    host: &api::HostConfig,
    rootfs: Rootfs,
    inputs: Inputs,
) -> Result<(wharf_spec::plan::Plan, Vec<OwnedFd>)> {
    let record = container.with(|state| state.record.clone());
    check_writable_cgroups(engine, record.writable_cgroups)?;
    let group_add = host.group_add.as_deref().unwrap_or_default();
    let user = rootfs::resolve_user(&rootfs.path, &record.config.user, group_add)?;
    let mut command = vec![record.path.clone()];
    command.extend(record.args.clone().unwrap_or_default());
    let run_dir = run_dir(engine, &container.id);
    let log = plan::log_of(container, &record, &command)?;
    let built = plan::build(plan::Input {
        engine,
        id: &container.id,
        config: &record.config,
        host,
        command,
        run_dir: &run_dir,
        root: rootfs.tree,
        root_path: &rootfs.path,
        user,
        netns: inputs.netns,
        held: inputs.held,
        joined: inputs.joined,
        userns: inputs.userns,
        link_environment: inputs.link_environment,
        files: inputs.files,
        shm: inputs.shm,
        mounts: &record.mount_points,
        trees: inputs.trees,
        no_new_privileges: record.no_new_privileges,
        seccomp_profile: &record.seccomp_profile,
        apparmor_profile: &record.app_armor_profile,
        writable_cgroups: record.writable_cgroups,
        log,
    })?;
    for warning in &built.warnings {
        tracing::warn!(container = %container.id, warning, "started with restrictions");
    }
    Ok((built.plan, built.fds.0))
}

/// The container's own files, or those of the container whose network it uses.
fn write_files(
    engine: &crate::Config,
    container: &Container,
    names_of: Option<&Container>,
    names: &Names,
) -> Result<Vec<(&'static str, String)>> {
    let dir = match names_of {
        Some(other) => {
            let (hostname, domainname) =
                other.with(|s| (s.record.config.hostname.clone(), s.record.config.domainname.clone()));
            container.update(|state| {
                state.record.config.hostname = hostname;
                state.record.config.domainname = domainname;
            });
            other.dir()
        }
        None => {
            files::write(container.dir(), names)?;
            for (_, file) in files::FILES {
                engine.give_to_root(&container.dir().join(file))?;
            }
            container.dir()
        }
    };
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    container.update(|state| {
        state.record.hostname_path = path("hostname");
        state.record.hosts_path = path("hosts");
        state.record.resolv_conf_path = path("resolv.conf");
    });
    Ok(files::sources(dir))
}

/// The source of `/dev/shm`, where it is not the container's own alone (source: moby
/// `daemon/container_operations_unix.go`, setupIPCDirs).
fn prepare_shm(
    engine: &crate::Config,
    container: &Container,
    host: &api::HostConfig,
    shm_of: Option<&Container>,
) -> Result<Option<String>> {
    let path = match host.ipc_mode.as_str() {
        _ if shm_of.is_some() => shm_of.map(|other| other.with(|state| state.record.shm_path.clone())),
        "host" => Some("/dev/shm".to_owned()),
        "shareable" => {
            Some(files::mount_shm(engine, container, host.shm_size)?.to_string_lossy().into_owned())
        }
        _ => None,
    };
    container.update(|state| state.record.shm_path = path.clone().unwrap_or_default());
    Ok(path)
}

/// The container's settings, else the daemon's.
pub(crate) fn dns(engine: &crate::Config, host: &api::HostConfig) -> Dns {
    let pick = |own: &Option<Vec<String>>, default: &[String]| match own.as_deref() {
        Some(own) if !own.is_empty() => own.to_vec(),
        _ => default.to_vec(),
    };
    let servers = pick(&host.dns, &engine.dns);
    Dns {
        servers: servers.iter().filter_map(|s| s.parse().ok()).collect(),
        search: pick(&host.dns_search, &engine.dns_search),
        options: pick(&host.dns_options, &engine.dns_options),
    }
}

fn names(
    engine: &crate::Config,
    container: &Container,
    host: &api::HostConfig,
    attachment: Option<&Attachment>,
    gateways: &[IpAddr],
) -> Result<Names> {
    let mut extra: Vec<(String, IpAddr)> = attachment.map(|a| a.extra_hosts.clone()).unwrap_or_default();
    for entry in host.extra_hosts.iter().flatten() {
        let Some((name, address)) = entry.split_once(':') else { continue };
        let addresses: Vec<IpAddr> = match address {
            "host-gateway" if gateways.is_empty() => {
                return Err(Error::Refused("unable to derive the IP value for host-gateway".into()));
            }
            "host-gateway" => gateways.to_vec(),
            text => text.trim_matches(['[', ']']).parse().into_iter().collect(),
        };
        extra.extend(addresses.into_iter().map(|address| (name.to_owned(), address)));
    }
    let resolver = match attachment {
        Some(attachment) if attachment.embedded_dns => Resolver::Embedded,
        _ if host.network_mode.is_host() => Resolver::Host,
        _ => Resolver::Bridge,
    };
    let (hostname, domainname) = container
        .with(|state| (state.record.config.hostname.clone(), state.record.config.domainname.clone()));
    Ok(Names {
        hostname,
        domainname,
        addresses: attachment.map(|a| a.addresses.clone()).unwrap_or_default(),
        extra,
        ipv6: attachment.is_none_or(|a| a.ipv6),
        dns: dns(engine, host),
        resolver,
    })
}
