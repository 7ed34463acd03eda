//! Pushing: to Debian's docker-registry, and to one of our own that breaks what it can.

use anyhow::{Context, Result};
use std::process::{Command, Stdio};
use wharf_testkit::{
    Archive, Daemon, Entry, NetNs, OwnRegistry, Registry, Tar, from_files, from_layers, lacks, until,
};

const NEEDED: &[&str] = &["docker-registry", "skopeo"];
const OWN: &str = "127.0.0.1:5001";

/// The digest in the output of a push.
fn digest(out: &str) -> Result<String> {
    let line = out.lines().find(|line| line.contains(": digest: sha256:")).context(out.to_owned())?;
    Ok(line.split_whitespace().nth(2).unwrap_or_default().to_owned())
}

fn skopeo_digest(net: &NetNs, name: &str) -> Result<String> {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{name}")]);
    let out = net.spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?.wait_with_output()?;
    anyhow::ensure!(out.status.success(), "skopeo: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// A layer that does not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

fn noisy(name: &str, length: usize) -> Result<Archive> {
    from_files(name, &[Entry::file("noise", 0o644, noise(length))], serde_json::json!({"Cmd": ["/noise"]}))
}

#[test]
fn layers_are_sent_skipped_and_mounted() -> Result<()> {
    if lacks(NEEDED) {
        return Ok(());
    }
    let daemon = Daemon::with_busybox()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    let name = |rest: &str| format!("{}/{rest}", Registry::ADDRESS);
    let push = |rest: &str| -> Result<String> {
        daemon.docker(&["tag", "busybox", &name(rest)])?.ok()?;
        daemon.docker(&["push", &name(rest)])?.ok()
    };
    let sent = push("team/app:v1")?;
    assert!(sent.contains(&format!("The push refers to repository [{}]", name("team/app"))), "{sent}");
    assert!(sent.contains(": Pushed"), "{sent}");
    let pushed = digest(&sent)?;
    assert_eq!(skopeo_digest(daemon.net(), &name("team/app:v1"))?, pushed);
    let told = daemon.api().call("GET", &format!("/distribution/{}/json", name("team/app:v1")))?.json();
    assert_eq!(told["Descriptor"]["digest"], pushed.as_str());
    assert_eq!(told["Platforms"][0]["os"], "linux", "{told}");
    let by_digest = name(&format!("team/app@{pushed}"));
    let known = daemon.docker(&["inspect", "-f", "{{.RepoDigests}}", "busybox"])?.ok()?;
    assert!(known.contains(&by_digest), "{known}");

    let again = push("team/app:v2")?;
    assert!(again.contains("Layer already exists") && digest(&again)? == pushed, "{again}");
    let mounted = push("other/app:v1")?;
    assert!(mounted.contains("Mounted from team/app") && digest(&mounted)? == pushed, "{mounted}");

    // It is the image that it was.
    let id = daemon.docker(&["inspect", "-f", "{{.Id}}", "busybox"])?.ok()?;
    daemon.docker(&["rmi", "-f", id.trim()])?.ok()?;
    let pulled = daemon.docker(&["pull", &name("other/app:v1")])?.ok()?;
    assert!(pulled.contains(&pushed), "{pulled}");
    assert_eq!(daemon.docker(&["inspect", "-f", "{{.Id}}", &name("other/app:v1")])?.ok()?, id);
    daemon.docker(&["tag", &name("other/app:v1"), &name("third/app:v1")])?.ok()?;
    assert_eq!(digest(&daemon.docker(&["push", &name("third/app:v1")])?.ok()?)?, pushed);
    let run = daemon.docker(&[
        "run",
        "--rm",
        "--network=none",
        &by_digest_of(&name("third/app"), &pushed),
        "echo",
        "hi",
    ])?;
    assert_eq!(run.stdout, "hi\n", "{}", run.stderr);
    drop(registry);
    daemon.stop()
}

fn by_digest_of(repository: &str, digest: &str) -> String {
    format!("{repository}@{digest}")
}

#[test]
fn a_layer_always_gives_the_same_blob() -> Result<()> {
    if lacks(NEEDED) {
        return Ok(());
    }
    let daemon = Daemon::start()?;
    daemon.load(&noisy("noisy:latest", 3_000_000)?)?;
    let debian = Registry::start(daemon.net(), daemon.dir())?;
    let own = OwnRegistry::start(daemon.net(), OWN)?;
    let mut digests = Vec::new();
    for registry in [Registry::ADDRESS, own.address()] {
        let name = format!("{registry}/noisy:1");
        daemon.docker(&["tag", "noisy", &name])?.ok()?;
        let out = daemon.docker(&["push", &name])?.ok()?;
        assert!(out.contains(": Pushed"), "{out}");
        digests.push(digest(&out)?);
    }
    assert_eq!(digests[0], digests[1]);
    // What the registries took is whole by their own account; skopeo reads every blob and checks it.
    let copy = format!("dir:{}", daemon.dir().join("copy").display());
    let source = format!("docker://{}/noisy:1", Registry::ADDRESS);
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &source, &copy]);
    assert!(daemon.net().spawn(&mut command)?.wait()?.success());
    drop(debian);
    daemon.stop()
}

#[test]
fn two_pushes_send_a_layer_once() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon.load(&noisy("noisy:latest", 300_000)?)?;
    let own = OwnRegistry::start(daemon.net(), OWN)?;
    let [one, two] = ["1", "2"].map(|tag| format!("{OWN}/noisy:{tag}"));
    for name in [&one, &two] {
        daemon.docker(&["tag", "noisy", name])?.ok()?;
    }
    own.faults(|faults| faults.hold_uploads = true);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| daemon.docker(&["push", &one]));
        until("the first upload", || Ok((own.seen("PATCH", "uploads").len() == 1).then_some(())))?;
        let second = scope.spawn(|| daemon.docker(&["push", &two]));
        until("the second push", || Ok((own.seen("GET", "/v2/").len() >= 2).then_some(())))?;
        own.faults(|faults| faults.hold_uploads = false);
        let outs = [first, second].map(|push| push.join().expect("no panic"));
        let [first, second] = outs;
        let (first, second) = (first?.ok()?, second?.ok()?);
        assert!(first.contains(": Pushed") && second.contains(": Layer already exists"), "{first}{second}");
        assert_eq!(digest(&first)?, digest(&second)?);
        anyhow::Ok(())
    })?;
    assert_eq!(own.seen("PATCH", "uploads").len(), 1);
    daemon.stop()
}

#[test]
fn all_tags_and_the_words_of_the_stream() -> Result<()> {
    if lacks(NEEDED) {
        return Ok(());
    }
    let daemon = Daemon::with_busybox()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    let name = |rest: &str| format!("{}/{rest}", Registry::ADDRESS);
    for tag in ["a", "b"] {
        daemon.docker(&["tag", "busybox", &name(&format!("many:{tag}"))])?.ok()?;
    }
    let out = daemon.docker(&["push", "-a", &name("many")])?.ok()?;
    assert!(out.contains("a: digest: sha256:") && out.contains("b: digest: sha256:"), "{out}");
    for (name, text) in [
        (name("nosuch:v1"), format!("An image does not exist locally with the tag: {}", name("nosuch"))),
        (name("many:c"), format!("tag does not exist: {}", name("many:c"))),
    ] {
        for cli in [Daemon::docker, Daemon::wharf] {
            let out = cli(&daemon, &["push", &name])?;
            assert_eq!(out.code, 1);
            assert!(out.stderr.contains(&text), "{}", out.stderr);
        }
    }
    // The stream itself.
    let answer = daemon.api().call("POST", &format!("/images/{}/push?tag=a", name("many")))?;
    let text = String::from_utf8(answer.body)?;
    let messages: Vec<serde_json::Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(
        messages.iter().any(|m| m["status"] == "Preparing" && m["progressDetail"] == serde_json::json!({}))
    );
    let aux = messages.last().context("messages")?;
    assert_eq!(aux["aux"]["Tag"], "a");
    assert!(aux["aux"]["Digest"].as_str().is_some_and(|d| d.starts_with("sha256:")), "{aux}");
    let other = daemon.api().call(
        "POST",
        &format!(
            "/images/{}/push?tag=a&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D",
            name("many")
        ),
    )?;
    assert_eq!(other.status, 404, "{}", other.message());
    let digest = daemon
        .api()
        .call("POST", &format!("/images/{}@sha256:{}/push?tag=a", name("many"), "0".repeat(64)))?;
    assert_eq!((digest.status, digest.message().as_str()), (400, "cannot import digest reference"));
    let quiet = daemon.wharf(&["push", "-q", "--disable-content-trust", &name("many:a")])?.ok()?;
    assert_eq!(quiet, format!("{}\n", name("many:a")));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let path = format!("/events?since=0&until={until}&filters=%7B%22event%22%3A%5B%22push%22%5D%7D");
    let events = String::from_utf8(daemon.api().call("GET", &path)?.body)?;
    for id in [name("many"), name("many:a")] {
        let event = events.lines().find(|line| line.contains(&format!("\"ID\":\"{id}\"")));
        let named = format!("\"name\":\"{}\"", name("many"));
        assert!(event.is_some_and(|line| line.contains(&named)), "{events}");
    }
    drop(registry);
    let nobody = daemon.docker(&["push", &name("many:a")])?;
    assert!(nobody.stderr.contains("connect: connection refused"), "{}", nobody.stderr);
    daemon.stop()
}

#[test]
fn clients_headers_reach_the_registry() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let own = OwnRegistry::start(daemon.net(), OWN)?;
    daemon.docker(&["tag", "busybox", &format!("{OWN}/meta:1")])?.ok()?;
    let headers = [("X-Meta-Team", "harbour")];
    for path in
        [format!("/images/{OWN}/meta/push?tag=1"), format!("/images/create?fromImage={OWN}/meta&tag=1")]
    {
        let answer = daemon.api().request("POST", &path, "", &headers, b"")?;
        assert!(answer.status == 200 && !String::from_utf8_lossy(&answer.body).contains("errorDetail"));
    }
    for method in ["PUT", "HEAD"] {
        let seen = own.seen(method, "/v2/meta/manifests/1");
        assert!(!seen.is_empty() && seen.iter().all(|request| request.header("x-meta-team") == "harbour"));
    }
    daemon.stop()
}

#[test]
fn a_broken_upload_goes_on_where_it_was() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon.load(&noisy(&format!("{OWN}/noisy:1"), 3_000_000)?)?;
    let registry = OwnRegistry::start(daemon.net(), OWN)?;
    registry.faults(|faults| faults.cut_upload = Some(1_000_000));
    let out = daemon.docker(&["push", &format!("{OWN}/noisy:1")])?.ok()?;
    assert_eq!(registry.fired(), 1, "{out}");
    assert!(out.contains(": Pushed") && !out.contains("Retrying"), "{out}");
    let sent = registry.seen("PATCH", "/blobs/uploads/");
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].body.len(), sent[1].header("content-range")), (1_000_000, "1000000-"));
    assert!(sent[1].body.len() < 2_100_000, "{}", sent[1].body.len());
    assert_eq!(sent[0].target, sent[1].target);
    daemon.stop()
}

#[test]
fn an_upload_that_cannot_go_on_starts_anew() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon.load(&noisy(&format!("{OWN}/noisy:1"), 2_000_000)?)?;
    let registry = OwnRegistry::start(daemon.net(), OWN)?;
    registry.faults(|faults| (faults.cut_upload, faults.forget_cut) = (Some(1_000_000), true));
    let out = daemon.docker(&["push", &format!("{OWN}/noisy:1")])?.ok()?;
    assert_eq!(registry.fired(), 1);
    assert!(out.contains("Retrying in 1 second") && out.contains(": Pushed"), "{out}");
    let sent = registry.seen("PATCH", "/blobs/uploads/");
    assert!(sent.len() == 2 && sent[1].header("content-range").is_empty() && sent[1].body.len() > 1_900_000);
    assert_ne!(sent[0].target, sent[1].target);
    daemon.stop()
}

#[test]
fn a_layer_that_is_damaged_is_not_sent() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon.load(&noisy(&format!("{OWN}/noisy:1"), 1_500_000)?)?;
    let registry = OwnRegistry::start(daemon.net(), OWN)?;
    let layers = daemon.data_root().join("overlay2");
    for layer in std::fs::read_dir(layers)? {
        let file = layer?.path().join("diff/noise");
        if file.exists() {
            let mut bytes = std::fs::read(&file)?;
            bytes[1_000_000] ^= 1;
            std::fs::write(&file, bytes)?;
        }
    }
    let out = daemon.docker(&["push", &format!("{OWN}/noisy:1")])?;
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("noise"), "{}", out.stderr);
    assert!(registry.seen("PUT", "manifests").is_empty() && registry.seen("PUT", "uploads").is_empty());
    daemon.stop()
}

#[test]
fn layers_go_up_side_by_side_and_keep_their_order() -> Result<()> {
    let layer = |n: u8| {
        let noise = Entry::file(&format!("file{n}"), 0o644, noise(700_000 + usize::from(n)));
        Tar::of(&[noise, Entry::file("last", 0o644, [n])]).bytes()
    };
    let layers: Vec<Vec<u8>> = (0..4).map(layer).collect();
    let image = from_layers(&format!("{OWN}/stack:1"), &layers, serde_json::json!({"Cmd": ["/x"]}))?;
    for at_once in [1, 4] {
        let daemon = Daemon::builder().flag(format!("--max-concurrent-uploads={at_once}")).start()?;
        daemon.load(&image)?;
        let _registry = OwnRegistry::start(daemon.net(), OWN)?;
        let out = daemon.docker(&["push", &format!("{OWN}/stack:1")])?.ok()?;
        assert_eq!(out.matches(": Pushed").count(), 4, "{out}");
        assert_eq!(out.contains("Waiting"), at_once == 1, "{out}");
        daemon.docker(&["rmi", &format!("{OWN}/stack:1")])?.ok()?;
        daemon.docker(&["pull", &format!("{OWN}/stack:1")])?.ok()?;
        let id = daemon.docker(&["inspect", "-f", "{{.Id}}", &format!("{OWN}/stack:1")])?.ok()?;
        assert_eq!(id.trim(), image.id);
        daemon.stop()?;
    }
    Ok(())
}
