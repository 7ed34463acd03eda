//! `cargo xtask test`: everything, from a fresh Debian machine on.

use crate::{build, packages, sh, tidy, vm_test};
use anyhow::Result;

/// What runs again on the other kernel each time: what depends most on the kernel and its cgroups. All of it runs
/// with `cargo xtask vm-test`; emulation makes that several times as long.
const IN_THE_VM: &[&str] = &["container_run", "container_limits", "security"];

/// Installs what is missing, then runs tidy, the unit and sandbox tests, the end-to-end tests, and some of these
/// again in a virtual machine with cgroup v2. With a filter: only end-to-end tests whose names contain it.
///
/// # Errors
/// When anything fails.
pub(crate) fn run(filter: &[&str]) -> Result<()> {
    packages::install(packages::TEST)?;
    if filter.is_empty() {
        tidy::run()?;
        sh::run(sh::cargo().args(["test", "--workspace", "--exclude", "wharf-tests"]))?;
    }
    // After every other build: a plain build would overwrite the static shim.
    build::all(build::Profile::Dev)?;
    build::static_binary(build::Profile::Dev, "hello-web", "hello-web")?;
    sh::run(sh::cargo().args(["test", "-p", "wharf-tests", "--"]).args(filter))?;
    if filter.is_empty() {
        vm_test::run(IN_THE_VM)?;
    }
    Ok(())
}
