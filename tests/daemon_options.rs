//! Options of the daemon whose effect is elsewhere: in containers, on the network, in its log.

use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};
use wharf_testkit::{Daemon, until};

/// Folder of the certificates that tests use; they are valid for a hundred years.
fn certificate(name: &str) -> String {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/tls");
    dir.join(name).display().to_string()
}

#[test]
fn defaults_for_containers_and_networks() -> Result<()> {
    let init = Path::new("/bin/busybox");
    let tools = tempfile::tempdir()?;
    // An init that shows that it was run, and how.
    let own_init = tools.path().join("own-init");
    fs::copy(init, &own_init)?;
    let daemon = Daemon::builder()
        .flag("--default-stop-timeout=0")
        .flag(format!("--init-path={}", own_init.display()))
        .flag("--default-network-opt=bridge=com.docker.network.driver.mtu=1234")
        .flag("--log-format=json")
        .start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    let patient = "trap 'sleep 3; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let stop = |name: &str, flags: &[&str]| -> Result<String> {
        let run = ["run", "-d", "--name", name, "--network", "none"];
        daemon.docker(&[&run[..], flags, &["busybox", "sh", "-c", patient]].concat())?.ok()?;
        until("the trap is set", || {
            Ok(daemon.docker(&["logs", name])?.ok()?.contains("ready").then_some(()))
        })?;
        daemon.docker(&["stop", name])?.ok()?;
        Ok(daemon.docker(&["inspect", "-f", "{{.State.ExitCode}}", name])?.ok()?.trim().to_owned())
    };
    assert_eq!(stop("default", &[])?, "137", "killed at once");
    assert_eq!(stop("patient", &["--stop-timeout", "60"])?, "7");

    let out = daemon.docker(&["run", "--rm", "--init", "--network", "none", "busybox", "true"])?;
    assert!(
        out.stderr.contains("docker-init: applet not found"),
        "the busybox that is init here: {}",
        out.stderr
    );
    assert_eq!(daemon.api().call("GET", "/info")?.json()["InitBinary"], own_init.display().to_string());

    daemon.docker(&["network", "create", "small"])?.ok()?;
    daemon.docker(&["network", "create", "-o", "com.docker.network.driver.mtu=1300", "own"])?.ok()?;
    for (network, mtu) in [("small", "1234"), ("own", "1300")] {
        let out = daemon.docker(&[
            "run",
            "--rm",
            "--network",
            network,
            "busybox",
            "cat",
            "/sys/class/net/eth0/mtu",
        ])?;
        assert_eq!(out.ok()?.trim(), mtu, "{network}");
    }
    daemon.docker(&["network", "rm", "small", "own"])?.ok()?;
    for line in daemon.log().lines() {
        let entry: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        assert!(
            entry["msg"].is_string() && entry["level"].is_string() && entry["time"].is_string(),
            "{line}"
        );
    }
    daemon.stop()
}

#[test]
fn metrics_count_what_was_done() -> Result<()> {
    let daemon = Daemon::builder().flag("--metrics-addr=127.0.0.1:9323").start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    daemon.docker(&["run", "--rm", "--network", "none", "busybox", "true"])?.ok()?;
    daemon.docker(&["run", "-d", "--network", "none", "busybox", "sleep", "100000"])?.ok()?;
    let fetch = |path: &str| {
        let url = format!("http://127.0.0.1:9323{path}");
        daemon.docker(&["run", "--rm", "--network", "host", "busybox", "wget", "-qO-", &url])
    };
    let page = fetch("/metrics")?.ok()?;
    let value = |name: &str| -> Option<f64> {
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };
    // One each is there from the start; the last container is the one that asks.
    assert_eq!(
        value("engine_daemon_container_actions_seconds_count{action=\"create\"}"),
        Some(4.0),
        "{page}"
    );
    assert_eq!(
        value("engine_daemon_container_actions_seconds_count{action=\"delete\"}"),
        Some(1.0),
        "{page}"
    );
    // The one that asks may have begun to ask before it is noted as running.
    let in_state = |state| value(&format!("engine_daemon_container_states_containers{{state={state:?}}}"));
    let (running, stopped) = (in_state("running").unwrap_or(0.0), in_state("stopped").unwrap_or(0.0));
    assert!(running >= 1.0 && running + stopped == 2.0, "{page}");
    assert!(value("engine_daemon_events_total").is_some_and(|n| n >= 4.0), "{page}");
    assert!(value("engine_daemon_engine_memory_bytes").is_some_and(|n| n > 1e6), "{page}");
    assert!(value("process_resident_memory_bytes").is_some_and(|n| n > 1e6), "{page}");
    assert!(page.contains("graphdriver=\"overlay2\""), "{page}");
    assert!(fetch("/other")?.stderr.contains("404"));
    daemon.stop()
}

#[test]
fn tls_asks_for_a_certificate() -> Result<()> {
    let server = |daemon: wharf_testkit::Builder| {
        daemon
            .flag("--host=tcp://127.0.0.1:2376")
            .flag(format!("--tlscacert={}", certificate("ca.pem")))
            .flag(format!("--tlscert={}", certificate("server.pem")))
            .flag(format!("--tlskey={}", certificate("server-key.pem")))
    };
    let daemon = server(Daemon::builder().flag("--tlsverify")).start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    let wharf = wharf_testkit::bin_dir().join("wharf").display().to_string();
    let ask = |program: &str, more: &[&str], args: &[&str]| -> Result<(bool, String)> {
        let mut command = daemon.cli_command(program, &[]);
        command.env_remove("DOCKER_HOST").args(["-H", "tcp://127.0.0.1:2376"]).args(more).args(args);
        let out = daemon.net().spawn(&mut command)?.wait_with_output()?;
        let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        Ok((out.status.success(), said.into_owned()))
    };
    let (ca, cert, key) = (certificate("ca.pem"), certificate("client.pem"), certificate("client-key.pem"));
    let verified = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let echo = ["run", "--rm", "--network", "none", "busybox", "echo", "through tls"];
    for program in ["docker", &wharf] {
        // Hijacked streams go through it too.
        assert_eq!(ask(program, &verified, &echo)?, (true, "through tls\n".to_owned()), "{program}");
        let (ok, said) = ask(program, &["--tlsverify", "--tlscacert", &ca], &["ps"])?;
        assert!(!ok, "{program} without a certificate: {said}");
        let (ok, said) = ask(program, &[], &["ps"])?;
        assert!(!ok, "{program} without TLS: {said}");
    }
    let home = tempfile::tempdir()?;
    for name in ["ca", "cert", "key"] {
        let from = [("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client-key.pem")];
        let (_, file) = from.into_iter().find(|(to, _)| *to == name).context("one of three")?;
        fs::copy(certificate(file), home.path().join(format!("{name}.pem")))?;
    }
    for program in ["docker", &wharf] {
        let mut command = daemon.cli_command(program, &["ps", "-q"]);
        command.env("DOCKER_HOST", "tcp://127.0.0.1:2376").env("DOCKER_TLS_VERIFY", "1");
        command.env("DOCKER_CERT_PATH", home.path());
        let out = daemon.net().spawn(&mut command)?.wait_with_output()?;
        assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    }
    daemon.stop()?;

    let unverified = server(Daemon::builder().flag("--tlsverify=false")).start()?;
    let mut command = unverified.cli_command("docker", &["--tlsverify", "--tlscacert", &ca, "ps", "-q"]);
    command.env("DOCKER_HOST", "tcp://127.0.0.1:2376");
    let out = unverified.net().spawn(&mut command)?.wait_with_output()?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    unverified.stop()?;

    let lost = Daemon::prepare(Daemon::builder().flag("--tls").flag("--tlscert=/no/such.pem"))?;
    let out = lost.run_to_end()?;
    assert!(out.stderr.contains("invalid TLS configuration: could not"), "{}", out.stderr);
    lost.assert_clean()
}
