//! IPv6 on bridge networks: addresses, names, the way out and in, gateway modes, the default bridge.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};
use wharf_testkit::{Daemon, busybox, until};

/// A host of its own in a container without networks, behind the daemon's device `up0`.
const OUTSIDE: &str = "2001:db8::2";
const HOST: &str = "2001:db8::1";
const SERVE: &[&str] =
    &["busybox", "sh", "-c", "mkdir -p /www; hostname > /www/index.html; httpd -f -p 80 -h /www"];
const SLEEP: &[&str] = &["busybox", "sleep", "100000"];

fn run(daemon: &Daemon, name: &str, flags: &[&str], command: &[&str]) -> Result<()> {
    let named = ["run", "-d", "--name", name, "--hostname", name];
    daemon.docker(&[&named, flags, command].concat())?.ok().map(drop)
}

fn network(daemon: &Daemon, name: &str, flags: &[&str]) -> Result<()> {
    daemon.docker(&[&["network", "create"], flags, &[name]].concat())?.ok().map(drop)
}

fn inside(daemon: &Daemon, container: &str, command: &[&str]) -> Result<String> {
    daemon.docker(&[&["exec", container], command].concat())?.ok()
}

fn refused(daemon: &Daemon, args: &[&str]) -> Result<String> {
    let output = daemon.docker(args)?;
    ensure!(output.code != 0, "{args:?} was taken");
    Ok(output.stderr)
}

fn inspect(daemon: &Daemon, what: &[&str]) -> Result<Value> {
    let text = daemon.docker(&[what, &["--format", "{{json .}}"]].concat())?.ok()?;
    Ok(serde_json::from_str(&text)?)
}

/// A container's endpoint in a network.
fn endpoint(daemon: &Daemon, container: &str, network: &str) -> Result<Value> {
    Ok(inspect(daemon, &["inspect", container])?["NetworkSettings"]["Networks"][network].clone())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The subnet of a network's only configuration of IPv6, and its gateway.
fn subnet(daemon: &Daemon, network: &str) -> Result<(String, String)> {
    let shown = inspect(daemon, &["network", "inspect", network])?;
    let configs = shown["IPAM"]["Config"].as_array().context("no configuration")?;
    let config = configs.iter().find(|config| text(&config["Subnet"]).contains(':')).context("no IPv6")?;
    Ok((text(&config["Subnet"]).to_owned(), text(&config["Gateway"]).to_owned()))
}

/// Runs a program in the daemon's network namespace.
fn on_host(daemon: &Daemon, program: &str, args: &[&str]) -> Result<String> {
    daemon.net().within(|| {
        let output = Command::new(program).args(args).output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    })
}

/// A daemon with the host [`OUTSIDE`].
fn with_outside(flags: &[&str]) -> Result<Daemon> {
    let builder = flags.iter().fold(Daemon::builder(), |builder, flag| builder.flag(*flag));
    let daemon = builder.start()?;
    daemon.load(&busybox()?)?;
    run(&daemon, "outside", &["--network", "none", "--cap-add", "NET_ADMIN"], SERVE)?;
    let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "outside"])?.ok()?;
    let ip = |args: &[&str]| on_host(&daemon, "ip", args).map(drop);
    ip(&["link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", pid.trim()])?;
    ip(&["addr", "add", &format!("{HOST}/64"), "dev", "up0", "nodad"])?;
    ip(&["link", "set", "up0", "up"])?;
    let there = format!(
        "ip addr add {OUTSIDE}/64 dev eth0 nodad; ip link set eth0 up; ip -6 route add default via {HOST}"
    );
    let shell = ["nsenter", "--net", "-t", pid.trim(), "sh", "-ec", &there];
    on_host(&daemon, shell[0], &shell[1..])?;
    Ok(daemon)
}

/// Fetches a page from within a container; `None` when nobody answers.
fn fetch(daemon: &Daemon, from: &str, at: &str) -> Result<Option<String>> {
    let output =
        daemon.docker(&["exec", from, "timeout", "5", "wget", "-q", "-O", "-", &format!("http://{at}/")])?;
    Ok(Some(output.stdout.trim().to_owned()).filter(|_| output.code == 0))
}

/// Waits until the page is there, since the server may have to start first.
fn fetched(daemon: &Daemon, from: &str, at: &str, page: &str) -> Result<()> {
    until(&format!("{page} from {from} at {at}"), || {
        Ok(fetch(daemon, from, at)?.filter(|found| found == page))
    })
    .map(drop)
}

/// Fetches a page from the daemon's host itself.
fn fetched_on_host(daemon: &Daemon, at: &str, page: &str) -> Result<()> {
    let get = || {
        daemon.net().within(|| {
            let mut stream = TcpStream::connect_timeout(&at.parse()?, Duration::from_secs(5))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    };
    until(&format!("{page} at {at}"), || Ok(get().ok().filter(|found| found.contains(page)))).map(drop)
}

#[test]
fn containers_have_both_families_and_know_each_other_by_name() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let subnets = ["--ipv6", "--subnet", "172.31.9.0/24", "--subnet", "fd00:10::/64"];
    network(&daemon, "mine", &[&subnets[..], &["--gateway", "fd00:10::fe"]].concat())?;
    assert_eq!(subnet(&daemon, "mine")?, ("fd00:10::/64".into(), "fd00:10::fe".into()));
    run(&daemon, "web", &["--network", "mine", "--ip6", "fd00:10::77"], SERVE)?;
    run(&daemon, "client", &["--network", "mine"], SLEEP)?;
    let shown = endpoint(&daemon, "web", "mine")?;
    assert_eq!(text(&shown["GlobalIPv6Address"]), "fd00:10::77");
    assert_eq!((&shown["GlobalIPv6PrefixLen"], text(&shown["IPv6Gateway"])), (&64.into(), "fd00:10::fe"));
    assert_eq!(text(&shown["IPAddress"]), "172.31.9.2");
    let members = inspect(&daemon, &["network", "inspect", "mine"])?["Containers"].clone();
    let members: Vec<_> = members.as_object().context("no containers")?.values().collect();
    assert!(members.iter().any(|member| member["IPv6Address"] == "fd00:10::77/64"), "{members:?}");
    let hosts = inside(&daemon, "web", &["cat", "/etc/hosts"])?;
    assert!(hosts.contains("fd00:10::77\tweb") && hosts.contains("172.31.9.2\tweb"), "{hosts}");
    let route = inside(&daemon, "web", &["ip", "-6", "route"])?;
    assert!(route.contains("default via fd00:10::fe dev eth0"), "{route}");
    fetched(&daemon, "client", "[fd00:10::77]", "web")?;
    let found = inside(&daemon, "client", &["nslookup", "-type=aaaa", "web"])?;
    assert!(found.contains("fd00:10::77"), "{found}");
    let found = inside(&daemon, "client", &["nslookup", "fd00:10::77"])?;
    assert!(found.contains("web.mine"), "{found}");
    let taken = refused(&daemon, &["run", "--network", "mine", "--ip6", "fd00:10::77", "busybox", "true"])?;
    assert!(taken.contains("Address already in use"), "{taken}");
    let outside = refused(&daemon, &["run", "--network", "mine", "--ip6", "fd00:11::7", "busybox", "true"])?;
    assert!(outside.contains("no configured subnet contains IP address fd00:11::7"), "{outside}");
    // A container that is elsewhere gets IPv6 with the network.
    run(&daemon, "late", &[], SLEEP)?;
    daemon.docker(&["network", "connect", "--ip6", "fd00:10::88", "mine", "late"])?.ok()?;
    fetched(&daemon, "late", "[fd00:10::77]", "web")?;
    assert_eq!(text(&endpoint(&daemon, "late", "mine")?["GlobalIPv6Address"]), "fd00:10::88");
    let route = inside(&daemon, "late", &["ip", "-6", "route"])?;
    assert!(route.contains("default via fd00:10::fe dev eth1"), "{route}");
    daemon.docker(&["network", "disconnect", "mine", "late"])?.ok()?;
    daemon.docker(&["rm", "-f", "web", "client", "late"])?.ok()?;
    daemon.docker(&["network", "rm", "mine"])?.ok()?;
    assert!(!on_host(&daemon, "nft", &["list", "tables"])?.contains("ip6"), "no network needs it");
    daemon.stop()
}

#[test]
fn subnets_come_from_the_engines_own_addresses() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    network(&daemon, "one", &["--ipv6"])?;
    network(&daemon, "two", &["--ipv6", "--ipv4=false"])?;
    let (one, two) = (subnet(&daemon, "one")?, subnet(&daemon, "two")?);
    // fdxx:xxxx:xxxx::/64 and fdxx:xxxx:xxxx:1::/64, of the same /48
    let prefix = one.0.strip_suffix("::/64").context("no /64")?;
    assert!(prefix.starts_with("fd"), "{one:?}");
    assert_eq!(one.1, format!("{prefix}::1"));
    assert_eq!(two, (format!("{prefix}:1::/64"), format!("{prefix}:1::1")));
    run(&daemon, "six", &["--network", "two"], SERVE)?;
    run(&daemon, "client", &["--network", "two"], SLEEP)?;
    let shown = endpoint(&daemon, "six", "two")?;
    assert_eq!((text(&shown["IPAddress"]), text(&shown["Gateway"])), ("", ""));
    assert_eq!(text(&shown["GlobalIPv6Address"]), format!("{prefix}:1::2"));
    assert!(!inside(&daemon, "six", &["ip", "addr", "show", "dev", "eth0"])?.contains("inet "));
    fetched(&daemon, "client", "six", "six")?;
    let none = refused(&daemon, &["network", "create", "--ipv4=false", "none-of-both"])?;
    assert!(none.contains("IPv4 or IPv6 must be enabled"), "{none}");
    let local = refused(&daemon, &["network", "create", "--ipv6", "--subnet", "fe80::/60", "local"])?;
    assert!(local.contains("clashes with the Link-Local prefix"), "{local}");
    // A daemon that dies in the middle: the network, its addresses and its containers are as they were.
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!((subnet(&daemon, "one")?, subnet(&daemon, "two")?), (one.clone(), two.clone()));
    fetched(&daemon, "client", "six", "six")?;
    run(&daemon, "third", &["--network", "two"], SLEEP)?;
    assert_eq!(text(&endpoint(&daemon, "third", "two")?["GlobalIPv6Address"]), format!("{prefix}:1::4"));
    daemon.stop()
}

#[test]
fn pools_and_networks_of_ipv6_run_out() -> Result<()> {
    let pools = ["base=10.7.0.0/16,size=24", "base=fd00:7::/63,size=64"];
    let builder = pools
        .iter()
        .fold(Daemon::builder(), |builder, pool| builder.flag(format!("--default-address-pool={pool}")));
    let daemon = builder.start()?;
    daemon.load(&busybox()?)?;
    network(&daemon, "one", &["--ipv6"])?;
    network(&daemon, "two", &["--ipv6"])?;
    assert_eq!(subnet(&daemon, "two")?.0, "fd00:7:0:1::/64");
    let error = refused(&daemon, &["network", "create", "--ipv6", "three"])?;
    assert!(error.contains("all predefined address pools have been fully subnetted"), "{error}");
    let overlaps = refused(&daemon, &["network", "create", "--ipv6", "--subnet", "fd00:7::/72", "three"])?;
    assert!(overlaps.contains("Pool overlaps with other one on this address space"), "{overlaps}");
    daemon.docker(&["network", "rm", "one"])?.ok()?;
    network(&daemon, "small", &["--ipv6", "--subnet", "fd00:8::/126", "--subnet", "10.8.0.0/24"])?;
    run(&daemon, "aa", &["--network", "small"], SLEEP)?;
    run(&daemon, "bb", &["--network", "small"], SLEEP)?;
    let error = refused(&daemon, &["run", "-d", "--name", "cc", "--network", "small", "busybox", "true"])?;
    assert!(
        error.contains("no available IPv6 addresses on this network's address pools: small ("),
        "{error}"
    );
    daemon.docker(&["rm", "-f", "aa", "cc"])?.ok()?;
    run(&daemon, "cc", &["--network", "small"], SLEEP)?;
    let shown = endpoint(&daemon, "cc", "small")?;
    assert_eq!((text(&shown["GlobalIPv6Address"]), text(&shown["IPAddress"])), ("fd00:8::2", "10.8.0.2"));
    daemon.stop()
}

#[test]
fn the_way_out_and_in_is_translated_and_bridges_are_apart() -> Result<()> {
    let mut daemon = with_outside(&[])?;
    network(&daemon, "front", &["--ipv6", "--subnet", "fd00:1::/64"])?;
    network(&daemon, "back", &["--ipv6", "--subnet", "fd00:2::/64"])?;
    network(&daemon, "shut", &["--ipv6", "--subnet", "fd00:3::/64", "--internal"])?;
    run(&daemon, "web", &["--network", "front", "-p", "8080:80", "-p", "[::1]:8081:80"], SERVE)?;
    run(&daemon, "other", &["--network", "back"], SLEEP)?;
    run(&daemon, "locked", &["--network", "shut"], SERVE)?;
    assert_eq!(text(&endpoint(&daemon, "web", "front")?["GlobalIPv6Address"]), "fd00:1::2");
    let ports = daemon.docker(&["port", "web"])?.ok()?;
    for line in ["80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080", "80/tcp -> [::1]:8081"] {
        assert!(ports.lines().any(|shown| shown == line), "{ports}");
    }
    // Out, as far as the network leads out; nobody there has a route to these addresses but by the host.
    fetched(&daemon, "web", &format!("[{OUTSIDE}]"), "outside")?;
    assert_eq!(fetch(&daemon, "locked", &format!("[{OUTSIDE}]"))?, None);
    // In.
    fetched(&daemon, "outside", &format!("[{HOST}]:8080"), "web")?;
    assert_eq!(fetch(&daemon, "outside", "[fd00:1::2]")?, None, "not published there");
    assert_eq!(fetch(&daemon, "outside", &format!("[{HOST}]:8081"))?, None, "published on ::1 only");
    fetched_on_host(&daemon, "[::1]:8080", "web")?;
    fetched_on_host(&daemon, "[::1]:8081", "web")?;
    fetched_on_host(&daemon, &format!("[{HOST}]:8080"), "web")?;
    // Between networks.
    assert_eq!(fetch(&daemon, "other", "[fd00:1::2]")?, None);
    assert_eq!(fetch(&daemon, "other", "[fd00:3::2]")?, None);
    fetched(&daemon, "other", &format!("[{HOST}]:8080"), "web")?;
    let taken = refused(&daemon, &["run", "-p", "[::1]:8080:80", "busybox", "true"])?;
    assert!(taken.contains("Bind for :::8080 failed: port is already allocated"), "{taken}");

    // Rules that somebody flushes come back.
    on_host(&daemon, "nft", &["flush", "ruleset"])?;
    until("the rules", || {
        Ok(on_host(&daemon, "nft", &["list", "tables"])?.contains("table ip6 wharf").then_some(()))
    })?;
    fetched(&daemon, "outside", &format!("[{HOST}]:8080"), "web")?;
    assert_eq!(fetch(&daemon, "other", "[fd00:1::2]")?, None);

    daemon.kill9()?;
    daemon.launch()?;
    fetched(&daemon, "outside", &format!("[{HOST}]:8080"), "web")?;
    fetched_on_host(&daemon, "[::1]:8081", "web")?;
    assert_eq!(fetch(&daemon, "other", "[fd00:1::2]")?, None);
    // Ports are free with the container.
    daemon.docker(&["rm", "-f", "web"])?.ok()?;
    run(&daemon, "again", &["--network", "front", "-p", "8080:80", "-p", "[::1]:8081:80"], SERVE)?;
    fetched_on_host(&daemon, "[::1]:8081", "again")?;
    daemon.stop()
}

#[test]
fn a_container_without_ipv6_is_published_on_ipv6_addresses_too() -> Result<()> {
    let daemon = with_outside(&[])?;
    run(&daemon, "web", &["-p", "8080:80"], SERVE)?;
    let ports = daemon.docker(&["port", "web"])?.ok()?;
    assert_eq!(ports, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
    fetched(&daemon, "outside", &format!("[{HOST}]:8080"), "web")?;
    fetched_on_host(&daemon, "[::1]:8080", "web")?;
    fetched_on_host(&daemon, "127.0.0.1:8080", "web")?;
    daemon.docker(&["restart", "-t", "0", "web"])?.ok()?;
    fetched(&daemon, "outside", &format!("[{HOST}]:8080"), "web")?;
    daemon.stop()?;

    let daemon = with_outside(&["--userland-proxy=false"])?;
    run(&daemon, "web", &["-p", "8080:80"], SERVE)?;
    assert_eq!(daemon.docker(&["port", "web"])?.ok()?, "80/tcp -> 0.0.0.0:8080\n");
    fetched_on_host(&daemon, "127.0.0.1:8080", "web")?;
    assert_eq!(fetch(&daemon, "outside", &format!("[{HOST}]:8080"))?, None);
    daemon.stop()
}

#[test]
fn gateway_modes_say_how_containers_are_reached() -> Result<()> {
    let daemon = with_outside(&[])?;
    let mode = |mode: &str| format!("com.docker.network.bridge.gateway_mode_ipv6={mode}");
    let (routed, open) = (mode("routed"), mode("nat-unprotected"));
    network(&daemon, "routed", &["--ipv6", "--subnet", "fd00:1::/64", "--opt", &routed])?;
    network(&daemon, "open", &["--ipv6", "--subnet", "fd00:2::/64", "--opt", &open])?;
    let serve_two = "mkdir -p /www; hostname > /www/index.html; httpd -p 81 -h /www; httpd -f -p 80 -h /www";
    let serve_two = ["busybox", "sh", "-c", serve_two];
    run(&daemon, "seen", &["--network", "routed", "-p", "8080:80"], &serve_two)?;
    run(&daemon, "bare", &["--network", "open", "-p", "8082:80"], &serve_two)?;
    let shown = inspect(&daemon, &["inspect", "seen"])?["NetworkSettings"]["Ports"]["80/tcp"].clone();
    let wanted = serde_json::json!([
        { "HostIp": "0.0.0.0", "HostPort": "8080" }, { "HostIp": "::", "HostPort": "" },
    ]);
    assert_eq!(shown, wanted);
    fetched(&daemon, "outside", "[fd00:1::2]", "seen")?;
    assert_eq!(fetch(&daemon, "outside", "[fd00:1::2]:81")?, None, "not published");
    assert_eq!(fetch(&daemon, "outside", &format!("[{HOST}]:8080"))?, None, "not on the host");
    inside(&daemon, "outside", &["ping", "-6", "-c", "1", "-w", "60", "fd00:1::2"])?;
    fetched(&daemon, "outside", "[fd00:2::2]:81", "bare")?;
    fetched(&daemon, "outside", &format!("[{HOST}]:8082"), "bare")?;
    // Whom a server outside sees.
    let seen_as = |from: &str| -> Result<String> {
        let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "outside"])?.ok()?;
        let rules = "table ip6 count { chain in { type filter hook input priority 0; \
                     ip6 saddr fd00:1::/64 tcp dport 80 counter; ip6 saddr 2001:db8::1 tcp dport 80 counter; }; }";
        let enter = ["--net", "-t", pid.trim(), "nft"];
        on_host(&daemon, "nsenter", &[&enter[..], &[rules]].concat())?;
        fetched(&daemon, from, &format!("[{OUTSIDE}]"), "outside")?;
        let counted =
            on_host(&daemon, "nsenter", &[&enter[..], &["list", "table", "ip6", "count"]].concat())?;
        on_host(&daemon, "nsenter", &[&enter[..], &["delete", "table", "ip6", "count"]].concat())?;
        Ok(counted)
    };
    let direct = seen_as("seen")?;
    assert!(direct.contains("saddr 2001:db8::1 tcp dport 80 counter packets 0 "), "{direct}");
    let translated = seen_as("bare")?;
    assert!(translated.contains("saddr fd00:1::/64 tcp dport 80 counter packets 0 "), "{translated}");
    assert!(!translated.contains("saddr 2001:db8::1 tcp dport 80 counter packets 0 "), "{translated}");
    let isolated = mode("isolated");
    let error = refused(&daemon, &["network", "create", "--ipv6", "--opt", &isolated, "apart"])?;
    assert!(error.contains("gateway mode 'isolated' can only be used for an internal network"), "{error}");
    network(&daemon, "apart", &["--ipv6", "--subnet", "fd00:4::/64", "--internal", "--opt", &isolated])?;
    let id = daemon.docker(&["network", "inspect", "-f", "{{.Id}}", "apart"])?.ok()?;
    let bridge = format!("br-{}", &id[..12]);
    assert_eq!(on_host(&daemon, "ip", &["-6", "-o", "addr", "show", "dev", &bridge])?, "");
    daemon.stop()
}

#[test]
fn the_default_bridge_gets_ipv6_on_demand() -> Result<()> {
    let flags = ["--ipv6", "--fixed-cidr-v6=fd00:77::/64"];
    let daemon = with_outside(&flags)?;
    assert_eq!(subnet(&daemon, "bridge")?, ("fd00:77::/64".into(), "fd00:77::1".into()));
    run(&daemon, "web", &["-p", "8080:80"], SERVE)?;
    let shown = inspect(&daemon, &["inspect", "web"])?["NetworkSettings"]["Networks"]["bridge"].clone();
    assert_eq!(text(&shown["GlobalIPv6Address"]), "fd00:77::2");
    fetched(&daemon, "outside", &format!("[{HOST}]:8080"), "web")?;
    fetched(&daemon, "web", &format!("[{OUTSIDE}]"), "outside")?;
    assert!(on_host(&daemon, "nft", &["list", "tables"])?.contains("table ip6 wharf"));
    daemon.stop()?;

    let daemon = with_outside(&[&flags[..], &["--ip6tables=false"]].concat())?;
    run(&daemon, "web", &[], SERVE)?;
    assert!(!on_host(&daemon, "nft", &["list", "tables"])?.contains("ip6"));
    fetched(&daemon, "outside", "[fd00:77::2]", "web").context("nobody filters")?;
    daemon.stop()
}

#[test]
fn macvlan_networks_have_ipv6() -> Result<()> {
    let daemon = with_outside(&[])?;
    let subnets =
        ["--subnet", "10.79.0.0/24", "--subnet", "2001:db8::/64", "--ip-range", "2001:db8::100/120"];
    let create = ["-d", "macvlan", "--ipv6", "--opt", "parent=up0", "--aux-address", "outside=2001:db8::2"];
    network(&daemon, "lan", &[&create[..], &subnets].concat())?;
    run(&daemon, "near", &["--network", "lan"], SERVE)?;
    assert_eq!(text(&endpoint(&daemon, "near", "lan")?["GlobalIPv6Address"]), "2001:db8::100");
    fetched(&daemon, "near", &format!("[{OUTSIDE}]"), "outside")?;
    fetched(&daemon, "outside", "[2001:db8::100]", "near")?;
    daemon.docker(&["rm", "-f", "near"])?.ok()?;
    daemon.docker(&["network", "rm", "lan"])?.ok()?;
    daemon.stop()
}

#[test]
fn options_of_the_daemon_give_networks_ipv6() -> Result<()> {
    let key = "com.docker.network.enable_ipv6";
    let daemon = Daemon::builder().flag(format!("--default-network-opt=bridge={key}=true")).start()?;
    network(&daemon, "with", &[])?;
    network(&daemon, "without", &["--ipv6=false"])?;
    assert!(subnet(&daemon, "with")?.0.starts_with("fd"));
    assert!(subnet(&daemon, "without").is_err());
    let shown = inspect(&daemon, &["network", "inspect", "without"])?;
    assert_eq!((&shown["EnableIPv6"], &shown["Options"][key]), (&false.into(), &Value::Null));
    let bad = format!("{key}=maybe");
    let error = refused(&daemon, &["network", "create", "--opt", &bad, "bad"])?;
    assert!(error.contains("is not a valid bool"), "{error}");
    daemon.docker(&["network", "rm", "with", "without"])?.ok()?;
    daemon.stop()
}
