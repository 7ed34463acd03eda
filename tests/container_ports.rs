//! `wharf update --publish-add`, `--publish-rm`: ports of containers that exist. Docker has nothing like it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{net::TcpListener, time::Duration};
use wharf_testkit::{Daemon, until};

/// Serves `hello` on port 80 and on port 81.
const SERVE: &[&str] = &[
    "busybox",
    "sh",
    "-c",
    "mkdir -p /www; echo hello > /www/index.html; httpd -p 80 -h /www; httpd -f -p 81 -h /www",
];

fn gets(daemon: &Daemon, port: u16) -> bool {
    let fetched = daemon.net().http_get(([127, 0, 0, 1], port).into(), Duration::from_secs(5));
    fetched.is_ok_and(|text| text.contains("hello"))
}

fn answers(daemon: &Daemon, port: u16) -> Result<()> {
    until(&format!("port {port} to answer"), || Ok(gets(daemon, port).then_some(())))
}

/// Whether a program of the host gets the port.
fn is_free(daemon: &Daemon, port: u16) -> bool {
    daemon.net().within(|| Ok(TcpListener::bind(("0.0.0.0", port))?)).is_ok()
}

/// Runs our own CLI.
fn update(daemon: &Daemon, flags: &[&str]) -> Result<(bool, String)> {
    let wharf = wharf_testkit::bin_dir().join("wharf");
    let wharf = wharf.to_str().context("a path")?;
    let output = daemon.cli_command(wharf, &[&["update"], flags, &["web"]].concat()).output()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text))
}

fn changed(daemon: &Daemon, flags: &[&str]) -> Result<()> {
    let (done, text) = update(daemon, flags)?;
    ensure!(done, "{flags:?}: {text}");
    Ok(())
}

/// What inspect shows: of the settings, and of the network.
fn shown(daemon: &Daemon) -> Result<(Value, Value)> {
    let all = daemon.api().call("GET", "/containers/web/json")?.json();
    Ok((all["HostConfig"]["PortBindings"].clone(), all["NetworkSettings"]["Ports"].clone()))
}

#[test]
fn ports_of_a_running_container_change() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    daemon.docker(&[&["run", "-d", "--name", "web", "-p", "8080:80"], SERVE].concat())?.ok()?;
    answers(&daemon, 8080)?;
    let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "web"])?.ok()?;
    changed(&daemon, &["--publish-add", "8081:81", "--publish-add", "127.0.0.1:8082:80"])?;
    for port in [8080, 8081, 8082] {
        answers(&daemon, port)?;
    }
    let (settings, network) = shown(&daemon)?;
    assert_eq!(settings["81/tcp"][0]["HostPort"], "8081");
    assert_eq!(settings["80/tcp"].as_array().context("bindings")?.len(), 2);
    assert_eq!(network["81/tcp"][0]["HostPort"], "8081");
    assert!(!is_free(&daemon, 8081));

    // A host port that goes to another port of the container.
    changed(&daemon, &["--publish-rm", "8080:80", "--publish-add", "8080:81"])?;
    answers(&daemon, 8080)?;
    assert_eq!(
        shown(&daemon)?.1["81/tcp"].as_array().context("bindings")?.len() % 2,
        0,
        "{:?}",
        shown(&daemon)?
    );
    changed(&daemon, &["--publish-rm", "81"])?;
    assert!(!gets(&daemon, 8080) && !gets(&daemon, 8081));
    assert!(is_free(&daemon, 8080) && is_free(&daemon, 8081), "no process holds them any more");
    answers(&daemon, 8082)?;

    daemon.kill9()?;
    answers(&daemon, 8082).context("without a daemon")?;
    daemon.launch()?;
    answers(&daemon, 8082).context("with the next one")?;
    changed(&daemon, &["--publish-add", "8080:80"])?;
    answers(&daemon, 8080)?;
    assert_eq!(daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "web"])?.ok()?, pid, "it ran all the time");
    daemon.docker(&["restart", "-t", "0", "web"])?.ok()?;
    answers(&daemon, 8080).context("after a restart")?;
    assert!(is_free(&daemon, 8081));
    daemon.docker(&["rm", "-f", "web"])?.ok()?;
    assert!(is_free(&daemon, 8080) && is_free(&daemon, 8082));
    daemon.stop()
}

#[test]
fn a_change_that_fails_changes_nothing() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&[&["run", "-d", "--name", "web", "-p", "8080:80"], SERVE].concat())?.ok()?;
    daemon.docker(&[&["run", "-d", "--name", "other", "-p", "9090:80"], SERVE].concat())?.ok()?;
    let program = daemon.net().within(|| Ok(TcpListener::bind("0.0.0.0:9091")?))?;
    let before = shown(&daemon)?;
    for (flags, why) in [
        (&["--publish-rm", "8080:80", "--publish-add", "9090:80"][..], "port is already allocated"),
        (&["--publish-rm", "8080:80", "--publish-add", "9091:80"], "address already in use"),
        (&["--publish-add", "8085:80", "--publish-rm", "8081:80"], "port 80/tcp is not published there"),
        (&["--publish-rm", "81"], "port 81/tcp is not published there"),
        (&["--publish-add", "x:80"], "invalid hostPort: x"),
    ] {
        let (done, text) = update(&daemon, flags)?;
        ensure!(!done && text.contains(why), "{flags:?}: {text}");
        assert_eq!(shown(&daemon)?, before, "{flags:?}");
        answers(&daemon, 8080)?;
        assert!(is_free(&daemon, 8085));
    }
    drop(program);
    changed(&daemon, &["--publish-add", "9091:80"])?;
    answers(&daemon, 9091)?;
    daemon.stop()
}

#[test]
fn a_stopped_container_has_its_ports_from_the_next_start_on() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&[&["create", "--name", "web", "-p", "8080:80", "-p", "80"], SERVE].concat())?.ok()?;
    changed(&daemon, &["--publish-rm", "8080:80", "--publish-add", "8081:81"])?;
    assert!(is_free(&daemon, 8081));
    daemon.docker(&["start", "web"])?.ok()?;
    answers(&daemon, 8081)?;
    assert!(is_free(&daemon, 8080));
    let chosen = daemon.docker(&["port", "web", "80/tcp"])?.ok()?;
    let chosen: u16 =
        chosen.lines().next().and_then(|line| line.rsplit(':').next()).context("a port")?.parse()?;
    answers(&daemon, chosen)?;
    changed(&daemon, &["--publish-rm", &format!("{chosen}:80")])?;
    assert!(is_free(&daemon, chosen) && shown(&daemon)?.0.get("80/tcp").is_none());
    daemon.stop()
}
