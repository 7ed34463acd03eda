//! What a user does first: Debian from a registry, a web server installed in it with apt-get, its page.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
};
use wharf_testkit::{Archive, Daemon, Entry, Registry, Tar, Uplink, from_layers, lacks, until};

const NEEDED: &[&str] = &["debootstrap", "docker-registry", "skopeo", "slirp4netns"];

/// A small Debian, as debootstrap makes it.
fn debian(below: &Path) -> Result<Archive> {
    let root = below.join("debian");
    run(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(&root))?;
    let layer = below.join("debian.tar");
    run(Command::new("tar").args(["--numeric-owner", "-C"]).arg(&root).arg("-cf").arg(&layer).arg("."))?;
    let bytes = std::fs::read(&layer)?;
    std::fs::remove_file(layer)?;
    std::fs::remove_dir_all(root)?;
    from_layers(
        "debian:bookworm",
        &[bytes],
        json!({"Cmd": ["bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}),
    )
}

fn run(command: &mut Command) -> Result<()> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn page() -> Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:8080")?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn apache_is_installed_published_and_stopped() -> Result<()> {
    if lacks(NEEDED) {
        return Ok(());
    }
    let daemon = Daemon::builder().flag(format!("--dns={}", Uplink::RESOLVER)).start()?;
    let uplink = Uplink::start(daemon.net())?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    registry.push(daemon.net(), &debian(daemon.dir())?, "debian:bookworm", &[])?;
    let name = format!("{}/debian:bookworm", Registry::ADDRESS);
    daemon.docker(&["run", "-dit", "--name", "web", "-p", "8080:80", &name, "bash"])?.ok()?;
    let os = daemon.docker(&["exec", "web", "cat", "/etc/os-release"])?.ok()?;
    assert!(os.contains("VERSION_CODENAME=bookworm"), "{os}");
    let install =
        "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends apache2";
    daemon.docker(&["exec", "web", "sh", "-c", install])?.ok()?;
    daemon.docker(&["exec", "web", "sh", "-c", "service apache2 start; echo served > /proc/1/fd/1"])?.ok()?;
    let answer = until("the page", || Ok(daemon.net().within(page).ok()))?;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Apache2 Debian Default Page"), "{answer}");
    let changed = daemon.docker(&["diff", "web"])?.ok()?;
    assert!(changed.lines().any(|line| line == "A /usr/sbin/apache2"), "{changed}");
    let followed = daemon
        .net()
        .spawn(daemon.cli_command("docker", &["logs", "-f", "web"]).stdout(std::process::Stdio::piped()))?;
    daemon.docker(&["stop", "-t", "1", "web"])?.ok()?;
    let followed = String::from_utf8(followed.wait_with_output()?.stdout)?;
    assert!(followed.contains("served"), "{followed}");
    daemon.docker(&["rm", "web"])?.ok()?;
    a_built_one_serves_too(&daemon, &name)?;
    drop((registry, uplink));
    daemon.stop()
}

/// The same by a Dockerfile, with the installation cached the second time.
fn a_built_one_serves_too(daemon: &Daemon, base: &str) -> Result<()> {
    let file = format!(
        "FROM {base}\nENV DEBIAN_FRONTEND=noninteractive\n\
         RUN apt-get update && apt-get install -y --no-install-recommends apache2\n\
         COPY page.html /var/www/html/index.html\nEXPOSE 80\nCMD [\"apachectl\", \"-D\", \"FOREGROUND\"]\n"
    );
    let context = |page: &str| {
        Tar::of(&[Entry::file("Dockerfile", 0o644, file.as_str()), Entry::file("page.html", 0o644, page)])
            .bytes()
    };
    for (text, cached) in [("first page", 0), ("second page", 2)] {
        let built = daemon.docker_stdin(&["build", "-t", "web", "-"], &context(text))?.ok()?;
        assert_eq!(built.matches("Using cache").count(), cached, "{built}");
        daemon.docker(&["run", "-d", "--name", "web", "-p", "8080:80", "web"])?.ok()?;
        let answer =
            until("the page", || Ok(daemon.net().within(page).ok().filter(|page| !page.is_empty())))?;
        ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains(text), "{answer}");
        daemon.docker(&["rm", "-f", "web"])?.ok()?;
    }
    let ports = daemon.inspect_image("web")?["Config"]["ExposedPorts"].clone();
    assert_eq!(ports, json!({"80/tcp": {}}));
    Ok(())
}
