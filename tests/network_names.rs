//! Names of containers in user-defined networks: the embedded DNS server, seen from inside.

use anyhow::Result;
use std::net::UdpSocket;
use wharf_testkit::{Daemon, until};

/// What `nslookup` prints of the addresses it was told, each once, in order.
fn addresses(daemon: &Daemon, container: &str, name: &str) -> Result<Vec<String>> {
    let looked = daemon.docker(&["exec", container, "nslookup", name])?;
    let answers = looked.stdout.split("Name:").skip(1).flat_map(str::lines);
    let found = answers.filter_map(|line| Some(line.split_once("Address")?.1.rsplit(' ').next()?.to_owned()));
    let mut found: Vec<String> = found.filter(|address| address.contains('.')).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn address_in(daemon: &Daemon, container: &str, network: &str) -> Result<String> {
    let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    Ok(daemon.docker(&["inspect", "-f", &format, container])?.ok()?.trim().to_owned())
}

fn sleeper(daemon: &Daemon, name: &str, flags: &[&str]) -> Result<()> {
    daemon
        .docker(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "100000"]].concat())?
        .ok()?;
    Ok(())
}

fn gateway(daemon: &Daemon, network: &str) -> Result<String> {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    Ok(daemon.docker(&["network", "inspect", "-f", format, network])?.ok()?.trim().to_owned())
}

/// A name server for which every name is 192.0.2.77, until the socket fails.
fn serve(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let question = 12 + buffer[12..length].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
        let is_a = buffer[question - 3] == 1;
        let header = [buffer[0], buffer[1], 0x81, 0x80, 0, 1, 0, is_a.into(), 0, 0, 0, 0];
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77];
        let answer = [&header[..], &buffer[12..question], if is_a { &record[..] } else { &[] }].concat();
        if socket.send_to(&answer, from).is_err() {
            return;
        }
    }
}

#[test]
fn containers_of_a_network_know_each_other_by_name() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for network in ["front", "back"] {
        daemon.docker(&["network", "create", network])?.ok()?;
    }
    sleeper(&daemon, "web", &["--network", "front", "--network-alias", "www", "--hostname", "shop"])?;
    sleeper(&daemon, "two", &["--network", "front", "--network-alias", "www"])?;
    sleeper(&daemon, "ask", &["--network", "front", "--link", "two:friend"])?;
    sleeper(&daemon, "far", &["--network", "back"])?;
    sleeper(&daemon, "old", &[])?;
    let resolv = daemon.docker(&["exec", "ask", "cat", "/etc/resolv.conf"])?.ok()?;
    assert!(resolv.contains("\nnameserver 127.0.0.11\n") && resolv.contains("ndots:0"), "{resolv}");
    let (web, two) = (address_in(&daemon, "web", "front")?, address_in(&daemon, "two", "front")?);
    let id = daemon.docker(&["inspect", "-f", "{{slice .Id 0 12}}", "web"])?.ok()?;
    let both = vec![web.clone(), two.clone()];
    for (name, expected) in [
        ("web", vec![web.clone()]),
        ("WEB", vec![web.clone()]),
        ("web.front", vec![web.clone()]),
        (id.trim(), vec![web.clone()]),
        ("shop", vec![web.clone()]),
        ("www", both),
        ("friend", vec![two.clone()]),
        ("far", vec![]),
        ("old", vec![]),
    ] {
        assert_eq!(addresses(&daemon, "ask", name)?, expected, "{name}");
    }
    assert_eq!(addresses(&daemon, "web", "friend")?, Vec::<String>::new(), "a link is one's own");
    let reverse = daemon.docker(&["exec", "ask", "nslookup", &web])?.ok()?;
    assert!(reverse.contains("name = web.front"), "{reverse}");
    let mail = daemon.docker(&["exec", "ask", "nslookup", "-type=mx", "web"])?;
    assert!(!mail.stdout.contains("mail exchanger"), "{}", mail.stdout);

    daemon.docker(&["rename", "web", "store"])?.ok()?;
    assert_eq!(addresses(&daemon, "ask", "store")?, [web.as_str()]);
    assert_eq!(addresses(&daemon, "ask", "web")?, Vec::<String>::new());
    daemon.docker(&["stop", "-t0", "two"])?.ok()?;
    assert_eq!(addresses(&daemon, "ask", "www")?, [web.as_str()]);
    daemon.docker(&["network", "disconnect", "front", "store"])?.ok()?;
    assert_eq!(addresses(&daemon, "ask", "store")?, Vec::<String>::new());
    daemon.docker(&["network", "connect", "--alias", "again", "front", "store"])?.ok()?;
    assert_eq!(addresses(&daemon, "ask", "again")?, [address_in(&daemon, "store", "front")?]);

    daemon.docker(&["network", "connect", "--link", "store:pal", "front", "old"])?.ok()?;
    assert_eq!(addresses(&daemon, "old", "pal")?, [address_in(&daemon, "store", "front")?]);
    assert_eq!(addresses(&daemon, "ask", "old")?, [address_in(&daemon, "old", "front")?]);
    daemon.stop()
}

#[test]
fn names_survive_the_daemon() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    daemon.docker(&["network", "create", "front"])?.ok()?;
    sleeper(&daemon, "web", &["--network", "front"])?;
    sleeper(&daemon, "late", &[])?;
    daemon.docker(&["network", "connect", "front", "late"])?.ok()?;
    let web = address_in(&daemon, "web", "front")?;
    // It asks while nobody answers, and goes on asking until somebody does.
    let patient =
        "until nslookup web | grep -A1 Name: | grep -q Address; do :; done; echo found; sleep 100000";
    daemon.kill9()?;
    daemon.launch()?;
    for asking in ["web", "late"] {
        assert_eq!(addresses(&daemon, asking, "web")?, [web.as_str()], "{asking}");
    }
    let flags = ["run", "-d", "--name", "patient", "--network", "front", "busybox", "sh", "-c", patient];
    daemon.docker(&flags)?.ok()?;
    until("an answer", || Ok(daemon.docker(&["logs", "patient"])?.ok()?.contains("found").then_some(())))?;
    daemon.kill9()?;
    daemon.launch()?;
    assert_eq!(addresses(&daemon, "patient", "late")?, [address_in(&daemon, "late", "front")?]);
    daemon.stop()
}

#[test]
fn what_is_not_ours_is_asked_of_others() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["network", "create", "front"])?.ok()?;
    sleeper(&daemon, "ns", &["--network", "front"])?;
    let ns = gateway(&daemon, "front")?;
    let server = daemon.net().within(|| Ok(UdpSocket::bind((ns.as_str(), 53))?))?;
    std::thread::spawn(move || serve(&server));
    sleeper(&daemon, "ask", &["--network", "front", "--dns", &ns])?;
    assert_eq!(addresses(&daemon, "ask", "example.org")?, ["192.0.2.77"]);
    assert_eq!(addresses(&daemon, "ask", "ns")?, [address_in(&daemon, "ns", "front")?], "ours come first");
    sleeper(&daemon, "dots", &["--network", "front", "--dns", &ns, "--dns-opt", "ndots:2"])?;
    let single = daemon.docker(&["exec", "dots", "nslookup", "-type=a", "single"])?;
    assert!(!single.stdout.contains("SERVFAIL"), "a single label stays here: {}", single.stdout);
    daemon.stop()
}

#[test]
fn cve_2024_29018_questions_do_not_leave_an_internal_network() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["network", "create", "--internal", "inner"])?.ok()?;
    daemon.docker(&["network", "create", "front"])?.ok()?;
    let ns = gateway(&daemon, "front")?;
    let server = daemon.net().within(|| Ok(UdpSocket::bind((ns.as_str(), 53))?))?;
    sleeper(&daemon, "shut", &["--network", "inner", "--dns", &ns])?;
    let refused = daemon.docker(&["exec", "shut", "nslookup", "example.org"])?;
    assert!(refused.code != 0 && refused.stdout.contains("SERVFAIL"), "{}{}", refused.stdout, refused.stderr);
    server.set_nonblocking(true)?;
    let heard = server.recv_from(&mut [0; 512]);
    assert!(heard.is_err(), "a question left the network: {heard:?}");
    assert_eq!(addresses(&daemon, "shut", "shut")?, [address_in(&daemon, "shut", "inner")?]);
    // The same question from a network that leads out is heard.
    sleeper(&daemon, "open", &["--network", "front", "--dns", &ns])?;
    std::thread::spawn(move || server.set_nonblocking(false).map(|()| serve(&server)));
    assert_eq!(addresses(&daemon, "open", "example.org")?, ["192.0.2.77"]);
    daemon.stop()
}
