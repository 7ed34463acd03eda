//! Bytes through attach: binary, many, with terminals and without, by old clients, with half-close and signals.

use crate::container_lifecycle::run_detached;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{SystemTime, UNIX_EPOCH},
};
use wharf_testkit::{Daemon, until};

/// Megabytes that go through: half a gigabyte in the full suite.
fn megabytes() -> usize {
    if std::env::var_os("WHARF_FULL").is_some_and(|value| value == "1") { 500 } else { 30 }
}

/// Every byte value, without a pattern that a lost piece would leave whole.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count / 8).flat_map(|_| next()).collect()
}

#[test]
fn any_bytes_go_in_and_out_unchanged() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let sent = bytes(megabytes() << 20);
    let file = daemon.dir().join("bytes");
    std::fs::write(&file, &sent)?;
    let volume = format!("{}:/bytes:ro", file.display());
    let run = |flags: &[&str], program: &[&str]| -> Result<Vec<u8>> {
        let args = [&["run", "--rm", "--network=none", "--log-driver=none"], flags, &["busybox"], program];
        let mut child = daemon.net().spawn(&mut daemon.cli_command("docker", &args.concat()))?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        let input = if flags.contains(&"-i") { sent.clone() } else { Vec::new() };
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let mut got = Vec::new();
        child.stdout.take().context("a pipe")?.read_to_end(&mut got)?;
        // Our end of the input is closed with the thread: the container sees the end of it.
        let _ = writer.join();
        anyhow::ensure!(child.wait()?.success(), "{args:?}");
        Ok(got)
    };
    assert!(run(&["-i"], &["cat"])? == sent, "through pipes both ways");
    // A terminal of which nothing is translated.
    let raw = "stty raw -echo; cat /bytes";
    assert!(run(&["-t", "-v", &volume], &["sh", "-c", raw])? == sent, "through a terminal");
    daemon.stop()
}

#[test]
fn clients_without_upgrade_get_the_stream_as_of_old() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon
        .docker(&[
            "run",
            "-d",
            "-i",
            "--name",
            "old",
            "--network=none",
            "busybox",
            "sh",
            "-c",
            "cat; echo end",
        ])?
        .ok()?;
    let mut stream = UnixStream::connect(daemon.socket())?;
    let path = "/v1.24/containers/old/attach?stream=1&stdin=1&stdout=1&stderr=1";
    write!(stream, "POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: text/plain\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream"), "{head}");
    stream.write_all(b"typed\n")?;
    let mut echoed = [0; 14];
    stream.read_exact(&mut echoed)?;
    assert_eq!(&echoed, b"\x01\0\0\0\0\0\0\x06typed\n");
    // Half-close: the container is not told (it was not made for one client), and the attachment ends.
    stream.shutdown(Shutdown::Write)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    let running = daemon.docker(&["inspect", "-f", "{{.State.Running}}", "old"])?.ok()?;
    assert_eq!(running, "true\n");
    daemon.stop()
}

#[test]
fn signals_are_passed_on_and_keys_detach() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    for program in ["docker", "wharf"] {
        let name = format!("s-{program}");
        let args = ["run", "--name", &name, "--network=none", "busybox", "sh", "-c", script];
        let path = daemon.program(program);
        let mut client = daemon.net().spawn(&mut daemon.cli_command(&path.to_string_lossy(), &args))?;
        let mut out = client.stdout.take().context("a pipe")?;
        let mut ready = [0; 6];
        out.read_exact(&mut ready)?;
        kill_process(Pid::from_child(&client), Signal::TERM)?;
        let mut rest = String::new();
        out.read_to_string(&mut rest)?;
        assert_eq!((rest.as_str(), client.wait()?.code()), ("caught\n", Some(7)), "{program}");
    }
    run_detached(&daemon, "quiet", &["sh", "-c", script])?;
    let attach = ["attach", "--sig-proxy=false", "quiet"];
    // Ours: without --sig-proxy docker 28 does not end by SIGTERM at all.
    let wharf = daemon.program("wharf");
    let mut client = daemon.net().spawn(&mut daemon.cli_command(&wharf.to_string_lossy(), &attach))?;
    until("an attached client", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let path = format!("/events?since=1&until={now}&filters=%7B%22event%22%3A%5B%22attach%22%5D%7D");
        let events = String::from_utf8(daemon.api().call("GET", &path)?.body)?;
        Ok(events.contains("quiet").then_some(()))
    })?;
    kill_process(Pid::from_child(&client), Signal::TERM)?;
    client.wait()?;
    assert_eq!(daemon.docker(&["inspect", "-f", "{{.State.Running}}", "quiet"])?.ok()?, "true\n");

    // Detach with keys, attach again: the same program goes on.
    daemon.docker(&["run", "-dit", "--name", "tt", "--network=none", "busybox", "sh"])?.ok()?;
    for round in 0..2 {
        let mut stream = UnixStream::connect(daemon.socket())?;
        let path = "/v1.47/containers/tt/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x";
        write!(stream, "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
        writeln!(stream, "echo round$((1{round}+1))")?;
        let mut seen = String::new();
        let expected = format!("round1{}", round + 1);
        while !seen.contains(&expected) {
            let mut part = [0; 256];
            let count = stream.read(&mut part)?;
            anyhow::ensure!(count > 0, "ended with {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&part[..count]));
        }
        stream.write_all(b"\x01x")?;
        stream.read_to_end(&mut Vec::new())?;
    }
    assert_eq!(daemon.docker(&["inspect", "-f", "{{.State.Running}}", "tt"])?.ok()?, "true\n");
    daemon.stop()
}
