//! File systems with project quotas.

use crate::needs::not_run;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Mounts a new ext4 of so many bytes, which counts and limits what projects have, on `data`.
pub(crate) fn mount(dir: &Path, bytes: u64) -> Result<()> {
    let disk = dir.join("disk");
    fs::File::create(&disk)?.set_len(bytes)?;
    let quotas = ["-q", "-O", "quota,project", "-E", "quotatype=prjquota"];
    let mut mount = Command::new("mount");
    mount.args(["-o", "loop,prjquota"]).arg(&disk).arg(dir.join("data"));
    for command in [Command::new("mkfs.ext4").args(quotas).arg(&disk), &mut mount] {
        let out = command.output().with_context(|| format!("{command:?}"))?;
        ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

/// Whether the calling test cannot be run because the kernel is built without the quotas of ext4. Such a test says
/// so, and `cargo xtask test` counts it.
///
/// # Errors
/// When that cannot be tried.
pub fn lacks_project_quotas() -> Result<bool> {
    let dir = Path::new("/var/tmp").join(format!("wharf-quotas-{}", std::process::id()));
    let data = dir.join("data");
    fs::create_dir_all(&data)?;
    let tried = mount(&dir, 128 << 20);
    if tried.is_ok() {
        rustix::mount::unmount(&data, rustix::mount::UnmountFlags::DETACH)?;
    }
    fs::remove_dir_all(&dir)?;
    if let Err(error) = &tried {
        not_run(&format!("no ext4 with project quotas here: {error}"));
    }
    Ok(tried.is_err())
}
