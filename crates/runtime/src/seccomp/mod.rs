//! System call filters: Docker's and OCI's JSON profiles compiled to classic BPF. Pure code, no I/O but
//! uname(2) for the kernel's version.
//!
//! The way of a profile: [`profile`] reads JSON and decides which rules apply here (Docker's `includes` and
//! `excludes`) → [`rules::RuleSet`] → [`lower`] gives every architecture its numbers and verdicts, in
//! libseccomp's semantics plus runc's ENOSYS for calls newer than the profile → [`program`] arranges them as
//! a balanced tree → [`bpf`] lays the tree out as instructions.
//!
//! What containers see is what they see under runc with libseccomp 2.6: the tests compare the compiled
//! filter with a plain evaluation of the JSON, number by number.
//!
//! `default.json` is Docker's profile: `seccomp/default.json` of github.com/moby/profiles (as of
//! 2026-06-30), Copyright The Moby Authors, Apache-2.0, unchanged.

mod arch;
mod bpf;
mod lower;
mod profile;
mod program;
mod rules;
mod syscalls;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use wharf_spec::ErrorKind;
use wharf_spec::plan::Seccomp;

pub use arch::Arch;
pub use bpf::SockFilter;
pub use profile::Host;
pub use rules::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};

/// Docker's default profile.
const DEFAULT_PROFILE: &[u8] = include_bytes!("default.json");

/// The kernel's limit on a filter's length (source: `BPF_MAXINSNS`, linux/bpf_common.h).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// A filter ready for seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The instructions, 1 to [`MAX_INSTRUCTIONS`].
    pub filter: Vec<SockFilter>,
    /// SECCOMP_FILTER_FLAG_* bits that the profile asks for; runc's default is SPEC_ALLOW.
    pub flags: u32,
    /// Who is asked about calls.
    pub listener: Option<Listener>,
}

/// Who decides about calls whose action is SCMP_ACT_NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// A unix socket that takes the filter's descriptor.
    pub path: String,
    /// What it is told besides.
    pub metadata: String,
}

/// Whether a filter asks somebody about calls.
pub(crate) fn notifies(program: Option<&Program>) -> bool {
    program.is_some_and(|program| program.listener.is_some())
}

/// Why there is no filter. Texts are runc's where runc has one.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The profile is no JSON, or not of this form.
    #[error("Decoding seccomp profile failed: {0}")]
    Decode(#[source] serde_json::Error),
    /// The profile contradicts itself or uses a word that is none.
    #[error("{0}")]
    Profile(String),
    /// The filter is longer than the kernel takes.
    #[error("seccomp filter of more than {MAX_INSTRUCTIONS} instructions")]
    TooLong,
}

impl SeccompError {
    /// The class of the error for a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Decode(_) | Self::Profile(_) | Self::TooLong => ErrorKind::InvalidArgument,
        }
    }
}

/// Compiles what a plan asks for, for a process whose bounding set is `caps`. `None`: no filter at all.
///
/// # Errors
/// Any [`SeccompError`]; never for [`Seccomp::Default`] and [`Seccomp::Unconfined`].
pub fn compile(wanted: &Seccomp, caps: u64) -> Result<Option<Arc<Program>>, SeccompError> {
    match wanted {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default => Ok(Some(compile_default(caps))),
        Seccomp::Docker(json) => compile_docker(json, caps),
        Seccomp::Oci(json) => compile_oci(json),
    }
}

/// Docker's default filter for a process whose bounding set is `caps`. Compiled once per set and process:
/// the zygote calls this before it forks, so that its shims find the result.
pub fn compile_default(caps: u64) -> Arc<Program> {
    /// More sets than a host has in use; beyond that a filter is compiled anew.
    const KEPT: usize = 32;
    static CACHE: Mutex<Vec<(u64, Arc<Program>)>> = Mutex::new(Vec::new());

    let mut cache = CACHE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((_, program)) = cache.iter().find(|(set, _)| *set == caps) {
        return Arc::clone(program);
    }
    let program = compile_docker(DEFAULT_PROFILE, caps)
        .ok()
        .flatten()
        .expect("the embedded profile compiles whatever the capabilities are: a test tries them");
    if cache.len() < KEPT {
        cache.push((caps, Arc::clone(&program)));
    }
    program
}

fn compile_docker(json: &[u8], caps: u64) -> Result<Option<Arc<Program>>, SeccompError> {
    let host = Host::this();
    profile::docker(json, &host, caps)?.map(|rules| build(&rules, host.arch)).transpose()
}

fn compile_oci(json: &[u8]) -> Result<Option<Arc<Program>>, SeccompError> {
    profile::oci(json)?.map(|rules| build(&rules, Arch::NATIVE)).transpose()
}

/// A filter that notifies needs somebody to notify; without that its calls would fail with ENOSYS. One that does
/// not notify needs nobody.
fn build(rules: &rules::RuleSet, native: Arch) -> Result<Arc<Program>, SeccompError> {
    let notifies = rules.rules.iter().any(|rule| rule.action.is_notify());
    if notifies && rules.listener.is_none() {
        return Err(SeccompError::Profile(
            "configured seccomp profile uses SCMP_ACT_NOTIFY but listenerPath is not set".to_owned(),
        ));
    }
    program::build(rules, native)
}

/// The rules of a Docker profile that apply here, as `linux.seccomp` of an OCI `config.json`: for external
/// runtimes. `None`: no filter.
///
/// # Errors
/// [`SeccompError::Decode`] and [`SeccompError::Profile`].
pub fn docker_to_oci(wanted: &Seccomp, caps: u64) -> Result<Option<serde_json::Value>, SeccompError> {
    match wanted {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default => profile::docker_to_oci(DEFAULT_PROFILE, &Host::this(), caps),
        Seccomp::Docker(json) => profile::docker_to_oci(json, &Host::this(), caps),
        Seccomp::Oci(json) => serde_json::from_slice(json).map(Some).map_err(SeccompError::Decode),
    }
}
