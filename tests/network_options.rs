//! Options of networks and endpoints: names and parameters of interfaces, link-local addresses, bridges without an
//! address, configurations apart from their networks.

use anyhow::Result;
use std::process::Command;
use wharf_testkit::Daemon;

const SLEEP: &[&str] = &["busybox", "sleep", "100000"];

fn sleeper(daemon: &Daemon, name: &str, flags: &[&str]) -> Result<()> {
    daemon.docker(&[&["run", "-d", "--name", name], flags, SLEEP].concat())?.ok().map(drop)
}

fn network(daemon: &Daemon, name: &str, flags: &[&str]) -> Result<String> {
    daemon.docker(&[&["network", "create"], flags, &[name]].concat())?.ok()
}

/// What a command in a container prints.
fn inside(daemon: &Daemon, container: &str, command: &[&str]) -> Result<String> {
    daemon.docker(&[&["exec", container], command].concat())?.ok()
}

/// The daemon's answer to what it refuses.
fn refused(daemon: &Daemon, args: &[&str]) -> Result<String> {
    let output = daemon.docker(args)?;
    anyhow::ensure!(output.code != 0, "{args:?} was taken");
    Ok(output.stderr)
}

/// IPv4 addresses of an interface of the host.
fn host_addresses(daemon: &Daemon, interface: &str) -> Result<String> {
    daemon.net().within(|| {
        let output = Command::new("ip").args(["-4", "-o", "addr", "show", "dev", interface]).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    })
}

#[test]
fn interfaces_are_called_as_asked() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    network(&daemon, "lans", &["--opt", "com.docker.network.container_iface_prefix=lan"])?;
    network(&daemon, "plain", &[])?;
    sleeper(&daemon, "one", &["--network", "lans"])?;
    daemon.docker(&["network", "connect", "plain", "one"])?.ok()?;
    let named = "com.docker.network.endpoint.ifname=wan7";
    network(&daemon, "third", &[])?;
    daemon.docker(&["network", "connect", "--driver-opt", named, "third", "one"])?.ok()?;
    let links = inside(&daemon, "one", &["ls", "/sys/class/net"])?;
    assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "lan0", "lo", "wan7"]);
    daemon.docker(&["restart", "-t", "0", "one"])?.ok()?;
    assert_eq!(inside(&daemon, "one", &["ls", "/sys/class/net"])?, links, "after a restart");

    network(&daemon, "fourth", &[])?;
    let error = refused(&daemon, &["network", "connect", "--driver-opt", named, "fourth", "one"])?;
    assert!(error.contains("error renaming interface to \"wan7\": file exists"), "{error}");
    let bad = "com.docker.network.endpoint.ifname=../x";
    refused(&daemon, &["network", "connect", "--driver-opt", bad, "fourth", "one"])?;
    assert_eq!(inside(&daemon, "one", &["ls", "/sys/class/net"])?, links, "what was refused left nothing");
    daemon.stop()
}

fn connect<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["network", "connect"], flags, &["mine", "one"]].concat()
}

#[test]
fn parameters_and_link_local_addresses_are_set() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    network(&daemon, "mine", &[])?;
    sleeper(&daemon, "one", &[])?;
    let sysctls = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1";
    let flags = ["--driver-opt", sysctls, "--link-local-ip", "169.254.7.7"];
    daemon.docker(&connect(&flags))?.ok()?;
    let value = |interface: &str, name: &str| {
        inside(&daemon, "one", &["cat", &format!("/proc/sys/net/ipv4/conf/{interface}/{name}")])
    };
    assert_eq!((value("eth1", "log_martians")?.trim(), value("eth0", "log_martians")?.trim()), ("1", "0"));
    let addresses = inside(&daemon, "one", &["ip", "-o", "addr", "show", "dev", "eth1"])?;
    assert!(addresses.contains("inet 169.254.7.7/16"), "{addresses}");

    daemon.docker(&["network", "disconnect", "mine", "one"])?.ok()?;
    let error = refused(&daemon, &connect(&["--link-local-ip", "10.9.9.9"]))?;
    assert!(error.contains("invalid link local IP address: 10.9.9.9"), "{error}");
    let sysctl = |text: &str| format!("com.docker.network.endpoint.sysctls={text}");
    let error =
        refused(&daemon, &connect(&["--driver-opt", &sysctl("net.ipv4.conf.IFNAME.no_such_thing=1")]))?;
    assert!(error.contains("/proc/sys/net/ipv4/conf/eth1/no_such_thing is not a sysctl file"), "{error}");
    let error = refused(&daemon, &connect(&["--driver-opt", &sysctl("net.ipv4.conf.eth1.forwarding=1")]))?;
    assert!(error.contains("unrecognised network interface sysctl"), "{error}");
    let links = inside(&daemon, "one", &["ls", "/sys/class/net"])?;
    assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    let both = format!("name=mine,\"driver-opt={sysctls},net.ipv4.conf.IFNAME.rp_filter=2\"");
    let names = ["log_martians", "rp_filter"].map(|name| format!("/proc/sys/net/ipv4/conf/eth0/{name}"));
    let values = ["run", "--rm", "--network", &both, "busybox", "cat", &names[0], &names[1]];
    assert_eq!(daemon.docker(&values)?.ok()?, "1\n2\n");
    daemon.stop()
}

#[test]
fn a_bridge_may_have_no_address() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let name = |name: &str| format!("com.docker.network.bridge.name={name}");
    let isolated = "com.docker.network.bridge.gateway_mode_ipv4=isolated";
    let error = refused(&daemon, &["network", "create", "--opt", isolated, "open"])?;
    assert!(error.contains("gateway mode 'isolated' can only be used for an internal network"), "{error}");
    network(&daemon, "alone", &["--internal", "--opt", isolated, "--opt", &name("alone0")])?;
    let inhibit = "com.docker.network.bridge.inhibit_ipv4=true";
    let subnet = ["--subnet", "10.77.0.0/24"];
    let options = ["--opt", inhibit, "--opt", &name("bare0")];
    network(&daemon, "bare", &[&options[..], &subnet].concat())?;
    sleeper(&daemon, "one", &["--network", "alone"])?;
    sleeper(&daemon, "two", &["--network", "bare"])?;
    let check = |daemon: &Daemon| -> Result<()> {
        assert_eq!((host_addresses(daemon, "alone0")?, host_addresses(daemon, "bare0")?), Default::default());
        Ok(())
    };
    check(&daemon)?;
    let format = "{{range .IPAM.Config}}{{.Gateway}}{{end}}";
    assert_eq!(daemon.docker(&["network", "inspect", "-f", format, "alone", "bare"])?.ok()?, "\n10.77.0.1\n");
    assert!(!inside(&daemon, "one", &["ip", "route"])?.contains("default"));
    let route = inside(&daemon, "two", &["ip", "route"])?;
    assert!(route.contains("default via 10.77.0.1 dev eth0"), "{route}");
    let ping = ["run", "--rm", "--network", "alone", "busybox", "ping", "-c", "1", "-w", "30", "one"];
    daemon.docker(&ping)?.ok()?;
    daemon.kill9()?;
    daemon.launch()?;
    check(&daemon)?;
    daemon.docker(&ping)?.ok()?;
    daemon.stop()
}

#[test]
fn a_configuration_serves_several_networks() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let mtu = "com.docker.network.driver.mtu=1400";
    let settings = ["--subnet", "10.78.0.0/24", "--label", "of=config", "--opt", mtu];
    network(&daemon, "config", &[&["--config-only"], &settings[..]].concat())?;
    for (flags, why) in [
        (
            &["--config-only", "--internal"][..],
            "configuration network can only contain network specific fields",
        ),
        (&["--config-only", "--config-from", "config"], "cannot depend on another configuration network"),
        (&["--config-from", "config", "--label", "a=b"], "user-specified configurations are not supported"),
        (&["--config-from", "config", "--opt", mtu], "network driver options are not supported"),
        (&["--config-from", "other"], "configuration network \"other\" does not exist"),
    ] {
        let error = refused(&daemon, &[&["network", "create"], flags, &["user"]].concat())?;
        assert!(error.contains(why), "{error}");
    }
    network(&daemon, "user", &["--internal", "--config-from", "config"])?;
    let shown = daemon.docker(&[
        "network",
        "inspect",
        "-f",
        "{{.Driver}} {{.ConfigOnly}} {{.ConfigFrom.Network}} {{.Labels.of}} {{(index .IPAM.Config 0).Subnet}}",
        "config",
        "user",
    ])?;
    assert_eq!(shown.ok()?, "null true  config 10.78.0.0/24\nbridge false config config 10.78.0.0/24\n");
    daemon.kill9()?;
    daemon.launch()?;
    sleeper(&daemon, "one", &["--network", "user"])?;
    assert_eq!(inside(&daemon, "one", &["cat", "/sys/class/net/eth0/mtu"])?, "1400\n");
    let error = refused(&daemon, &["network", "connect", "config", "one"])?;
    assert!(error.contains("cannot create endpoint on configuration-only network"), "{error}");
    let error = refused(&daemon, &["network", "rm", "config"])?;
    assert!(error.contains("configuration network \"config\" is in use"), "{error}");
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    daemon.docker(&["network", "rm", "user"])?.ok()?;
    daemon.docker(&["network", "prune", "-f"])?.ok()?;
    daemon.docker(&["network", "inspect", "config"])?.ok()?;
    daemon.docker(&["network", "rm", "config"])?.ok()?;
    daemon.stop()
}
