//! Log drivers that send elsewhere, against receivers of the test's own in the daemon's network.

use anyhow::{Context, Result};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use wharf_testkit::{Daemon, until};

/// What a receiver got.
type Got = Arc<Mutex<Vec<u8>>>;

fn text(got: &Got) -> String {
    String::from_utf8_lossy(&got.lock().unwrap()).into_owned()
}

/// Takes connections for as long as the test runs, and everything that comes by them.
fn collect(listener: TcpListener) -> Got {
    let got = Got::default();
    let shared = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || take(stream, &shared));
        }
    });
    got
}

fn take(mut stream: impl Read, got: &Got) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        got.lock().unwrap().extend_from_slice(&buffer[..count]);
    }
}

fn udp(socket: UdpSocket) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let got = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let shared = Arc::clone(&got);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = socket.recv(&mut buffer) {
            shared.lock().unwrap().push(buffer[..count].to_vec());
        }
    });
    got
}

/// Listens in the daemon's network namespace.
fn tcp(daemon: &Daemon) -> Result<(TcpListener, u16)> {
    let listener = daemon.net().within(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

fn run(daemon: &Daemon, name: &str, driver: &str, options: &[&str], script: &str) -> Result<()> {
    let mut args = vec!["run", "--name", name, "--network=none", "--log-driver", driver];
    options.iter().for_each(|option| args.extend(["--log-opt", option]));
    args.extend(["busybox", "sh", "-c", script]);
    daemon.docker(&args)?.ok().map(drop)
}

#[test]
fn syslog_over_every_transport() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script = "echo out; echo err >&2; echo; printf part";
    let (listener, port) = tcp(&daemon)?;
    let got = collect(listener);
    let address = format!("syslog-address=tcp://127.0.0.1:{port}");
    let options = [&address, "syslog-facility=local0", "syslog-format=rfc3164", "tag={{.Name}}"];
    run(&daemon, "tcp", "syslog", &options, script)?;
    let lines = until("three lines by tcp", || Ok(Some(text(&got)).filter(|t| t.lines().count() >= 3)))?;
    for (priority, line) in [(134, "out"), (131, "err"), (134, "part")] {
        let is_there =
            |l: &str| l.starts_with(&format!("<{priority}>")) && l.ends_with(&format!("]: {line}"));
        assert!(lines.lines().any(|l| is_there(l) && l.contains(" tcp[")), "{line}: {lines}");
    }
    // What was sent is here too, and can be read.
    assert_eq!(daemon.docker(&["logs", "tcp"])?.ok()?, "out\n\npart");

    let socket = daemon.net().within(|| Ok(UdpSocket::bind("127.0.0.1:0")?))?;
    let address = format!("syslog-address=udp://{}", socket.local_addr()?);
    let got = udp(socket);
    run(&daemon, "udp", "syslog", &[&address, "syslog-format=rfc5424micro", "cache-disabled=true"], script)?;
    let packets = until("three packets", || Ok(Some(got.lock().unwrap().clone()).filter(|p| p.len() >= 3)))?;
    assert!(packets.iter().all(|p| p.starts_with(b"<30>1 ") || p.starts_with(b"<27>1 ")), "{packets:?}");
    let refused = daemon.docker(&["logs", "udp"])?;
    assert!(refused.stderr.contains("configured logging driver does not support reading"), "{refused:?}");

    let path = daemon.dir().join("syslog.sock");
    let listener = UnixListener::bind(&path)?;
    let got = Got::default();
    let shared = Arc::clone(&got);
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| take(stream, &shared)));
    let address = format!("syslog-address=unix://{}", path.display());
    run(&daemon, "unix", "syslog", &[&address], script)?;
    until("lines by a unix socket", || Ok(text(&got).contains("]: part\n").then_some(())))?;

    let path = daemon.dir().join("packets.sock");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let address = format!("syslog-address=unixgram://{}", path.display());
    run(&daemon, "packets", "syslog", &[&address], "echo one")?;
    let mut buffer = [0; 1024];
    let count = socket.recv(&mut buffer)?;
    assert!(buffer[..count].ends_with(b"]: one\n"), "{:?}", String::from_utf8_lossy(&buffer[..count]));

    // A receiver that is not there refuses the start, in Docker's words.
    let args = ["run", "--network=none", "--log-driver=syslog", "--log-opt=syslog-address=tcp://127.0.0.1:1"];
    let refused = daemon.docker(&[&args[..], &["busybox", "true"]].concat())?;
    assert!(
        refused.stderr.contains(
            "failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: connection refused"
        ),
        "{refused:?}"
    );
    daemon.stop()
}

#[test]
fn gelf_and_fluentd_speak_their_protocols() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let (listener, port) = tcp(&daemon)?;
    let got = collect(listener);
    let address = format!("gelf-address=tcp://127.0.0.1:{port}");
    let run_labelled = |driver: &str, options: &[&str]| {
        let mut args = vec!["run", "--rm", "--name", driver, "--network=none", "--label", "x=1"];
        args.extend(["--log-driver", driver, "--log-opt", "labels=x"]);
        options.iter().for_each(|option| args.extend(["--log-opt", option]));
        args.extend(["busybox", "sh", "-c", "echo one; echo two >&2"]);
        daemon.docker(&args)?.ok()
    };
    // Removed at its end: nothing is lost by that.
    run_labelled("gelf", &[&address])?;
    let stream = until("two messages", || Ok(Some(text(&got)).filter(|t| t.matches('\0').count() >= 2)))?;
    let messages: Vec<serde_json::Value> =
        stream.trim_end_matches('\0').split('\0').map(serde_json::from_str).collect::<Result<_, _>>()?;
    let message = messages.iter().find(|m| m["short_message"] == "two").context("a message")?;
    assert_eq!((&message["version"], &message["level"]), (&"1.1".into(), &3.into()));
    assert_eq!((&message["_container_name"], &message["_image_name"]), (&"gelf".into(), &"busybox".into()));
    assert_eq!((&message["_x"], &message["_command"]), (&"1".into(), &"sh -c echo one; echo two >&2".into()));

    let socket = daemon.net().within(|| Ok(UdpSocket::bind("127.0.0.1:0")?))?;
    let address = format!("gelf-address=udp://{}", socket.local_addr()?);
    let got = udp(socket);
    run_labelled("gelf", &[&address, "gelf-compression-type=gzip"])?;
    let packets = until("two packets", || Ok(Some(got.lock().unwrap().clone()).filter(|p| p.len() >= 2)))?;
    assert!(packets.iter().all(|packet| packet.starts_with(&[0x1f, 0x8b])));

    let (listener, port) = tcp(&daemon)?;
    let records = Got::default();
    let shared = Arc::clone(&records);
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| acknowledge(stream, &shared)));
    let address = format!("fluentd-address=127.0.0.1:{port}");
    run_labelled("fluentd", &[&address, "fluentd-request-ack=true", "tag=t.{{.Name}}"])?;
    let got = until("two records", || Ok(Some(text(&records)).filter(|t| t.contains("two"))))?;
    for part in ["t.fluentd", "container_name", "/fluentd", "source", "stdout", "stderr", "log", "one"] {
        assert!(got.contains(part), "{part}: {got:?}");
    }
    daemon.stop()
}

#[test]
fn fluentd_is_connected_anew_now_and_then() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let (listener, port) = tcp(&daemon)?;
    let (records, connections) = (Got::default(), Arc::new(AtomicUsize::new(0)));
    let (shared, counted) = (Arc::clone(&records), Arc::clone(&connections));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || take(stream, &shared));
        }
    });
    let address = format!("fluentd-address=127.0.0.1:{port}");
    let script = "for line in 1 2 3 4; do echo line$line; sleep .5; done";
    run(&daemon, "once", "fluentd", &[&address, "fluentd-async=true"], script)?;
    until("all lines", || Ok(text(&records).contains("line4").then_some(())))?;
    assert_eq!(connections.swap(0, Ordering::SeqCst), 1);
    let options = [&address[..], "fluentd-async=true", "fluentd-async-reconnect-interval=100ms"];
    run(&daemon, "anew", "fluentd", &options, &script.replace("line$", "more$"))?;
    until("all lines", || Ok(text(&records).contains("more4").then_some(())))?;
    assert!(connections.load(Ordering::SeqCst) > 1);
    daemon.stop()
}

/// Answers each message with its chunk: the last text of it, of 24 letters.
fn acknowledge(mut stream: TcpStream, got: &Got) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        got.lock().unwrap().extend_from_slice(&buffer[..count]);
        let chunk = &buffer[count.saturating_sub(24)..count];
        let answer = [b"\x81\xa3ack\xb8".as_slice(), chunk].concat();
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

#[test]
fn a_killed_daemon_and_an_absent_receiver_lose_no_line() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let (listener, port) = tcp(&daemon)?;
    let address = format!("syslog-address=tcp://127.0.0.1:{port}");
    let script =
        "i=0; while [ $i -lt 3000 ]; do echo line$i.; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.05; done";
    let args = ["run", "-d", "--name", "ll", "--network=none", "--log-driver=syslog", "--log-opt", &address];
    daemon.docker(&[&args[..], &["busybox", "sh", "-c", script]].concat())?.ok()?;
    let first = collect(listener.try_clone()?);
    until("some lines", || Ok(text(&first).contains("line100.").then_some(())))?;
    daemon.kill9()?;
    daemon.launch()?;
    until("more lines", || Ok(text(&first).contains("line1500.").then_some(())))?;
    daemon.kill9()?;
    daemon.launch()?;
    daemon.docker(&["wait", "ll"])?.ok()?;
    let all = until("the last line", || Ok(Some(text(&first)).filter(|t| t.contains("line2999."))))?;
    for n in 0..3000 {
        assert!(all.contains(&format!("]: line{n}.\n")), "line{n} is lost");
    }
    // What was sent in the last batch before a kill may have come twice, and nothing more.
    let count = all.matches("]: line").count();
    assert!(count < 3000 + 2 * 1100, "{count}");
    daemon.stop()
}

#[test]
fn options_are_refused_in_dockers_words() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for (driver, options, said) in [
        ("syslog", vec!["nosuch=1"], "unknown log opt 'nosuch' for syslog log driver"),
        ("syslog", vec!["syslog-address=http://x"], "unsupported scheme: 'http'"),
        ("gelf", vec![], "gelf-address is a required parameter"),
        ("gelf", vec!["gelf-address=udp://x"], "please provide gelf-address as proto://host:port"),
        ("fluentd", vec!["fluentd-async=x"], "strconv.ParseBool: parsing \"x\": invalid syntax"),
        ("journald", vec!["x=1"], "unknown log opt 'x' for journald log driver"),
        ("awslogs", vec![], "error looking up logging plugin awslogs: plugin \"awslogs\" not found"),
        ("json-file", vec!["compress=true"], "compress cannot be true when max-file is less than 2"),
    ] {
        let mut args = vec!["create", "--network=none", "--log-driver", driver];
        options.iter().for_each(|option| args.extend(["--log-opt", option]));
        args.push("busybox");
        let refused = daemon.docker(&args)?;
        assert!(
            refused.code == 1 && refused.stderr.contains(said),
            "{driver} {options:?}: {}",
            refused.stderr
        );
    }
    if !std::path::Path::new("/run/systemd/journal/socket").exists() {
        let refused =
            daemon.docker(&["run", "--network=none", "--log-driver=journald", "busybox", "true"])?;
        assert!(refused.stderr.contains("journald is not enabled on this host"), "{}", refused.stderr);
    }
    let info = daemon.docker(&["info", "--format", "{{.Plugins.Log}}"])?.ok()?;
    assert_eq!(info, "[fluentd gelf journald json-file local none syslog]\n");
    daemon.stop()
}
