//! The default bridge and published ports.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use wharf_testkit::{Daemon, until};

/// A busybox that serves `hello` over HTTP on port 80.
const SERVE: &[&str] =
    &["busybox", "sh", "-c", "mkdir -p /www; echo hello > /www/index.html; httpd -f -p 80 -h /www"];

fn run(daemon: &Daemon, name: &str, flags: &[&str], command: &[&str]) -> Result<()> {
    daemon.docker(&[&["run", "-d", "--name", name], flags, command].concat())?.ok().map(|_| ())
}

fn get(daemon: &Daemon, address: &str) -> Result<String> {
    daemon.net().within(|| {
        let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(5))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

fn fetched(daemon: &Daemon, address: &str) -> Result<()> {
    until(&format!("hello from {address}"), || Ok(get(daemon, address).ok().filter(|t| t.contains("hello"))))
        .map(|_| ())
}

#[test]
fn containers_on_the_bridge_have_addresses_and_reach_each_other() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run(&daemon, "one", &[], SERVE)?;
    let address =
        daemon.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "one"])?.ok()?;
    assert_eq!(address, "172.17.0.2\n");
    let fetch = "for i in 1 2 3 4 5; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 172.17.0.2 80 && exit; sleep 0.2; done";
    let page = daemon.docker(&["run", "--rm", "busybox", "sh", "-c", fetch])?.ok()?;
    assert!(page.contains("hello"), "{page}");
    let route = daemon.docker(&["exec", "one", "ip", "route"])?.ok()?;
    assert!(route.contains("default via 172.17.0.1 dev eth0"), "{route}");
    let hosts = daemon.docker(&["exec", "one", "cat", "/etc/hosts"])?.ok()?;
    assert!(hosts.contains("172.17.0.2\t"), "{hosts}");
    daemon.stop()
}

#[test]
fn ports_are_published_in_all_forms() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run(&daemon, "any", &["-p", "8080:80"], SERVE)?;
    run(&daemon, "one", &["-p", "127.0.0.1:8081:80"], SERVE)?;
    run(&daemon, "range", &["-p", "8090-8092:80-82"], SERVE)?;
    run(&daemon, "free", &["-p", "80"], SERVE)?;
    fetched(&daemon, "127.0.0.1:8080")?;
    fetched(&daemon, "172.17.0.1:8080")?;
    fetched(&daemon, "127.0.0.1:8081")?;
    assert!(get(&daemon, "172.17.0.1:8081").is_err(), "bound to 127.0.0.1 only");
    fetched(&daemon, "127.0.0.1:8090")?;
    let port = daemon.docker(&["port", "free", "80/tcp"])?.ok()?;
    let port = port.lines().next().context("a port")?.rsplit(':').next().context("a number")?.to_owned();
    fetched(&daemon, &format!("127.0.0.1:{port}"))?;
    let ports = daemon.docker(&["port", "range"])?.ok()?;
    assert!(ports.contains("80/tcp -> 0.0.0.0:8090") && ports.contains("82/tcp -> 0.0.0.0:8092"), "{ports}");
    let taken = daemon.docker(&["run", "--rm", "-p", "8080:80", "busybox", "true"])?;
    assert_eq!(taken.code, 125, "{}", taken.stderr);
    assert!(
        taken.stderr.contains("port is already allocated") || taken.stderr.contains("address already in use"),
        "{}",
        taken.stderr
    );
    daemon.docker(&["rm", "-f", "any"])?.ok()?;
    run(&daemon, "again", &["-p", "8080:80"], SERVE)?;
    fetched(&daemon, "127.0.0.1:8080")?;
    daemon.stop()
}

#[test]
fn exposed_ports_are_published_by_capital_p() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run(&daemon, "pp", &["-P", "--expose", "80"], SERVE)?;
    let port = daemon
        .docker(&["inspect", "-f", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "pp"])?
        .ok()?;
    fetched(&daemon, &format!("127.0.0.1:{}", port.trim()))?;
    daemon.stop()
}

#[test]
fn udp_is_published() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon
        .load(&wharf_testkit::static_program("hello:latest", &wharf_testkit::bin_dir().join("hello-web"))?)?;
    run(&daemon, "uu", &["-p", "5353:53/udp"], &["hello", "--udp", "53"])?;
    until("an answer", || {
        daemon.net().within(|| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            socket.send_to(b"question\n", "127.0.0.1:5353")?;
            let mut buffer = [0; 64];
            Ok(socket.recv(&mut buffer).ok().filter(|n| buffer[..*n].starts_with(b"answer")))
        })
    })?;
    daemon.stop()
}

#[test]
fn published_ports_survive_the_daemon() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    run(&daemon, "ss", &["-p", "8080:80"], SERVE)?;
    fetched(&daemon, "127.0.0.1:8080")?;
    daemon.kill9()?;
    fetched(&daemon, "127.0.0.1:8080").context("without a daemon")?;
    daemon.launch()?;
    fetched(&daemon, "127.0.0.1:8080").context("with the next one")?;
    let second = daemon.docker(&["run", "--rm", "-p", "8080:80", "busybox", "true"])?;
    assert_eq!(second.code, 125, "the port is still taken: {}", second.stderr);
    daemon.docker(&["rm", "-f", "ss"])?.ok()?;
    run(&daemon, "tt", &["-p", "8080:80"], SERVE)?;
    let address =
        daemon.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "tt"])?.ok()?;
    assert_eq!(address, "172.17.0.2\n", "the address is free again");
    daemon.stop()
}

/// Whether a program of the host gets the port; what else may go wrong is an error.
fn is_free(daemon: &Daemon, port: u16) -> Result<bool> {
    daemon.net().within(|| match TcpListener::bind(("0.0.0.0", port)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(error.into()),
    })
}

#[test]
fn without_a_daemon_ports_are_held_as_long_as_their_container_runs() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    // More than travel in one packet.
    run(&daemon, "hh", &["-p", "8080:80", "-p", "9000-9299:9000-9299"], SERVE)?;
    for _ in 0..2 {
        daemon.kill9()?;
        for port in [8080, 9000, 9299] {
            assert!(!is_free(&daemon, port)?, "port {port} without a daemon");
        }
        daemon.launch()?;
        assert!(!is_free(&daemon, 8080)?, "with the next one");
        let second = daemon.docker(&["run", "--rm", "-p", "8080:80", "busybox", "true"])?;
        assert_eq!(second.code, 125, "the port is still taken: {}", second.stderr);
        fetched(&daemon, "127.0.0.1:8080")?;
    }
    anyhow::ensure!(!daemon.log().contains("another program"), "the sockets are adopted: {}", daemon.log());
    daemon.docker(&["rm", "-f", "hh"])?.ok()?;
    assert!(is_free(&daemon, 8080)? && is_free(&daemon, 9299)?, "free after the removal");
    daemon.stop()
}

#[test]
fn a_container_that_ends_without_a_daemon_frees_its_ports() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    run(&daemon, "ee", &["-p", "8080:80"], SERVE)?;
    let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "ee"])?.ok()?;
    daemon.kill9()?;
    assert!(!is_free(&daemon, 8080)?);
    let killed = std::process::Command::new("kill").args(["-9", pid.trim()]).status()?;
    assert!(killed.success());
    until("the port", || Ok(is_free(&daemon, 8080)?.then_some(())))?;
    daemon.launch()?;
    run(&daemon, "ff", &["-p", "8080:80"], SERVE)?;
    fetched(&daemon, "127.0.0.1:8080")?;
    daemon.stop()
}

#[test]
fn ports_are_free_when_the_client_hears_of_the_end() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for _ in 0..5 {
        let failed = daemon.docker(&["run", "--rm", "-p", "8080:80", "busybox", "/nosuch"])?;
        assert_eq!(failed.code, 127, "{}", failed.stderr);
        assert!(is_free(&daemon, 8080)?, "after a failed start");
        daemon.docker(&["run", "-p", "8080:80", "busybox", "true"])?.ok()?;
        assert!(is_free(&daemon, 8080)?, "after the end");
    }
    daemon.stop()
}

#[test]
fn a_container_shares_anothers_network() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run(&daemon, "main", &[], SERVE)?;
    let fetch = "for i in 1 2 3 4 5; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 127.0.0.1 80 && exit; sleep 0.2; done";
    let page =
        daemon.docker(&["run", "--rm", "--network", "container:main", "busybox", "sh", "-c", fetch])?.ok()?;
    assert!(page.contains("hello"), "{page}");
    daemon.stop()
}

#[test]
fn a_dropping_forward_policy_does_not_stop_us() -> Result<()> {
    let daemon = Daemon::prepare(Daemon::builder())?;
    let iptables = |args: &[&str]| -> Result<String> {
        let out =
            daemon.net().within(|| Ok(std::process::Command::new("iptables").args(args).output()?))?;
        anyhow::ensure!(out.status.success(), "iptables {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8(out.stdout)?)
    };
    iptables(&["-P", "FORWARD", "DROP"])?;
    let before = iptables(&["-S"])?;
    let mut daemon = daemon;
    daemon.launch()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    run(&daemon, "ff", &["-p", "8080:80"], SERVE)?;
    fetched(&daemon, "127.0.0.1:8080")?;
    let fetch = "for i in 1 2 3 4 5; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 172.17.0.2 80 && exit; sleep 0.2; done";
    assert!(daemon.docker(&["run", "--rm", "busybox", "sh", "-c", fetch])?.ok()?.contains("hello"));
    daemon.docker(&["rm", "-f", "ff"])?.ok()?;
    daemon.terminate()?;
    let out = daemon.net().within(|| Ok(std::process::Command::new("iptables").arg("-S").output()?))?;
    assert_eq!(String::from_utf8(out.stdout)?, before, "our rules are gone, the others are as they were");
    daemon.assert_clean()
}
