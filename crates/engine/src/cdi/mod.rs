//! CDI: devices that vendors describe in files, and what a container needs to have one.
//!
//! Role: `--device vendor.com/class=name` and, through a driver, `--gpus` ([`Registry::inject`]); the devices that
//! `GET /info` shows ([`Registry::listing`]). Source: the Container Device Interface's SPEC.md and its Go library
//! `pkg/cdi`, which moby `daemon/cdi.go` calls.
//!
//! Files on disk: `*.json` and `*.yaml` in the directories of `--cdi-spec-dir`, read anew whenever they are asked
//! for, since Docker sees what changes in them too.

mod apply;
mod names;
mod read;
mod registry;
mod spec;
mod validate;

pub(crate) use registry::Registry;
