//! `wharf-runtime` as the runtime of other engines: Debian's podman and docker.io.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use wharf_testkit::{DockerIo, busybox, lacks_oracle, until};

/// A directory of a test, gone with it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Result<Self> {
        let path = PathBuf::from(format!("/var/tmp/wharf-guest-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// The program by the name that makes it a runtime.
    fn runtime(&self) -> Result<String> {
        let path = self.0.join("wharf-runtime");
        std::os::unix::fs::symlink(wharf_testkit::bin_dir().join("wharf-shim"), &path)?;
        Ok(path.display().to_string())
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.path("root/overlay")]).output();
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn podman_runs_containers_with_it() -> Result<()> {
    if lacks_oracle("podman") {
        return Ok(());
    }
    let dir = Dir::new("podman")?;
    let runtime = dir.runtime()?;
    let (root, runroot, tmp) = (dir.path("root"), dir.path("run"), dir.path("tmp"));
    // Its own default limits are more than a machine without CAP_SYS_RESOURCE may give.
    let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
    fs::write(dir.path("containers.conf"), limits)?;
    let podman = |args: &[&str]| -> Result<(i32, String, String)> {
        let mut command = Command::new("podman");
        command.args(["--root", &root, "--runroot", &runroot, "--tmpdir", &tmp, "--runtime", &runtime]);
        command
            .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"])
            .args(args);
        command.env("CONTAINERS_CONF", dir.path("containers.conf"));
        let out = command.output().context("podman")?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok((out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr)))
    };
    let good = |args: &[&str]| -> Result<String> {
        let (code, stdout, stderr) = podman(args)?;
        ensure!(code == 0, "{args:?}: {code} {stderr}");
        Ok(stdout)
    };
    let image = dir.path("image.tar");
    fs::write(&image, &busybox()?.bytes)?;
    good(&["load", "-q", "-i", &image])?;
    let run = ["run", "--rm", "--network=none", "--log-driver=k8s-file"];
    let out = podman(&[&run[..], &["busybox", "sh", "-c", "echo o; echo e >&2; exit 3"]].concat())?;
    ensure!(out.0 == 3 && out.1 == "o\n" && out.2.ends_with("e\n"), "{out:?}");
    let line = "id -u; pwd; hostname; grep Seccomp: /proc/self/status";
    let out = good(&[&run[..], &["-u1000", "-w/tmp", "-hname", "busybox", "sh", "-c", line]].concat())?;
    assert_eq!(out, "1000\n/tmp\nname\nSeccomp:\t2\n");
    let out = podman(&[&run[..], &["busybox", "nosuch"]].concat())?;
    ensure!(out.0 == 127, "{out:?}");
    let detached = ["run", "-d", "--name=cc", "--network=none", "--log-driver=k8s-file", "--pids-limit=50"];
    good(&[&detached[..], &["busybox", "sleep", "1000"]].concat())?;
    assert_eq!(good(&["exec", "cc", "cat", "/proc/1/comm"])?, "sleep\n");
    assert_eq!(podman(&["exec", "cc", "sh", "-c", "exit 5"])?.0, 5);
    assert_eq!(good(&["exec", "-t", "cc", "tty"])?.trim(), "/dev/pts/0");
    good(&["pause", "cc"])?;
    assert_eq!(good(&["inspect", "-f", "{{.State.Status}}", "cc"])?, "paused\n");
    good(&["unpause", "cc"])?;
    assert!(good(&["top", "cc", "comm"])?.contains("sleep"));
    good(&["stop", "-t0", "cc"])?;
    assert_eq!(good(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "cc"])?, "exited 137\n");
    good(&["rm", "cc"])?;
    Ok(())
}

#[test]
fn docker_io_runs_containers_with_it() -> Result<()> {
    if lacks_oracle("dockerd") {
        return Ok(());
    }
    let dir = Dir::new("docker")?;
    let data = dir.0.join("data");
    fs::create_dir(&data)?;
    let config = json!({"runtimes": {"wharf": {"path": dir.runtime()?}}, "storage-driver": "vfs"});
    let docker = DockerIo::start_configured(Path::new(&data), &config.to_string())?;
    docker.load(&busybox()?)?;
    let run = |args: &[&str]| docker.docker(&[&["run", "--runtime=wharf", "--network=none"], args].concat());
    let out = run(&["--rm", "busybox", "sh", "-c", "echo o; echo e >&2; exit 3"])?;
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (3, "o\n", "e\n"));
    let line = "id -u; pwd; hostname; grep -E '^(CapEff|Seccomp):' /proc/self/status";
    let out = run(&["--rm", "-u1000", "-w/new/dir", "-hname", "busybox", "sh", "-c", line])?.ok()?;
    assert_eq!(out, "1000\n/new/dir\nname\nCapEff:\t0000000000000000\nSeccomp:\t2\n");
    assert_eq!(run(&["--rm", "-t", "busybox", "tty"])?.ok()?, "/dev/pts/0\r\n");
    assert_eq!(run(&["--rm", "busybox", "nosuch"])?.code, 127);
    run(&["-d", "--name=cc", "--memory=64m", "busybox", "sleep", "1000"])?.ok()?;
    assert_eq!(docker.docker(&["exec", "cc", "cat", "/proc/1/comm"])?.ok()?, "sleep\n");
    assert_eq!(docker.docker(&["exec", "cc", "sh", "-c", "exit 5"])?.code, 5);
    assert!(docker.docker(&["top", "cc"])?.ok()?.contains("sleep 1000"));
    docker.docker(&["pause", "cc"])?.ok()?;
    docker.docker(&["unpause", "cc"])?.ok()?;
    docker.docker(&["update", "--memory=128m", "--memory-swap=256m", "cc"])?.ok()?;
    docker.docker(&["stop", "-t0", "cc"])?.ok()?;
    until("its end", || {
        let state = docker.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "cc"])?.ok()?;
        Ok((state == "exited 137\n").then_some(()))
    })?;
    docker.docker(&["rm", "cc"])?.ok()?;
    docker.stop()
}
