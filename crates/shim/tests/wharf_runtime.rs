//! `wharf-runtime` as callers of runc use it: the built program under its other name, on busybox bundles.
//! Needs root.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A state root, bundles, and the program.
struct Host {
    dir: tempfile::TempDir,
    prefix: &'static str,
}

impl Host {
    /// `prefix` keeps the containers of tests that run at the same time apart in the cgroup trees.
    fn new(prefix: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wharf-shim"), dir.path().join("wharf-runtime"))
            .unwrap();
        Self { dir, prefix }
    }

    /// Makes the bundle `name` whose process is a shell script.
    fn bundle(&self, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let bundle = self.dir.path().canonicalize().unwrap().join(name);
        for dir in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            std::fs::create_dir_all(bundle.join("rootfs").join(dir)).unwrap();
        }
        std::fs::copy("/bin/busybox", bundle.join("rootfs/bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "id", "ps", "stty", "echo", "true", "unshare"] {
            std::os::unix::fs::symlink("busybox", bundle.join("rootfs/bin").join(applet)).unwrap();
        }
        let mut config = config(&["/bin/sh", "-c", script]);
        config["linux"]["cgroupsPath"] = format!("/{}-{}-{name}", self.prefix, std::process::id()).into();
        change(&mut config);
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.dir.path().join("wharf-runtime"));
        command.arg("--root").arg(self.dir.path().join("state")).args(args);
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that has to succeed; its standard output.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {} {problem}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that has to fail; exit code and last line of standard error.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.output(args);
        assert!(!output.status.success(), "{args:?} succeeded");
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text.lines().last().unwrap_or("").to_owned())
    }

    fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).unwrap()
    }

    /// Creates a container whose output goes to a file of the bundle.
    fn create(&self, bundle: &Path, id: &str) -> i32 {
        let out = std::fs::File::create(bundle.join("out")).unwrap();
        let pid_file = bundle.join("pid");
        let mut command =
            self.command(&["create", "--bundle", text(bundle), "--pid-file", text(&pid_file), id]);
        // Not this test's own standard error: whoever waits for the end of that would wait for the container.
        let problem = std::fs::File::create(bundle.join("err")).unwrap();
        let status = command.stdin(Stdio::null()).stdout(out).stderr(problem).status().unwrap();
        assert!(status.success(), "create {id}: {}", std::fs::read_to_string(bundle.join("err")).unwrap());
        std::fs::read_to_string(pid_file).unwrap().parse().unwrap()
    }
}

impl Drop for Host {
    /// Whatever a failed test has left.
    fn drop(&mut self) {
        let ids = self.output(&["list", "-q"]);
        for id in String::from_utf8_lossy(&ids.stdout).lines() {
            self.output(&["delete", "--force", id]);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn config(args: &[&str]) -> Value {
    let caps = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]);
    let namespaces: Vec<Value> =
        ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind })).into();
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "args": args, "cwd": "/",
            "env": ["PATH=/bin"],
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "inside",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
        },
        "annotations": { "key": "value" },
    })
}

/// Waits until the process has ended; it need not be a child.
fn wait_end(pid: i32) {
    if let Ok(pidfd) = wharf_sys::process::pidfd_open(pid) {
        wharf_sys::event::wait_readable(&pidfd, None).unwrap();
    }
}

#[test]
fn run_ends_as_the_program_ends_and_leaves_nothing() {
    let host = Host::new("rt-run");
    let script = "hostname 2>/dev/null || busybox hostname; id -u; echo $HOME; cat; exit 7";
    let bundle = host.bundle("b", script, |_| {});
    let mut command = host.command(&["run", "-b", text(&bundle), "c1"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "inside\n0\n/\nthrough\n");
    assert_eq!(host.ok(&["list", "-q"]), "");
    let cgroup = format!("rt-run-{}-b", std::process::id());
    assert!(
        !Path::new("/sys/fs/cgroup/memory").join(&cgroup).exists()
            && !Path::new("/sys/fs/cgroup").join(cgroup).exists()
    );
}

#[test]
fn a_container_goes_through_its_whole_life() {
    let host = Host::new("rt-life");
    let bundle = host.bundle("b", "echo started; while :; do sleep 0.02; done", |_| {});
    let pid = host.create(&bundle, "c1");
    let state = host.state("c1");
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(pid)));
    assert_eq!((&state["bundle"], &state["annotations"]["key"]), (&json!(text(&bundle)), &json!("value")));
    assert_eq!(std::fs::read_to_string(bundle.join("out")).unwrap(), "", "the program does not run yet");
    assert_eq!(host.fails(&["create", "-b", text(&bundle), "c1"]).0, 1);

    host.ok(&["start", "c1"]);
    assert_eq!(host.state("c1")["status"], "running");
    assert!(host.fails(&["start", "c1"]).1.contains("cannot start an already running container"));
    assert!(
        host.fails(&["delete", "c1"]).1.contains("cannot delete container c1 that is not stopped: running")
    );

    let inside = host.ok(&[
        "exec",
        "-e",
        "WORD=x",
        "--cwd",
        "/tmp",
        "--user",
        "5:6",
        "c1",
        "sh",
        "-c",
        "echo $WORD; pwd 2>/dev/null || busybox pwd; id -u; id -g; echo $$",
    ]);
    let lines: Vec<_> = inside.lines().collect();
    assert_eq!(lines[..4], ["x", "/tmp", "5", "6"]);
    assert!(lines[4].parse::<i32>().unwrap() < 1000, "in the container's pid namespace");
    assert_eq!(host.output(&["exec", "c1", "sh", "-c", "exit 9"]).status.code(), Some(9));
    let (code, message) = host.fails(&["exec", "c1", "/no/such"]);
    assert_eq!(code, 255);
    assert!(
        message.contains("exec failed: unable to start container process: exec: \\\"/no/such\\\""),
        "{message}"
    );

    host.ok(&["pause", "c1"]);
    assert_eq!(host.state("c1")["status"], "paused");
    assert!(host.fails(&["exec", "c1", "true"]).1.contains("cannot exec in a paused container"));
    host.ok(&["resume", "c1"]);
    assert_eq!(host.state("c1")["status"], "running");

    let pids: Vec<i32> = serde_json::from_str(&host.ok(&["ps", "--format", "json", "c1"])).unwrap();
    assert!(pids.contains(&pid));
    let list: Value = serde_json::from_str(&host.ok(&["list", "--format=json"])).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["owner"]), (&json!("c1"), &json!("root")));
    let stats: Value = serde_json::from_str(&host.ok(&["events", "--stats", "c1"])).unwrap();
    assert!(stats["data"]["pids"]["current"].as_u64().unwrap() >= 1, "{stats}");
    host.ok(&["update", "--pids-limit", "77", "c1"]);
    let stats: Value = serde_json::from_str(&host.ok(&["events", "--stats", "c1"])).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], 77);

    host.ok(&["kill", "c1", "KILL"]);
    wait_end(pid);
    let state = host.state("c1");
    assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
    assert!(host.fails(&["kill", "c1", "TERM"]).1.contains("container not running"));
    assert!(host.fails(&["exec", "c1", "true"]).1.contains("cannot exec in a stopped container"));
    host.ok(&["delete", "c1"]);
    assert!(host.fails(&["state", "c1"]).1.contains("container does not exist"));
    assert_eq!(std::fs::read_to_string(bundle.join("out")).unwrap(), "started\n");
}

#[test]
fn delete_is_forgiving_with_force() {
    let host = Host::new("rt-del");
    assert!(host.fails(&["delete", "none"]).1.contains("container does not exist"));
    host.ok(&["delete", "--force", "none"]);
    let bundle = host.bundle("b", "exec sleep 1000", |_| {});
    let pid = host.create(&bundle, "created");
    host.ok(&["delete", "created"]);
    wait_end(pid);
    let pid = host.create(&bundle, "running");
    host.ok(&["start", "running"]);
    host.ok(&["pause", "running"]);
    host.ok(&["delete", "--force", "running"]);
    wait_end(pid);
    assert_eq!(host.ok(&["list", "-q"]), "");
}

#[test]
fn failures_are_logged_as_callers_expect_and_undone() {
    let host = Host::new("rt-fail");
    let bundle = host.bundle("b", "true", |config| config["process"]["args"] = json!(["nosuch"]));
    let log = host.dir.path().join("log.json");
    let (code, message) =
        host.fails(&["--log", text(&log), "--log-format", "json", "create", "-b", text(&bundle), "c1"]);
    let want = "wharf-runtime create failed: unable to start container process: exec: \"nosuch\": executable file \
                not found in $PATH";
    assert_eq!((code, message.as_str()), (1, want));
    let line: Value =
        serde_json::from_str(std::fs::read_to_string(&log).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!(want)));
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(host.ok(&["list", "-q"]), "", "nothing is left");
    for (args, words) in [
        (&["create", "-b", "/nonexistent", "c1"][..], "no such file or directory"),
        (&["create", "-b", "/", "c1"], "JSON specification file config.json not found"),
        (&["create", "-b", text(&bundle), "a/b"], "invalid container ID format"),
        (&["--systemd-cgroup", "list"], "--systemd-cgroup is not supported"),
        (&["--root", "/", "list"], "should not be set to /"),
        (&["nonsense"], "No help topic for 'nonsense'"),
    ] {
        assert!(host.fails(args).1.contains(words), "{args:?}");
    }
    assert!(host.ok(&["--version"]).starts_with("wharf-runtime version "));
    assert!(
        serde_json::from_str::<Value>(&host.ok(&["features"])).unwrap()["linux"]["seccomp"]["enabled"]
            == true
    );
}

/// The terminal's other end goes to the caller, who reads and writes it.
#[test]
fn a_terminal_goes_over_the_console_socket() {
    let host = Host::new("rt-tty");
    let bundle = host.bundle("b", "stty size; read line; echo got $line", |config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    });
    assert!(host.fails(&["create", "-b", text(&bundle), "c1"]).1.contains("without setting console socket"));
    let socket = host.dir.path().join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let args = ["run", "-d", "-b", text(&bundle), "--console-socket", text(&socket), "c1"];
    host.ok(&args);
    let (peer, _) = listener.accept().unwrap();
    let mut master = std::fs::File::from(receive(&peer));
    master.write_all(b"word\n").unwrap();
    let mut seen = Vec::new();
    // The end of the other side is an error for a terminal.
    let _ = master.read_to_end(&mut seen);
    let seen = String::from_utf8_lossy(&seen).replace('\r', "");
    assert!(seen.contains("33 77\n") && seen.contains("got word\n"), "{seen:?}");
    host.ok(&["delete", "--force", "c1"]);
}

/// In the foreground the caller's own terminal is connected, in its size.
#[test]
fn a_terminal_in_the_foreground_is_the_callers() {
    let host = Host::new("rt-fg");
    let bundle = host.bundle("b", "read line; stty size; echo got $line; exit 5", |config| {
        config["process"]["terminal"] = true.into();
    });
    let pair = wharf_sys::pty::open().unwrap();
    let size = wharf_spec::plan::TerminalSize { rows: 20, columns: 50 };
    wharf_sys::pty::set_size(&pair.master, size).unwrap();
    let end = || Stdio::from(pair.terminal.try_clone().unwrap());
    let mut command = host.command(&["run", "-b", text(&bundle), "c1"]);
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    drop(command);
    let mut master = std::fs::File::from(pair.master);
    master.write_all(b"hey\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    drop(pair.terminal);
    let mut seen = Vec::new();
    // The end of the other side is an error for a terminal.
    let _ = master.read_to_end(&mut seen);
    let seen = String::from_utf8_lossy(&seen).replace('\r', "");
    assert!(seen.contains("20 50\n") && seen.contains("got hey\n"), "{seen:?}");
    assert_eq!(host.ok(&["list", "-q"]), "");
}

fn receive(socket: impl AsFd) -> std::os::fd::OwnedFd {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut bytes = [0u8; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let got = rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    assert_eq!(&bytes[..got.bytes], b"/dev/ptmx");
    let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else {
        panic!("no descriptor")
    };
    fds.next().unwrap()
}

#[test]
fn hooks_run_in_the_order_of_the_specification() {
    let host = Host::new("rt-hooks");
    let record = host.dir.path().join("record");
    let hook = |name: &str| {
        let script = format!(r#"read s; echo {name} $s | sed 's/[{{}}"]//g' >> {}"#, text(&record));
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }])
    };
    let bundle = host.bundle("b", "exec sleep 1000", |config| {
        config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    });
    host.create(&bundle, "c1");
    host.ok(&["start", "c1"]);
    host.ok(&["delete", "-f", "c1"]);
    let seen = std::fs::read_to_string(&record).unwrap();
    let words: Vec<_> = seen.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["prestart", "createRuntime", "poststart", "poststop"]);
    let statuses: Vec<_> =
        seen.lines().map(|line| line.split("status:").nth(1).unwrap().split(',').next().unwrap()).collect();
    assert_eq!(statuses, ["creating", "creating", "running", "stopped"], "{seen}");
}

#[test]
fn a_failing_create_hook_undoes_the_container() {
    let host = Host::new("rt-badhook");
    let bundle = host.bundle("b", "true", |config| {
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 4"] }] });
    });
    let (code, message) = host.fails(&["create", "-b", text(&bundle), "c1"]);
    assert_eq!(code, 1);
    assert!(message.contains("createRuntime hook #0"), "{message}");
    assert_eq!(host.ok(&["list", "-q"]), "");
}

#[test]
fn exec_takes_a_process_file_and_detaches() {
    let host = Host::new("rt-exec");
    let bundle = host.bundle("b", "exec sleep 1000", |_| {});
    host.create(&bundle, "c1");
    host.ok(&["start", "c1"]);
    let process = json!({ "args": ["/bin/sh", "-c", "echo $A; exec sleep 1000"], "cwd": "/tmp", "env": ["A=file", "PATH=/bin"],
        "user": { "uid": 9, "gid": 9 } });
    let file = bundle.join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let pid_file = bundle.join("exec-pid");
    let (mut out, theirs) = std::io::pipe().unwrap();
    let mut command =
        host.command(&["exec", "-d", "--process", text(&file), "--pid-file", text(&pid_file), "c1"]);
    command.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("\nUid:\t9\t9\t9\t9\n"), "{status}");
    // It may not have said anything yet.
    let mut said = [0; 5];
    out.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"file\n");
    host.ok(&["kill", "--all", "c1", "KILL"]);
    wait_end(pid);
}

#[test]
fn the_filter_of_a_bundle_is_applied() {
    let host = Host::new("rt-seccomp");
    let script = "unshare -u true 2>&1; echo code $?; grep Seccomp: /proc/self/status || busybox grep Seccomp: /proc/self/status";
    let bundle = host.bundle("b", script, |config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }] });
    });
    let seen = host.ok(&["run", "-b", text(&bundle), "c1"]);
    assert!(seen.contains("Function not implemented") && seen.contains("Seccomp:\t2"), "{seen}");
}
