//! Debian's docker.io on a data-root of a test, apart from everything of the machine.

use crate::daemon::{kill_cgroup, kill_namespace, output, remove_cgroup};
use crate::leaks::{Leaks, cgroup_dirs};
use crate::{Archive, Etc, NetNs, Output, until};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A dockerd with its own network and mount namespace, exec-root, containerd and cgroup parent. It sees the
/// data-root as `/var/lib/docker`: docker.io refuses the `overlay2` of a root that is said to be elsewhere.
#[derive(Debug)]
pub struct DockerIo {
    dir: PathBuf,
    cgroup_parent: String,
    net: NetNs,
    child: Child,
}

/// What it is started with: nothing below `/run` and `/var/lib` of the machine is seen or left.
const SCRIPT: &str = "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mkdir /var/lib/docker && \
    mount --bind \"$1\" /var/lib/docker && shift && exec dockerd --data-root=/var/lib/docker \"$@\"";

impl DockerIo {
    /// Starts it on a data-root.
    ///
    /// # Errors
    /// When it does not come up; its log is in the error.
    pub fn start(data_root: &Path) -> Result<Self> {
        Self::start_with(data_root, None, &[])
    }

    /// The same with this `daemon.json`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_configured(data_root: &Path, config: &str) -> Result<Self> {
        Self::launch(data_root, None, &[], config)
    }

    /// As [`Self::start`], with an `/etc` of a daemon of ours and further flags.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(data_root: &Path, etc: Option<&Etc>, flags: &[&str]) -> Result<Self> {
        Self::launch(data_root, etc, flags, "{}")
    }

    fn launch(data_root: &Path, etc: Option<&Etc>, flags: &[&str], config: &str) -> Result<Self> {
        let name = format!("wharf-docker-io-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new("/var/tmp").join(&name);
        fs::create_dir_all(dir.join("home"))?;
        fs::write(dir.join("daemon.json"), config)?;
        let net = NetNs::new()?;
        let log = fs::File::create(dir.join("daemon.log"))?;
        let unshare = Path::new("unshare");
        let mut command = etc.map_or_else(|| Command::new(unshare), |etc| etc.command(unshare));
        command.args(["--mount", "--propagation=private", "sh", "-c", SCRIPT, "sh"]).arg(data_root);
        for (flag, value) in [
            ("--exec-root", dir.join("exec").display().to_string()),
            ("--pidfile", dir.join("dockerd.pid").display().to_string()),
            ("--config-file", dir.join("daemon.json").display().to_string()),
            ("--cgroup-parent", format!("/{name}")),
            ("--host", format!("unix://{}", dir.join("docker.sock").display())),
        ] {
            command.arg(format!("{flag}={value}"));
        }
        command.args(flags);
        command.env("HOME", dir.join("home"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = net.spawn(&mut command)?;
        let mut docker = Self { dir, cgroup_parent: format!("/{name}"), net, child };
        until("docker.io's first answer", || {
            if let Some(status) = docker.child.try_wait()? {
                bail!("dockerd ended with {status}: {}", docker.log());
            }
            Ok((docker.docker(&["version"])?.code == 0).then_some(()))
        })?;
        Ok(docker)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    /// Its network namespace.
    pub fn net(&self) -> &NetNs {
        &self.net
    }

    /// Runs the stock `docker` CLI against it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn docker(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.cli_command("docker", args);
        command.stdin(Stdio::null());
        Ok(output(self.net.spawn(&mut command)?.wait_with_output()?))
    }

    /// A command of a CLI, not yet started, with pipes for its output, in no namespace yet.
    pub fn cli_command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let home = self.dir.join("home");
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &home).env("DOCKER_CONFIG", home.join(".docker"));
        command.env("DOCKER_HOST", format!("unix://{}", self.dir.join("docker.sock").display()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Loads an image.
    ///
    /// # Errors
    /// When it is refused.
    pub fn load(&self, image: &Archive) -> Result<()> {
        let path = self.dir.join("load.tar");
        fs::write(&path, &image.bytes)?;
        self.docker(&["load", "-q", "-i", &path.to_string_lossy()])?.ok()?;
        Ok(())
    }

    /// SIGTERM; its containers end with it. Asserts that nothing but the data-root is left.
    ///
    /// # Errors
    /// When it does not end by itself, or something is left.
    pub fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = until("docker.io's end", || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "dockerd ended with {status}: {}", self.log());
        let mut last = Vec::new();
        let ended = until("the end of its processes", || {
            let leaks = Leaks::look(&self.dir, &self.cgroup_parent, &self.net)?.0;
            // Docker leaves its bridges, which go with the namespace, and BuildKit a control group, which goes with this.
            let is_left = |leak: &String| leak.starts_with("link ") || leak.ends_with("/buildkit");
            last = leaks.into_iter().filter(|leak| !is_left(leak)).collect();
            Ok(last.is_empty().then_some(()))
        });
        ended.with_context(|| format!("left behind by docker.io: {last:#?}"))
    }
}

impl Drop for DockerIo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        kill_cgroup(&self.cgroup_parent);
        kill_namespace(&self.net);
        for dir in cgroup_dirs(&self.cgroup_parent) {
            remove_cgroup(&dir);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
