//! Where qemu comes from: the machine's own, else Debian's packages unpacked below target/vm.
//!
//! Not installed: qemu-system-x86 and a qemu-utils from backports, which some machines have, exclude each other.

use crate::sh;
use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "qemu-system-x86";
const PROGRAM: &str = "qemu-system-x86_64";

/// The command that runs qemu, without arguments of the VM yet.
///
/// # Errors
/// When it is not on the PATH and its packages cannot be fetched.
pub(super) fn command(work_dir: &Path) -> Result<Vec<String>> {
    if super::which(PROGRAM).is_ok() {
        return Ok(vec![PROGRAM.into()]);
    }
    let root = unpacked(&work_dir.join("qemu"))?;
    let libraries: Vec<String> = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
        .iter()
        .map(|dir| root.join(dir).display().to_string())
        .collect();
    let mut command = vec!["env".into(), format!("LD_LIBRARY_PATH={}", libraries.join(":"))];
    command.push(root.join("usr/bin").join(PROGRAM).display().to_string());
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        command.extend(["-L".into(), root.join(firmware).display().to_string()]);
    }
    Ok(command)
}

/// Downloads the package and what it needs that this machine lacks, and unpacks all of it into one folder.
fn unpacked(dir: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    if root.join("usr/bin").join(PROGRAM).exists() {
        return Ok(root);
    }
    fs::create_dir_all(&root)?;
    sh::run(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut simulation = Command::new("apt-get");
    simulation.args(["install", "--simulate", "--no-install-recommends", PACKAGE]);
    let plan = sh::output(&mut simulation)?;
    let names: Vec<&str> =
        plan.lines().filter_map(|l| l.strip_prefix("Inst ")?.split_whitespace().next()).collect();
    ensure!(names.contains(&PACKAGE), "apt-get would not install {PACKAGE}");
    println!("Unpacking Debian packages below {}: {}", dir.display(), names.join(" "));
    sh::run(Command::new("apt-get").args(["download", "-qq"]).args(&names).current_dir(dir))?;
    for entry in fs::read_dir(dir)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|e| e == "deb") {
            sh::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root))?;
            fs::remove_file(deb)?;
        }
    }
    Ok(root)
}
