//! The domain of Wharf: containers, images, networks, volumes, execs, events.
//!
//! Role: everything a daemon does that is not HTTP. Entry point: [`Engine::open`], which restores what an
//! earlier daemon left, and the handles it holds: [`Engine::containers`], [`Engine::images`],
//! [`Engine::networks`], [`Engine::volumes`], [`Engine::exec`], [`Engine::events`], [`Engine::system`].
//! One verb is one file of the noun's directory: `docker start` is `containers/start.rs`.
//!
//! Files on disk: `<data-root>/containers/<id>/` (see [`containers`]), `<data-root>/volumes/`,
//! `<data-root>/engine-id`, `<data-root>/events.jsonl` (see [`events`]); `<exec-root>/containers/<id>/`, the run directories of the shims. The image
//! store's files belong to `wharf_store`.
//!
//! Invariants:
//! * Lock order: a container's lifecycle mutex (async, one verb at a time), then the lifecycle mutex of a
//!   container it depends on (`container:` modes; the depending one first), then the name table, then a
//!   container's state lock. State locks and the tables are `std` locks and are never held across an
//!   await; nobody takes a lifecycle mutex while holding any of them.
//! * Blocking work goes through [`blocking`] only.
//! * What fails half-way is undone by an [`undo::Undo`] stack; what is torn down collects its errors and
//!   carries on.
//! * No HTTP here: errors have a [`wharf_spec::ErrorKind`], the daemon maps it.
#![forbid(unsafe_code)]

mod blocking;
pub mod builds;
mod cdi;
pub mod check;
mod clock;
pub mod config;
pub mod containers;
mod database;
mod error;
pub mod events;
pub mod exec;
pub mod images;
mod logging;
pub mod networks;
mod plugins;
mod polled;
mod random;
mod reload;
pub mod remap;
mod state;
pub mod system;
mod task;
mod undo;
pub mod volumes;

pub use builds::Builds;
pub use config::Config;
pub use containers::{Containers, End};
pub use error::{Error, Result};
pub use events::Events;
pub use exec::Execs;
pub use images::Images;
pub use networks::Networks;
pub use remap::Remap;
pub use system::System;
pub use volumes::Volumes;
pub use wharf_api::filters::Filters;

use std::{sync::Arc, time::Duration};

/// The engine: cheap to clone, every handle in it too.
#[derive(Clone)]
pub struct Engine {
    /// Containers and all their verbs.
    pub containers: Containers,
    /// Images.
    pub images: Images,
    /// Networks.
    pub networks: Networks,
    /// Volumes.
    pub volumes: Volumes,
    /// Builds of images.
    pub builds: Builds,
    /// Processes started in running containers.
    pub exec: Execs,
    /// What happened and happens.
    pub events: Events,
    /// The engine as a whole: info, version, disk usage.
    pub system: System,
}

impl Engine {
    /// Opens the data-root, starts the zygote and restores what earlier daemons left: running containers are
    /// reconnected, ended ones accounted for, leftovers of crashes cleaned, restart policies applied.
    ///
    /// # Errors
    /// When the data-root cannot be used: a second daemon holds it, or it cannot be read or written.
    pub async fn open(mut config: Config) -> Result<Self> {
        config.raise_descriptor_limit();
        let config = Arc::new(config);
        config.prepare_directories().await?;
        let events = Events::open(&config.data_root);
        let index = containers::Index::default();
        let images = Images::open(Arc::clone(&config), events.clone(), index.clone()).await?;
        let networks = Networks::open(Arc::clone(&config), events.clone(), index.clone()).await?;
        let volumes = Volumes::open(Arc::clone(&config), events.clone(), index.clone()).await?;
        let containers = Containers::open(containers::Parts {
            config: Arc::clone(&config),
            events: events.clone(),
            index,
            images: images.clone(),
            networks: networks.clone(),
            volumes: volumes.clone(),
        })
        .await?;
        let exec = Execs::new(containers.clone(), events.clone());
        let system =
            System::open(Arc::clone(&config), containers.clone(), images.clone(), events.clone()).await?;
        containers.restore().await?;
        let builds = Builds::open(Arc::clone(&config), containers.clone(), images.clone()).await?;
        Ok(Self { containers, images, networks, volumes, builds, exec, events, system })
    }

    /// How long [`Self::shutdown`] waits for containers at most; `None` for as long as they take.
    pub fn shutdown_limit(&self, end: End) -> Option<Duration> {
        self.containers.shutdown_limit(end)
    }

    /// Ends this daemon's part: records are written. Containers run on, unless live-restore is off or the machine
    /// goes down: then they are stopped.
    pub async fn shutdown(&self, end: End) {
        self.containers.shutdown(end).await;
        self.networks.shutdown().await;
        self.volumes.shutdown().await;
    }
}
