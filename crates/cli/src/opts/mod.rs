//! The values of flags: Docker's little languages, one file each (source: docker/cli `opts/`).

pub(crate) mod cpus;
pub(crate) mod csv;
pub(crate) mod device;
pub(crate) mod duration;
pub(crate) mod env;
pub(crate) mod filter;
pub(crate) mod gpus;
pub(crate) mod hosts;
pub(crate) mod keyvalue;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod platform;
pub(crate) mod port;
pub(crate) mod restart;
pub(crate) mod security;
pub(crate) mod size;
pub(crate) mod throttle;
pub(crate) mod timestamp;
pub(crate) mod ulimit;
pub(crate) mod volume;
