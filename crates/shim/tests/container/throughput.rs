//! How fast output and input move, and what a quiet shim weighs. Prints figures; fails only when bytes are lost.
//! Run it on a release build: `WHARF_SHIM=target/release/wharf-shim cargo test -p wharf-shim --test container --
//! --ignored --nocapture --test-threads=1`.

use crate::support::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;
use wharf_spec::plan::{Log, Stdio};
use wharf_spec::shim::*;

const LINES: usize = 5_000_000;
const BYTES: usize = LINES * 100;
/// 500 MB in lines of 100 bytes, faster than anybody reads them.
const PRODUCER: &str = "read x; exec cat $(seq 1 100 | while read n; do echo /lines; done)";

fn host(test: &str) -> Host {
    let host = Host::new(test);
    let line = [&[b'x'; 99][..], b"\n"].concat();
    std::fs::write(host.dir.path().join("rootfs/lines"), line.repeat(LINES / 100)).unwrap();
    host
}

fn report(what: &str, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {seconds:.2} s, {:.0} MB/s", BYTES as f64 / 1e6 / seconds);
}

fn run(host: &Host, id: &str, log: bool, client: bool) {
    let mut plan = host.plan(id, PRODUCER);
    plan.stdio = Stdio::Shim { stdin: true, stdin_once: false };
    if !log {
        plan.log = Log::None;
    }
    let mut shim = host.start(plan);
    let mut starter = shim.attach(None, b"");
    if !client {
        // Its end of input ends its attachment, not the container's input.
        let start = Instant::now();
        starter.write_all(b"\n").unwrap();
        drop(starter);
        assert_eq!(shim.end().code, 0);
        return report("log alone", start);
    }
    let start = Instant::now();
    starter.write_all(b"\n").unwrap();
    let mut buffer = vec![0; 1 << 18];
    let mut got = 0;
    loop {
        match starter.read(&mut buffer).unwrap() {
            0 => break,
            count => got += count,
        }
    }
    assert!(got > BYTES);
    report(if log { "attach with log" } else { "attach without log" }, start);
    shim.end();
}

#[test]
#[ignore = "takes half a gigabyte and measures"]
fn output_to_the_log() {
    let host = host("speed-log");
    for round in 0..3 {
        let id = format!("c{round}");
        run(&host, &id, true, false);
        let size = std::fs::metadata(host.log_path(&id)).unwrap().len() as usize;
        assert!(size > BYTES + LINES * 60, "{size}");
        std::fs::remove_file(host.log_path(&id)).unwrap();
    }
}

#[test]
#[ignore = "takes half a gigabyte and measures"]
fn output_to_a_client() {
    let host = host("speed-attach");
    for round in 0..3 {
        run(&host, &format!("a{round}"), false, true);
        run(&host, &format!("b{round}"), true, true);
        std::fs::remove_file(host.log_path(&format!("b{round}"))).unwrap();
    }
}

#[test]
#[ignore = "takes half a gigabyte and measures"]
fn input_from_a_client() {
    let host = host("speed-stdin");
    let mut plan = host.plan("c", "cat > /dev/null");
    plan.stdio = Stdio::Shim { stdin: true, stdin_once: true };
    let mut shim = host.start(plan);
    let mut client = shim.attach(None, b"");
    let data = vec![7; 1 << 20];
    let start = Instant::now();
    for _ in 0..BYTES >> 20 {
        client.write_all(&data).unwrap();
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(shim.end().code, 0);
    report("input", start);
}

#[test]
#[ignore = "measures"]
fn weight_of_quiet_shims() {
    let host = Host::new("weight");
    let mut shims: Vec<_> =
        (0..20).map(|n| host.start(host.plan(&format!("c{n}"), "seq 1 10000; sleep 1000"))).collect();
    std::thread::sleep(std::time::Duration::from_secs(4));
    for shim in [&shims[0], &shims[19]] {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.shim_pid)).unwrap();
        if std::env::var_os("WHARF_SMAPS").is_some() {
            println!("{}", std::fs::read_to_string(format!("/proc/{}/smaps", shim.shim_pid)).unwrap());
        }
        let lines: Vec<_> = text
            .lines()
            .filter(|l| ["Pss:", "Private_Dirty:", "Rss:"].iter().any(|k| l.starts_with(k)))
            .collect();
        println!("{lines:?}");
    }
    for shim in &mut shims {
        shim.signal(9);
    }
    for shim in shims {
        assert_eq!(shim.end().code, 137);
    }
}

#[test]
#[ignore = "measures"]
fn start_and_exec_of_true() {
    let host = Host::new("start");
    let median = |mut times: Vec<std::time::Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let mut starts = Vec::new();
    let mut ends = Vec::new();
    for n in 0..100 {
        let mut plan = host.plan(&format!("c{n}"), "");
        plan.process = process(&["/bin/true"]);
        let begin = Instant::now();
        let mut shim = host.start(plan);
        starts.push(begin.elapsed());
        let Event::Exited(record) = shim.event() else { panic!("no exit") };
        ends.push(begin.elapsed());
        assert_eq!((record.code, shim.ask(Call::Release, &[])), (0, Ok(Answer::Done)));
    }
    println!("started after {:?}, exited after {:?}", median(starts), median(ends));
    let mut shim = host.start(host.plan("e", "sleep 1000"));
    let mut execs = Vec::new();
    for n in 0..100 {
        let mut plan = exec_plan(&format!("e{n}"), "");
        plan.process = process(&["/bin/true"]);
        let begin = Instant::now();
        shim.ask(Call::Exec(Box::new(plan)), &[]).unwrap();
        let Event::ExecExited { .. } = shim.event() else { panic!("no exit") };
        execs.push(begin.elapsed());
    }
    println!("exec over after {:?}", median(execs));
    shim.signal(9);
    shim.end();
}
