//! `wharf-runtime` as a command line on a bundle, as runc's callers use it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Bundle {
    dir: PathBuf,
}

impl Bundle {
    fn new(name: &str) -> Result<Self> {
        let dir = PathBuf::from(format!("/var/tmp/wharf-bundle-{}-{name}", std::process::id()));
        for sub in ["rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/tmp", "root"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        std::fs::copy("/bin/busybox", dir.join("rootfs/bin/busybox"))
            .context("the package busybox-static is needed")?;
        std::os::unix::fs::symlink("busybox", dir.join("rootfs/bin/sh"))?;
        Ok(Self { dir })
    }

    fn runtime(&self, args: &[&str]) -> Command {
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

    fn configure(&self, args: &[&str]) -> Result<()> {
        let path = self.dir.join("config.json");
        let _ = std::fs::remove_file(&path);
        self.run(&["spec"])?;
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        config["process"]["args"] = json!(args);
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(format!("/wharf-test-{}/bundle", std::process::id()));
        Ok(std::fs::write(&path, serde_json::to_vec(&config)?)?)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(format!("wharf-test-{}", std::process::id())));
        }
        let _ = std::fs::remove_dir(
            Path::new("/sys/fs/cgroup").join(format!("wharf-test-{}", std::process::id())),
        );
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
