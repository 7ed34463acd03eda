//! Published ports and the rules of others: flushed rule sets, dropping policies, flags of the daemon.

use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command},
    time::Duration,
};
use wharf_testkit::{Daemon, NetNs, until};

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

/// Another machine, 192.0.2.2, on a wire to the daemon's host, 192.0.2.1.
struct Outside {
    net: NetNs,
    /// Whose namespace it is, for `ip`.
    process: Child,
}

impl Outside {
    fn of(daemon: &Daemon) -> Result<Self> {
        let net = NetNs::new()?;
        let process = net.spawn(Command::new("sleep").arg("100000"))?;
        let outside = Self { net, process };
        let pid = outside.process.id().to_string();
        let wire = ["link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &pid];
        on_host(daemon, "ip", &wire)?;
        on_host(daemon, "ip", &["addr", "add", "192.0.2.1/24", "dev", "up0"])?;
        on_host(daemon, "ip", &["link", "set", "up0", "up"])?;
        for args in [&["addr", "add", "192.0.2.2/24", "dev", "eth0"][..], &["link", "set", "eth0", "up"]] {
            let status = outside.net.spawn(Command::new("ip").args(args))?.wait()?;
            ensure!(status.success(), "ip {args:?}");
        }
        Ok(outside)
    }

    /// Takes the wire away.
    fn leave(self, daemon: &Daemon) -> Result<()> {
        on_host(daemon, "ip", &["link", "del", "up0"]).map(drop)
    }

    /// Whether a published port answers from here.
    fn gets(&self, port: u16) -> bool {
        let fetched = self.net.http_get(([192, 0, 2, 1], port).into(), Duration::from_millis(500));
        fetched.is_ok_and(|text| text.contains("hello"))
    }

    fn reaches(&self, port: u16) -> Result<()> {
        until(&format!("port {port} to answer outside"), || Ok(self.gets(port).then_some(())))
    }

    fn is_kept_from(&self, port: u16) -> Result<()> {
        until(&format!("port {port} to be closed outside"), || Ok((!self.gets(port)).then_some(())))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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

#[test]
fn filtered_ports_are_reached_by_those_listed() -> Result<()> {
    let config = r#"{"publish-mode": "filtered", "publish-allow": ["192.0.2.2 8080/tcp", "8083"]}"#;
    let daemon = Daemon::builder().config(config).start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    let outside = Outside::of(&daemon)?;
    serve(&daemon, "one", &["-p", "8080:80", "-p", "8081:80", "-p", "8083:80"])?;
    let option = "wharf.network.publish-mode=docker";
    daemon.docker(&["network", "create", "--opt", option, "open"])?.ok()?;
    serve(&daemon, "two", &["--network", "open", "-p", "8082:80"])?;
    outside.reaches(8082)?;
    outside.reaches(8080)?;
    outside.reaches(8083)?;
    assert!(!outside.gets(8081), "nobody let 8081 through");
    fetched(&daemon, "127.0.0.1:8081").context("from the host itself")?;
    fetched(&daemon, "192.0.2.1:8081").context("from the host itself")?;
    let fetch = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 172.17.0.1 8081";
    let neighbour = daemon.docker(&["run", "--rm", "busybox", "sh", "-c", fetch])?;
    assert!(neighbour.stdout.contains("hello"), "from the same bridge: {}", neighbour.stderr);
    let wrong = ["network", "create", "--opt", "wharf.network.publish-mode=open", "wrong"];
    let refused = daemon.docker(&wrong)?;
    assert!(
        refused.code != 0 && refused.stderr.contains("neither docker nor filtered"),
        "{}",
        refused.stderr
    );
    outside.leave(&daemon)?;
    daemon.stop()
}

#[test]
fn a_set_of_the_hosts_own_rules_lets_through() -> Result<()> {
    let daemon = Daemon::builder().flag("--publish-allow-set=inet filter published").start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    let outside = Outside::of(&daemon)?;
    let option = "wharf.network.publish-mode=filtered";
    daemon.docker(&["network", "create", "--opt", option, "front"])?.ok()?;
    serve(&daemon, "one", &["--network", "front", "-p", "8080:80"])?;
    serve(&daemon, "two", &["-p", "8081:80"])?;
    outside.reaches(8081)?;
    assert!(!outside.gets(8080), "there is no such set");
    let nft = |words: &str| on_host(&daemon, "nft", &[words]).map(drop);
    nft("add table inet filter; \
         add set inet filter published { type ipv4_addr; flags interval; }; \
         add element inet filter published { 198.51.100.0/24, 192.0.2.0/30 }")?;
    outside.reaches(8080)?;
    nft("flush set inet filter published")?;
    outside.is_kept_from(8080)?;
    nft("add element inet filter published { 192.0.2.2 }")?;
    outside.reaches(8080)?;
    nft("flush ruleset")?;
    outside.reaches(8081)?;
    outside.is_kept_from(8080)?;
    // One without intervals.
    nft("add table inet filter; add set inet filter published { type ipv4_addr; }; \
         add element inet filter published { 192.0.2.2 }")?;
    outside.reaches(8080)?;
    daemon.docker(&["rm", "-f", "one", "two"])?.ok()?;
    outside.leave(&daemon)?;
    daemon.stop()
}

/// ufw on the daemon's host, with a copy of the machine's own settings.
struct Ufw<'a>(&'a Daemon);

impl<'a> Ufw<'a> {
    fn enable(daemon: &'a Daemon) -> Result<Self> {
        let copy = "mkdir -p $0/ufw && cp -a /usr/share/ufw/iptables/*.rules /etc/ufw/. $0/ufw/ && \
                    sed 's/^IPV6=.*/IPV6=no/' /etc/default/ufw > $0/ufw/default";
        let dir = daemon.dir().to_string_lossy().into_owned();
        on_host(daemon, "sh", &["-ec", copy, &dir])?;
        let ufw = Self(daemon);
        ufw.run("--force enable")?;
        Ok(ufw)
    }

    fn run(&self, words: &str) -> Result<String> {
        let dir = self.0.dir().to_string_lossy().into_owned();
        let script = format!(
            "mount --bind $0/ufw /etc/ufw && mount --bind $0/ufw/default /etc/default/ufw && ufw {words}"
        );
        on_host(self.0, "unshare", &["-m", "sh", "-ec", &script, &dir])
    }
}

#[test]
fn ufw_decides_who_reaches_published_ports() -> Result<()> {
    if wharf_testkit::lacks(&["ufw"]) {
        return Ok(());
    }
    let config = r#"{"publish-mode": "filtered", "publish-allow": ["forward"]}"#;
    let mut daemon = Daemon::prepare(Daemon::builder().config(config))?;
    let outside = Outside::of(&daemon)?;
    Ufw::enable(&daemon)?;
    daemon.launch()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    serve(&daemon, "one", &["-p", "8080:80"])?;
    fetched(&daemon, "127.0.0.1:8080")?;
    assert!(!outside.gets(8080), "ufw lets nobody through");
    let ufw = Ufw(&daemon);
    ufw.run("route allow proto tcp from 192.0.2.2 to any port 80")?;
    outside.reaches(8080)?;
    ufw.run("route delete allow proto tcp from 192.0.2.2 to any port 80")?;
    outside.is_kept_from(8080)?;
    let out = "echo hello | nc -w 5 192.0.2.2 9999";
    let listener = outside.net.within(|| Ok(std::net::TcpListener::bind("192.0.2.2:9999")?))?;
    let heard = std::thread::spawn(move || -> Result<String> {
        let mut text = String::new();
        listener.accept()?.0.read_to_string(&mut text)?;
        Ok(text)
    });
    daemon.docker(&["exec", "one", "sh", "-c", out])?.ok()?;
    let heard = heard.join().ok().context("a listener")??;
    assert_eq!(heard, "hello\n", "what containers send passes");
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    outside.leave(&daemon)?;
    daemon.stop()
}

#[test]
fn published_ports_work_beside_ufw() -> Result<()> {
    if wharf_testkit::lacks(&["ufw"]) {
        return Ok(());
    }
    let daemon = Daemon::with_busybox()?;
    let outside = Outside::of(&daemon)?;
    serve(&daemon, "one", &["-p", "8080:80"])?;
    outside.reaches(8080)?;
    let ufw = Ufw::enable(&daemon)?;
    outside.reaches(8080)?;
    ufw.run("reload")?;
    outside.reaches(8080)?;
    let rules = on_host(&daemon, "iptables", &["-S", "FORWARD"])?;
    assert!(rules.contains("ufw-before-forward") && rules.contains("managed by wharf"), "{rules}");
    daemon.docker(&["rm", "-f", "one"])?.ok()?;
    outside.leave(&daemon)?;
    daemon.stop()
}
