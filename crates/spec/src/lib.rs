//! The words of the field: what every other crate of Wharf means when it says digest, image, plan.
//!
//! Role: plain types, their parsers and their wire forms. No I/O, no system calls, no dependency on
//! another Wharf crate.
//!
//! Entry points: [`ImageRef`] and [`Digest`] for images, [`plan::Plan`] for what a shim is to run,
//! [`shim`] for what the daemon and a shim say to each other, [`ErrorKind`] for what an error means to a
//! client.
//!
//! Invariant: a value that exists is valid. Newtypes are built by parsing, and parsing never panics on
//! hostile input nor takes memory that its limits do not allow.
#![forbid(unsafe_code)]

pub mod capability;
mod descriptor;
mod digest;
pub mod duration;
mod error;
mod id;
pub mod idmap;
mod image;
pub mod plan;
mod platform;
mod reference;
pub mod shim;
pub mod signal;
pub mod tuning;
pub mod user;

pub use descriptor::*;
pub use digest::{ChainId, DiffId, Digest, ImageId, ParseDigestError};
pub use error::ErrorKind;
pub use id::{ContainerId, ContainerName, EndpointId, ExecId, NetworkId, ParseIdError, VolumeName};
pub use image::*;
pub use platform::{ParsePlatformError, Platform};
pub use reference::*;
