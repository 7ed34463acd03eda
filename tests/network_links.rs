//! Links on the default bridge: what they tell of the other container, and which ways they open.

use anyhow::{Context, Result, ensure};
use wharf_testkit::{Daemon, until};

/// Serves `hello` over HTTP on ports 80 and 81.
const SERVE: &[&str] = &[
    "busybox",
    "sh",
    "-c",
    "mkdir -p /www; echo hello > /www/index.html; httpd -p 80 -h /www; httpd -f -p 81 -h /www",
];
const SLEEP: &[&str] = &["busybox", "sleep", "100000"];

fn run(daemon: &Daemon, name: &str, flags: &[&str], command: &[&str]) -> Result<()> {
    daemon.docker(&[&["run", "-d", "--name", name], flags, command].concat())?.ok().map(drop)
}

/// What a container gets from an address and port: the page, or nothing.
fn page(daemon: &Daemon, from: &str, address: &str, port: u16) -> Result<Option<String>> {
    // A static busybox has no wget that works.
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} {port}");
    let fetched = daemon.docker(&["exec", from, "sh", "-c", &script])?;
    Ok(Some(fetched.stdout).filter(|text| text.contains("hello")))
}

/// The address of a name in a container's `/etc/hosts`. (A static busybox cannot look it up by itself.)
fn known_as(daemon: &Daemon, container: &str, name: &str) -> Result<String> {
    let hosts = daemon.docker(&["exec", container, "cat", "/etc/hosts"])?.ok()?;
    let mut lines = hosts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words[1..].contains(&name)).with_context(|| hosts.clone())?;
    Ok(line[0].to_owned())
}

/// The container reaches the link `db` on port 80, at the address that it knows.
fn reaches_link(daemon: &Daemon, from: &str) -> Result<()> {
    let address = known_as(daemon, from, "db")?;
    until(&format!("{from} to reach {address}"), || page(daemon, from, &address, 80)).map(drop)
}

fn address(daemon: &Daemon, name: &str) -> Result<String> {
    let format = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
    Ok(daemon.docker(&["inspect", "-f", format, name])?.ok()?.trim().to_owned())
}

/// The variables of a container's first process that begin with this.
fn variables(daemon: &Daemon, name: &str, prefix: &str) -> Result<Vec<String>> {
    let all = daemon.docker(&["exec", name, "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"])?.ok()?;
    Ok(all.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect())
}

#[test]
fn a_link_tells_of_the_other_in_the_environment() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let flags = ["--expose", "80-82", "--expose", "53/udp", "-e", "FLAVOUR=sweet", "-e", "PATH=/bin"];
    run(&daemon, "store", &flags, SLEEP)?;
    run(&daemon, "web", &["--link", "store:my-db", "-e", "MY_DB_PORT_82_TCP_PROTO=own"], SLEEP)?;
    let at = address(&daemon, "store")?;
    let mut wanted = vec![
        format!("MY_DB_PORT=udp://{at}:53"),
        format!("MY_DB_PORT_53_UDP=udp://{at}:53"),
        format!("MY_DB_PORT_53_UDP_ADDR={at}"),
        "MY_DB_PORT_53_UDP_PORT=53".into(),
        "MY_DB_PORT_53_UDP_PROTO=udp".into(),
        format!("MY_DB_PORT_80_TCP_START=tcp://{at}:80"),
        format!("MY_DB_PORT_80_TCP_END=tcp://{at}:82"),
        "MY_DB_PORT_80_TCP_PORT_START=80".into(),
        "MY_DB_PORT_80_TCP_PORT_END=82".into(),
        "MY_DB_NAME=/web/my-db".into(),
        "MY_DB_ENV_FLAVOUR=sweet".into(),
        "MY_DB_PORT_82_TCP_PROTO=own".into(),
    ];
    for port in [80, 81, 82] {
        wanted.push(format!("MY_DB_PORT_{port}_TCP=tcp://{at}:{port}"));
        wanted.push(format!("MY_DB_PORT_{port}_TCP_PORT={port}"));
    }
    let told = variables(&daemon, "web", "MY_DB_")?;
    for one in &wanted {
        ensure!(told.contains(one), "{one}: {told:#?}");
    }
    ensure!(!told.iter().any(|one| one.starts_with("MY_DB_ENV_PATH")), "{told:#?}");
    ensure!(variables(&daemon, "store", "MY_DB_")?.is_empty());
    daemon.docker(&["network", "create", "mine"])?.ok()?;
    run(&daemon, "other", &["--network", "mine"], SLEEP)?;
    run(&daemon, "own", &["--network", "mine", "--link", "other:db"], SLEEP)?;
    ensure!(variables(&daemon, "own", "DB_")?.is_empty(), "a link in another network is a name only");
    daemon.stop()
}

#[test]
fn a_link_follows_a_target_with_another_address() -> Result<()> {
    let daemon = Daemon::builder().flag("--icc=false").start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    run(&daemon, "store", &["--expose", "80"], SERVE)?;
    run(&daemon, "web", &["--link", "store:db"], SLEEP)?;
    reaches_link(&daemon, "web")?;
    let before = address(&daemon, "store")?;
    daemon.docker(&["stop", "-t", "0", "store"])?.ok()?;
    run(&daemon, "thief", &[], SERVE)?;
    ensure!(address(&daemon, "thief")? == before, "the address is another's now");
    ensure!(page(&daemon, "web", &before, 80)?.is_none(), "who is not the target");
    daemon.docker(&["start", "store"])?.ok()?;
    ensure!(address(&daemon, "store")? != before);
    reaches_link(&daemon, "web")?;
    let env = variables(&daemon, "web", "DB_PORT_80_TCP_ADDR")?;
    ensure!(env == [format!("DB_PORT_80_TCP_ADDR={before}")], "{env:?}");
    daemon.stop()
}

#[test]
fn without_communication_links_open_their_ports_alone() -> Result<()> {
    let mut daemon = Daemon::builder().flag("--icc=false").start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    run(&daemon, "store", &["--expose", "80"], SERVE)?;
    run(&daemon, "web", &["--link", "store:db"], SERVE)?;
    run(&daemon, "stranger", &[], SLEEP)?;
    let (store, web) = (address(&daemon, "store")?, address(&daemon, "web")?);
    let check = |daemon: &Daemon| -> Result<()> {
        reaches_link(daemon, "web")?;
        for (from, to, port) in [("web", &store, 81), ("stranger", &store, 80), ("store", &web, 80)] {
            ensure!(page(daemon, from, to, port)?.is_none(), "{from} reaches {to}:{port}");
        }
        Ok(())
    };
    check(&daemon)?;
    daemon.kill9()?;
    daemon.launch()?;
    check(&daemon)?;
    daemon.docker(&["rm", "-f", "web"])?.ok()?;
    run(&daemon, "next", &[], SLEEP)?;
    ensure!(address(&daemon, "next")? == web, "its address is another's now");
    ensure!(page(&daemon, "next", &store, 80)?.is_none(), "who has no link");
    daemon.stop()
}
