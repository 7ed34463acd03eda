//! What an error means to a client, independent of any protocol.

/// The class of an error. Every error enum of Wharf has an exhaustive `kind()`; `daemon/error.rs` alone
/// turns kinds into HTTP status codes (source: moby `daemon/server/httpstatus/status.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The object asked for does not exist (404).
    NotFound,
    /// The request itself is wrong (400).
    InvalidArgument,
    /// The request contradicts the state of something (409).
    Conflict,
    /// Credentials are missing or wrong (401).
    Unauthorized,
    /// The service cannot answer now, such as swarm calls outside a swarm (503).
    Unavailable,
    /// Allowed to nobody, such as removing a predefined network (403).
    Forbidden,
    /// There was nothing to do, such as starting a running container (304).
    NotModified,
    /// Known to Docker, not built in Wharf (501).
    NotImplemented,
    /// The caller went away or asked us to stop (499 in logs).
    Cancelled,
    /// Everything else, ours or the machine's fault (500).
    System,
}
