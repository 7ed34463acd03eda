//! Debian's docker.io, apart from everything of the machine.

use super::peers::finish;
use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use wharf_testkit::{Api, NetNs, busybox, until};

/// A dockerd with its own containerd, network namespace and folders.
pub(super) struct Docker {
    dir: PathBuf,
    net: NetNs,
    child: Child,
}

impl Docker {
    pub(super) fn is_installed() -> bool {
        Path::new("/usr/sbin/dockerd").exists()
    }

    /// One that has `busybox:latest`.
    pub(super) fn with_busybox(dir: &Path) -> Result<Self> {
        let docker = Self::start(dir)?;
        let loaded =
            docker.api().send("POST", "/images/load?quiet=1", "application/x-tar", &busybox()?.bytes)?;
        ensure!(loaded.status == 200, "docker load: {}", loaded.message());
        Ok(docker)
    }

    /// One with everything of its own below `dir`.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let dir = dir.to_path_buf();
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("daemon.json"), "{}")?;
        let net = NetNs::new()?;
        let mut command = Command::new("/usr/sbin/dockerd");
        for (flag, path) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
            ("--config-file", "daemon.json"),
        ] {
            command.arg(flag).arg(dir.join(path));
        }
        command.arg("--host").arg(format!("unix://{}", dir.join("sock").display()));
        let log = fs::File::create(dir.join("log"))?;
        let child = net.spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        let docker = Self { dir, net, child };
        let api = docker.api();
        until("dockerd", || Ok(api.call("GET", "/_ping").ok().filter(|r| r.status == 200)))?;
        Ok(docker)
    }

    pub(super) fn net(&self) -> &NetNs {
        &self.net
    }

    pub(super) fn api(&self) -> Api {
        Api::new(self.dir.join("sock"), "")
    }

    /// dockerd and its containerd.
    pub(super) fn pids(&self) -> Vec<u32> {
        let containerd = fs::read_to_string(self.dir.join("exec/containerd/containerd.pid"));
        let containerd = containerd.ok().and_then(|pid| pid.trim().parse().ok());
        std::iter::once(self.child.id()).chain(containerd).collect()
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", format!("unix://{}", self.dir.join("sock").display()));
        command
    }

    pub(super) fn ok(&self, args: &[&str]) -> Result<()> {
        finish(&self.net, self.command(args))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(pid) = rustix_pid(&self.child) {
            // dockerd takes its containerd down with it when asked nicely.
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
        }
        let _ = self.child.wait();
        let _ = Command::new("sh")
            .args([
                "-c",
                &format!(
                    "umount -l {0}/data/overlay2/*/merged {0}/exec/netns/* 2>/dev/null; rm -rf {0}",
                    self.dir.display()
                ),
            ])
            .status();
    }
}

fn rustix_pid(child: &Child) -> Option<String> {
    (child.id() != 0).then(|| child.id().to_string())
}
