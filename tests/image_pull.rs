//! Pulling from Debian's docker-registry, filled by skopeo.

use anyhow::Result;
use wharf_testkit::{Daemon, Registry, busybox, lacks};

const NEEDED: &[&str] = &["docker-registry", "skopeo"];

#[test]
fn every_form_of_an_image_is_pulled_and_run() -> Result<()> {
    if lacks(NEEDED) {
        return Ok(());
    }
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    let image = busybox()?;
    for (tag, args) in [
        ("docker", &["--format", "v2s2"][..]),
        ("oci", &["--format", "oci"]),
        ("zstd", &["--format", "oci", "--dest-compress-format", "zstd"]),
    ] {
        let name = format!("{}/test/busybox:{tag}", Registry::ADDRESS);
        registry.push(daemon.net(), &image, &format!("test/busybox:{tag}"), args)?;
        let out = daemon.docker(&["pull", &name])?.ok()?;
        assert!(out.contains(&format!("{tag}: Pulling from test/busybox")), "{out}");
        assert!(
            out.contains("Digest: sha256:")
                && out.contains(&format!("Status: Downloaded newer image for {name}")),
            "{out}"
        );
        let again = daemon.docker(&["pull", &name])?.ok()?;
        assert!(again.contains(&format!("Status: Image is up to date for {name}")), "{again}");
        assert_eq!(
            daemon.docker(&["run", "--rm", "--network=none", &name, "echo", tag])?.ok()?,
            format!("{tag}\n")
        );
        let digest = out.lines().find_map(|l| l.strip_prefix("Digest: ")).unwrap_or_default().to_owned();
        let by_digest = format!("{}/test/busybox@{digest}", Registry::ADDRESS);
        daemon.docker(&["pull", &by_digest])?.ok()?;
        let digests = daemon.docker(&["inspect", "-f", "{{.RepoDigests}}", &name])?.ok()?;
        assert!(digests.contains(&by_digest), "{digests}");
    }
    drop(registry);
    daemon.stop()
}

#[test]
fn run_pulls_what_is_missing() -> Result<()> {
    if lacks(NEEDED) {
        return Ok(());
    }
    let daemon = Daemon::start()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    registry.push(daemon.net(), &busybox()?, "auto:latest", &[])?;
    let name = format!("{}/auto", Registry::ADDRESS);
    let out = daemon.docker(&["run", "--rm", "--network=none", &name, "echo", "pulled"])?;
    assert_eq!(out.stdout, "pulled\n", "{}", out.stderr);
    assert!(out.stderr.contains(&format!("Unable to find image '{name}:latest' locally")), "{}", out.stderr);
    let missing = daemon.docker(&["pull", &format!("{}/nosuch:v1", Registry::ADDRESS)])?;
    assert_ne!(missing.code, 0);
    assert!(
        missing.stderr.contains("not found") || missing.stderr.contains("manifest unknown"),
        "{}",
        missing.stderr
    );
    drop(registry);
    let refused = daemon.docker(&["pull", &name])?;
    assert!(refused.stderr.contains("connection refused"), "{}", refused.stderr);
    daemon.stop()
}
