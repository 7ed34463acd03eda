//! What can be wrong with a request's texts, and the bodies that carry an error or an id.

use serde::{Deserialize, Serialize};
use wharf_spec::ErrorKind;

/// Why a text of the API could not be read. The messages are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A body, header or parameter is no JSON, or not of the type expected.
    #[error("invalid JSON: {0}")]
    Json(#[from] crate::gojson::Error),
    /// The `filters` parameter is not in either of Docker's two forms.
    #[error("invalid filter")]
    FilterSyntax,
    /// A filter that this list does not know.
    #[error("invalid filter '{0}'")]
    FilterName(String),
    /// A filter whose values make no sense: name and values as Go prints a slice.
    #[error("invalid filter '{name}=[{values}]'")]
    FilterValue {
        /// The filter.
        name: String,
        /// Its values, separated by spaces.
        values: String,
    },
    /// A point in time in none of the forms allowed.
    #[error("{0}")]
    Time(String),
    /// A port or a range of ports.
    #[error("{0}")]
    Port(String),
    /// An API version that is not `major.minor`.
    #[error("invalid API version {0:?}")]
    Version(String),
}

impl Error {
    /// What the error means to a client: always that the request is wrong.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// The body of every failed request (source: moby `api/types/common/error_response.go`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// What went wrong.
    pub message: String,
}

/// The answer to a request that made something (source: moby `api/types/common/id_response.go`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IdResponse {
    /// The id of what was made.
    #[serde(rename = "Id")]
    pub id: String,
}
