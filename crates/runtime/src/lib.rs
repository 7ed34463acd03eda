//! The OCI runtime: makes a container's first process out of a plan, runs further ones, signals and removes
//! them.
//!
//! Role: from [`wharf_spec::plan::Plan`] and open descriptors to a running program. The shim calls it; it
//! knows neither the daemon nor logs. It never keeps state: what it returns ([`Container`], [`Process`]) is
//! all there is.
//!
//! Entry points: [`create()`] (and [`start()`] when creating and starting are two steps), [`exec()`],
//! [`kill`], [`delete()`]; [`seccomp::compile`] for the filter that `create` and `exec` are given; [`oci`]
//! turns an OCI `config.json` into a plan and back.
//!
//! The walk of a create, one file per step:
//! 1. [`create`](create()) checks the plan, [`cgroup`] makes the group, [`rootfs`] opens what is mounted from
//!    the host, [`spawn`] forks with clone3(2).
//! 2. In the child, `init` goes through its steps: `init/namespaces.rs`, `mounts.rs`, `devices.rs`,
//!    `masks.rs`, `terminal.rs`, `pivot.rs`, `sysctls.rs`, `credentials.rs`, `program.rs`.
//! 3. Parent and child talk over [`sync`]; its end without a failure says that the program runs.
//!
//! Files on disk: none, but what is mounted and made inside the container's root, and its control group.
//!
//! Invariants: no path of the container is used twice; every mount target, mask, device and working directory
//! is resolved inside the root to a descriptor, and the operation is done on that. A child that fails is
//! reaped and its control group removed before the error is returned. The caller has one thread.
#![forbid(unsafe_code)]

mod cgroup;
mod create;
mod delete;
mod error;
mod exec;
pub mod hooks;
mod init;
mod kill;
mod listener;
pub mod oci;
mod rootfs;
pub mod seccomp;
mod spawn;
mod start;
mod sync;
mod systemd;
mod validate;

pub use create::{Container, CreateOptions, Io, Lifetime, create};
pub use delete::delete;
pub use error::{Error, Result};
pub use exec::{ExecOptions, Process, exec};
pub use kill::{pause, resume, signal, signal_all, update};
pub use spawn::{NamespacePair, network_in_user_namespace};
pub use start::{make_gate, start};
pub use systemd::{delete_scope, update_scope};
