//! The engines that are measured: Wharf with the stock CLI and with its own, docker.io, podman.

use super::docker::Docker;
use crate::build::Profile;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use wharf_testkit::{Api, Daemon, NetNs, busybox};

/// Every column there can be.
pub(super) const KNOWN: &[&str] = &["wharf (docker CLI)", "wharf (own CLI)", "docker.io", "podman"];

/// One engine with one client.
pub(super) struct Peer {
    name: &'static str,
    engine: Engine,
}

enum Engine {
    Wharf(Rc<Daemon>, &'static str),
    Docker(Docker),
    Podman(Podman),
}

/// Wharf, and those of the others that are installed, with all that is theirs below `root`.
pub(super) fn all(profile: Profile, root: &Path) -> Result<Vec<Peer>> {
    let daemon = Rc::new(Daemon::builder().bin_dir(&profile.dir()).below(root).start()?);
    daemon.load(&busybox()?)?;
    let mut peers = vec![
        Peer { name: KNOWN[0], engine: Engine::Wharf(Rc::clone(&daemon), "docker") },
        Peer { name: KNOWN[1], engine: Engine::Wharf(daemon, "wharf") },
    ];
    if Docker::is_installed() {
        peers.push(Peer {
            name: KNOWN[2],
            engine: Engine::Docker(Docker::with_busybox(&root.join("docker"))?),
        });
    }
    if Path::new("/usr/bin/podman").exists() {
        peers.push(Peer { name: KNOWN[3], engine: Engine::Podman(Podman::start(root.join("podman"))?) });
    }
    Ok(peers)
}

impl Peer {
    /// A Wharf without images, below `dir`, with the stock CLI.
    pub(super) fn wharf_below(dir: &Path) -> Result<Self> {
        let daemon = Daemon::builder().bin_dir(&Profile::Release.dir()).below(dir).start()?;
        Ok(Self { name: KNOWN[0], engine: Engine::Wharf(Rc::new(daemon), "docker") })
    }

    /// A docker.io without images, below `dir`.
    pub(super) fn docker_below(dir: &Path) -> Result<Self> {
        Ok(Self { name: KNOWN[2], engine: Engine::Docker(Docker::start(dir)?) })
    }

    pub(super) fn net(&self) -> &NetNs {
        match &self.engine {
            Engine::Wharf(daemon, _) => daemon.net(),
            Engine::Docker(docker) => docker.net(),
            Engine::Podman(podman) => &podman.net,
        }
    }

    pub(super) fn api(&self) -> Option<Api> {
        match &self.engine {
            Engine::Wharf(daemon, _) => Some(daemon.api()),
            Engine::Docker(docker) => Some(docker.api()),
            Engine::Podman(_) => None,
        }
    }

    /// The daemon, and what it cannot do without.
    pub(super) fn pids(&self) -> Vec<u32> {
        match &self.engine {
            Engine::Wharf(daemon, _) => vec![daemon.pid()],
            Engine::Docker(docker) => docker.pids(),
            Engine::Podman(_) => Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.name
    }

    pub(super) fn image(&self) -> &'static str {
        if matches!(self.engine, Engine::Podman(_)) { "localhost/busybox:latest" } else { "busybox" }
    }

    /// Runs a command of its CLI, which must succeed.
    pub(super) fn ok(&self, args: &[&str]) -> Result<()> {
        let out = match &self.engine {
            Engine::Wharf(daemon, "docker") => daemon.docker(&self.own(args))?,
            Engine::Wharf(daemon, _) => daemon.wharf(&self.own(args))?,
            Engine::Docker(docker) => return docker.ok(args),
            Engine::Podman(podman) => return podman.ok(args),
        };
        out.ok().with_context(|| format!("{}: {args:?}", self.name)).map(|_| ())
    }

    pub(super) fn is_wharf(&self) -> bool {
        matches!(self.engine, Engine::Wharf(..))
    }

    /// A container's name in the middle of an argument.
    pub(super) fn named(&self, name: &str, rest: &str) -> String {
        format!("{}{rest}", self.own(&[name])[0])
    }

    /// Processor time of the daemon by now.
    pub(super) fn cpu_seconds(&self) -> f64 {
        self.pids().iter().map(|pid| cpu_seconds(*pid)).sum()
    }

    /// Starts a command of its CLI in its network namespace.
    pub(super) fn spawn(&self, args: &[&str], stdin: Stdio, stdout: Stdio) -> Result<Child> {
        let mut command = match &self.engine {
            Engine::Wharf(daemon, program) => {
                let own = daemon.program(program);
                daemon.cli_command(&own.to_string_lossy(), &self.own(args))
            }
            Engine::Docker(docker) => docker.command(args),
            Engine::Podman(podman) => podman.client(args),
        };
        self.net().spawn(command.stdin(stdin).stdout(stdout).stderr(Stdio::inherit()))
    }

    /// As [`Self::spawn`], to a good end.
    pub(super) fn run(&self, args: &[&str], stdin: Stdio, stdout: Stdio) -> Result<()> {
        let status = self.spawn(args, stdin, stdout)?.wait()?;
        ensure!(status.success(), "{}: {args:?}: {status}", self.name);
        Ok(())
    }

    /// Two clients share one daemon: names of the second get a suffix.
    fn own<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        let suffix = matches!(self.engine, Engine::Wharf(_, "wharf"));
        args.iter().map(|arg| if suffix { suffixed(arg) } else { arg }).collect()
    }

    /// Megabytes of the daemon and what it always has beside it.
    pub(super) fn daemon_pss(&self) -> f64 {
        match &self.engine {
            Engine::Wharf(daemon, _) => pss_of(&daemon.pid().to_string()) + pss_named("wharf-shim"),
            Engine::Docker(_) => pss_named("dockerd") + pss_named("containerd"),
            Engine::Podman(_) => 0.0,
        }
    }

    /// Megabytes of all shims.
    pub(super) fn shim_pss(&self) -> f64 {
        match &self.engine {
            // Both clients' containers run at this moment: half of them are this peer's.
            Engine::Wharf(..) => pss_named("wharf-shim") / 2.0,
            Engine::Docker(_) => pss_named("containerd-shim"),
            Engine::Podman(_) => pss_named("conmon"),
        }
    }

    pub(super) fn stop(self) -> Result<()> {
        match self.engine {
            Engine::Wharf(daemon, _) => Rc::into_inner(daemon).map_or(Ok(()), Daemon::stop),
            Engine::Docker(_) | Engine::Podman(_) => Ok(()),
        }
    }
}

/// `target` and `m7` of the second client. The names are few and short: a leak of them is nothing.
fn suffixed(arg: &str) -> &str {
    let ours = arg == "target"
        || arg.strip_prefix('m').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if ours { Box::leak(format!("{arg}-own").into_boxed_str()) } else { arg }
}

/// Debian's podman with storage of its own.
struct Podman {
    dir: PathBuf,
    net: NetNs,
    /// Holds its mount namespace.
    holder: Option<Child>,
}

/// Debian's crun refuses hosts with controllers in both versions of cgroups: there version 2 is hidden from it, in a
/// mount namespace that this process holds. Entering it costs a millisecond or two a command.
fn hide_second_cgroups() -> Result<Option<Child>> {
    const UNIFIED: &str = "/sys/fs/cgroup/unified";
    let controllers = fs::read_to_string(format!("{UNIFIED}/cgroup.controllers")).unwrap_or_default();
    if controllers.trim().is_empty() {
        return Ok(None);
    }
    let hidden = format!("umount -l {UNIFIED} && echo && exec sleep 3600");
    let mut holder = Command::new("unshare");
    holder.args(["-m", "sh", "-c", &hidden]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut holder = holder.spawn()?;
    holder.stdout.as_mut().context("a pipe")?.read_exact(&mut [0])?;
    Ok(Some(holder))
}

impl Podman {
    fn start(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let podman = Self { dir, net: NetNs::new()?, holder: hide_second_cgroups()? };
        // Its own defaults are limits that need CAP_SYS_RESOURCE, which root in a virtual machine may lack.
        fs::write(
            podman.config(),
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
        )?;
        let archive = podman.dir.join("busybox.tar");
        fs::write(&archive, busybox()?.bytes)?;
        podman.ok(&["load", "-q", "-i", &archive.to_string_lossy()])?;
        Ok(podman)
    }

    fn config(&self) -> PathBuf {
        self.dir.join("containers.conf")
    }

    /// In the mount namespace of its own, if it has one.
    fn command(&self) -> Command {
        let Some(holder) = &self.holder else { return Command::new("podman") };
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", holder.id())).arg("podman");
        command
    }

    fn client(&self, args: &[&str]) -> Command {
        let mut command = self.command();
        command.env("CONTAINERS_CONF", self.config());
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file"]).args(args);
        command
    }

    fn ok(&self, args: &[&str]) -> Result<()> {
        finish(&self.net, self.client(args))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.ok(&["rm", "-f", "-a"]);
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
        let _ = Command::new("sh")
            .args(["-c", &format!("umount -l {0}/root/overlay 2>/dev/null; rm -rf {0}", self.dir.display())])
            .status();
    }
}

pub(super) fn finish(net: &NetNs, mut command: Command) -> Result<()> {
    let child = net.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let out = child.wait_with_output()?;
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// Sum over processes of this name.
fn pss_named(name: &str) -> f64 {
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    let named = pids.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim().starts_with(name))
    });
    named.map(|pid| pss_of(&pid)).sum()
}

/// Proportional set size in megabytes.
fn pss_of(pid: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// User and system time of a process by now (proc(5), `stat`).
fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
