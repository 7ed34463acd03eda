//! Published ports and the rules of others: flushed rule sets, dropping policies, flags of the daemon.

use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};
use wharf_testkit::{Daemon, until};

/// A busybox that serves `hello` over HTTP on port 80.
const SERVE: &[&str] =
    &["busybox", "sh", "-c", "mkdir -p /www; echo hello > /www/index.html; httpd -f -p 80 -h /www"];

fn serve(daemon: &Daemon, name: &str, flags: &[&str]) -> Result<()> {
    daemon.docker(&[&["run", "-d", "--name", name], flags, SERVE].concat())?.ok().map(drop)
}

/// What a program prints on the daemon's host.
fn on_host(daemon: &Daemon, program: &str, args: &[&str]) -> Result<String> {
    daemon.net().within(|| {
        let output = Command::new(program).args(args).output().context(program.to_owned())?;
        ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    })
}

fn get(daemon: &Daemon, address: &str) -> Result<String> {
    daemon.net().within(|| {
        let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(5))?;
        // Of a port that is held, but redirected nowhere, nothing comes back.
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

fn fetched(daemon: &Daemon, address: &str) -> Result<()> {
    let page = || Ok(get(daemon, address).ok().filter(|text| text.contains("hello")));
    until(&format!("hello from {address}"), page).map(drop)
}

#[test]
fn a_flushed_rule_set_comes_back() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    serve(&daemon, "one", &["-p", "8080:80"])?;
    fetched(&daemon, "127.0.0.1:8080")?;
    let table = on_host(&daemon, "nft", &["list", "tables"])?;
    let table = table.lines().find(|line| line.starts_with("table ip wharf")).context("our table")?;
    let name = table.rsplit(' ').next().context("its name")?.to_owned();
    let whole = || on_host(&daemon, "nft", &["-s", "list", "table", "ip", &name]);
    let before = whole()?;
    let damages: [&[&str]; 5] = [
        &["flush", "ruleset"],
        &["delete", "table", "ip", &name],
        &["flush", "chain", "ip", &name, "prerouting"],
        &["flush", "map", "ip", &name, "ports"],
        &["insert", "rule", "ip", &name, "forward", "drop"],
    ];
    for damage in damages {
        on_host(&daemon, "nft", damage)?;
        until(&format!("the table after {damage:?}"), || Ok(whole().ok().filter(|now| *now == before)))?;
        fetched(&daemon, "127.0.0.1:8080")?;
    }
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    daemon.stop()
}

#[test]
fn a_forward_policy_that_drops_later_does_not_stop_us() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    serve(&daemon, "one", &["-p", "8080:80"])?;
    fetched(&daemon, "127.0.0.1:8080")?;
    let rules = || on_host(&daemon, "iptables", &["-S", "FORWARD"]);
    let ours = |rules: &str| rules.matches("-j ACCEPT").count();
    on_host(&daemon, "iptables", &["-P", "FORWARD", "DROP"])?;
    until("our rules", || Ok((ours(&rules()?) == 2).then_some(())))?;
    fetched(&daemon, "127.0.0.1:8080")?;
    on_host(&daemon, "iptables", &["-F", "FORWARD"])?;
    until("our rules after a flush", || Ok((ours(&rules()?) == 2).then_some(())))?;
    fetched(&daemon, "127.0.0.1:8080")?;
    on_host(&daemon, "iptables", &["-P", "FORWARD", "ACCEPT"])?;
    until("rules that nobody needs to go", || Ok((ours(&rules()?) == 0).then_some(())))?;
    on_host(&daemon, "iptables", &["-P", "FORWARD", "DROP"])?;
    until("our rules again", || Ok((ours(&rules()?) == 2).then_some(())))?;
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    daemon.terminate()?;
    let left = on_host(&daemon, "iptables", &["-S"])?;
    assert_eq!(ours(&left), 0, "{left}");
    daemon.assert_clean()
}
