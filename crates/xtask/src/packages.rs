//! What the tests need of Debian's packages, installed without touching anybody's services.

use crate::sh;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// A package, and a file that shows that it is there.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
}

/// For `cargo xtask test`.
pub(crate) const TEST: &[Package] = &[
    Package { name: "busybox-static", file: "/bin/busybox" },
    Package { name: "docker-registry", file: "/usr/bin/docker-registry" },
    Package { name: "skopeo", file: "/usr/bin/skopeo" },
    Package { name: "iproute2", file: "/sbin/ip" },
    Package { name: "procps", file: "/bin/ps" },
    Package { name: "iptables", file: "/usr/sbin/iptables" },
    Package { name: "nftables", file: "/usr/sbin/nft" },
    Package { name: "ufw", file: "/usr/sbin/ufw" },
    Package { name: "crun", file: "/usr/bin/crun" },
    Package { name: "debootstrap", file: "/usr/sbin/debootstrap" },
    Package { name: "slirp4netns", file: "/usr/bin/slirp4netns" },
    Package { name: "e2fsprogs", file: "/sbin/mkfs.ext4" },
    Package { name: "bzip2", file: "/usr/bin/bzip2" },
    Package { name: "xz-utils", file: "/usr/bin/xz" },
    Package { name: "zstd", file: "/usr/bin/zstd" },
];

/// For `cargo xtask bench images`. What is measured beside Wharf is not installed, but taken where it is.
pub(crate) const BENCH_IMAGES: &[Package] = &[
    Package { name: "docker-registry", file: "/usr/bin/docker-registry" },
    Package { name: "skopeo", file: "/usr/bin/skopeo" },
    Package { name: "isal", file: "/usr/bin/igzip" },
    Package { name: "e2fsprogs", file: "/sbin/mkfs.ext4" },
];

/// For `cargo xtask fuzz`: libFuzzer is C++.
pub(crate) const FUZZ: &[Package] = &[Package { name: "g++", file: "/usr/bin/g++" }];

/// Engines to compare with, for `cargo xtask test --oracle`.
pub(crate) const ORACLES: &[Package] = &[
    Package { name: "docker.io", file: "/usr/sbin/dockerd" },
    Package { name: "podman", file: "/usr/bin/podman" },
    Package { name: "runc", file: "/usr/sbin/runc" },
];

/// For `cargo xtask vm-test`.
pub(crate) const VM: &[Package] = &[
    Package { name: "cpio", file: "/bin/cpio" },
    Package { name: "kmod", file: "/sbin/depmod" },
    Package { name: "e2fsprogs", file: "/sbin/mkfs.ext4" },
    Package { name: "iptables", file: "/usr/sbin/iptables" },
    Package { name: "nftables", file: "/usr/sbin/nft" },
    Package { name: "busybox-static", file: "/bin/busybox" },
    Package { name: "procps", file: "/bin/ps" },
    Package { name: "systemd", file: "/lib/systemd/systemd" },
];

/// Installs those that are missing.
///
/// A `policy-rc.d` that forbids it keeps Debian from starting the services of what is installed; an own one
/// of the machine is left alone, and has to forbid it too. Refuses where docker-ce is installed and would be
/// changed.
///
/// # Errors
/// When we are not root, something would be started or changed that must not be, or apt-get fails.
pub(crate) fn install(wanted: &[Package]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().filter(|p| !Path::new(p.file).exists()).map(|p| p.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("Installing Debian packages that the tests need: {}", missing.join(" "));
    let policy = Policy::forbid_starting(&missing)?;
    sh::run(Command::new("apt-get").args(["update", "-qq"]))?;
    refuse_docker_ce(&missing)?;
    sh::run(&mut apt_install(&missing))?;
    drop(policy);
    for package in wanted {
        if !Path::new(package.file).exists() {
            bail!("{} is installed but {} is not there", package.name, package.file);
        }
    }
    Ok(())
}

fn apt_install(names: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["install", "-y", "-qq", "--no-remove", "--no-install-recommends"]).args(names);
    command
}

/// Without `--no-remove`, which would end the simulation before it says what is in the way.
fn refuse_docker_ce(names: &[&str]) -> Result<()> {
    let mut plan = Command::new("apt-get");
    plan.args(["install", "-y", "--no-install-recommends", "--simulate"]).args(names);
    if changes_docker_ce(&sh::output(&mut plan)?) {
        bail!("installing {} would change docker-ce on this machine: not done", names.join(" "));
    }
    Ok(())
}

/// Whether a simulation installs or removes a package of docker.com's.
fn changes_docker_ce(plan: &str) -> bool {
    let mut changed = plan.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("Inst" | "Remv" | "Purg")).then(|| words.next()).flatten()
    });
    changed.any(|name| name.starts_with("docker-ce") || name == "containerd.io")
}

/// Keeps services from starting until dropped.
struct Policy {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl Policy {
    fn forbid_starting(packages: &[&str]) -> Result<Self> {
        if Path::new(POLICY).exists() {
            // Services are named as their packages, but for docker.io's.
            for service in packages.iter().map(|name| name.trim_end_matches(".io")) {
                let status = Command::new(POLICY).args([service, "start"]).status().context(POLICY)?;
                // "Action forbidden by policy" (source: Debian's policy-rc.d specification).
                if status.code() != Some(101) {
                    bail!("{POLICY} of this machine would let {service} be started: not installed");
                }
            }
            return Ok(Self { ours: false });
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").context("installing packages needs root")?;
        sh::run(Command::new("chmod").args(["755", POLICY]))?;
        Ok(Self { ours: true })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_docker_ce_is_seen() {
        let plan =
            "Reading package lists...\nRemv docker-ce [5:29.0]\nInst docker.io (20.10.24)\nConf docker.io";
        assert!(changes_docker_ce(plan));
        assert!(changes_docker_ce("Remv containerd.io [1.7]"));
        assert!(!changes_docker_ce("Inst docker.io (20.10.24)\nInst containerd (1.6)\nSuggested: docker-ce"));
    }
}
