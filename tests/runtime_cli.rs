//! `wharf-runtime` as a command line on a bundle, as runc's callers use it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A bundle with busybox in it.
pub(crate) struct Bundle {
    dir: PathBuf,
}

impl Bundle {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let dir = PathBuf::from(format!("/var/tmp/wharf-bundle-{}-{name}", std::process::id()));
        for sub in ["rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/tmp", "root"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        std::fs::copy("/bin/busybox", dir.join("rootfs/bin/busybox"))
            .context("the package busybox-static is needed")?;
        for applet in
            ["sh", "cat", "true", "false", "uname", "ionice", "mkdir", "sleep", "stat", "ls", "grep", "pwd"]
        {
            std::os::unix::fs::symlink("busybox", dir.join("rootfs/bin").join(applet))?;
        }
        Ok(Self { dir })
    }

    pub(crate) fn runtime(&self, args: &[&str]) -> Command {
        let mut command = Command::new(wharf_testkit::bin_dir().join("wharf-shim"));
        command.arg0("wharf-runtime").arg("--root").arg(self.dir.join("root")).args(args);
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let out = self.runtime(args).output()?;
        ensure!(out.status.success(), "{args:?}: {} {}", out.status, String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8(out.stdout)?)
    }

    /// Runs something that fails and gives what it said.
    fn fail(&self, args: &[&str]) -> Result<String> {
        let out = self.runtime(args).output()?;
        ensure!(!out.status.success(), "{args:?} succeeded: {}", String::from_utf8_lossy(&out.stdout));
        Ok(String::from_utf8(out.stderr)?)
    }

    /// Makes a container that is to be started.
    fn create(&self, id: &str) -> Result<()> {
        let made = self.runtime(&["create", id]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        ensure!(made.success(), "create: {made}");
        Ok(())
    }

    fn state(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["state", id])?)?)
    }

    fn is_stopped(&self, id: &str) -> Result<()> {
        wharf_testkit::until("stopped", || Ok((self.state(id)?["status"] == "stopped").then_some(())))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Its control group: none is another bundle's, nor above it.
    fn group(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        format!("/{name}")
    }

    pub(crate) fn configure(&self, args: &[&str]) -> Result<()> {
        self.configure_with(args, |_| {})
    }

    fn configure_with(&self, args: &[&str], change: impl FnOnce(&mut Value)) -> Result<()> {
        let path = self.dir.join("config.json");
        let _ = std::fs::remove_file(&path);
        self.run(&["spec"])?;
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        config["process"]["args"] = json!(args);
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(self.group());
        change(&mut config);
        Ok(std::fs::write(&path, serde_json::to_vec(&config)?)?)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.to_path_buf()]) {
            let _ = std::fs::remove_dir(hierarchy.join(&self.group()[1..]));
        }
    }
}

#[test]
fn a_bundle_runs_and_lives() -> Result<()> {
    let bundle = Bundle::new("life")?;
    bundle.configure(&["sh", "-c", "echo hello from $(hostname); exit 6"])?;
    let out = bundle.runtime(&["run", "one"]).output()?;
    assert_eq!(
        (out.status.code(), String::from_utf8_lossy(&out.stdout).as_ref()),
        (Some(6), "hello from runc\n"),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );

    bundle.configure(&["sh", "-c", "while :; do /bin/busybox sleep 1; done"])?;
    let created = bundle.runtime(&["create", "two"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    assert!(created.success());
    let state: Value = serde_json::from_str(&bundle.run(&["state", "two"])?)?;
    assert_eq!(state["status"], "created");
    bundle.run(&["start", "two"])?;
    let state: Value = serde_json::from_str(&bundle.run(&["state", "two"])?)?;
    assert_eq!((&state["status"], &state["id"]), (&json!("running"), &json!("two")));
    assert_eq!(bundle.run(&["exec", "two", "/bin/busybox", "echo", "inside"])?, "inside\n");
    assert!(bundle.run(&["list"])?.contains("two"));
    bundle.run(&["pause", "two"])?;
    let state: Value = serde_json::from_str(&bundle.run(&["state", "two"])?)?;
    assert_eq!(state["status"], "paused");
    bundle.run(&["resume", "two"])?;
    bundle.run(&["kill", "two", "KILL"])?;
    wharf_testkit::until("stopped", || {
        let state: Value = serde_json::from_str(&bundle.run(&["state", "two"])?)?;
        Ok((state["status"] == "stopped").then_some(()))
    })?;
    bundle.run(&["delete", "two"])?;
    assert!(!bundle.runtime(&["state", "two"]).output()?.status.success());
    Ok(())
}

/// What a process may have of the kernel besides its identity and limits.
#[test]
fn processes_are_scheduled_placed_and_dressed_up() -> Result<()> {
    let bundle = Bundle::new("tuning")?;
    let script = "cut -d' ' -f19,41 /proc/self/stat; uname -m; ionice; cat /proc/self/timens_offsets; \
        head -n1 /proc/self/numa_maps 2>/dev/null | cut -d' ' -f2";
    bundle.configure_with(&["/bin/busybox", "sh", "-c", script], |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 3});
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] =
            json!({"monotonic": {"secs": 11, "nanosecs": 12}, "boottime": {"secs": 13}});
    })?;
    let out = bundle.run(&["run", "one"])?;
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["7", "3"], "nice and SCHED_BATCH: {out}");
    assert_ne!(lines[1], [std::env::consts::ARCH], "a 32-bit machine: {out}");
    assert_eq!(lines[2].join(" "), "best-effort: prio 3");
    assert_eq!((&lines[3], &lines[4]), (&vec!["monotonic", "11", "12"], &vec!["boottime", "13", "0"]));
    if Path::new("/proc/self/numa_maps").exists() {
        assert_eq!(lines[5], ["interleave:0"], "{out}");
    }
    // Further processes are born into the same.
    bundle.create("two")?;
    bundle.run(&["start", "two"])?;
    // The next one has the same control group, which must be empty then.
    bundle.is_stopped("two")?;
    bundle.run(&["delete", "two"])?;
    bundle.configure_with(&["/bin/busybox", "sleep", "1000"], |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
        config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 11}});
    })?;
    bundle.create("three")?;
    bundle.run(&["start", "three"])?;
    let line = "cut -d' ' -f19,41 /proc/self/stat; grep Cpus_allowed_list /proc/self/status; cat /proc/self/timens_offsets";
    let out = bundle.run(&["exec", "three", "/bin/busybox", "sh", "-c", line])?;
    ensure!(out.starts_with("7 3\nCpus_allowed_list:\t0\nmonotonic          11"), "{out}");
    for (change, words) in [
        (json!({"scheduler": {"policy": "SCHED_SLOW"}}), "invalid scheduler policy: SCHED_SLOW"),
        (
            json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 9}}),
            "invalid ioPriority.Priority: 9",
        ),
    ] {
        bundle.configure_with(&["true"], |config| {
            for (key, value) in change.as_object().into_iter().flatten() {
                config["process"][key] = value.clone();
            }
        })?;
        let said = bundle.fail(&["run", "bad"])?;
        ensure!(said.contains(words), "{said}");
    }
    bundle.run(&["delete", "-f", "three"])?;
    Ok(())
}

/// Until it is started, the process has nothing of the host open and can be ended by any signal.
#[test]
fn a_created_container_waits_with_nothing_in_its_hands() -> Result<()> {
    let bundle = Bundle::new("gate")?;
    bundle.configure(&["/bin/busybox", "true"])?;
    bundle.create("one")?;
    let pid = bundle.state("one")?["pid"].as_i64().context("a pid")?;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let target = std::fs::read_link(&path)?.to_string_lossy().into_owned();
        let expected = ["/dev/null", "/null", "socket:", "/proc", "/"].iter().any(|word| match *word {
            "socket:" => target.starts_with(word),
            word => target == word,
        });
        ensure!(expected || target.ends_with("/exec.fifo"), "{} is {target}", path.display());
    }
    for signal in ["TERM", "INT", "KILL"] {
        bundle.run(&["kill", "one", signal])?;
        bundle.is_stopped("one")?;
        let said = bundle.fail(&["start", "one"])?;
        ensure!(said.contains("cannot start a container that has stopped"), "{said}");
        bundle.run(&["delete", "one"])?;
        bundle.create("one")?;
    }
    bundle.run(&["delete", "-f", "one"])?;
    // Also when it is nobody in particular.
    bundle.configure_with(&["/bin/busybox", "true"], |config| {
        config["process"]["user"] = json!({"uid": 1000})
    })?;
    bundle.create("two")?;
    bundle.run(&["start", "two"])?;
    bundle.is_stopped("two")?;
    bundle.run(&["delete", "two"])?;
    Ok(())
}

#[test]
fn descriptors_are_kept_when_asked_for_and_only_then() -> Result<()> {
    let bundle = Bundle::new("fds")?;
    std::fs::write(bundle.path("four"), "of the host")?;
    bundle.configure(&["/bin/busybox", "sleep", "1000"])?;
    bundle.create("one")?;
    bundle.run(&["start", "one"])?;
    let with_four = |args: &str| -> Result<(bool, String)> {
        let shim = wharf_testkit::bin_dir().join("wharf-shim");
        let root = bundle.path("root");
        let line = format!(
            "exec 3</dev/null 4<four; exec {} runtime --root {} {args}",
            shim.display(),
            root.display()
        );
        let out = Command::new("sh")
            .args(["-c", &line])
            .current_dir(bundle.path(""))
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8([out.stdout, out.stderr].concat())?;
        Ok((out.status.success(), text))
    };
    assert_eq!(with_four("exec --preserve-fds 2 one cat /proc/self/fd/4")?, (true, "of the host".into()));
    let (good, said) = with_four("exec one cat /proc/self/fd/4")?;
    ensure!(!good && said.contains("No such file"), "{said}");
    let (good, said) = with_four("exec --preserve-fds 3 one true")?;
    ensure!(!good && said.contains("unable to stat preserved-fd 2 (of 3)"), "{said}");
    bundle.run(&["delete", "-f", "one"])?;
    bundle.configure(&["/bin/busybox", "sh", "-c", "cat <&4; ls /proc/self/fd | grep -c ."])?;
    assert_eq!(with_four("run --preserve-fds 2 two")?, (true, "of the host6\n".into()));
    Ok(())
}

#[test]
fn hooks_run_in_order_and_stop_what_they_refuse() -> Result<()> {
    let bundle = Bundle::new("hooks")?;
    let log = bundle.path("log");
    let hook = |word: &str, code: i32| {
        let line = format!("cat >/dev/null; echo {word} >>{}; exit {code}", log.display());
        json!({"path": "/bin/sh", "args": ["sh", "-c", line]})
    };
    let inside = |line: &str| json!({"path": "/bin/busybox", "args": ["sh", "-c", line]});
    bundle.configure_with(&["/bin/busybox", "sh", "-c", "cat /tmp/env"], |config| {
        config["process"]["env"] = json!(["PATH=/bin", "ONE=two"]);
        config["hooks"] = json!({
            "prestart": [hook("prestart", 0)],
            "createRuntime": [hook("createRuntime", 0)],
            "startContainer": [inside("echo $ONE $HOME >/tmp/env")],
            "poststart": [hook("poststart", 0)],
            "poststop": [hook("poststop", 0)],
        });
    })?;
    assert_eq!(bundle.run(&["run", "one"])?, "two /\n", "it has the process's environment");
    let words = std::fs::read_to_string(&log)?;
    assert_eq!(
        words.split_whitespace().collect::<Vec<_>>(),
        ["prestart", "createRuntime", "poststart", "poststop"]
    );
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        bundle.configure_with(&["/bin/busybox", "sleep", "1000"], |config| {
            let (good, bad) = (json!({"path": "/bin/true"}), json!({"path": "/bin/false"}));
            config["hooks"] = json!({kind: [good, bad]});
        })?;
        let said = bundle.fail(&["run", "bad"])?;
        ensure!(said.contains(&format!("error running {kind} hook #1: exit status 1")), "{kind}: {said}");
        assert_eq!(bundle.run(&["list", "-q"])?, "", "{kind} left a container");
    }
    Ok(())
}

/// Who is asked about calls gets the filter's descriptor; when he goes away the calls fail.
#[test]
fn calls_are_decided_by_a_listener() -> Result<()> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let bundle = Bundle::new("notify")?;
    let listener = std::os::unix::net::UnixListener::bind(bundle.path("agent"))?;
    listener.set_nonblocking(true)?;
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": bundle.path("agent"),
        "listenerMetadata": "of the test",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    });
    for no_new_privileges in [true, false] {
        bundle.configure_with(&["/bin/busybox", "mkdir", "/tmp/made"], |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["linux"]["seccomp"] = profile.clone();
        })?;
        let running =
            bundle.runtime(&["run", "one"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let socket = wharf_testkit::until("the filter's descriptor", || match listener.accept() {
            Ok((socket, _)) => Ok(Some(socket)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        socket.set_nonblocking(false)?;
        let (mut bytes, mut space) =
            ([0u8; 4096], [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &socket,
            &mut [std::io::IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let state: Value = serde_json::from_slice(&bytes[..got.bytes])?;
        assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("of the test")));
        assert_eq!((&state["state"]["id"], &state["state"]["status"]), (&json!("one"), &json!("creating")));
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.count()),
            _ => None,
        });
        assert_eq!(fds.sum::<usize>(), 1, "and is closed here");
        let out = running.wait_with_output()?;
        let said = String::from_utf8(out.stderr)?;
        ensure!(!out.status.success() && said.contains("not implemented"), "{said}");
    }
    bundle.configure_with(&["/bin/busybox", "true"], |config| {
        let mut nobody = profile.clone();
        nobody["listenerPath"] = json!("/nonexistent/agent");
        config["linux"]["seccomp"] = nobody;
    })?;
    let said = bundle.fail(&["run", "two"])?;
    ensure!(said.contains("failed to connect with seccomp agent"), "{said}");
    Ok(())
}

#[test]
fn further_processes_go_to_groups_below_the_containers() -> Result<()> {
    let bundle = Bundle::new("subgroup")?;
    bundle.configure(&["/bin/busybox", "sleep", "1000"])?;
    bundle.create("one")?;
    bundle.run(&["start", "one"])?;
    let pid = bundle.state("one")?["pid"].as_i64().context("a pid")?;
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = bundle.group();
    ensure!(own.contains(&path), "{own}");
    let said = bundle.fail(&["exec", "--cgroup", "..", "one", "true"])?;
    ensure!(said.contains("bad sub cgroup path"), "{said}");
    ensure!(!bundle.runtime(&["exec", "--cgroup", "nosuch", "one", "true"]).output()?.status.success());
    let pids = Path::new("/sys/fs/cgroup/pids");
    if pids.exists() {
        std::fs::create_dir(pids.join(&path[1..]).join("below"))?;
        let seen = bundle.run(&["exec", "--cgroup", "pids:below", "one", "cat", "/proc/self/cgroup"])?;
        ensure!(seen.lines().filter(|line| line.ends_with("/below")).count() == 1, "{seen}");
        let said = bundle.fail(&["exec", "--cgroup", "moon:below", "one", "true"])?;
        ensure!(said.contains("unknown controller moon"), "{said}");
    } else {
        std::fs::create_dir(Path::new("/sys/fs/cgroup").join(&path[1..]).join("below"))?;
        let seen = bundle.run(&["exec", "--cgroup", "below", "one", "cat", "/proc/self/cgroup"])?;
        ensure!(seen.trim_end().ends_with("/below"), "{seen}");
    }
    bundle.run(&["delete", "-f", "one"])?;
    Ok(())
}

#[test]
fn lists_and_pages_are_runcs() -> Result<()> {
    let bundle = Bundle::new("list")?;
    bundle.configure(&["/bin/busybox", "true"])?;
    bundle.create("one")?;
    let json = bundle.run(&["list", "--format", "json"])?;
    ensure!(json.starts_with("[{\"ociVersion\":\"") && json.contains(",\"id\":\"one\",\"pid\":"), "{json}");
    let page = bundle.run(&["create", "--help"])?;
    ensure!(page.starts_with("NAME:\n   wharf-runtime create - create a container\n"), "{page}");
    bundle.run(&["delete", "-f", "one"])?;
    let said = bundle.fail(&["checkpoint", "one"])?;
    ensure!(said.contains("checkpoint is not supported"), "{said}");
    let out = Command::new(wharf_testkit::bin_dir().join("wharf-shim"))
        .args(["runtime", "--root", "/nonexistent/root", "list"])
        .output()?;
    ensure!(!out.status.success(), "a root that is not there is listed");
    Ok(())
}

/// Roots that are entered by chroot, masks that are named twice, limits below what building a root takes.
#[test]
fn roots_are_built_in_other_ways() -> Result<()> {
    let bundle = Bundle::new("roots")?;
    let line = "pwd; grep -c ' /tmp ' /proc/self/mountinfo; ls -d /var 2>/dev/null; grep -c 'open files *20 ' /proc/self/limits";
    bundle.configure_with(&["/bin/busybox", "sh", "-c", line], |config| {
        config["linux"]["maskedPaths"] = json!(["/tmp", "/tmp", "/proc/kcore"]);
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20}]);
    })?;
    for flags in [&["run"][..], &["run", "--no-pivot"]] {
        assert_eq!(bundle.run(&[flags, &["one"]].concat())?, "/\n1\n1\n", "{flags:?}");
    }
    Ok(())
}
