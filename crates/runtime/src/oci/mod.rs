//! OCI's words: `config.json` to a plan and back, `features` and `state` documents.
//!
//! Role: [`Config`] is a `config.json` as runc 1.3 understands it on Linux; [`to_plan`] decides what it
//! means, refusing in runc's words what runc refuses and by name what Wharf's plan has no place for;
//! [`from_plan`] writes a plan as a `config.json`, for external runtimes and for people who want to look.
//! Nothing here starts anything; the only I/O is looking at what a validation is about.
//!
//! Sources: OCI runtime-spec 1.2 (config.md, config-linux.md, features.md, runtime.md), runc v1.3
//! `libcontainer/specconv` and `libcontainer/configs/validate`.

mod config;
mod devices;
mod features;
mod from_plan;
mod mounts;
mod process;
mod resources;
mod state;
mod to_plan;
mod tuning;
mod validate;

pub use config::*;
pub use features::{Features, features};
pub use from_plan::from_plan;
pub use process::{document as process_document, process_to_plan};
pub use resources::{document as resources_document, resources_to_plan};
pub use state::State;
pub use to_plan::{Converted, Origin, to_plan};
pub use validate::validate_rootfs;

use wharf_spec::ErrorKind;

/// The version of the specification that is written into documents.
pub const OCI_VERSION: &str = "1.2.1";

/// What can be wrong with an OCI document. Texts are runc's where runc has one.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// No JSON, or not of this form.
    #[error("{document}: {source}")]
    Decode {
        /// Which document.
        document: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
    /// It says something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Legal, but not built here: refused rather than left out in silence.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A validation could not look at what it is about.
    #[error("{what}: {source}")]
    Look {
        /// What was looked at.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl OciError {
    /// The class of the error for a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Decode { .. } | Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Unsupported(_) => ErrorKind::NotImplemented,
            Self::Look { .. } => ErrorKind::System,
        }
    }
}

/// Short for results of this module.
pub type OciResult<T> = Result<T, OciError>;

fn invalid<T>(text: impl Into<String>) -> OciResult<T> {
    Err(OciError::Invalid(text.into()))
}
