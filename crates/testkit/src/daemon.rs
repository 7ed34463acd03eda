//! A daemon of one test.

mod clients;

use crate::leaks::{Leaks, cgroup_dirs};
use crate::{Api, Etc, Faults, NetNs, until};
use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where `wharf`, `wharfd` and `wharf-shim` are: `$WHARF_BIN_DIR`, else the target folder we run from.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("WHARF_BIN_DIR") {
        return dir.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let dir = exe.parent().unwrap_or(Path::new("."));
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_path_buf() } else { dir.to_path_buf() }
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; -1 when a signal ended it.
    pub code: i32,
    /// As text.
    pub stdout: String,
    /// As text.
    pub stderr: String,
}

impl Output {
    /// The standard output of a command that succeeded.
    ///
    /// # Errors
    /// When it did not.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "exit code {}: {}{}", self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

/// How a daemon is to be started.
#[derive(Debug, Default)]
pub struct Builder {
    flags: Vec<String>,
    config: Option<String>,
    bin_dir: Option<PathBuf>,
    descriptors: Option<u32>,
    below: Option<PathBuf>,
    data_size: Option<u64>,
    quotas: bool,
    slice: bool,
    certs_dir: bool,
    env: Vec<(String, String)>,
    own_etc: bool,
}

impl Builder {
    /// With an `/etc` of its own: see [`Daemon::etc`].
    #[must_use]
    pub fn own_etc(mut self) -> Self {
        self.own_etc = true;
        self
    }

    /// With the certificates of registries in `certs.d` of the daemon's folder, not in /etc/docker.
    #[must_use]
    pub fn certs_dir(mut self) -> Self {
        self.certs_dir = true;
        self
    }

    /// With this soft limit of descriptors.
    #[must_use]
    pub fn descriptors(mut self, soft: u32) -> Self {
        self.descriptors = Some(soft);
        self
    }

    /// With the programs of this folder instead of those of [`bin_dir`].
    #[must_use]
    pub fn bin_dir(mut self, dir: &Path) -> Self {
        self.bin_dir = Some(dir.to_path_buf());
        self
    }

    /// With its folders below this one instead of `/var/tmp`.
    #[must_use]
    pub fn below(mut self, dir: &Path) -> Self {
        self.below = Some(dir.to_path_buf());
        self
    }

    /// With one more flag.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// With this daemon.json.
    #[must_use]
    pub fn config(mut self, json: impl Into<String>) -> Self {
        self.config = Some(json.into());
        self
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// With a data-root on a file system of its own, of so many bytes.
    #[must_use]
    pub fn data_size(mut self, bytes: u64) -> Self {
        self.data_size = Some(bytes);
        self
    }

    /// With control groups that systemd makes, in a slice.
    #[must_use]
    pub fn in_a_slice(mut self) -> Self {
        self.slice = true;
        self
    }

    /// With a data-root on an ext4 of its own, of so many bytes, that counts and limits what projects have.
    #[must_use]
    pub fn data_with_quotas(mut self, bytes: u64) -> Self {
        (self.data_size, self.quotas) = (Some(bytes), true);
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up; its log is in the error.
    pub fn start(self) -> Result<Daemon> {
        let mut daemon = Daemon::prepare(self)?;
        daemon.launch()?;
        Ok(daemon)
    }
}

/// A running (or killed, or not yet started) daemon and everything that is its own.
#[derive(Debug)]
pub struct Daemon {
    dir: PathBuf,
    cgroup_parent: String,
    net: NetNs,
    flags: Vec<String>,
    bin: PathBuf,
    descriptors: Option<u32>,
    env: Vec<(String, String)>,
    child: Option<Child>,
    etc: Option<Etc>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Daemon {
    /// A daemon with default settings.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> Result<Self> {
        Builder::default().start()
    }

    /// A daemon with other settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A daemon that has `busybox:latest`.
    ///
    /// # Errors
    /// When it does not come up, or the image cannot be loaded.
    pub fn with_busybox() -> Result<Self> {
        let daemon = Self::start()?;
        daemon.load(&crate::busybox()?)?;
        Ok(daemon)
    }

    /// Everything but the process: folders, network namespace, cgroup parent.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn prepare(builder: Builder) -> Result<Self> {
        let name = format!("wharf-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = builder.below.as_deref().unwrap_or(Path::new("/var/tmp")).join(&name);
        for sub in ["home", "exec", "data", "fault"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let config = dir.join("daemon.json");
        fs::write(&config, builder.config.as_deref().unwrap_or("{}"))?;
        if let Some(bytes) = builder.data_size.filter(|_| builder.quotas) {
            crate::quotas::mount(&dir, bytes)?;
        } else if let Some(bytes) = builder.data_size {
            let options = CString::new(format!("size={bytes},mode=710"))?;
            mount("tmpfs", dir.join("data"), "tmpfs", MountFlags::empty(), &*options)?;
        }
        let net = NetNs::new()?;
        let bin = builder.bin_dir.unwrap_or_else(bin_dir);
        let (mut flags, descriptors, env) = (builder.flags, builder.descriptors, builder.env);
        if builder.certs_dir {
            flags.push(format!("--registry-certs-dir={}", dir.join("certs.d").display()));
        }
        // Each `-` in a slice's name is a slice above it.
        let cgroup_parent = match builder.slice {
            true => format!("{}.slice", name.replace('-', "_")),
            false => format!("/{name}"),
        };
        let etc = if builder.own_etc { Some(Etc::new(&dir)?) } else { None };
        Ok(Self { dir, cgroup_parent, net, flags, bin, descriptors, env, child: None, etc })
    }

    /// Starts the process again, as an init system would, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up; its log is in the error.
    pub fn launch(&mut self) -> Result<()> {
        let mut child = self.net.spawn(&mut self.command()?)?;
        let came_up = until("the daemon's first answer", || {
            if let Some(status) = child.try_wait()? {
                bail!("wharfd ended with {status}: {}", self.log());
            }
            Ok(self.api().call("GET", "/_ping").ok().filter(|r| r.status == 200).map(|_| ()))
        });
        self.child = Some(child);
        came_up.with_context(|| self.log())
    }

    /// Starts a daemon that is expected to refuse, and gives what it said.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub fn run_to_end(&self) -> Result<Output> {
        let mut command = self.command()?;
        let child = self.net.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        Ok(output(child.wait_with_output()?))
    }

    fn command(&self) -> Result<Command> {
        let mut command = match self.descriptors {
            None => match &self.etc {
                None => Command::new(self.bin.join("wharfd")),
                Some(etc) => etc.command(&self.bin.join("wharfd")),
            },
            Some(soft) => {
                let mut limited = Command::new("sh");
                limited.args(["-c", &format!("ulimit -Sn {soft}; exec \"$0\" \"$@\"")]);
                limited.arg(self.bin.join("wharfd"));
                limited
            }
        };
        let log = fs::File::options().create(true).append(true).open(self.dir.join("daemon.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.env("HOME", self.dir.join("home")).env("RUST_BACKTRACE", "1");
        command.env("WHARF_FAULT_DIR", self.dir.join("fault"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        for (flag, value) in [
            ("--data-root", self.data_root().display().to_string()),
            ("--exec-root", self.exec_root().display().to_string()),
            ("--plugin-socket-dir", self.plugin_sockets().display().to_string()),
            ("--pidfile", self.dir.join("wharfd.pid").display().to_string()),
            ("--config-file", self.dir.join("daemon.json").display().to_string()),
            ("--exec-opt", format!("native.cgroupdriver={}", self.cgroup_driver())),
            ("--cgroup-parent", self.cgroup_parent.clone()),
            ("--host", format!("unix://{}", self.socket().display())),
        ] {
            command.arg(format!("{flag}={value}"));
        }
        command.args(&self.flags);
        Ok(command)
    }

    /// Where plugins of this daemon alone have their sockets.
    pub(crate) fn plugin_sockets(&self) -> PathBuf {
        self.dir.join("plugins")
    }

    /// A parent that is a slice is systemd's.
    fn cgroup_driver(&self) -> &'static str {
        if self.cgroup_parent.ends_with(".slice") { "systemd" } else { "cgroupfs" }
    }

    /// Faults that can be made to strike it.
    ///
    /// # Errors
    /// When their folder cannot be made.
    pub fn faults(&self) -> Result<Faults> {
        Faults::new(&self.dir.join("fault"))
    }

    /// Looks at its data-root with `wharfd --check` and more flags, while it does not run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn check(&self, flags: &[&str]) -> Result<Output> {
        let mut command = self.command()?;
        command.arg("--check").args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(output(self.net.spawn(&mut command)?.wait_with_output()?))
    }

    /// One more flag from the next start on.
    pub fn add_flag(&mut self, flag: impl Into<String>) {
        self.flags.push(flag.into());
    }

    /// The `/etc` of a daemon that was built with one.
    ///
    /// # Panics
    /// When it was not.
    pub fn etc(&self) -> &Etc {
        self.etc.as_ref().expect("built with own_etc")
    }

    /// Runs `wharfd --stop-containers` on what it left.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn stop_containers(&self) -> Result<Output> {
        let mut command = self.command()?;
        command.arg("--stop-containers").stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(output(self.net.spawn(&mut command)?.wait_with_output()?))
    }

    /// Its daemon.json from the next reading on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, json: &str) -> Result<()> {
        Ok(fs::write(self.dir.join("daemon.json"), json)?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let child = self.child.as_ref().context("the daemon runs")?;
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(child), signal)?)
    }

    /// Waits for its end, whatever its status; `None` when a signal ended it.
    ///
    /// # Errors
    /// When it was not running, or does not end.
    pub fn wait_for_end(&mut self) -> Result<Option<i32>> {
        let child = self.child.as_mut().context("the daemon runs")?;
        let status = until("the daemon's end", || Ok(child.try_wait()?))?;
        self.child = None;
        Ok(status.code())
    }

    /// What happened so far to the daemon's things, the oldest first: a container's events by its name or id.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn events(&self, kind: &str, name: &str) -> Result<Vec<serde_json::Value>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let filters = serde_json::json!({ kind: [name] }).to_string();
        let filters: String = filters.bytes().map(|b| format!("%{b:02X}")).collect();
        let path = format!("/events?since=1&until={until}&filters={filters}");
        let body = String::from_utf8(self.api().call("GET", &path)?.body)?;
        body.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Where its images and containers are.
    pub fn data_root(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where its sockets and run directories are.
    pub fn exec_root(&self) -> PathBuf {
        self.dir.join("exec")
    }

    /// Its own folder, for whatever a test needs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its API socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Its cgroup parent, such as `/wharf-test-1-0`, or the name of a slice.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// Its network namespace.
    pub fn net(&self) -> &NetNs {
        &self.net
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    /// Its API at version 1.47, the one of the stock CLI's time.
    pub fn api(&self) -> Api {
        Api::new(self.socket(), "v1.47")
    }

    /// SIGKILL, as a crash would.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the daemon runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits for its end, after a fault that kills it. One that has ended is fine.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait_for_death(&mut self) -> Result<()> {
        match self.child {
            Some(_) => self.wait_for_end().map(drop),
            None => Ok(()),
        }
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub fn is_alive(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else { return Ok(false) };
        Ok(child.try_wait()?.is_none())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it was not running, or does not end by itself with status 0.
    pub fn terminate(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the daemon runs")?;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = match until("the daemon's end", || Ok(child.try_wait()?)) {
            Ok(status) => status,
            Err(error) => {
                child.kill()?;
                return Err(error.context(self.log()));
            }
        };
        ensure!(status.success(), "wharfd ended with {status}: {}", self.log());
        Ok(())
    }

    /// The end of a good test: removes every container through the API, stops the daemon and asserts that
    /// nothing is left.
    ///
    /// # Errors
    /// With every leak found.
    pub fn stop(mut self) -> Result<()> {
        let list = self.api().call("GET", "/containers/json?all=1")?.json();
        for container in list.as_array().map_or(&[][..], Vec::as_slice) {
            let id = container["Id"].as_str().unwrap_or_default();
            let answer = self.api().call("DELETE", &format!("/containers/{id}?force=1&v=1"))?;
            ensure!(answer.status == 204, "removing {id}: {} {}", answer.status, answer.message());
        }
        self.terminate()?;
        self.assert_clean()
    }

    /// Asserts that nothing of a stopped daemon is left but its data-root.
    ///
    /// # Errors
    /// With every leak found.
    pub fn assert_clean(&self) -> Result<()> {
        // What was killed a moment ago may still be a zombie, a dying cgroup or a namespace on its way out.
        let mut last = Leaks::default();
        let clean = until("a clean machine", || {
            last = Leaks::look(&self.dir, &self.cgroup_parent, &self.net)?;
            last.0.extend(self.etc.iter().flat_map(|etc| etc.mounts_below(&self.dir)));
            last.0.extend(self.left_in("exec", "containers")?);
            last.0.extend(self.left_in("data", "containers")?);
            last.0.extend(self.left_in("data", "image/overlay2/layerdb/mounts")?);
            Ok(last.0.is_empty().then_some(()))
        });
        clean.with_context(|| format!("left behind: {:#?}\n{}", last.0, self.log()))
    }

    fn left_in(&self, root: &str, sub: &str) -> Result<Vec<String>> {
        let dir = self.dir.join(root).join(sub);
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(Vec::new()) };
        entries.map(|e| Ok(format!("file {}", e?.path().display()))).collect()
    }
}

impl Drop for Daemon {
    /// Also after a failed test nothing may stay on the machine: what the next test finds must be its own.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        kill_cgroup(&self.cgroup_parent);
        kill_namespace(&self.net);
        unmount_below(&self.dir);
        for dir in cgroup_dirs(&self.cgroup_parent) {
            remove_cgroup(&dir);
        }
        if std::thread::panicking() && std::env::var_os("WHARF_KEEP").is_some() {
            return;
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn kill_cgroup(path: &str) {
    for dir in cgroup_dirs(path) {
        let mut stack = vec![dir];
        while let Some(dir) = stack.pop() {
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
            for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
                kill(pid.parse().unwrap_or_default());
            }
            stack.extend(
                fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()),
            );
        }
    }
}

pub(crate) fn kill_namespace(net: &NetNs) {
    let Ok(inode) = net.inode() else { return };
    let ours = format!("net:[{inode}]");
    for pid in crate::leaks::pids().unwrap_or_default() {
        if fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|l| l.to_string_lossy() == ours) {
            kill(pid);
        }
    }
}

fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn unmount_below(dir: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|l| l.split(' ').nth(4)).filter(|p| Path::new(p).starts_with(dir));
    for point in points.collect::<Vec<_>>().into_iter().rev() {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}

pub(crate) fn remove_cgroup(dir: &Path) {
    for child in fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_cgroup(&child.path());
    }
    // Processes killed a moment ago keep it busy for a little.
    for _ in 0..200 {
        match fs::remove_dir(dir) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            _ => return,
        }
    }
}

pub(crate) fn output(out: std::process::Output) -> Output {
    Output {
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}
