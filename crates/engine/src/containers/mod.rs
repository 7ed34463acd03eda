//! Containers: what they are, and everything that can be done with them; one file per verb.
//!
//! Files of a container, all in Docker's form, below `<data-root>/containers/<id>/`:
//! ```text
//! config.v2.json  hostconfig.json      its records (see `record`)
//! hostname  hosts  resolv.conf         written at each start, bound into it
//! <id>-json.log  local-logs/           its log
//! mounts/shm                           the /dev/shm of a shareable container
//! ```
//! and, while it runs, `<exec-root>/containers/<id>/`, the run directory of its shim.
//!
//! A container's life: [`Containers::create`], [`Containers::start`], then its monitor (`monitor`) until it
//! ends, [`Containers::remove`]. After a restart of the daemon `restore` puts all of it together again.

mod adapt;
mod archive;
mod attach;
mod changes;
mod commit;
mod container;
mod create;
mod failure;
mod files;
mod health;
mod index;
mod inspect;
mod kill;
mod lifetime;
mod link_environment;
mod links;
mod list;
mod logs;
mod merge;
mod monitor;
mod mounts;
mod name;
mod options;
mod pause;
pub(crate) mod plan;
mod populate;
mod prune;
mod realtime;
pub(crate) mod record;
mod remove;
mod removed_logs;
mod rename;
mod republish;
mod resize;
mod restart;
mod restore;
mod rootfs;
mod shutdown;
mod start;
mod stats;
mod stop;
mod top;
mod unwritable;
mod update;
mod userns;
mod validate;
mod wait;

pub use archive::{Encoding, PutOptions};
pub(crate) use attach::{detach_keys as attach_keys, stream_pair};
pub use container::Container;
pub(crate) use container::State;
pub use index::Index;
pub use inspect::Sizes;
pub use options::{
    AttachOptions, Attached, CommitOptions, CreateOptions, JsonLines, ListOptions, Logs, LogsOptions,
    RemoveOptions, StopOptions, WaitCondition, Waited,
};
pub use record::{Endpoint, NetworkSettings as NetworkRecord};
pub use shutdown::End;
pub use wait::Wait;

pub(crate) use container::Progress;
pub(crate) use create::parse_link;
pub(crate) use failure::failure_text;
pub(crate) use files::{ask_embedded, forwarding};
pub(crate) use logs::{readable, watch_reader};
pub(crate) use plan::{bytes, mount_options};
pub(crate) use prune::until as prune_until;
pub(crate) use rootfs::resolve_user;
pub(crate) use start::dns;
pub use stats::StatsMode;
pub(crate) use validate::clean_path as validate_path;

use crate::{
    Config, Events, Images, Networks, Result, Volumes,
    events::EventKind,
    exec,
    logging::{CACHE, Forwarder, Forwarders},
    system::Kernel,
    task::Tasks,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use wharf_api::StringMap;

/// The handle of containers: cheap to clone.
#[derive(Clone)]
pub struct Containers(Arc<Inner>);

/// What containers need of the rest of the engine.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) events: Events,
    pub(crate) index: Index,
    pub(crate) images: Images,
    pub(crate) networks: Networks,
    pub(crate) volumes: Volumes,
}

struct Inner {
    parts: Parts,
    tasks: Tasks,
    kernel: Kernel,
    execs: exec::Table,
    forwarders: Forwarders,
    shutting_down: AtomicBool,
    /// Health checks, and those of them that failed.
    health_checks: [AtomicU64; 2],
}

impl Containers {
    pub(crate) async fn open(parts: Parts) -> Result<Self> {
        let tasks = Tasks::new(&parts.config);
        let kernel = Kernel::detect().await?;
        realtime::check(&parts.config, &kernel)?;
        let execs = exec::Table::default();
        let (forwarders, shutting_down) = (Forwarders::default(), AtomicBool::new(false));
        let health_checks = Default::default();
        let inner = Inner { parts, tasks, kernel, execs, forwarders, shutting_down, health_checks };
        Ok(Self(Arc::new(inner)))
    }

    /// How many health checks there have been, and how many of them failed.
    pub fn health_checks(&self) -> (u64, u64) {
        let [all, failed] = &self.0.health_checks;
        (all.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }

    fn note_health_check(&self, result: &wharf_api::container::HealthcheckResult) {
        let [all, failed] = &self.0.health_checks;
        all.fetch_add(1, Ordering::Relaxed);
        failed.fetch_add(u64::from(result.exit_code != 0), Ordering::Relaxed);
    }

    /// The container with this id, name or unambiguous id prefix.
    ///
    /// # Errors
    /// `No such container: ...`.
    pub fn get(&self, id_or_name: &str) -> Result<Arc<Container>> {
        self.0.parts.index.get(id_or_name)
    }

    /// All containers, in no order that means anything.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.0.parts.index.all()
    }

    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.0.parts.config
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// What the kernel can do.
    pub(crate) fn kernel(&self) -> &Kernel {
        &self.0.kernel
    }

    pub(crate) fn execs(&self) -> &exec::Table {
        &self.0.execs
    }

    /// Sends a container's lines to where its log driver says, if it is one that does.
    fn forward_log(&self, container: &Container) {
        let (target, origin) = match plan::log_target(container) {
            Ok(Some(target)) => target,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(container = %container.id, %error, "its log is not sent");
                return;
            }
        };
        let log = container.dir().join(CACHE);
        let (id, progress) = (container.id.clone(), container.watch());
        self.0.forwarders.run(Forwarder { id, target, origin, log, progress });
    }

    fn forwarders(&self) -> &Forwarders {
        &self.0.forwarders
    }

    fn is_shutting_down(&self) -> bool {
        self.0.shutting_down.load(Ordering::Relaxed)
    }

    /// Tells everybody that something happened to a container. Its labels, name and image are among the
    /// attributes (source: moby `daemon/events.go`).
    pub(crate) fn emit(&self, container: &Container, action: impl Into<String>, attributes: StringMap) {
        let all = container.with(|state| {
            let mut all = state.record.config.labels.clone().unwrap_or_default();
            all.extend(attributes);
            if !state.record.config.image.is_empty() {
                all.insert("image".into(), state.record.config.image.clone());
            }
            all.insert("name".into(), state.name.to_string());
            all
        });
        self.0.parts.events.emit(EventKind::Container, action, container.id.as_str(), all);
    }

    /// As [`Self::emit`], with only the attributes that every event of a container has.
    pub(crate) fn emit_plain(&self, container: &Container, action: &str) {
        self.emit(container, action, StringMap::new());
    }
}
