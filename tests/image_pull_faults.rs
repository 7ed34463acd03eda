//! Pulling from a registry that breaks where it is told to. Each test asserts that what should go wrong did.

use anyhow::{Context, Result, ensure};
use std::process::Child;
use wharf_testkit::{Daemon, Entry, Fault, Output, OwnRegistry, Tar, until};

const MEGABYTE: usize = 1 << 20;

/// A layer of some megabytes that no compression would make smaller.
fn layer(name: &str, megabytes: usize) -> Vec<u8> {
    let mut seed = name.bytes().fold(1u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let noise = (0..megabytes * MEGABYTE).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    Tar::of(&[Entry::file(name, 0o644, noise.collect::<Vec<u8>>())]).bytes()
}

fn short(digest: &str) -> &str {
    &digest["sha256:".len()..][..12]
}

/// Layers on the disk, registered or not.
fn layers_on_disk(daemon: &Daemon) -> Result<Vec<String>> {
    let names = std::fs::read_dir(daemon.data_root().join("overlay2"))?;
    let names = names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    Ok(names.collect::<Result<Vec<_>>>()?.into_iter().filter(|name| name != "l").collect())
}

/// Waits until nothing is left of a pull that ended: it is removed behind the client's back.
fn nothing_is_left(daemon: &Daemon) -> Result<()> {
    until("an empty store", || Ok(layers_on_disk(daemon)?.is_empty().then_some(())))?;
    let images = daemon.docker(&["images", "-aq"])?.ok()?;
    ensure!(images.is_empty(), "{images}");
    Ok(())
}

fn failed(out: &Output, text: &str) -> Result<()> {
    ensure!(out.code == 1 && out.stderr.contains(text), "{}: {}\n{}", out.code, out.stderr, out.stdout);
    Ok(())
}

/// A client that goes on by itself.
fn start_pull(daemon: &Daemon, name: &str) -> Result<Child> {
    daemon.net().spawn(&mut daemon.cli_command("docker", &["pull", name]))
}

#[test]
fn a_broken_download_goes_on_where_it_was() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = OwnRegistry::start(daemon.net(), "127.0.0.1:0")?;
    let layers = [layer("one", 1), layer("two", 3)];
    let digests = registry.put_image("app", "v1", &layers)?;
    registry.break_next(&digests[1], Fault::Cut(MEGABYTE), 2);
    let name = registry.name("app:v1");
    let out = daemon.docker(&["pull", &name])?.ok()?;
    assert!(out.contains(&format!("{}: Retrying in 1 second\n", short(&digests[1]))), "{out}");
    assert!(out.contains(&format!("{}: Pull complete\n", short(&digests[1]))), "{out}");
    assert!(out.contains(&format!("Status: Downloaded newer image for {name}\n")), "{out}");
    assert_eq!(registry.broke(&digests[1]), 2);
    let from: Vec<Option<usize>> =
        registry.asked(&digests[1]).iter().map(|asked| asked.range_start()).collect();
    assert_eq!(from, [None, Some(MEGABYTE), Some(2 * MEGABYTE)]);
    assert_eq!(registry.asked(&digests[0]).len(), 1);

    // What came in pieces is what it should be.
    let container = daemon.docker(&["create", &name])?.ok()?;
    daemon.docker(&["cp", &format!("{}:/two", container.trim()), &daemon.dir().to_string_lossy()])?.ok()?;
    let copied = std::fs::read(daemon.dir().join("two"))?;
    assert!(copied == layers[1][512..512 + copied.len()] && copied.len() == 3 * MEGABYTE);
    daemon.stop()
}

#[test]
fn a_registry_without_ranges_sends_all_of_it_again() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = OwnRegistry::start(daemon.net(), "127.0.0.1:0")?;
    let digest = registry.put_image("app", "v1", &[layer("one", 2)])?.remove(0);
    registry.break_next(&digest, Fault::Cut(MEGABYTE), 1);
    registry.break_next(&digest, Fault::NoRanges, 1);
    daemon.docker(&["pull", "-q", &registry.name("app:v1")])?.ok()?;
    assert_eq!(registry.broke(&digest), 2);
    assert_eq!(registry.asked(&digest)[1].range_start(), Some(MEGABYTE));
    daemon.stop()
}

#[test]
fn wrong_bytes_are_never_stored() -> Result<()> {
    let daemon = Daemon::builder().flag("--max-download-attempts=1").start()?;
    let registry = OwnRegistry::start(daemon.net(), "127.0.0.1:0")?;
    let good = layer("one", 1);
    let digests = registry.put_image("app", "v1", &[good, layer("two", 2)])?;
    let name = registry.name("app:v1");
    let not_verified = format!("filesystem layer verification failed for digest {}", digests[1]);
    for (fault, text) in [
        // In a file, in a header, at the very end.
        (Fault::Flip(MEGABYTE), not_verified.as_str()),
        (Fault::Flip(3), not_verified.as_str()),
        (Fault::Flip(2 * MEGABYTE + 1500), not_verified.as_str()),
        (Fault::Shorter(700), "unexpected EOF"),
        (Fault::Longer(700), "its descriptor says"),
    ] {
        let before = registry.broke(&digests[1]);
        registry.break_next(&digests[1], fault, 1);
        let out = daemon.docker(&["pull", &name])?;
        failed(&out, text).with_context(|| format!("{fault:?}"))?;
        assert_eq!(registry.broke(&digests[1]), before + 1, "{fault:?}");
        let records = daemon.data_root().join("image/overlay2/layerdb/sha256");
        let registered: Vec<_> = std::fs::read_dir(records).into_iter().flatten().collect();
        assert!(registered.len() <= 1, "{fault:?}: only the good layer may be there: {registered:?}");
        assert_eq!(daemon.docker(&["images", "-aq"])?.ok()?, "", "{fault:?}");
    }
    registry.heal();
    daemon.docker(&["pull", "-q", &name])?.ok()?;
    daemon.stop()
}

#[test]
fn attempts_are_counted() -> Result<()> {
    let daemon = Daemon::builder().config(r#"{"max-download-attempts": 2}"#).start()?;
    let registry = OwnRegistry::start(daemon.net(), "127.0.0.1:0")?;
    let digest = registry.put_image("app", "v1", &[layer("one", 1)])?.remove(0);
    let name = registry.name("app:v1");
    registry.break_next(&digest, Fault::Cut(1000), 9);
    failed(&daemon.docker(&["pull", &name])?, "unexpected EOF")?;
    assert_eq!(registry.broke(&digest), 2);
    registry.heal();
    registry.break_next(&digest, Fault::Status(503), 9);
    failed(&daemon.docker(&["pull", &name])?, "503")?;
    assert_eq!(registry.broke(&digest), 4);
    nothing_is_left(&daemon)?;
    registry.heal();
    // One failure less than attempts is none.
    registry.break_next(&digest, Fault::Status(500), 1);
    daemon.docker(&["pull", "-q", &name])?.ok()?;
    assert_eq!(registry.broke(&digest), 5);
    daemon.stop()
}

#[test]
fn the_last_client_that_goes_ends_the_pull() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = OwnRegistry::start(daemon.net(), "127.0.0.1:0")?;
    let digest = registry.put_image("app", "v1", &[layer("one", 2)])?.remove(0);
    let name = registry.name("app:v1");
    registry.break_next(&digest, Fault::Stall(MEGABYTE), 1);
    let mut first = start_pull(&daemon, &name)?;
    registry.until_stalled(1)?;
    let mut second = start_pull(&daemon, &name)?;
    // The manifest is asked for once more: the second one has come as far as to its layers.
    let mut out = std::io::BufReader::new(second.stdout.take().context("a pipe")?);
    let mut heard = String::new();
    while !heard.contains("Pulling fs layer") {
        ensure!(std::io::BufRead::read_line(&mut out, &mut heard)? > 0, "{heard}");
    }
    first.kill()?;
    first.wait()?;
    // An answer later the daemon has seen that the client is gone: the download goes on for the other one.
    daemon.docker(&["version"])?.ok()?;
    registry.until_stalled(1)?;
    assert_eq!(registry.asked(&digest).len(), 1, "both share one download");
    second.kill()?;
    second.wait()?;
    registry.until_stalled(0)?;
    nothing_is_left(&daemon)?;
    daemon.docker(&["pull", "-q", &name])?.ok()?;
    daemon.stop()
}

#[test]
fn a_kill_in_the_middle_leaves_nothing() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let registry = OwnRegistry::start(daemon.net(), "127.0.0.1:0")?;
    let digests = registry.put_image("app", "v1", &[layer("one", 1), layer("two", 2)])?;
    let name = registry.name("app:v1");
    registry.break_next(&digests[0], Fault::Stall(MEGABYTE / 2), 1);
    registry.break_next(&digests[1], Fault::Stall(MEGABYTE), 1);
    let mut pull = start_pull(&daemon, &name)?;
    registry.until_stalled(2)?;
    until("files of the layers", || Ok((layers_on_disk(&daemon)?.len() == 2).then_some(())))?;
    daemon.kill9()?;
    pull.wait()?;
    daemon.launch()?;
    nothing_is_left(&daemon)?;
    daemon.docker(&["pull", "-q", &name])?.ok()?;
    daemon.stop()
}

#[test]
fn all_tags_quiet_and_platforms_with_our_client() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = OwnRegistry::start(daemon.net(), "127.0.0.1:0")?;
    let (base, top) = (layer("base", 1), layer("top", 1));
    registry.put_image("app", "v1", std::slice::from_ref(&base))?;
    registry.put_image("app", "v2", &[base.clone(), top.clone()])?;
    registry.put_platforms("multi", "latest", &[("amd64", &[base]), ("arm64", &[top])])?;
    let all = registry.name("app");
    let out = daemon.wharf(&["pull", "-a", &all])?.ok()?;
    for line in ["v1: Pulling from app\n", "v2: Pulling from app\n", ": Already exists\n"] {
        assert!(out.contains(line), "{out}");
    }
    assert!(out.contains(&format!("Status: Downloaded newer image for {all}\n")), "{out}");
    assert!(out.ends_with(&format!("{all}\n")), "{out}");
    let tags = daemon.wharf(&["images", "--format", "{{.Tag}}", &all])?.ok()?;
    assert_eq!(tags.lines().count(), 2, "{tags}");
    let tagged = daemon.wharf(&["pull", "-a", &format!("{all}:v1")])?;
    assert_eq!(tagged.stderr, "tag can't be used with --all-tags/-a\n");

    let multi = registry.name("multi");
    let quiet = daemon.wharf(&["pull", "-q", "--platform", "linux/arm64", &multi])?.ok()?;
    assert_eq!(quiet, format!("{multi}:latest\n"));
    let inspect = ["inspect", "-f", "{{.Architecture}}", &multi];
    assert_eq!(daemon.wharf(&inspect)?.ok()?, "arm64\n");
    failed(
        &daemon.wharf(&["pull", "--platform", "linux/s390x", &multi])?,
        "no matching manifest for linux/s390x in the manifest list entries",
    )?;
    daemon.wharf(&["pull", &multi])?.ok()?;
    assert_eq!(daemon.wharf(&inspect)?.ok()?, "amd64\n");
    daemon.stop()
}

#[test]
fn what_is_not_there_is_told_in_dockers_words() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = OwnRegistry::start(daemon.net(), "127.0.0.1:0")?;
    registry.put_image("app", "v1", &[layer("one", 1)])?;
    let (missing, old) = (registry.name("app:v9"), registry.name("app:old"));
    failed(
        &daemon.docker(&["pull", &missing])?,
        &format!("manifest for {missing} not found: manifest unknown: manifest unknown"),
    )?;
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    registry.put_manifest("app", "old", schema1, br#"{"schemaVersion":1,"name":"app","tag":"old"}"#);
    failed(
        &daemon.docker(&["pull", &old])?,
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the \
         author of",
    )?;
    nothing_is_left(&daemon)?;
    daemon.stop()
}
