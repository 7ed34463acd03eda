//! `cargo xtask build`: the three programs, the shim static and last.

use crate::sh;
use anyhow::Result;
use std::path::PathBuf;

/// Cargo's profile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// Where cargo puts its programs.
    pub(crate) fn dir(self) -> PathBuf {
        sh::workspace().join("target").join(if self == Self::Dev { "debug" } else { "release" })
    }

    fn args(self) -> &'static [&'static str] {
        if self == Self::Dev { &[] } else { &["--release"] }
    }
}

/// Builds `wharf`, `wharfd`, then `wharf-shim`.
///
/// The shim goes last and alone: it must be static (`--init` binds it into containers), `crt-static` as
/// RUSTFLAGS would break proc-macros, and any later plain build of the workspace would overwrite it with a
/// dynamic file.
///
/// # Errors
/// When cargo fails.
pub(crate) fn all(profile: Profile) -> Result<()> {
    sh::run(sh::cargo().args(["build", "-p", "wharf-cli", "-p", "wharf-daemon"]).args(profile.args()))?;
    shim(profile)
}

/// Builds the static shim.
///
/// # Errors
/// When cargo fails.
pub(crate) fn shim(profile: Profile) -> Result<()> {
    static_binary(profile, "wharf-shim", "wharf-shim")
}

/// Builds one program as a static executable.
///
/// # Errors
/// When cargo fails.
pub(crate) fn static_binary(profile: Profile, package: &str, bin: &str) -> Result<()> {
    sh::run(sh::cargo().args(["rustc", "-p", package, "--bin", bin]).args(profile.args()).args([
        "--",
        "-C",
        "target-feature=+crt-static",
    ]))
}
