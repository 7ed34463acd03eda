//! What the tests of Wharf stand on: daemons, images and a registry of their own, and a check for leaks.
//!
//! Entry point: [`Daemon::start`]. Each test gets a daemon with its own data-root, exec-root, socket, HOME,
//! cgroup parent and network namespace; [`Daemon::stop`] asserts that nothing of it is left.
//!
//! Everything here is for tests and `cargo xtask`; nothing of it is linked into Wharf's programs.
#![forbid(unsafe_code)]

mod api;
mod daemon;
mod docker_io;
mod etc;
mod faults;
mod footprint;
mod image;
mod leaks;
mod needs;
mod netns;
mod own_registry;
mod quotas;
mod registry;
mod tar;
mod token_server;
mod truth;
mod uplink;
mod volume_plugin;
mod wait;

pub use api::{Api, Response};
pub use daemon::{Builder, Daemon, Output, bin_dir};
pub use docker_io::DockerIo;
pub use etc::Etc;
pub use faults::{Faults, Inventory, Pass, Point, Struck};
pub use footprint::Footprint;
pub use image::{Archive, busybox, from_files, from_layers, sha256, static_program};
pub use leaks::Leaks;
pub use needs::{
    FIGURES, FULL, NOT_RUN, amount, figure, is_full, lacks, lacks_oracle, lacks_systemd, run_in_part,
};
pub use netns::NetNs;
pub use own_registry::{Fault, OwnRegistry, RegistryFaults, Request};
pub use quotas::lacks_project_quotas;
pub use registry::{Registry, SecureRegistry};
pub use tar::{Entry, Tar};
pub use uplink::Uplink;
pub use volume_plugin::VolumePlugin;
pub use wait::until;
