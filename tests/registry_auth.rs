//! Registries that want to know who asks: tokens, TLS, redirects, mirrors.

use anyhow::Result;
use wharf_testkit::{Daemon, OwnRegistry, SecureRegistry, busybox, lacks};

const OWN: &str = "127.0.0.1:5001";
const OTHER: &str = "127.0.0.2:5002";

fn login(daemon: &Daemon, registry: &str, password: &str) -> Result<wharf_testkit::Output> {
    daemon.docker_stdin(&["login", "-u", "user", "--password-stdin", registry], password.as_bytes())
}

/// An own registry that wants a token, and a daemon with an image for it.
fn guarded() -> Result<(Daemon, OwnRegistry)> {
    let daemon = Daemon::with_busybox()?;
    let registry = OwnRegistry::start(daemon.net(), OWN)?;
    registry.faults(|faults| faults.user = Some(("user".into(), "secret".into())));
    daemon.docker(&["tag", "busybox", &format!("{OWN}/team/app:v1")])?.ok()?;
    Ok((daemon, registry))
}

#[test]
fn tokens_over_tls_at_debians_registry() -> Result<()> {
    if lacks(&["docker-registry"]) {
        return Ok(());
    }
    let at = SecureRegistry::ADDRESS;
    let daemon = Daemon::builder().certs_dir().start()?;
    daemon.load(&busybox()?)?;
    let registry = SecureRegistry::start(daemon.net(), daemon.dir(), "user", "secret")?;
    let untrusted = login(&daemon, at, "secret")?;
    assert!(
        untrusted.stderr.contains("x509: certificate signed by unknown authority"),
        "{}",
        untrusted.stderr
    );
    SecureRegistry::trust(daemon.dir())?;

    let name = format!("{at}/team/app:v1");
    daemon.docker(&["tag", "busybox", &name])?.ok()?;
    // Without a login: the token server says no.
    let nobody = daemon.docker(&["push", &name])?;
    assert!(nobody.code == 1 && nobody.stderr.contains("unauthorized"), "{}", nobody.stderr);
    let wrong = login(&daemon, at, "wrong")?;
    assert!(
        wrong.code == 1 && wrong.stderr.contains("unauthorized: incorrect username or password"),
        "{}",
        wrong.stderr
    );
    assert!(login(&daemon, at, "secret")?.ok()?.contains("Login Succeeded"));
    let pushed = daemon.docker(&["push", &name])?.ok()?;
    assert!(pushed.contains("v1: digest: sha256:"), "{pushed}");
    let other = format!("{at}/other/app:v1");
    daemon.docker(&["tag", "busybox", &other])?.ok()?;
    let mounted = daemon.docker(&["push", &other])?.ok()?;
    assert!(mounted.contains("Mounted from team/app"), "{mounted}");
    let asked = registry.asked();
    let scope = "scope=repository%3Aother%2Fapp%3Apull%2Cpush&scope=repository%3Ateam%2Fapp%3Apull";
    assert!(asked.iter().any(|target| target.contains(scope)), "{asked:?}");
    assert!(asked.iter().any(|target| target.contains("account=user") && target.contains("service=test")));

    for cli in [Daemon::docker, Daemon::wharf] {
        daemon.docker(&["rmi", &name])?.ok()?;
        cli(&daemon, &["pull", &name])?.ok()?;
    }
    daemon.docker(&["rmi", &name])?.ok()?;
    let run = daemon.wharf(&["run", "--rm", "--network=none", &name, "echo", "hi"])?;
    assert_eq!(run.stdout, "hi\n", "{}", run.stderr);
    for args in [
        &["manifest", "inspect", "--insecure", &name][..],
        &["manifest", "inspect", "--insecure", "-v", &name],
        &["manifest", "inspect", "--insecure", &format!("{at}/team/app:nosuch")],
    ] {
        let (theirs, ours) = (daemon.docker(args)?, daemon.wharf(args)?);
        assert_eq!((ours.code, &ours.stdout, &ours.stderr), (theirs.code, &theirs.stdout, &theirs.stderr));
    }
    drop(registry);
    daemon.stop()
}

#[test]
fn a_token_that_grew_old_is_replaced() -> Result<()> {
    let (daemon, registry) = guarded()?;
    login(&daemon, OWN, "secret")?.ok()?;
    registry.faults(|faults| faults.refuse_uploads = 1);
    let out = daemon.docker(&["push", &format!("{OWN}/team/app:v1")])?.ok()?;
    assert!(out.contains(": Pushed") && !out.contains("Retrying"), "{out}");
    assert_eq!(registry.fired(), 1);
    let tokens: Vec<String> =
        registry.seen("PATCH", "uploads").iter().map(|r| r.header("authorization").to_owned()).collect();
    assert!(tokens.len() == 2 && tokens[0] != tokens[1], "{tokens:?}");
    daemon.stop()
}

#[test]
fn identity_tokens_replace_the_password() -> Result<()> {
    let (daemon, registry) = guarded()?;
    registry.faults(|faults| faults.identity = Some("identity-1".into()));
    for cli in ["docker", "wharf"] {
        let args = ["login", "-u", "user", "--password-stdin", OWN];
        let out = if cli == "docker" {
            daemon.docker_stdin(&args, b"secret")?
        } else {
            daemon.wharf_stdin(&args, b"secret")?
        };
        assert!(out.ok()?.contains("Login Succeeded"));
        let config = std::fs::read_to_string(daemon.dir().join("home/.docker/config.json"))?;
        assert!(config.contains("identity-1") && !config.contains("c2VjcmV0"), "{config}");
    }
    // From now on only the token counts.
    registry.faults(|faults| faults.user = Some(("user".into(), "changed".into())));
    let name = format!("{OWN}/team/app:v1");
    for cli in [Daemon::docker, Daemon::wharf] {
        let out = cli(&daemon, &["push", &name])?.ok()?;
        assert!(out.contains("v1: digest: sha256:"), "{out}");
    }
    let asked = registry.seen("POST", "/token");
    let form = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=identity-1"), "{form}");
    assert!(asked.iter().all(|request| request.header("authorization").is_empty()));
    daemon.docker(&["logout", OWN])?.ok()?;
    let nobody = daemon.docker(&["push", &name])?;
    assert!(
        nobody.code == 1 && nobody.stderr.contains("unauthorized: authentication required"),
        "{}",
        nobody.stderr
    );
    daemon.stop()
}

#[test]
fn redirects_elsewhere_carry_no_credentials() -> Result<()> {
    let (daemon, registry) = guarded()?;
    let elsewhere = OwnRegistry::start(daemon.net(), OTHER)?;
    let name = format!("{OWN}/team/app:v1");
    login(&daemon, OWN, "secret")?.ok()?;
    daemon.docker(&["push", &name])?.ok()?;
    elsewhere.take_blobs(&registry);
    registry.faults(|faults| faults.redirect_blobs = Some(OTHER.into()));
    daemon.docker(&["rmi", "-f", "busybox", &name])?.ok()?;
    daemon.docker(&["pull", &name])?.ok()?;
    let here = registry.seen("GET", "/blobs/sha256:");
    assert!(here.len() >= 2 && here.iter().all(|r| r.header("authorization").starts_with("Bearer token-")));
    let there = elsewhere.seen("GET", "/blobs/sha256:");
    assert!(there.len() >= 2 && there.iter().all(|r| r.header("authorization").is_empty()), "{there:?}");
    daemon.stop()
}

#[test]
fn what_may_not_be_is_told_as_docker_does() -> Result<()> {
    let (daemon, registry) = guarded()?;
    let name = format!("{OWN}/team/app:v1");
    let nobody = daemon.docker(&["push", &name])?;
    assert!(nobody.stderr.contains("unauthorized: authentication required"), "{}", nobody.stderr);
    registry.faults(|faults| {
        faults.user = None;
        faults.schema1 = true;
    });
    let old = daemon.docker(&["pull", &format!("{OWN}/old/app:v1")])?;
    assert!(
        old.stderr.contains("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of"),
        "{}",
        old.stderr
    );
    daemon.stop()
}

#[test]
fn mirrors_of_any_registry() -> Result<()> {
    let daemon =
        Daemon::builder().flag(format!("--registry-mirror-of=127.0.0.1:5009=http://{OWN}")).start()?;
    daemon.load(&busybox()?)?;
    let mirror = OwnRegistry::start(daemon.net(), OWN)?;
    daemon.docker(&["tag", "busybox", &format!("{OWN}/team/app:v1")])?.ok()?;
    daemon.docker(&["push", &format!("{OWN}/team/app:v1")])?.ok()?;
    // Nobody listens at the registry itself.
    daemon.docker(&["pull", "127.0.0.1:5009/team/app:v1"])?.ok()?;
    assert!(!mirror.seen("GET", "/v2/team/app/manifests/v1").is_empty());
    // A mirror is read only.
    daemon.docker(&["tag", "busybox", "127.0.0.1:5009/team/app:v2"])?.ok()?;
    let refused = daemon.docker(&["push", "127.0.0.1:5009/team/app:v2"])?;
    assert!(refused.stderr.contains("connection refused"), "{}", refused.stderr);
    daemon.stop()
}
