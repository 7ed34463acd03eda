//! The wire types of the Docker Engine API, versions 1.24 to 1.55.
//!
//! Role: what a client and the daemon say to each other, as plain serde types, and the rules of that
//! conversation that are not HTTP: Go's JSON ([`gojson`]), Go's times ([`time`]), filters, ports and
//! version numbers. No I/O. `HostConfig` and `Config` are also what the engine keeps on disk.
//!
//! Entry points: [`gojson::from_slice`] and [`gojson::to_vec`] to read and write any type of this crate;
//! [`container::CreateRequest::from_json`] for the one request whose objects overlap.
//!
//! Invariants: a type serialises to the keys, the order and the kind of emptiness (`null`, `[]`, `{}` or no
//! key at all) that Docker sends, so `Option` is found exactly where Docker can send `null`; every type can
//! be read from a text with any of its keys missing. Fields that only old API versions carry are `Option`s
//! that the daemon fills: version gates live there, never here.
#![forbid(unsafe_code)]

pub mod auth;
pub mod build_cache;
pub mod container;
mod de;
mod error;
pub mod event;
pub mod filters;
pub mod gojson;
pub mod image;
pub mod mount;
pub mod network;
pub mod port;
pub mod progress;
pub mod system;
pub mod time;
mod version;
pub mod volume;

pub use error::{Error, ErrorResponse, IdResponse};
pub use version::Version;

use serde::{Deserialize, Serialize};

/// Go's `struct{}` as a map's value: always `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// A set in Go's clothes: `{"80/tcp": {}}`.
pub type Set<K> = std::collections::BTreeMap<K, Empty>;

/// Text to text, sorted by key as Go writes maps.
pub type StringMap = std::collections::BTreeMap<String, String>;

/// `skip_serializing_if` for Go's `omitempty` on numbers and booleans.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
