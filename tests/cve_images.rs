//! Known attacks by images and on what is kept of them, tried on ours. `docs/security-tests.md` lists them all.

use crate::container_run::sh;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use wharf_testkit::{Daemon, Entry, from_files};

fn with_busybox(more: Vec<Entry>) -> Result<Vec<Entry>> {
    let mut files = vec![
        Entry::dir("bin", 0o755),
        Entry::dir("etc", 0o755),
        Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?),
    ];
    files.extend(more);
    Ok(files)
}

/// Nobody but root gets to what images, containers and volumes are kept in, least of all to their set-id programs.
#[test]
fn cve_2021_41091_and_2024_25621_state_is_for_root_alone() -> Result<()> {
    const NOBODY: u32 = 65534;
    let daemon = Daemon::with_busybox()?;
    let setuid = with_busybox(vec![Entry::file("bin/root-shell", 0o4755, fs::read("/bin/busybox")?)])?;
    daemon.load(&from_files("setuid:latest", &setuid, json!({}))?)?;
    let run = [
        "run",
        "-d",
        "--name=cc",
        "--network=none",
        "-v",
        "vol:/v",
        "setuid",
        "/bin/busybox",
        "sleep",
        "1000",
    ];
    daemon.docker(&run)?.ok()?;
    let id = daemon.docker(&["inspect", "-f", "{{.Id}}", "cc"])?.ok()?;
    let merged = daemon.docker(&["inspect", "-f", "{{.GraphDriver.Data.MergedDir}}", "cc"])?.ok()?;
    let (data, exec) = (daemon.data_root(), daemon.exec_root());
    let mut places = vec![
        data.join("overlay2"),
        data.join("containers"),
        data.join("containers").join(id.trim()),
        data.join("image"),
        data.join("volumes/vol/_data"),
        data.join("network/files/local-kv.db"),
        exec.join("containers"),
        exec.join("containers").join(id.trim()),
        exec.join("containers").join(id.trim()).join("shim.sock"),
    ];
    places.push(merged.trim().into());
    places.push(std::path::Path::new(merged.trim()).join("bin/root-shell"));
    for place in &places {
        ensure!(place.exists(), "{} is not there to be tried", place.display());
        let path = place.display().to_string();
        for attempt in [&["ls", "-A", &path][..], &["stat", "-L", &format!("{path}/.")], &["cat", &path]] {
            let out = Command::new("/bin/busybox").args(attempt).uid(NOBODY).gid(NOBODY).output()?;
            ensure!(!out.status.success(), "{attempt:?}: {}", String::from_utf8_lossy(&out.stdout));
        }
    }
    let shell = places.last().context("a place")?;
    let ran = Command::new(shell).args(["busybox", "id"]).uid(NOBODY).gid(NOBODY).output();
    ensure!(ran.is_err(), "a set-id program of an image was run by nobody");
    daemon.stop()
}

/// A byte of a shared layer is changed on disk, as a hole in the kernel's page cache would let a container do.
#[test]
fn cve_2022_0847_a_changed_layer_is_found() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    sh(&daemon, &[], "true")?;
    daemon.terminate()?;
    let whole = daemon.check(&["--deep"])?;
    assert_eq!(whole.code, 0, "{}{}", whole.stdout, whole.stderr);
    let passwd = fs::read_dir(daemon.data_root().join("overlay2"))?
        .flatten()
        .map(|entry| entry.path().join("diff/etc/passwd"))
        .find(|path| path.exists())
        .context("a layer with /etc/passwd")?;
    let times = fs::metadata(&passwd)?.modified()?;
    let text = fs::read_to_string(&passwd)?.replacen("root:x:", "root::x", 1);
    fs::write(&passwd, text)?;
    fs::File::options().write(true).open(&passwd)?.set_modified(times)?;
    let altered = daemon.check(&["--deep"])?;
    let said = format!("{}{}", altered.stdout, altered.stderr);
    ensure!(altered.code != 0 && said.contains("layer sha256:"), "{said}");
    daemon.assert_clean()
}

/// Words that engines have obeyed when they stood in the labels of a container. In an image they are words.
#[test]
fn cve_2026_53488_labels_of_an_image_change_nothing() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let made = daemon.dir().join("made-by-a-label");
    let uri = format!("binary:///bin/touch?{}", made.display());
    let words = [
        "containerd.io/restart.loguri",
        "containerd.io/restart.logpath",
        "containerd.io/restart.status",
        "containerd.io/restart.policy",
        "io.containerd.image.config.stop-signal",
        "io.containerd.runc.v2.group",
        "nerdctl/log-uri",
        "nerdctl/log-config",
        "com.docker.engine.log-driver",
        "com.docker.plugin.init",
        "com.docker.network.bridge.name",
        "com.docker.swarm.service.name",
        "com.docker.volume.anonymous",
        "org.opencontainers.runtime",
        "org.opencontainers.image.stopSignal",
        "run.oci.hooks.stdout",
        "run.oci.handler",
        "cdi.k8s.io/vendor",
        "wharf.runtime",
        "wharf.log-uri",
        "wharf.privileged",
        "io.podman.annotations.privileged",
        "maintainer",
    ];
    let labels: Value = words.iter().map(|word| ((*word).to_owned(), Value::from(uri.clone()))).collect();
    daemon.load(&from_files("plain:latest", &with_busybox(Vec::new())?, json!({}))?)?;
    daemon.load(&from_files("labels:latest", &with_busybox(Vec::new())?, json!({"Labels": labels}))?)?;
    let look = |image: &str| -> Result<(Value, String)> {
        let line = "grep -E '^(Cap|Seccomp|NoNew)' /proc/self/status; cut -d' ' -f4- /proc/self/mountinfo | wc -l; env";
        let args = [
            "run",
            "-d",
            "--name=cc",
            "--hostname=h",
            "--network=none",
            image,
            "/bin/busybox",
            "sh",
            "-c",
            line,
        ];
        daemon.docker(&args)?.ok()?;
        daemon.docker(&["wait", "cc"])?.ok()?;
        let printed = daemon.docker(&["logs", "cc"])?.ok()?;
        let mut inspected = daemon.api().call("GET", "/containers/cc/json")?.json();
        daemon.docker(&["rm", "cc"])?.ok()?;
        for key in ["Image", "Labels", "Hostname"] {
            inspected["Config"][key].take();
        }
        let kept = ["HostConfig", "Config", "Mounts", "AppArmorProfile", "ExecIDs", "Path", "Args"];
        Ok((kept.iter().map(|key| ((*key).to_owned(), inspected[*key].clone())).collect(), printed))
    };
    assert_eq!(look("labels")?, look("plain")?);
    ensure!(!made.exists(), "a label was obeyed");
    daemon.stop()
}

/// A passwd file that is one endless line, and one that is long: an error or the user, in bounded memory.
#[test]
fn cve_2026_47262_a_huge_passwd_file_is_read_in_bounded_memory() -> Result<()> {
    const HUGE: usize = 96 << 20;
    const MAY_GROW_KIB: u64 = 32 << 10;
    let daemon = Daemon::with_busybox()?;
    let peak = || -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    for (name, content) in [("line", vec![b'x'; HUGE]), ("lines", b"a:x:1:1::/:\n".repeat(HUGE / 12))] {
        let image = format!("{name}:latest");
        let group = Entry::file("etc/group", 0o644, content.clone());
        let files = with_busybox(vec![Entry::file("etc/passwd", 0o644, content), group])?;
        daemon.load(&from_files(&image, &files, json!({}))?)?;
        let before = peak()?;
        let unknown =
            daemon.docker(&["run", "--rm", "--network=none", "-u", "zz:zz", &image, "/bin/busybox", "id"])?;
        ensure!(unknown.code == 125 && unknown.stderr.contains("unable to find"), "{}", unknown.stderr);
        let number = daemon.docker(&[
            "run",
            "--rm",
            "--network=none",
            "-u",
            "7",
            &image,
            "/bin/busybox",
            "id",
            "-u",
        ])?;
        ensure!(number.stdout == "7\n" || number.code == 125, "{}{}", number.stdout, number.stderr);
        let grown = peak()?.saturating_sub(before);
        ensure!(grown < MAY_GROW_KIB, "the daemon grew by {grown} KiB over {name}");
    }
    daemon.stop()
}
