//! What flags of the daemon do to its networking, seen in the kernel.

use anyhow::{Context, Result, ensure};
use std::{collections::BTreeSet, net::SocketAddr, process::Command, time::Duration};
use wharf_testkit::{Daemon, NetNs, until};

/// Serves `hello` over HTTP on port 80.
const SERVE: &[&str] =
    &["busybox", "sh", "-c", "mkdir -p /www; echo hello > /www/index.html; httpd -f -p 80 -h /www"];

fn with(flags: &[&str]) -> Result<Daemon> {
    let builder = flags.iter().fold(Daemon::builder(), |builder, flag| builder.flag(*flag));
    let daemon = builder.start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    Ok(daemon)
}

fn serve(daemon: &Daemon, name: &str, flags: &[&str]) -> Result<()> {
    daemon.docker(&[&["run", "-d", "--name", name], flags, SERVE].concat())?.ok().map(drop)
}

fn on_host(daemon: &Daemon, program: &str, args: &[&str]) -> Result<String> {
    daemon.net().within(|| {
        let output = Command::new(program).args(args).output().context(program.to_owned())?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {args:?}: {why}");
        Ok(String::from_utf8(output.stdout)?)
    })
}

fn inside(daemon: &Daemon, container: &str, command: &[&str]) -> Result<String> {
    Ok(daemon.docker(&[&["exec", container], command].concat())?.ok()?.trim().to_owned())
}

fn address(daemon: &Daemon, container: &str) -> Result<String> {
    let format = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
    Ok(daemon.docker(&["inspect", "-f", format, container])?.ok()?.trim().to_owned())
}

fn gets(daemon: &Daemon, at: &str) -> bool {
    let at: SocketAddr = at.parse().expect("an address and a port");
    let fetched = daemon.net().http_get(at, Duration::from_secs(2));
    fetched.is_ok_and(|text| text.contains("hello"))
}

fn answers(daemon: &Daemon, at: &str) -> Result<()> {
    until(&format!("{at} to answer"), || Ok(gets(daemon, at).then_some(())))
}

#[test]
fn without_iptables_nothing_is_filtered_or_redirected() -> Result<()> {
    let daemon = with(&["--iptables=false", "--ip6tables=false"])?;
    serve(&daemon, "web", &["-p", "8080:80"])?;
    answers(&daemon, &format!("{}:80", address(&daemon, "web")?))?;
    assert!(!gets(&daemon, "172.17.0.1:8080"), "nothing is redirected");
    assert_eq!(on_host(&daemon, "nft", &["list", "tables"])?, "");
    daemon.stop()
}

#[test]
fn forwarding_is_switched_on_unless_told() -> Result<()> {
    for (flags, wanted) in [(&[][..], "1\n"), (&["--ip-forward=false"], "0\n")] {
        let builder = flags.iter().fold(Daemon::builder(), |builder, flag| builder.flag(*flag));
        let mut daemon = Daemon::prepare(builder)?;
        let switch = "/proc/sys/net/ipv4/ip_forward";
        daemon.net().within(|| Ok(std::fs::write(switch, "0")?))?;
        daemon.launch()?;
        let value = daemon.net().within(|| Ok(std::fs::read_to_string(switch)?))?;
        assert_eq!(value, wanted, "{flags:?}");
        daemon.stop()?;
    }
    Ok(())
}

/// Whom a machine outside sees when a container connects to it.
fn seen_outside(daemon: &Daemon) -> Result<String> {
    let outside = NetNs::new()?;
    let mut process = outside.spawn(Command::new("sleep").arg("100000"))?;
    let pid = process.id().to_string();
    on_host(daemon, "ip", &["link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    on_host(daemon, "ip", &["addr", "add", "192.0.2.1/24", "dev", "up0"])?;
    on_host(daemon, "ip", &["link", "set", "up0", "up"])?;
    for args in ["addr add 192.0.2.2/24 dev eth0", "link set eth0 up", "route add default via 192.0.2.1"] {
        let status = outside.spawn(Command::new("ip").args(args.split(' ')))?.wait()?;
        ensure!(status.success(), "ip {args}");
    }
    let listener = outside.within(|| Ok(std::net::TcpListener::bind("192.0.2.2:9999")?))?;
    // Closed at once: until then nc waits for an answer.
    let accepted = std::thread::spawn(move || listener.accept().map(|(_, peer)| peer));
    daemon.docker(&["exec", "web", "sh", "-c", "echo x | nc -w 30 192.0.2.2 9999"])?.ok()?;
    let peer = accepted.join().ok().context("a listener")??;
    on_host(daemon, "ip", &["link", "del", "up0"])?;
    process.kill()?;
    process.wait()?;
    Ok(peer.ip().to_string())
}

#[test]
fn what_leaves_gets_the_hosts_address_unless_told() -> Result<()> {
    for (flags, wanted) in [(&[][..], "192.0.2.1"), (&["--ip-masq=false"], "172.17.0.2")] {
        let daemon = with(flags)?;
        serve(&daemon, "web", &[])?;
        assert_eq!(seen_outside(&daemon)?, wanted, "{flags:?}");
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn containers_of_the_default_bridge_may_be_apart() -> Result<()> {
    for (flags, talk) in [(&[][..], true), (&["--icc=false"], false)] {
        let daemon = with(flags)?;
        serve(&daemon, "web", &["-p", "8080:80"])?;
        answers(&daemon, "127.0.0.1:8080")?;
        let ask = |at: &str| -> Result<bool> {
            let fetch = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {at}");
            Ok(daemon.docker(&["run", "--rm", "busybox", "sh", "-c", &fetch])?.stdout.contains("hello"))
        };
        assert_eq!(ask("172.17.0.2 80")?, talk, "{flags:?}");
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn ports_are_published_on_the_address_told() -> Result<()> {
    let daemon = with(&["--ip=127.0.0.1"])?;
    serve(&daemon, "web", &["-p", "8080:80"])?;
    answers(&daemon, "127.0.0.1:8080")?;
    assert!(!gets(&daemon, "172.17.0.1:8080"));
    assert_eq!(daemon.docker(&["port", "web"])?.ok()?, "80/tcp -> 127.0.0.1:8080\n");
    daemon.stop()
}

#[test]
fn addresses_and_mtu_of_the_default_bridge_are_as_told() -> Result<()> {
    let daemon = with(&["--bip=10.77.0.1/16", "--fixed-cidr=10.77.5.0/24", "--mtu=1400"])?;
    serve(&daemon, "web", &[])?;
    assert!(address(&daemon, "web")?.starts_with("10.77.5."), "{}", address(&daemon, "web")?);
    let bridge = on_host(&daemon, "ip", &["-o", "addr", "show", "dev", "docker0"])?;
    assert!(bridge.contains("inet 10.77.0.1/16"), "{bridge}");
    assert!(inside(&daemon, "web", &["ip", "route"])?.contains("default via 10.77.0.1 dev eth0"));
    assert_eq!(inside(&daemon, "web", &["cat", "/sys/class/net/eth0/mtu"])?, "1400");
    daemon.stop()
}

#[test]
fn a_bridge_of_the_administrators_is_used_and_stays() -> Result<()> {
    let mut daemon = Daemon::prepare(Daemon::builder().flag("--bridge=br77"))?;
    for args in ["link add br77 type bridge", "addr add 10.78.0.9/24 dev br77", "link set br77 up"] {
        on_host(&daemon, "ip", &args.split(' ').collect::<Vec<_>>())?;
    }
    daemon.launch()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    serve(&daemon, "web", &["-p", "8080:80"])?;
    answers(&daemon, "10.78.0.9:8080")?;
    assert!(address(&daemon, "web")?.starts_with("10.78.0."));
    assert!(inside(&daemon, "web", &["ip", "route"])?.contains("default via 10.78.0.9"));
    assert!(on_host(&daemon, "ip", &["link", "show", "docker0"]).is_err(), "no other is made");
    daemon.docker(&["rm", "-f", "web"])?.ok()?;
    daemon.terminate()?;
    let bridge = on_host(&daemon, "ip", &["-o", "addr", "show", "dev", "br77"])?;
    assert!(bridge.contains("10.78.0.9/24"), "it is not ours: {bridge}");
    on_host(&daemon, "ip", &["link", "del", "br77"])?;
    daemon.assert_clean()
}

#[test]
fn without_the_proxy_ipv6_addresses_do_not_lead_to_ipv4() -> Result<()> {
    for (flags, passed_on) in [(&[][..], true), (&["--userland-proxy=false"], false)] {
        let daemon = with(flags)?;
        serve(&daemon, "web", &["-p", "8080:80"])?;
        answers(&daemon, "127.0.0.1:8080")?;
        assert_eq!(gets(&daemon, "[::1]:8080"), passed_on, "{flags:?}");
        let ports = daemon.docker(&["port", "web"])?.ok()?;
        assert_eq!(ports.contains("[::]:8080"), passed_on, "{flags:?}: {ports}");
        daemon.stop()?;
    }
    Ok(())
}

/// The processes that descend from another, itself included.
fn family(of: u32) -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::from([of]);
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        all.extend(family(child.parse()?)?);
    }
    Ok(all)
}

#[test]
fn five_hundred_ports_answer_and_need_no_process() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    serve(&daemon, "none", &[])?;
    let before = family(daemon.pid())?.len();
    serve(&daemon, "web", &["-p", "10000-10499:10000-10499"])?;
    let with_one_more = family(daemon.pid())?.len();
    daemon.docker(&["rm", "-f", "none"])?.ok()?;
    let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "web"])?.ok()?;
    // All of them are answered by the one server.
    let rules = "add table ip many; add chain ip many pre { type nat hook prerouting priority -100; }; \
                 add rule ip many pre tcp dport 10000-10499 redirect to :80";
    let entered = Command::new("nsenter").args(["-t", pid.trim(), "-n", "nft", rules]).output()?;
    ensure!(entered.status.success(), "{}", String::from_utf8_lossy(&entered.stderr));
    answers(&daemon, "127.0.0.1:10000")?;
    for port in 10000..10500 {
        ensure!(gets(&daemon, &format!("127.0.0.1:{port}")), "port {port}");
    }
    assert!(!gets(&daemon, "127.0.0.1:10500"));
    let of_a_container = with_one_more - before;
    assert!(of_a_container <= 3, "{of_a_container} processes for a container with 500 ports");
    daemon.stop()
}
