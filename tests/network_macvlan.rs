//! Macvlan networks: containers in the network of a device of the host.

use anyhow::{Result, ensure};
use std::process::Command;
use wharf_testkit::Daemon;

/// The other end of the parent's wire: a host of its own, 10.79.0.1, in a container without networks.
const OUTSIDE: &str = "10.79.0.1";

fn sleeper(daemon: &Daemon, name: &str, flags: &[&str]) -> Result<()> {
    let command = ["busybox", "sleep", "100000"];
    daemon.docker(&[&["run", "-d", "--name", name], flags, &command].concat())?.ok().map(drop)
}

fn inside(daemon: &Daemon, container: &str, command: &[&str]) -> Result<String> {
    daemon.docker(&[&["exec", container], command].concat())?.ok()
}

/// Waits for an answer, since the neighbour has to be found first.
fn reaches(daemon: &Daemon, container: &str, whom: &str) -> Result<()> {
    inside(daemon, container, &["ping", "-c", "1", "-w", "60", whom]).map(drop)
}

fn address(daemon: &Daemon, container: &str, network: &str) -> Result<String> {
    let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    Ok(daemon.docker(&["inspect", "-f", &format, container])?.ok()?.trim().to_owned())
}

fn refused(daemon: &Daemon, args: &[&str]) -> Result<String> {
    let output = daemon.docker(args)?;
    ensure!(output.code != 0, "{args:?} was taken");
    Ok(output.stderr)
}

/// A daemon whose host has the device `up0`, with a wire to the host outside.
fn with_parent() -> Result<Daemon> {
    let daemon = Daemon::with_busybox()?;
    sleeper(&daemon, "outside", &["--network", "none", "--cap-add", "NET_ADMIN"])?;
    let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "outside"])?.ok()?;
    let pid = pid.trim().to_owned();
    let ip = |args: &[&str]| {
        daemon.net().within(|| {
            let output = Command::new("ip").args(args).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        })
    };
    ip(&["link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    ip(&["link", "set", "up0", "up"])?;
    inside(&daemon, "outside", &["ip", "addr", "add", &format!("{OUTSIDE}/24"), "dev", "eth0"])?;
    inside(&daemon, "outside", &["ip", "link", "set", "eth0", "up"])?;
    Ok(daemon)
}

fn network(daemon: &Daemon, name: &str, subnet: &str, flags: &[&str]) -> Result<()> {
    let create = ["network", "create", "-d", "macvlan", "--opt", "parent=up0", "--subnet", subnet];
    daemon.docker(&[&create, flags, &[name]].concat())?.ok().map(drop)
}

#[test]
fn containers_are_in_the_network_of_the_parent() -> Result<()> {
    let mut daemon = with_parent()?;
    network(&daemon, "lan", "10.79.0.0/24", &["--gateway", OUTSIDE])?;
    let mac = "02:42:0a:4f:00:63";
    sleeper(&daemon, "one", &["--network", "lan", "-p", "8080:80"])?;
    sleeper(&daemon, "two", &["--network", "lan", "--ip", "10.79.0.99", "--mac-address", mac])?;
    assert_eq!(address(&daemon, "one", "lan")?, "10.79.0.2");
    assert_eq!(inside(&daemon, "two", &["cat", "/sys/class/net/eth0/address"])?.trim(), mac);
    let route = inside(&daemon, "one", &["ip", "route"])?;
    assert!(route.contains("default via 10.79.0.1 dev eth0"), "{route}");
    reaches(&daemon, "one", OUTSIDE)?;
    reaches(&daemon, "outside", "10.79.0.99")?;
    reaches(&daemon, "one", "two")?;
    assert_eq!(daemon.docker(&["port", "one"])?.ok()?, "", "nothing is published");
    let format = "{{.Driver}} {{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}";
    let shown = daemon.docker(&["network", "inspect", "-f", format, "lan"])?.ok()?;
    assert_eq!(shown.trim(), "macvlan 10.79.0.0/24 10.79.0.1");

    daemon.kill9()?;
    daemon.launch()?;
    reaches(&daemon, "one", "two")?;
    daemon.docker(&["network", "disconnect", "lan", "one"])?.ok()?;
    assert_eq!(inside(&daemon, "one", &["ls", "/sys/class/net"])?.trim(), "lo");
    daemon.docker(&["network", "connect", "lan", "one"])?.ok()?;
    reaches(&daemon, "one", "two")?;
    let error = refused(&daemon, &["network", "rm", "lan"])?;
    assert!(error.contains("has active endpoints"), "{error}");
    daemon.docker(&["rm", "-f", "one", "two"])?.ok()?;
    daemon.docker(&["network", "rm", "lan"])?.ok()?;
    daemon.net().within(|| {
        ensure!(Command::new("ip").args(["link", "show", "up0"]).output()?.status.success(), "up0 is gone");
        Ok(())
    })?;
    daemon.docker(&["rm", "-f", "outside"])?.ok()?;
    daemon.stop()
}

#[test]
fn the_mode_says_who_is_reached() -> Result<()> {
    let daemon = with_parent()?;
    network(&daemon, "apart", "10.79.0.0/24", &["--opt", "macvlan_mode=private"])?;
    sleeper(&daemon, "one", &["--network", "apart", "--ip", "10.79.0.8"])?;
    sleeper(&daemon, "two", &["--network", "apart", "--ip", "10.79.0.9"])?;
    reaches(&daemon, "one", OUTSIDE)?;
    reaches(&daemon, "two", OUTSIDE)?;
    let ping = daemon.docker(&["exec", "one", "ping", "-c", "1", "-w", "2", "10.79.0.9"])?;
    assert_ne!(ping.code, 0, "private containers reach each other");
    assert!(!inside(&daemon, "one", &["ip", "route"])?.contains("default"), "no gateway was asked for");

    let create = |parent: &str, mode: &str| {
        let (parent, mode) = (format!("parent={parent}"), format!("macvlan_mode={mode}"));
        refused(&daemon, &["network", "create", "-d", "macvlan", "--opt", &parent, "--opt", &mode, "more"])
    };
    for (parent, mode, why) in [
        (
            "up0",
            "odd",
            "requested macvlan mode 'odd' is not valid, 'bridge' mode is the macvlan driver default",
        ),
        ("lo", "bridge", "loopback interface is not a valid macvlan parent link"),
        ("nosuch", "bridge", "invalid subinterface vlan name nosuch, example formatting is eth0.10"),
        ("up0", "passthru", "cannot use mode passthru, macvlan network"),
    ] {
        let error = create(parent, mode)?;
        assert!(error.contains(why), "{error}");
    }
    daemon.docker(&["rm", "-f", "one", "two"])?.ok()?;
    daemon.docker(&["network", "rm", "apart"])?.ok()?;
    network(&daemon, "whole", "10.79.0.0/24", &["--opt", "macvlan_mode=passthru"])?;
    let error = create("up0", "bridge")?;
    assert!(error.contains("is already using parent interface up0 in mode passthru"), "{error}");
    daemon.docker(&["network", "rm", "whole"])?.ok()?;
    daemon.docker(&["rm", "-f", "outside"])?.ok()?;
    daemon.stop()
}

#[test]
fn ports_do_not_follow_into_the_network_of_the_parent() -> Result<()> {
    let daemon = with_parent()?;
    network(&daemon, "lan", "10.79.0.0/24", &["--gateway", OUTSIDE])?;
    sleeper(&daemon, "one", &["-p", "8080:80"])?;
    let redirected = || -> Result<bool> {
        let rules = daemon.net().within(|| {
            let output = Command::new("nft").args(["list", "ruleset"]).output()?;
            Ok(String::from_utf8(output.stdout)?)
        })?;
        Ok(rules.contains("8080"))
    };
    ensure!(redirected()?, "on the bridge it is published");
    daemon.docker(&["network", "connect", "lan", "one"])?.ok()?;
    daemon.docker(&["network", "disconnect", "bridge", "one"])?.ok()?;
    let route = inside(&daemon, "one", &["ip", "route"])?;
    ensure!(route.contains("default via 10.79.0.1"), "{route}");
    ensure!(!redirected()?, "the host cannot reach it there");
    assert_eq!(daemon.docker(&["port", "one"])?.ok()?, "");
    daemon.docker(&["network", "connect", "bridge", "one"])?.ok()?;
    daemon.docker(&["network", "disconnect", "lan", "one"])?.ok()?;
    ensure!(redirected()?, "on the bridge again");
    daemon.docker(&["rm", "-f", "one", "outside"])?.ok()?;
    daemon.stop()
}
