//! Known attacks on `docker cp`, tried on ours. `docs/security-tests.md` lists them all.

use crate::cve::{Canary, Container, attacker, rounds};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use wharf_testkit::{Daemon, Entry, Tar, from_files};

const TAR: &str = "application/x-tar";

/// A directory of a running container becomes a link to the host's canary and back while files are copied.
#[test]
fn cve_2018_15664_a_link_swapped_while_copying_leads_nowhere() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let canary = Canary::new(&daemon)?;
    let swap = format!(
        "mkdir /x; while :; do ln -sfn {} /x/way; rm -f /x/way; ln -sfn /../../.. /x/way; rm -f /x/way; mkdir /x/way; \
         echo mine >/x/way/secret; rm -rf /x/way; done 2>/dev/null",
        canary.path()
    );
    attacker(&daemon, &[], &swap)?;
    let archive =
        Tar::of(&[Entry::file("secret", 0o644, "overwritten"), Entry::file("new", 0o644, "")]).bytes();
    let nested = Tar::of(&[Entry::file("way/secret", 0o644, "overwritten")]).bytes();
    let (mut read, mut written) = (0, 0);
    for _ in 0..rounds(20_000, 200) {
        let put = daemon.api().send("PUT", "/containers/attacker/archive?path=/x/way", TAR, &archive)?;
        daemon.api().send("PUT", "/containers/attacker/archive?path=/x", TAR, &nested)?;
        written += usize::from(put.status == 200);
        for path in ["/x/way/secret", "/x/way/", "/x"] {
            let got = daemon.api().call("GET", &format!("/containers/attacker/archive?path={path}"))?;
            read += usize::from(got.status == 200);
            let leaked =
                got.body.windows(6).any(|six| six == b"secret") && contains_line(&got.body, b"secret");
            ensure!(!leaked, "the canary's content came out of {path}");
        }
        canary.is_untouched()?;
    }
    ensure!(read > 0 && written > 0, "nothing was ever copied: {read} reads, {written} writes");
    daemon.stop()
}

/// Whether some file of the archive has exactly this content: a block that starts with it and goes on with zeros.
fn contains_line(archive: &[u8], content: &[u8]) -> bool {
    archive
        .chunks(512)
        .any(|block| block.starts_with(content) && block[content.len()..].iter().all(|b| *b == 0))
}

/// A library that only a name service would load, and programs that only a caller of them would run.
#[test]
fn cve_2019_14271_no_library_of_a_container_is_loaded() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    // Any library will do: what matters is that it is mapped by nobody.
    let library = fs::read("/lib/x86_64-linux-gnu/libc.so.6")
        .or_else(|_| fs::read("/lib/aarch64-linux-gnu/libc.so.6"))?;
    let mut files =
        vec![Entry::dir("bin", 0o755), Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?)];
    for dir in ["lib", "lib64", "usr/lib", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"] {
        for name in ["libnss_files.so.2", "libnss_compat.so.2", "libnss_dns.so.2"] {
            files.push(Entry::file(&format!("{dir}/{name}"), 0o755, library.clone()));
        }
    }
    files.push(Entry::file("etc/nsswitch.conf", 0o644, "passwd: files compat\ngroup: files compat\n"));
    files.push(Entry::file("etc/passwd", 0o644, "evil:x:4711:4711::/:/bin/sh\n"));
    daemon.load(&from_files("nss:latest", &files, json!({}))?)?;
    daemon
        .docker(&["run", "-d", "--name=cc", "--network=none", "nss", "/bin/busybox", "sleep", "1000"])?
        .ok()?;
    let put = Tar::of(&[Entry::file("one", 0o644, "x").owned(4711, 4711)]).bytes();
    for path in ["/", "/etc"] {
        let answer = daemon.api().send("PUT", &format!("/containers/cc/archive?path={path}"), TAR, &put)?;
        assert_eq!(answer.status, 200, "{}", answer.message());
        daemon.api().call("GET", &format!("/containers/cc/archive?path={path}"))?;
    }
    daemon.docker(&["exec", "-u", "evil", "cc", "/bin/busybox", "id"])?.ok()?;
    let shim = fs::read_to_string(
        daemon
            .exec_root()
            .join("containers")
            .join(daemon.docker(&["inspect", "-f", "{{.Id}}", "cc"])?.ok()?.trim())
            .join("shim.pid"),
    )?;
    for pid in [daemon.pid().to_string(), shim.split_whitespace().next().context("a pid")?.to_owned()] {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        ensure!(!maps.contains("libnss"), "process {pid} has mapped {maps}");
    }
    daemon.stop()
}

/// Compressed archives are unpacked by us, whatever programs the container has for it.
#[test]
fn cve_2026_41567_no_program_of_a_container_unpacks() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let evil = "#!/bin/sh\necho \"$0\" >>/executed\nexec cat\n";
    let mut files = vec![
        Entry::dir("bin", 0o755),
        Entry::dir("tmp", 0o1777),
        Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?),
        Entry::hardlink("bin/sh", "bin/busybox"),
        Entry::hardlink("bin/cat", "bin/busybox"),
    ];
    for dir in ["bin", "usr/bin", "usr/local/bin", "usr/sbin", "sbin"] {
        for name in ["xz", "unxz", "unpigz", "pigz", "gzip", "gunzip", "igzip", "zstd", "bzip2", "tar"] {
            files.push(Entry::file(&format!("{dir}/{name}"), 0o755, evil));
        }
    }
    daemon.load(&from_files("unpack:latest", &files, json!({}))?)?;
    daemon
        .docker(&["run", "-d", "--name=cc", "--network=none", "unpack", "/bin/busybox", "sleep", "1000"])?
        .ok()?;
    for program in ["gzip", "xz", "zstd", "bzip2"] {
        let archive = Tar::of(&[Entry::file(&format!("by-{program}"), 0o644, "content")]).bytes();
        let packed = through(program, &archive)?;
        let put = daemon.api().send("PUT", "/containers/cc/archive?path=/tmp", TAR, &packed)?;
        assert_eq!(put.status, 200, "{program}: {}", put.message());
        let seen = format!("cat /tmp/by-{program}; cat /executed 2>/dev/null; true");
        let (_, text) = Container::exec(&daemon, "cc", &["/bin/sh", "-c", &seen], &json!({}))?;
        assert_eq!(text, "content", "{program}");
    }
    daemon.stop()
}

fn through(program: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context(program.to_owned())?;
    child.stdin.take().context("stdin")?.write_all(bytes)?;
    let out = child.wait_with_output()?;
    ensure!(out.status.success(), "{program}: {}", out.status);
    Ok(out.stdout)
}

/// Mount points of a container's volumes lie behind a link to the host's canary: in its image, and swapped while
/// it runs.
#[test]
fn cve_2026_41568_and_42306_copying_makes_no_mount_point_outside() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let canary = Canary::new(&daemon)?;
    let files = [
        Entry::dir("bin", 0o755),
        Entry::dir("x", 0o755),
        Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?),
        Entry::symlink("x/way", &canary.path()),
        Entry::symlink("x/up", &format!("{}{}", "../".repeat(12), canary.path())),
    ];
    daemon.load(&from_files("way:latest", &files, json!({}))?)?;
    let volumes = ["-v", "v:/x/way/inner", "-v", "v:/x/up/deep/inner", "--tmpfs", "/x/way/tmpfs"];
    daemon
        .docker(&[&["create", "--name=cc"], &volumes[..], &["way", "/bin/busybox", "true"]].concat())?
        .ok()?;
    let archive = Tar::of(&[Entry::file("file", 0o644, "x")]).bytes();
    for path in ["/", "/x", "/x/way/inner", "/x/way", "/x/up/deep/inner"] {
        let query = format!("/containers/cc/archive?path={path}");
        daemon.api().send("PUT", &query, TAR, &archive)?;
        daemon.api().call("GET", &query)?;
        daemon.api().call("HEAD", &query)?;
        canary.is_untouched().with_context(|| path.to_owned())?;
    }
    let swap = format!(
        "while :; do ln -sfn {} /s/way; rm -f /s/way; mkdir -p /s/way/inner; rm -rf /s/way; done 2>/dev/null",
        canary.path()
    );
    attacker(&daemon, &["-v", "shared:/s"], &swap)?;
    let shared =
        ["create", "--name=victim", "-v", "shared:/s", "-v", "other:/s/way/inner", "busybox", "true"];
    daemon.docker(&shared)?.ok()?;
    for _ in 0..rounds(20_000, 200) {
        daemon.api().send("PUT", "/containers/victim/archive?path=/s/way/inner", TAR, &archive)?;
        daemon.api().call("GET", "/containers/victim/archive?path=/s/way/inner")?;
        canary.is_untouched()?;
    }
    daemon.stop()
}
