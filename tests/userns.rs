//! `--userns-remap`: containers whose root is nobody on the host.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use wharf_testkit::{Daemon, DockerIo, Entry, busybox, from_files, lacks_oracle, until};

/// Two ranges: what is above the first is in the second.
const RANGES: &str = "remapper:100000:65536\nother:5:5\nremapper:300000:1000\n";

/// A daemon that remaps to a user of its own `/etc`, not yet started.
fn remapped() -> Result<Daemon> {
    let mut daemon = Daemon::prepare(Daemon::builder().own_etc())?;
    let etc = daemon.etc();
    etc.append("passwd", "remapper:x:4242:4243::/:/bin/false\n")?;
    etc.append("group", "remapper:x:4243:\n")?;
    etc.append("subuid", RANGES)?;
    etc.append("subgid", RANGES)?;
    daemon.add_flag("--userns-remap=remapper");
    Ok(daemon)
}

fn started() -> Result<Daemon> {
    let mut daemon = remapped()?;
    daemon.launch()?;
    daemon.load(&busybox()?)?;
    Ok(daemon)
}

fn root(daemon: &Daemon) -> PathBuf {
    daemon.data_root().join("100000.100000")
}

/// Owner, group and mode.
fn owner(path: impl AsRef<Path>) -> Result<(u32, u32, u32)> {
    let path = path.as_ref();
    let found = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    Ok((found.uid(), found.gid(), found.mode() & 0o7777))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a container prints, its spaces made single.
fn run(daemon: &Daemon, flags: &[&str], line: &str) -> Result<String> {
    let args = [&["run", "--rm"], flags, &["busybox", "sh", "-c", line]].concat();
    Ok(words(&daemon.docker(&args)?.ok().with_context(|| format!("{flags:?} {line}"))?))
}

/// Flags, a shell line, what it prints.
const SEEN: [(&[&str], &str, &str); 18] = [
    (
        &[],
        "cat /proc/self/uid_map /proc/self/gid_map",
        "0 100000 65536 65536 300000 1000 0 100000 65536 65536 300000 1000",
    ),
    (
        &[],
        "id -u; stat -c %u:%g / /bin/sh /etc/hosts /etc/resolv.conf /.dockerenv /dev/shm",
        "0 0:0 0:0 0:0 0:0 0:0 0:0",
    ),
    (&["--user=1000:33"], "id -u; id -g; echo out > /dev/stdout; echo x > /dev/stderr", "1000 33 out"),
    (&["--user=66000"], "id -u; touch /tmp/f; stat -c %u /tmp/f", "66000 66000"),
    (&["--network=none"], "id -u; ip addr show lo | grep -c 127.0.0.1", "0 1"),
    (&[], "echo x > /dev/null && head -c 3 /dev/zero | wc -c; ls -l /dev/full | cut -c 1", "3 c"),
    (&["--tmpfs=/t:uid=5"], "stat -c %u /t; echo x > /t/f && stat -c %u /t/f", "5 0"),
    (&["-v", "data:/v"], "stat -c %u:%a /v; touch /v/f; stat -c %u /v/f", "0:755 0"),
    (&["-v", "/anon"], "echo x > /anon/f && stat -c %u:%g /anon/f", "0:0"),
    (&["--sysctl=net.ipv4.conf.all.forwarding=1"], "cat /proc/sys/net/ipv4/conf/all/forwarding", "1"),
    // The network namespace belongs to the container's user namespace.
    (&["--cap-add=NET_ADMIN"], "ip link set eth0 mtu 1400 && cat /sys/class/net/eth0/mtu", "1400"),
    (&[], "ping -c 1 -q 127.0.0.1 | grep -c '1 packets received'", "1"),
    (&["--user=1000"], "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    (&["--cgroupns=private"], "cut -d: -f3 /proc/self/cgroup | sort -u", "/"),
    (&["--init"], "cat /proc/1/comm", "docker-init"),
    (&["--read-only"], "touch /x 2>/dev/null || echo read-only", "read-only"),
    (&["--userns=host"], "cat /proc/self/uid_map; stat -c %u /bin/sh", "0 0 4294967295 100000"),
    (
        &["--userns=host", "--privileged", "--network=host", "--pid=host"],
        "id -u; grep CapEff /proc/self/status | grep -c ffff",
        "0 1",
    ),
];

/// Flags that are refused with a text.
const REFUSED: [(&[&str], &str); 4] = [
    (
        &["--privileged"],
        "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
    ),
    (&["--network=host"], "cannot share the host's network namespace when user namespaces are enabled"),
    (&["--pid=host"], "cannot share the host PID namespace when user namespaces are enabled"),
    (
        &["--security-opt=writable-cgroups=true"],
        "option WritableCgroups conflicts with user namespaces and rootless mode",
    ),
];

#[test]
fn root_of_a_container_is_nobody_on_the_host() -> Result<()> {
    let daemon = started()?;
    for (flags, line, expected) in SEEN {
        let seen = run(&daemon, flags, line)?;
        assert_eq!(seen, expected, "{flags:?} {line}");
    }
    for (flags, text) in REFUSED {
        let refused = daemon.docker(&[&["run", "--rm"], flags, &["busybox", "true"]].concat())?;
        ensure!(refused.code != 0 && refused.stderr.contains(text), "{flags:?}: {}", refused.stderr);
    }
    let info = daemon.api().call("GET", "/info")?.json();
    ensure!(info["SecurityOptions"].as_array().context("options")?.contains(&json!("name=userns")), "{info}");
    assert_eq!(info["DockerRootDir"], json!(root(&daemon).display().to_string()));
    assert_layout(&daemon)?;
    daemon.stop()
}

/// Owners and modes of Docker's layout.
fn assert_layout(daemon: &Daemon) -> Result<()> {
    let root = root(daemon);
    for (path, expected) in [
        ("..", (0, 100_000, 0o710)),
        (".", (0, 100_000, 0o710)),
        ("containers", (0, 100_000, 0o710)),
        ("overlay2", (0, 100_000, 0o710)),
        ("overlay2/l", (0, 0, 0o700)),
        ("image", (0, 0, 0o700)),
        ("volumes", (0, 0, 0o701)),
        ("volumes/data", (0, 0, 0o701)),
        ("volumes/data/_data", (100_000, 100_000, 0o755)),
        ("volumes/data/_data/f", (100_000, 100_000, 0o644)),
    ] {
        assert_eq!(owner(root.join(path))?, expected, "{path}");
    }
    let layer = fs::read_dir(root.join("overlay2"))?.flatten().find(|e| e.file_name().len() == 64);
    let layer = layer.context("a layer")?.path();
    assert_eq!(owner(&layer)?, (0, 100_000, 0o710));
    assert_eq!(owner(layer.join("diff"))?, (100_000, 100_000, 0o755));
    assert_eq!(owner(layer.join("diff/bin/busybox"))?, (100_000, 100_000, 0o755));
    Ok(())
}

#[test]
fn verbs_translate_ids_both_ways() -> Result<()> {
    let mut daemon = started()?;
    let made = daemon.dir().join("made/deep");
    let bind = format!("{}:/m", made.display());
    let health = ["--health-cmd", "test $(id -u) = 0", "--health-interval", "100ms"];
    let create = ["run", "-d", "--name", "cc", "--ipc=shareable", "-p", "127.0.0.1:18480:80", "-v", &bind];
    let line = "echo started; touch /new; exec httpd -f -h /etc";
    daemon.docker(&[&create[..], &health, &["busybox", "sh", "-c", line]].concat())?.ok()?;
    let ok = |daemon: &Daemon, args: &[&str]| daemon.docker(args)?.ok().with_context(|| format!("{args:?}"));
    until("a healthy container", || {
        let health = ok(&daemon, &["inspect", "-f", "{{.State.Health.Status}}", "cc"])?;
        Ok((health == "healthy\n").then_some(()))
    })?;
    // A missing source is made for the container's root.
    assert_eq!(owner(&made)?, (100_000, 100_000, 0o755));
    assert_eq!(owner(made.parent().context("a parent")?)?.0, 100_000);
    assert_inside(&daemon)?;
    let id = ok(&daemon, &["inspect", "-f", "{{.Id}}", "cc"])?;
    let dir = root(&daemon).join("containers").join(id.trim());
    for (file, expected) in
        [("", (0, 100_000, 0o710)), ("hosts", (100_000, 100_000, 0o644)), ("config.v2.json", (0, 0, 0o600))]
    {
        assert_eq!(owner(dir.join(file))?, expected, "{file}");
    }
    assert_copies(&daemon)?;
    assert_shared(&daemon)?;

    daemon.kill9()?;
    daemon.launch()?;
    assert_inside(&daemon)?;
    let page = || daemon.net().within(|| Ok(std::net::TcpStream::connect("127.0.0.1:18480")?)).ok();
    until("the published port", || Ok(page()))?;
    ok(&daemon, &["restart", "-t", "0", "cc"])?;
    assert_inside(&daemon)?;
    daemon.stop()
}

/// A running container, looked at with exec, top, logs, stats and diff.
fn assert_inside(daemon: &Daemon) -> Result<()> {
    let ok = |args: &[&str]| daemon.docker(args)?.ok().with_context(|| format!("{args:?}"));
    let line = "id -u; stat -c %u /new /proc/$$; echo said > /dev/stdout";
    assert_eq!(words(&ok(&["exec", "cc", "sh", "-c", line])?), "0 0 0 said");
    assert_eq!(
        words(&ok(&["exec", "-u", "1000", "cc", "sh", "-c", "id -u; echo x > /dev/stdout"])?),
        "1000 x"
    );
    ensure!(ok(&["top", "cc", "-o", "uid,pid"])?.contains("100000"), "top tells the host's ids");
    ensure!(ok(&["logs", "cc"])?.contains("started"), "logs");
    ensure!(ok(&["stats", "--no-stream", "--format", "{{.Name}}"])?.contains("cc"), "stats");
    ensure!(ok(&["diff", "cc"])?.contains("A /new\n"), "diff");
    let pid = ok(&["inspect", "-f", "{{.State.Pid}}", "cc"])?;
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim()))?;
    ensure!(words(&status).contains("Uid: 100000 100000 100000 100000 Gid: 100000"), "{status}");
    Ok(())
}

/// Owner and group of an archive's first member with this end of its name (source: POSIX `ustar`).
fn member(tar: &[u8], name: &str) -> Result<(u32, u32)> {
    let number = |field: &[u8]| {
        let text = String::from_utf8_lossy(field);
        u32::from_str_radix(text.trim_matches(['\0', ' ']), 8)
    };
    let mut at = 0;
    while at + 512 <= tar.len() && tar[at] != 0 {
        let header = &tar[at..at + 512];
        let end = header[..100].iter().position(|byte| *byte == 0).unwrap_or(100);
        if header[..end].ends_with(name.as_bytes()) {
            return Ok((number(&header[108..116])?, number(&header[116..124])?));
        }
        let size = usize::try_from(number(&header[124..136])?)?;
        at += 512 + size.div_ceil(512) * 512;
    }
    anyhow::bail!("{name} is not in the archive")
}

fn assert_copies(daemon: &Daemon) -> Result<()> {
    let ok = |args: &[&str]| daemon.docker(args)?.ok().with_context(|| format!("{args:?}"));
    let file = daemon.dir().join("file");
    fs::write(&file, "content")?;
    ok(&["cp", "-a", &file.display().to_string(), "cc:/in"])?;
    assert_eq!(ok(&["exec", "cc", "stat", "-c", "%u:%g", "/in"])?, "0:0\n");
    let got = daemon.api().call("GET", "/containers/cc/archive?path=/in")?;
    assert_eq!(member(&got.body, "in")?, (0, 0));
    ok(&["exec", "cc", "chown", "1000:33", "/in"])?;
    let got = daemon.api().call("GET", "/containers/cc/archive?path=/in")?;
    assert_eq!(member(&got.body, "in")?, (1000, 33));
    let exported = daemon.api().call("GET", "/containers/cc/export")?;
    assert_eq!((member(&exported.body, "in")?, member(&exported.body, "bin/busybox")?), ((1000, 33), (0, 0)));
    ok(&["commit", "cc", "mine"])?;
    assert_eq!(ok(&["run", "--rm", "mine", "stat", "-c", "%u:%g", "/in", "/new"])?, "1000:33\n0:0\n");
    ok(&["exec", "cc", "rm", "/in"])?;
    // An id that the user namespace does not have: the image is refused, in Docker's words.
    let foreign = from_files("foreign:latest", &[Entry::file("f", 0o644, "").owned(70_000, 0)], json!({}))?;
    let refused = daemon.load(&foreign).unwrap_err().to_string();
    ensure!(refused.contains("container ID 70000 cannot be mapped to a host ID"), "{refused}");
    // Content, owners and modes of the image in a new volume.
    let content =
        [Entry::dir("data", 0o750).owned(33, 33), Entry::file("data/f", 0o640, "x").owned(1000, 33)];
    let mut layered: Vec<Entry> = content.into();
    layered.extend([Entry::dir("bin", 0o755), Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?)]);
    daemon.load(&from_files("filled:latest", &layered, json!({"Volumes": {"/data": {}}}))?)?;
    let stat = ["/bin/busybox", "stat", "-c", "%u:%g:%a", "/data", "/data/f"];
    let run = [&["run", "--name", "filler", "-v", "filling:/data", "filled"], &stat[..]].concat();
    assert_eq!(ok(&run)?, "33:33:750\n1000:33:640\n");
    let volume = root(daemon).join("volumes/filling/_data/f");
    assert_eq!(owner(volume)?, (101_000, 100_033, 0o640));
    ok(&["rm", "filler"]).map(drop)
}

/// Containers that share namespaces share their user namespace.
fn assert_shared(daemon: &Daemon) -> Result<()> {
    let user = run(
        daemon,
        &["--network=container:cc"],
        "readlink /proc/self/ns/user; wget -qO- localhost/passwd | wc -l",
    )?;
    let own = words(&daemon.docker(&["exec", "cc", "readlink", "/proc/self/ns/user"])?.ok()?);
    assert_eq!(user, format!("{own} 4"));
    let line = "readlink /proc/self/ns/user; echo x > /dev/shm/x && stat -c %u /dev/shm/x";
    assert_eq!(run(daemon, &["--ipc=container:cc"], line)?, format!("{own} 0"));
    let line = "readlink /proc/self/ns/user; kill -0 1 && echo killable; ip addr show eth0 | grep -c 'inet '";
    assert_eq!(run(daemon, &["--pid=container:cc"], line)?, format!("{own} killable 1"));
    ensure!(run(daemon, &[], "readlink /proc/self/ns/user")? != own, "others have one of their own");
    Ok(())
}

/// What root of a container must not do to the host, with every capability of its user namespace.
const ATTEMPTS: [&str; 9] = [
    "cat /host/secret",
    "echo x > /host/secret",
    "chown 0:0 /host/secret",
    "chmod 777 /host/secret",
    "rm /host/secret",
    "touch /host/new",
    "mknod /tmp/disk b 8 0 && cat /tmp/disk",
    "echo 3 > /proc/sys/vm/drop_caches",
    "echo 1 > /sys/fs/cgroup/cgroup.procs",
];

#[test]
fn security_root_in_a_user_namespace_cannot_touch_the_hosts() -> Result<()> {
    let daemon = started()?;
    let host = daemon.dir().join("host");
    fs::create_dir(&host)?;
    fs::set_permissions(&host, fs::Permissions::from_mode(0o755))?;
    fs::write(host.join("secret"), "of the host")?;
    fs::set_permissions(host.join("secret"), fs::Permissions::from_mode(0o600))?;
    fs::write(host.join("readable"), "")?;
    let bind = format!("{}:/host", host.display());
    let mighty =
        ["--cap-add=ALL", "--security-opt=seccomp=unconfined", "--security-opt=systempaths=unconfined"];
    let flags = [&mighty[..], &["-v", &bind]].concat();
    for attempt in ATTEMPTS {
        let said =
            run(&daemon, &flags, &format!("({attempt}) >/dev/null 2>&1 && echo done || echo refused"))?;
        assert_eq!(said, "refused", "{attempt}");
    }
    assert_eq!(fs::read(host.join("secret"))?, b"of the host");
    assert_eq!(owner(host.join("secret"))?, (0, 0, 0o600));
    assert_eq!(run(&daemon, &flags, "stat -c %u /host/secret; cat /proc/self/setgroups")?, "65534 allow");
    // A warning says what helps.
    let warned = daemon.docker(&["create", "-v", &bind, "busybox"])?;
    ensure!(
        warned.stderr.contains("chown 100000:100000") && warned.stderr.contains(":idmap"),
        "{}",
        warned.stderr
    );
    // As if there were no user namespace, where the mount says so.
    let mapped = format!("{}:/host:idmap", host.display());
    assert_eq!(
        run(&daemon, &["-v", &mapped], "stat -c %u /host; cat /host/secret; echo x > /host/made")?,
        "0 of the host"
    );
    assert_eq!(owner(host.join("made"))?, (0, 0, 0o644));
    let relative = format!("{}:/host:idmap=uids=@0-1000-1;gids=@0-33-1", host.display());
    assert_eq!(run(&daemon, &["-v", &relative], "stat -c %u:%g /host/made")?, "1000:33");
    let beyond = format!("{}:/host:idmap=uids=@0-70000-1", host.display());
    let refused = daemon.docker(&["run", "--rm", "-v", &beyond, "busybox"])?;
    ensure!(refused.stderr.contains("leaves the container's user namespace"), "{}", refused.stderr);
    // A volume with mapped ids has the container's numbers on the disk.
    let line = "stat -c %u /v; echo x > /v/f; chown 1000 /v/f";
    assert_eq!(run(&daemon, &["-v", "mapped:/v:idmap"], line)?, "0");
    let volume = root(&daemon).join("volumes/mapped/_data");
    assert_eq!((owner(&volume)?.0, owner(volume.join("f"))?.0), (0, 1000));
    daemon.stop()
}

#[test]
fn options_of_the_remapped_user() -> Result<()> {
    let mut daemon = Daemon::prepare(Daemon::builder().own_etc())?;
    daemon.etc().append("subuid", "")?;
    daemon.etc().append("subgid", "")?;
    for (option, text) in [
        ("a:b:c", "Invalid user/group specification in --userns-remap: \"a:b:c\""),
        ("nosuch", "Error during uid lookup for \"nosuch\": "),
        ("1999999999", "Uid 1999999999 has no entry in /etc/passwd: "),
        ("daemon:nosuch", "Error during groupname lookup for \"nosuch\": "),
        ("daemon", "no subuid ranges found for user \"daemon\""),
    ] {
        daemon.add_flag(format!("--userns-remap={option}"));
        let said = daemon.run_to_end()?;
        ensure!(
            said.code != 0 && (daemon.log() + &said.stderr).contains(text),
            "{option}: {said:?} {}",
            daemon.log()
        );
    }
    daemon.add_flag("--userns-remap=default");
    daemon.launch()?;
    let subuid = fs::read_to_string(daemon.etc().path("subuid"))?;
    ensure!(subuid.contains("dockremap:"), "{subuid}");
    daemon.load(&busybox()?)?;
    let map = run(&daemon, &[], "cat /proc/self/uid_map")?;
    let first = subuid.lines().find_map(|l| l.strip_prefix("dockremap:")).context("a range")?;
    assert_eq!(map, format!("0 {}", first.replace(':', " ")));
    daemon.terminate()?;
    // Root stays root.
    daemon.add_flag("--userns-remap=root");
    daemon.launch()?;
    ensure!(daemon.log().contains("user namespaces are OFF"), "{}", daemon.log());
    daemon.stop()
}

#[test]
fn a_remapped_root_moves_between_docker_io_and_wharf() -> Result<()> {
    if lacks_oracle("dockerd") {
        return Ok(());
    }
    let mut daemon = remapped()?;
    let flags = ["--userns-remap=remapper"];
    let write = "echo kept > /n/file; echo x > /changed; chown 1000:33 /changed";
    let read = ["sh", "-c", "stat -c %u:%g /changed /n/file; cat /n/file"];
    let docker = DockerIo::start_with(&daemon.data_root(), Some(daemon.etc()), &flags)?;
    docker.load(&busybox()?)?;
    docker.docker(&["run", "--name", "theirs", "-v", "named:/n", "busybox", "sh", "-c", write])?.ok()?;
    docker.docker(&["commit", "theirs", "theirs:v1"])?.ok()?;
    let layout = layout(&daemon)?;
    docker.stop()?;

    daemon.launch()?;
    let run = |image| [&["run", "--rm", "-v", "named:/n", image], &read[..]].concat();
    assert_eq!(daemon.docker(&run("theirs:v1"))?.ok()?, "1000:33\n0:0\nkept\n");
    daemon.docker(&["start", "-a", "theirs"])?.ok()?;
    assert_eq!(daemon.docker(&["diff", "theirs"])?.ok()?.lines().collect::<Vec<_>>().len(), 2);
    daemon.docker(&["commit", "theirs", "ours:v1"])?.ok()?;
    daemon.docker(&["run", "--name", "ours", "-v", "named:/n", "busybox", "sh", "-c", write])?.ok()?;
    let ours = self::layout(&daemon)?;
    for (path, expected) in &layout {
        assert_eq!(ours.iter().find(|(p, _)| p == path).map(|(_, owner)| owner), Some(expected), "{path}");
    }
    daemon.terminate()?;

    let docker = DockerIo::start_with(&daemon.data_root(), Some(daemon.etc()), &flags)?;
    for image in ["ours:v1", "theirs:v1"] {
        assert_eq!(docker.docker(&run(image))?.ok()?, "1000:33\n0:0\nkept\n", "{image}");
    }
    docker.docker(&["start", "-a", "ours"])?.ok()?;
    docker.docker(&["start", "-a", "theirs"])?.ok()?;
    docker.docker(&["commit", "ours", "both:v1"])?.ok()?;
    docker.stop()?;
    daemon.launch()?;
    assert_eq!(daemon.docker(&run("both:v1"))?.ok()?, "1000:33\n0:0\nkept\n");
    daemon.stop()
}

/// Owners of what both engines make under the same name.
fn layout(daemon: &Daemon) -> Result<Vec<(String, (u32, u32))>> {
    let root = root(daemon);
    let names = ["volumes/named/_data", "volumes/named/_data/file", "overlay2/l", "volumes/named"];
    let known = names.iter().map(|name| {
        let (uid, gid, _) = owner(root.join(name))?;
        Ok(((*name).to_owned(), (uid, gid)))
    });
    known.collect()
}
