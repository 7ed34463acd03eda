//! Known attacks on runtimes (runc, crun, containerd), tried on ours. `docs/security-tests.md` lists them all.

use crate::container_lifecycle::run_detached;
use crate::container_run::sh;
use crate::cve::{Canary, Container, attacker, rounds};
use crate::runtime_cli::Bundle;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use wharf_testkit::{Daemon, Entry, from_files, until};

/// A program that makes whoever executes it execute itself again, and a loop that opens what it sees running.
#[test]
fn cve_2019_5736_the_runtimes_program_cannot_be_written() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let shim = wharf_testkit::bin_dir().join("wharf-shim");
    let before = fs::read(&shim)?;
    let image = from_files(
        "evil:latest",
        &[
            Entry::dir("bin", 0o755),
            Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?),
            Entry::hardlink("bin/sh", "bin/busybox"),
            Entry::file("evil", 0o755, "#!/proc/self/exe\n"),
        ],
        json!({"Entrypoint": ["/proc/self/exe"], "Env": ["PATH=/bin"]}),
    )?;
    daemon.load(&image)?;
    // Whatever it is, it is not our program.
    daemon.docker(&["run", "--rm", "--network=none", "evil", "--version"])?;
    let watch = "while :; do for p in /proc/[0-9]*; do (exec 5<$p/exe && echo x >/proc/self/fd/5); done \
        2>/dev/null; done";
    let name = ["run", "-d", "--name=watcher", "--network=none", "--cap-add=SYS_PTRACE"];
    daemon.docker(&[&name[..], &["--entrypoint=sh", "evil", "-c", watch]].concat())?.ok()?;
    for _ in 0..rounds(2000, 40) {
        Container::exec(&daemon, "watcher", &["/evil"], &json!({}))?;
        Container::exec(&daemon, "watcher", &["/proc/self/exe"], &json!({}))?;
    }
    sh(&daemon, &[], "for p in /proc/[0-9]*/exe; do echo x 2>/dev/null >> $p; done; true")?;
    ensure!(before == fs::read(&shim)?, "wharf-shim was changed");
    // Nor would it be the file if it were reached: the shim runs from a sealed copy in memory.
    let id = daemon.docker(&["inspect", "-f", "{{.Id}}", "watcher"])?.ok()?;
    let pid = fs::read_to_string(daemon.exec_root().join("containers").join(id.trim()).join("shim.pid"))?;
    let pid = pid.split_whitespace().next().context("a pid")?;
    let program = fs::read_link(format!("/proc/{pid}/exe"))?;
    ensure!(program.to_string_lossy().starts_with("/memfd:"), "the shim is {}", program.display());
    daemon.stop()
}

#[test]
fn cve_2024_21626_descriptors_are_no_working_directories() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    // The shell opens /proc/self/fd itself: 0, 1, 2 and that one.
    assert_eq!(sh(&daemon, &[], "ls /proc/self/fd | tr '\\n' ' '")?, "0 1 2 3");
    run_detached(&daemon, "cc", &["sleep", "1000"])?;
    let (_, seen) = Container::exec(&daemon, "cc", &["sh", "-c", "echo $(ls /proc/self/fd)"], &json!({}))?;
    assert_eq!(seen, "0 1 2 3\n");
    for n in 0..64 {
        let request = json!({"WorkingDir": format!("/proc/self/fd/{n}")});
        if let Ok((code, text)) = Container::run(&daemon, "pwd", &request)? {
            panic!("descriptor {n} as working directory: {code} {text}");
        }
        let (status, text) = Container::exec(&daemon, "cc", &["pwd"], &request)?;
        ensure!(status >= 400 || text.contains("OCI runtime exec failed"), "{n}: {status} {text}");
    }
    let image = [Entry::dir("bin", 0o755), Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?)];
    daemon.load(&from_files("cwd:latest", &image, json!({"WorkingDir": "/proc/self/fd/8"}))?)?;
    let out = daemon.docker(&["run", "--rm", "--network=none", "cwd", "/bin/busybox", "pwd"])?;
    ensure!(out.code != 0, "the image's working directory: {}", out.stdout);
    daemon.stop()
}

/// The attacker shares `/dev` with its victims and swaps what the runtime would cover paths with.
#[test]
fn cve_2025_31133_nothing_but_the_null_device_covers_a_path() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let swap =
        "while :; do ln -sf /proc/sys/kernel/core_pattern /x/null; rm -f /x/null; mknod /x/null c 1 3; done";
    attacker(&daemon, &["-v", "dev:/x"], swap)?;
    // Masked, and there on this machine.
    let masked =
        ["/proc/kcore", "/proc/keys", "/proc/timer_list"].into_iter().find(|path| fs::metadata(path).is_ok());
    let masked = masked.context("nothing to mask")?;
    let victim = format!(
        "stat -c %t:%T {masked}; wc -c <{masked}; cat {masked} | wc -l; echo '|/x' >{masked}; \
         echo '|/x' >/proc/sys/kernel/core_pattern"
    );
    let binds = json!({"HostConfig": {"Binds": ["dev:/dev:nocopy"]}});
    let mut started = 0;
    for _ in 0..rounds(3000, 40) {
        if let Ok((_, seen)) = Container::run(&daemon, &victim, &binds)? {
            started += 1;
            ensure!(seen.starts_with("1:3\n0\n0\n"), "masked paths are {seen:?}");
        }
        ensure!(fs::read_to_string("/proc/sys/kernel/core_pattern")? == pattern, "core_pattern was changed");
    }
    ensure!(started > 0, "no victim ever started");
    daemon.stop()
}

/// The same for the terminal and the node that it is bound over.
#[test]
fn cve_2025_52565_a_terminal_is_bound_by_its_descriptor() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let swap = "mkdir -p /x/pts; while :; do ln -sf /proc/sys/kernel/core_pattern /x/console; \
        ln -sf /proc/sysrq-trigger /x/pts/0; ln -sf /etc/passwd /x/ptmx; rm -f /x/console /x/pts/0 /x/ptmx; \
        touch /x/console; done";
    attacker(&daemon, &["-v", "dev:/x"], swap)?;
    let victim = "grep -cE ' /(proc/sys/kernel/core_pattern|proc/sysrq-trigger|etc/passwd) ' /proc/self/mountinfo; \
        head -c4 /etc/passwd";
    let mut started = 0;
    for round in 0..rounds(2000, 30) {
        let over = if round % 2 == 0 { "dev:/dev:nocopy" } else { "dev:/tmp/dev:nocopy" };
        let request = json!({"Tty": true, "HostConfig": {"Binds": [over]}});
        if let Ok((_, seen)) = Container::run(&daemon, victim, &request)? {
            started += 1;
            ensure!(seen == "0\r\nroot", "a terminal was mounted over something: {seen:?}");
        }
    }
    ensure!(started > 0, "no victim ever started");
    daemon.stop()
}

/// What would stand in the place of the files that the runtime writes to, or of all of `/proc`.
#[test]
fn cve_2019_16884_19921_and_2025_52881_nothing_is_mounted_over_proc() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let targets = [
        "/proc",
        "/proc/",
        "/tmp/../proc",
        "/proc/sys",
        "/proc/sys/net/ipv4",
        "/proc/self/attr",
        "/proc/self/attr/exec",
        "/proc/1/attr/apparmor",
        "/proc/thread-self/attr",
        "/proc/sys/kernel/core_pattern",
    ];
    for target in targets {
        for request in [
            json!({"HostConfig": {"Binds": [format!("/tmp:{target}")]}}),
            json!({"HostConfig": {"Binds": [format!("volume:{target}")]}}),
            json!({"HostConfig": {"Tmpfs": {target: ""}}}),
            json!({"Volumes": {target: {}}}),
            json!({"HostConfig": {"Sysctls": {"net.ipv4.ip_forward": "0"}, "Tmpfs": {target: ""}}}),
        ] {
            if let Ok((code, text)) = Container::run(&daemon, "true", &request)? {
                panic!("{request} was accepted: {code} {text}");
            }
        }
    }
    let image = [Entry::dir("bin", 0o755), Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?)];
    daemon.load(&from_files("volume:latest", &image, json!({"Volumes": {"/proc/sys": {}}}))?)?;
    let out = daemon.docker(&["run", "--rm", "--network=none", "volume", "/bin/busybox", "true"])?;
    ensure!(out.code != 0, "the image's volume over /proc/sys was accepted");
    daemon.docker(&["volume", "prune", "-af"])?.ok()?;
    daemon.stop()
}

/// A directory on the way to a mount's target becomes a link to the host's canary and back, all the time.
#[test]
fn cve_2021_30465_no_mount_lands_outside_of_the_root() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let canary = Canary::new(&daemon)?;
    let swap = format!(
        "mkdir /s/real; while :; do ln -sfn {} /s/way; rm -rf /s/way; ln -sfn / /s/way; rm -f /s/way; \
         mkdir /s/way; rmdir /s/way/* /s/way; done 2>/dev/null",
        canary.path()
    );
    attacker(&daemon, &["-v", "shared:/s"], &swap)?;
    let request = json!({"HostConfig": {
        "Binds": ["shared:/s"],
        "Mounts": [
            {"Type": "tmpfs", "Target": "/s/way/one", "TmpfsOptions": {"SizeBytes": 12345}},
            {"Type": "volume", "Source": "other", "Target": "/s/way/two"},
        ],
    }});
    let victim = "test -e /proc/1/root/bin/busybox && ls -d /var/tmp/wharf* /s/way/one/secret 2>/dev/null; \
        cat /proc/self/mountinfo | cut -d' ' -f5 | grep -E '(one|two)$'";
    let mut started = 0;
    for _ in 0..rounds(100_000, 30) {
        if let Ok((_, seen)) = Container::run(&daemon, victim, &request)? {
            started += 1;
            ensure!(!seen.contains("secret"), "the host is seen: {seen}");
        }
        canary.is_untouched()?;
    }
    ensure!(started > 0, "no victim ever started");
    daemon.stop()
}

#[test]
fn cve_2023_27561_and_2026_41579_roots_whose_directories_are_links() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let busybox = fs::read("/bin/busybox")?;
    for link in ["proc", "sys", "dev"] {
        let files = [
            Entry::dir("host", 0o755),
            Entry::symlink(link, "/host"),
            Entry::file("busybox", 0o755, busybox.clone()),
        ];
        let name = format!("link-{link}:latest");
        daemon.load(&from_files(&name, &files, json!({}))?)?;
        let out =
            daemon.docker(&["run", "--rm", "--network=none", &name, "/busybox", "ls", "-A", "/host"])?;
        // Docker refuses; our init layer puts a real directory in the link's place. Never is the link followed.
        assert!(out.code != 0 || out.stdout.is_empty(), "the link /{link} was followed: {}", out.stdout);
    }
    // Without an init layer, the runtime alone: nothing is mounted, made or removed where the link leads.
    for link in ["proc", "sys", "dev"] {
        let bundle = Bundle::new(&format!("link-{link}"))?;
        let host = bundle.path("host");
        fs::create_dir(&host)?;
        fs::write(host.join("ptmx"), "of the host")?;
        bundle.configure(&["true"])?;
        fs::remove_dir(bundle.path(&format!("rootfs/{link}")))?;
        std::os::unix::fs::symlink(&host, bundle.path(&format!("rootfs/{link}")))?;
        let out = bundle.runtime(&["run", "one"]).output()?;
        let error = String::from_utf8_lossy(&out.stderr);
        ensure!(!out.status.success() && error.contains("must be mounted on ordinary directory"), "{error}");
        let left: Vec<_> = fs::read_dir(&host)?.map(|e| Ok(e?.file_name())).collect::<Result<_>>()?;
        assert_eq!(left, ["ptmx"], "where /{link} leads");
        assert_eq!(fs::read_to_string(host.join("ptmx"))?, "of the host");
    }
    daemon.stop()
}

/// What is asked for, and who runs: exactly that, or nobody.
#[test]
fn cve_2026_30892_and_2024_40635_users_are_exact_or_refused() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let args = ["run", "-d", "--name=cc", "--network=none", "-u", "1000:44", "busybox", "sleep", "1000"];
    daemon.docker(&args)?.ok()?;
    let cases: [(&str, Option<&str>); 20] = [
        ("", Some("1000:44")),
        ("0", Some("0:0")),
        ("root", Some("0:0")),
        ("user", Some("1000:1000")),
        ("1000", Some("1000:1000")),
        ("1234", Some("1234:0")),
        ("1234:5678", Some("1234:5678")),
        ("user:extra", Some("1000:44")),
        ("2147483647", Some("2147483647:0")),
        (" 0", None),
        ("0 ", None),
        ("-1", None),
        ("4294967296", None),
        ("4294967295", None),
        ("2147483648", None),
        ("0:4294967296", None),
        ("root\0", None),
        ("nosuch", None),
        ("user:nosuch", None),
        ("root\n", None),
    ];
    for (user, wanted) in cases {
        let request = json!({"User": user});
        let (status, text) =
            Container::exec(&daemon, "cc", &["sh", "-c", "echo $(id -u):$(id -g)"], &request)?;
        let ran =
            (status < 400 && !text.contains("OCI runtime exec failed") && !text.contains("unable to find"))
                .then(|| text.trim().to_owned());
        assert_eq!(ran.as_deref(), wanted, "exec as {user:?}: {status} {text}");
        if user.is_empty() {
            continue;
        }
        let ran = Container::run(&daemon, "echo $(id -u):$(id -g)", &request)?;
        assert_eq!(ran.ok().map(|(_, text)| text.trim().to_owned()).as_deref(), wanted, "run as {user:?}");
    }
    // What is left out on one side of the colon never makes root of somebody.
    for (user, uid) in [("0:", "0"), ("1000:", "1000"), ("+0", "0")] {
        let (_, text) = Container::exec(&daemon, "cc", &["id", "-u"], &json!({"User": user}))?;
        let refused = text.contains("unable to find") || text.contains("failed") || text.contains("must be");
        ensure!(text.trim() == uid || refused, "{user:?}: {text}");
    }
    let (_, text) = Container::exec(&daemon, "cc", &["id", "-G"], &json!({"User": ":44"}))?;
    ensure!(text.trim().ends_with("44") || text.contains("unable"), "{text}");
    for user in ["4294967296", "2147483648", "-1"] {
        let files = [Entry::dir("bin", 0o755), Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?)];
        daemon.load(&from_files("overflow:latest", &files, json!({"User": user}))?)?;
        let out =
            daemon.docker(&["run", "--rm", "--network=none", "overflow", "/bin/busybox", "id", "-u"])?;
        ensure!(out.code != 0, "an image's user {user} ran as {}", out.stdout);
    }
    daemon.stop()
}

#[test]
fn cve_2022_27650_and_29162_no_capability_is_inheritable() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let line = "grep -E 'CapInh|CapAmb' /proc/self/status | cut -f2 | sort -u";
    let none = "0000000000000000";
    for flags in
        [&[][..], &["--privileged"], &["-u", "user"], &["--cap-add=ALL"], &["--privileged", "-u", "user"]]
    {
        assert_eq!(sh(&daemon, flags, line)?, none, "{flags:?}");
    }
    run_detached(&daemon, "cc", &["sleep", "1000"])?;
    for flags in [&[][..], &["--privileged"], &["-u", "user"]] {
        let out = daemon.docker(&[&["exec"], flags, &["cc", "sh", "-c", line]].concat())?.ok()?;
        assert_eq!(out.trim(), none, "exec {flags:?}");
    }
    daemon.stop()
}

/// A container that may trace looks at every process that enters it, for something of the host.
#[test]
fn cve_2016_9962_who_enters_cannot_be_looked_into() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let watch = "while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac; \
        for f in $p/fd/* $p/cwd $p/root $p/exe; do readlink $f; done; done 2>/dev/null >>/seen; done";
    attacker(&daemon, &["--cap-add=SYS_PTRACE"], watch)?;
    for _ in 0..rounds(5000, 60) {
        let (_, text) = Container::exec(&daemon, "attacker", &["echo", "here"], &json!({}))?;
        assert_eq!(text, "here\n");
    }
    let (_, seen) = Container::exec(&daemon, "attacker", &["sort", "-u", "/seen"], &json!({}))?;
    ensure!(!seen.trim().is_empty(), "the watcher saw nothing at all");
    // What the sealed copy of our program is called says nothing.
    for of_the_host in ["/var/", "/sys/", "/proc", "eventpoll", "eventfd", "pidfd", "exec/"] {
        ensure!(!seen.contains(of_the_host), "{of_the_host} was seen: {seen}");
    }
    daemon.stop()
}

/// A file that a group must not read is not read by whoever is in the group.
#[test]
fn cve_2023_25173_a_user_is_in_all_of_its_groups() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    assert_eq!(sh(&daemon, &["-u", "user"], "id -G")?, "1000 1 44");
    let image = [
        Entry::dir("bin", 0o755),
        Entry::dir("etc", 0o755),
        Entry::file("bin/busybox", 0o755, fs::read("/bin/busybox")?),
        Entry::file("etc/passwd", 0o644, "user:x:1000:1000::/:/bin/sh\n"),
        Entry::file("etc/group", 0o644, "user:x:1000:\nextra:x:44:user\n"),
        Entry::file("not-for-extra", 0o604, "secret").owned(0, 44),
    ];
    daemon.load(&from_files("groups:latest", &image, json!({"User": "user"}))?)?;
    let cat = ["run", "--rm", "--network=none", "groups", "/bin/busybox", "cat", "/not-for-extra"];
    let out = daemon.docker(&cat)?;
    ensure!(out.code != 0 && out.stderr.contains("Permission denied"), "read: {}", out.stdout);
    daemon
        .docker(&["run", "-d", "--name=cc", "--network=none", "groups", "/bin/busybox", "sleep", "1000"])?
        .ok()?;
    let out = daemon.docker(&["exec", "-u", "user", "cc", "/bin/busybox", "cat", "/not-for-extra"])?;
    ensure!(out.code != 0, "read by an exec: {}", out.stdout);
    daemon.stop()
}

#[test]
fn cve_2020_15257_the_hosts_network_has_no_socket_of_ours() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    run_detached(&daemon, "cc", &["sleep", "1000"])?;
    let args = ["run", "--rm", "--network=host", "busybox", "sh", "-c", "grep -c @ /proc/net/unix; true"];
    assert_eq!(daemon.docker(&args)?.ok()?, "0\n", "abstract sockets");
    daemon.stop()
}

/// Clients that come and go, and such as stop halfway, leave nothing behind.
#[test]
fn cve_2025_64329_attaching_leaks_nothing() -> Result<()> {
    use std::io::{Read, Write};
    let daemon = Daemon::with_busybox()?;
    let id = run_detached(&daemon, "cc", &["sleep", "1000"])?;
    let shim = fs::read_to_string(daemon.exec_root().join("containers").join(id.trim()).join("shim.pid"))?;
    let shim: u32 = shim.split_whitespace().next().context("a pid")?.parse()?;
    let open = |pid: u32| Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{pid}/fd"))?.count());
    let come_and_go = |path: &str, body: &str| -> Result<()> {
        let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket())?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        ensure!(&head == b"HTTP/1.1 101", "{}", String::from_utf8_lossy(&head));
        Ok(())
    };
    come_and_go("/containers/cc/attach?stream=1&stdout=1&stderr=1", "")?;
    let before = (open(daemon.pid())?, open(shim)?);
    for round in 0..rounds(100_000, 150) {
        come_and_go("/containers/cc/attach?stream=1&stdin=1&stdout=1&stderr=1", "")?;
        if round % 10 == 0 {
            let request = json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true});
            let made = daemon.api().json("POST", "/containers/cc/exec", &request)?.json();
            let exec = made["Id"].as_str().context("an id")?;
            come_and_go(&format!("/exec/{exec}/start"), "{}")?;
        }
    }
    until("descriptors to be closed", || {
        let now = (open(daemon.pid())?, open(shim)?);
        Ok((now.0 <= before.0 + 2 && now.1 <= before.1).then_some(()))
    })?;
    daemon.stop()
}
