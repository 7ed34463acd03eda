//! `docker run` with the stock CLI, and what the container sees of its world.

use anyhow::Result;
use wharf_testkit::Daemon;

/// Runs a shell line in busybox and gives what it prints.
pub(crate) fn sh(daemon: &Daemon, flags: &[&str], line: &str) -> Result<String> {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", line]);
    Ok(daemon.docker(&args)?.ok()?.trim_end().to_owned())
}

#[test]
fn true_on_none_and_host() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for network in ["none", "host"] {
        let out = daemon.docker(&["run", "--rm", "--network", network, "busybox", "true"])?;
        assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (0, "", ""), "{network}");
    }
    assert_eq!(daemon.docker(&["ps", "-aq"])?.ok()?, "");
    daemon.stop()
}

#[test]
fn file_systems_are_called_as_docker_calls_them() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let line =
        "cut -d' ' -f1-3 /proc/mounts | grep -E ' (/proc|/dev|/dev/pts|/dev/shm|/dev/mqueue|/sys|/tmp) '";
    let mut seen: Vec<String> = sh(&daemon, &["--tmpfs=/tmp"], line)?.lines().map(Into::into).collect();
    seen.sort();
    let wanted = [
        "devpts /dev/pts devpts",
        "mqueue /dev/mqueue mqueue",
        "proc /proc proc",
        "shm /dev/shm tmpfs",
        "sysfs /sys sysfs",
        "tmpfs /dev tmpfs",
        "tmpfs /tmp tmpfs",
    ];
    assert_eq!(seen, wanted);
    daemon.stop()
}

#[test]
fn output_goes_to_its_stream_and_exit_codes_come_back() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let out = daemon.docker(&[
        "run",
        "--rm",
        "--network=none",
        "busybox",
        "sh",
        "-c",
        "echo o; echo e >&2; exit 7",
    ])?;
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (7, "o\n", "e\n"));
    let killed = daemon.docker(&[
        "run",
        "--rm",
        "--network=none",
        "busybox",
        "sh",
        "-c",
        "sh -c 'kill -9 $$'; exit $?",
    ])?;
    assert_eq!(killed.code, 137);
    let out = daemon.docker(&["run", "--rm", "--network=none", "busybox", "nosuchprogram"])?;
    assert_eq!(out.code, 127, "{}", out.stderr);
    assert!(
        out.stderr.contains("exec: \"nosuchprogram\": executable file not found in $PATH"),
        "{}",
        out.stderr
    );
    for unrunnable in ["/etc", "/etc/passwd"] {
        let out = daemon.docker(&["run", "--rm", "--network=none", "busybox", unrunnable])?;
        assert_eq!(out.code, 126, "{unrunnable}: {}", out.stderr);
    }
    let out = daemon.docker(&["run", "--rm", "--network=none", "--nosuchflag", "busybox"])?;
    assert_eq!(out.code, 125);
    let out = daemon.docker(&["run", "--rm", "--network=none", "--pull=never", "nosuchimage"])?;
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("No such image: nosuchimage:latest"), "{}", out.stderr);
    daemon.stop()
}

#[test]
fn stdin_is_passed_and_closed() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let out =
        daemon.docker_stdin(&["run", "-i", "--rm", "--network=none", "busybox", "cat"], b"one\ntwo\n")?;
    assert_eq!(out.ok()?, "one\ntwo\n");
    let megabytes = vec![b'x'; 3 << 20];
    let out =
        daemon.docker_stdin(&["run", "-i", "--rm", "--network=none", "busybox", "wc", "-c"], &megabytes)?;
    assert_eq!(out.ok()?.trim(), (3 << 20).to_string());
    daemon.stop()
}

#[test]
fn the_container_has_its_own_world() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    assert_eq!(sh(&daemon, &[], "echo $$")?, "1");
    assert_eq!(sh(&daemon, &["--hostname", "box"], "hostname; cat /etc/hostname")?, "box\nbox");
    let hosts = sh(&daemon, &["--add-host", "db:10.1.2.3"], "cat /etc/hosts")?;
    assert!(hosts.contains("127.0.0.1\tlocalhost") && hosts.contains("10.1.2.3\tdb"), "{hosts}");
    assert_eq!(sh(&daemon, &["-e", "A=b c", "-w", "/tmp"], "echo $A; pwd; echo $HOME")?, "b c\n/tmp\n/root");
    assert_eq!(sh(&daemon, &["-w", "/made/dir"], "pwd")?, "/made/dir");
    assert_eq!(sh(&daemon, &[], "ls /proc | grep -c '^[0-9]'")?, "3", "sh, ls and grep, no host process");
    assert_eq!(sh(&daemon, &[], "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '")?, "lo");
    let writable = sh(&daemon, &[], "echo x > /file && cat /file; stat -c %a /tmp")?;
    assert_eq!(writable, "x\n1777");
    let readonly =
        daemon.docker(&["run", "--rm", "--network=none", "--read-only", "busybox", "touch", "/file"])?;
    assert!(readonly.stderr.contains("Read-only file system"), "{}", readonly.stderr);
    daemon.stop()
}

#[test]
fn devices_and_their_links_are_dockers() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let names = sh(&daemon, &[], "ls -1 /dev | grep -v core | sort | tr '\\n' ' '")?;
    assert_eq!(names, "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    let tty =
        daemon.docker(&["run", "--rm", "-t", "--network=none", "busybox", "ls", "/dev/console"])?.ok()?;
    assert_eq!(tty, "/dev/console\r\n");
    let shm = sh(&daemon, &["--shm-size", "8m"], "df -m /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2")?;
    assert_eq!(shm, "8");
    assert_eq!(
        sh(&daemon, &[], "head -c4 /dev/zero | od -An -tx1; cat /dev/null; stat -c %t:%T /dev/null")?.trim(),
        "00 00 00 00\n1:3"
    );
    daemon.stop()
}

#[test]
fn users_and_groups_come_from_the_image() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for (user, expected) in [
        ("user", "uid=1000(user) gid=1000(user) groups=1(daemon),44(extra),1000(user)"),
        ("33", "uid=33(www-data) gid=33(www-data) groups=33(www-data)"),
        ("1234", "uid=1234 gid=0(root) groups=0(root)"),
        ("user:daemon", "uid=1000(user) gid=1(daemon) groups=1(daemon)"),
        ("1:1000", "uid=1(daemon) gid=1000(user) groups=1000(user)"),
    ] {
        assert_eq!(sh(&daemon, &["-u", user], "id")?, expected, "{user}");
    }
    assert_eq!(
        sh(&daemon, &["-u", "user", "--group-add", "33"], "id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '")?,
        "1 33 44 1000"
    );
    let bad = daemon.docker(&["run", "--rm", "--network=none", "-u", "nobody9", "busybox", "true"])?;
    assert!(
        bad.stderr.contains("unable to find user nobody9: no matching entries in passwd file"),
        "{}",
        bad.stderr
    );
    assert_eq!(bad.code, 125, "{}", bad.stderr);
    daemon.stop()
}

#[test]
fn a_terminal_is_one() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let out = daemon.docker(&[
        "run",
        "--rm",
        "-t",
        "--network=none",
        "busybox",
        "sh",
        "-c",
        "tty; test -t 1 && echo yes; echo $TERM",
    ])?;
    assert_eq!(out.ok()?, "/dev/pts/0\r\nyes\r\nxterm\r\n");
    daemon.stop()
}

#[test]
fn binds_volumes_and_tmpfs() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let host = daemon.dir().join("host");
    std::fs::create_dir(&host)?;
    std::fs::write(host.join("from-host"), "hello")?;
    let bind = format!("{}:/data", host.display());
    assert_eq!(
        sh(&daemon, &["-v", &bind], "cat /data/from-host; echo back > /data/from-container")?,
        "hello"
    );
    assert_eq!(std::fs::read_to_string(host.join("from-container"))?, "back\n");
    let readonly = format!("{}:ro", bind);
    let out =
        daemon.docker(&["run", "--rm", "--network=none", "-v", &readonly, "busybox", "touch", "/data/x"])?;
    assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
    assert_eq!(sh(&daemon, &["-v", "vol:/v"], "echo kept > /v/file")?, "");
    assert_eq!(sh(&daemon, &["-v", "vol:/w"], "cat /w/file")?, "kept");
    assert_eq!(
        sh(&daemon, &["--tmpfs", "/t:size=1m"], "df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2")?,
        "1024"
    );
    assert_eq!(daemon.docker(&["volume", "rm", "vol"])?.ok()?, "vol\n");
    daemon.stop()
}

#[test]
fn init_reaps_and_passes_signals_on() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let processes = sh(&daemon, &["--init"], "cat /proc/1/comm; echo $$; exit 0")?;
    let lines: Vec<&str> = processes.lines().collect();
    assert_eq!(lines[0], "docker-init", "{processes}");
    assert_ne!(lines[1], "1", "{processes}");
    let out = daemon.docker(&["run", "--rm", "--init", "--network=none", "busybox", "sh", "-c", "exit 9"])?;
    assert_eq!(out.code, 9);
    daemon.stop()
}

#[test]
fn a_failed_start_leaves_a_container_that_says_why() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let out = daemon.docker(&["run", "--name", "bad", "--network=none", "busybox", "nosuch"])?;
    assert_eq!(out.code, 127);
    let state = daemon
        .docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "bad"])?
        .ok()?;
    assert!(state.starts_with("created 127 "), "{state}");
    assert!(state.contains("executable file not found"), "{state}");
    daemon.stop()
}

#[test]
fn many_at_once() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    std::thread::scope(|scope| -> Result<()> {
        let runs: Vec<_> = (0..8)
            .map(|n| {
                let daemon = &daemon;
                scope.spawn(move || sh(daemon, &[], &format!("echo {n}")).map(|out| (n, out)))
            })
            .collect();
        for run in runs {
            let (n, out) = run.join().expect("no panic")?;
            assert_eq!(out, n.to_string());
        }
        Ok(())
    })?;
    daemon.stop()
}
