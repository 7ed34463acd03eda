//! Every verb of a container under faults: at each step that it passes in the daemon, the zygote, the shim or the
//! container's first process, that step fails (a step of a connection: the connection is lost), or the process that
//! is there dies. Whatever happens, the API tells the truth afterwards, nothing is left behind, other containers run
//! on, and the verb works.
//!
//! The steps are those that the verb was seen to pass (`wharf_sys::fault`): nobody keeps a list. A part of them runs
//! each time, all with `cargo xtask test --full`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use wharf_testkit::{Daemon, Faults, Footprint, Pass, Point, Response, is_full, run_in_part, until};

/// Something that is done to the container `one`.
struct Verb {
    name: &'static str,
    /// Brings `one` to where the verb begins, wherever it is.
    prepare: fn(&Daemon) -> Result<()>,
    work: fn(&mut Daemon) -> Result<()>,
    /// Whether the verb has its effect.
    is_done: fn(&Daemon) -> Result<bool>,
}

const VERBS: [Verb; 14] = [
    Verb { name: "create", prepare: absent, work: create, is_done: |daemon| Ok(state(daemon)? == "created") },
    Verb { name: "start", prepare: created, work: start, is_done: is_running },
    Verb { name: "exec", prepare: running, work: exec, is_done: is_running },
    Verb { name: "exec of a terminal", prepare: running, work: exec_terminal, is_done: is_running },
    Verb { name: "attach", prepare: running, work: attach, is_done: is_running },
    Verb { name: "pause", prepare: running, work: pause, is_done: |daemon| Ok(state(daemon)? == "paused") },
    Verb { name: "unpause", prepare: paused, work: unpause, is_done: is_running },
    Verb { name: "update", prepare: running, work: update, is_done: |daemon| memory_is(daemon, 99 << 20) },
    Verb { name: "rename", prepare: running, work: rename, is_done: |daemon| is_there(daemon, "two") },
    Verb { name: "stop", prepare: running, work: stop, is_done: is_ended },
    Verb { name: "kill", prepare: running, work: kill, is_done: is_ended },
    Verb { name: "restart", prepare: running, work: restart, is_done: is_running },
    Verb { name: "remove", prepare: running, work: remove, is_done: |daemon| Ok(!is_there(daemon, "one")?) },
    Verb { name: "restore", prepare: running, work: restore, is_done: is_running },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Error,
    Death,
}

impl Kind {
    fn order(self) -> &'static str {
        if self == Kind::Error { "enospc" } else { "kill" }
    }
}

#[test]
fn a_container_under_faults() -> Result<()> {
    verbs(&["create", "start", "stop", "kill", "remove"])
}

#[test]
fn a_running_container_under_faults() -> Result<()> {
    let verbs_of_it = ["exec", "exec of a terminal", "attach", "pause", "unpause", "update", "rename"];
    verbs(&verbs_of_it)
}

#[test]
fn a_restarted_container_under_faults() -> Result<()> {
    verbs(&["restart", "restore"])
}

fn verbs(names: &[&str]) -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    if !is_full() {
        run_in_part("the first pass of each step, failing or dying");
    }
    post(
        &daemon,
        "/volumes/create",
        &json!({"Name": "scratch", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}),
    )?;
    let only = std::env::var("WHARF_VERB").ok();
    let wanted = |verb: &&Verb| only.as_ref().map_or(names.contains(&verb.name), |only| only == verb.name);
    let mut counts = BTreeMap::new();
    for verb in VERBS.iter().filter(wanted) {
        survives(&mut daemon, verb, &mut counts).with_context(|| verb.name)?;
    }
    wharf_testkit::figure(&format!("strikes {counts:?}"));
    absent(&daemon)?;
    daemon.stop()
}

/// Strikes a verb at each point that it passes.
fn survives(daemon: &mut Daemon, verb: &Verb, counts: &mut BTreeMap<(String, Kind), usize>) -> Result<()> {
    let faults = daemon.faults()?;
    // Some directories are made the first time, and stay.
    for _ in 0..2 {
        (verb.prepare)(daemon)?;
        (verb.work)(daemon).context("without a fault")?;
    }
    absent(daemon)?;
    neighbour(daemon)?;
    let before = Footprint::at_rest(daemon)?;
    let mut points = trace(daemon, &faults, verb)?;
    // On a busy machine a shim passes it so late after a start that it is seen with what follows.
    points.retain(|point| point.name != "shim.started" || verb.name.contains("start"));
    let strikes = match is_full() {
        true => all(&points),
        false => part(&points),
    };
    for (pass, kind) in strikes {
        *counts.entry((verb.name.to_owned(), kind)).or_default() += 1;
        let survived = survives_one(daemon, &faults, verb, &pass, kind, &before);
        survived
            .with_context(|| format!("{} at {} pass {}\n{}", kind.order(), pass.0, pass.1, daemon.log()))?;
    }
    Ok(())
}

/// What the verb passes each time: what the daemon does in the background may come sooner or later.
fn trace(daemon: &mut Daemon, faults: &Faults, verb: &Verb) -> Result<Vec<Point>> {
    let mut each_time: Option<Vec<Point>> = None;
    for _ in 0..3 {
        (verb.prepare)(daemon)?;
        daemon.assert_true("one")?;
        let points = faults.trace(|| {
            (verb.work)(daemon)?;
            daemon.assert_true("one")
        })?;
        each_time = Some(match each_time {
            None => points,
            Some(before) => before.iter().filter_map(|point| least(point, &points)).collect(),
        });
    }
    each_time.context("a trace")
}

fn least(point: &Point, others: &[Point]) -> Option<Point> {
    let other = others.iter().find(|other| other.name == point.name)?;
    Some(Point { passes: point.passes.min(other.passes), ..point.clone() })
}

fn kinds(point: &Point) -> &'static [Kind] {
    if point.only_dies { &[Kind::Death] } else { &[Kind::Error, Kind::Death] }
}

fn all(points: &[Point]) -> Vec<(Pass, Kind)> {
    let passes = points.iter().flat_map(|point| point.struck().into_iter().map(move |pass| (pass, point)));
    passes.flat_map(|(pass, point)| kinds(point).iter().map(move |kind| (pass.clone(), *kind))).collect()
}

/// Points that some verb was struck at.
static TRIED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The first pass of each point that no other verb was struck at. What is struck in the tests of images and of
/// containers on disk is left to them.
fn part(points: &[Point]) -> Vec<(Pass, Kind)> {
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_elsewhere = |name: &str| ["store.", "container.", "layer."].iter().any(|p| name.starts_with(p));
    let mut strikes = Vec::new();
    for point in points {
        if is_elsewhere(&point.name) || !tried.insert(point.name.clone()) {
            continue;
        }
        let kinds = kinds(point);
        strikes.push(((point.name.clone(), 1), kinds[tried.len() % kinds.len()]));
    }
    strikes
}

fn survives_one(
    daemon: &mut Daemon,
    faults: &Faults,
    verb: &Verb,
    pass: &Pass,
    kind: Kind,
    before: &Footprint,
) -> Result<()> {
    (verb.prepare)(daemon)?;
    daemon.assert_true("one")?;
    let neighbour = neighbour(daemon)?;
    let daemons_pid = daemon.pid();
    faults.arm(pass, kind.order())?;
    let outcome = (verb.work)(daemon);
    until("the fault to strike", || Ok(faults.victim().map(drop))).context("it did not strike")?;
    faults.disarm()?;
    let victim = faults.victim().context("a victim")?;
    // The one that runs now, which may be another one; it may also have refused to start on an error.
    if victim == daemon.pid() && kind == Kind::Death || !daemon.is_alive()? {
        daemon.wait_for_death()?;
        daemon.launch()?;
    }
    if let (Err(error), Kind::Error) = (&outcome, kind) {
        ensure!(!format!("{error:#}").is_empty(), "no reason given");
    }
    if kind == Kind::Error {
        for name in ["one", "two"] {
            daemon.assert_true_but_for_records(name)?;
        }
        // What could not be written down or removed is put right at the next start.
        daemon.terminate()?;
        daemon.launch()?;
    }
    for name in ["one", "two"] {
        daemon.assert_true(name)?;
    }
    // Restoring speaks with its shim as well, which may be the one that was struck.
    let is_untouched = verb.name != "restore" || victim == daemons_pid;
    ensure!(!is_untouched || Path::new(&format!("/proc/{neighbour}")).exists(), "another container ended");
    (verb.prepare)(daemon).context("going back")?;
    (verb.work)(daemon).context("the second try")?;
    until("the second try's effect", || Ok((verb.is_done)(daemon)?.then_some(())))?;
    absent(daemon)?;
    self::neighbour(daemon)?;
    before.comes_back(daemon)
}

/// A container that nothing is done to: its process.
fn neighbour(daemon: &Daemon) -> Result<i64> {
    if !is_there(daemon, "other")? {
        let request =
            json!({"Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none"}});
        post(daemon, "/containers/create?name=other", &request)?;
    }
    // Started already is as good.
    post(daemon, "/containers/other/start", &Value::Null).ok();
    inspect(daemon, "other")?["State"]["Pid"].as_i64().filter(|pid| *pid > 0).context("a pid")
}

fn post(daemon: &Daemon, path: &str, body: &Value) -> Result<Response> {
    let answer = match body {
        Value::Null => daemon.api().call("POST", path)?,
        body => daemon.api().json("POST", path, body)?,
    };
    ensure!(answer.status < 300, "{path}: {} {}", answer.status, answer.message());
    Ok(answer)
}

fn inspect(daemon: &Daemon, name: &str) -> Result<Value> {
    Ok(daemon.api().call("GET", &format!("/containers/{name}/json"))?.json())
}

fn state(daemon: &Daemon) -> Result<String> {
    Ok(inspect(daemon, "one")?["State"]["Status"].as_str().unwrap_or("none").to_owned())
}

fn is_there(daemon: &Daemon, name: &str) -> Result<bool> {
    Ok(daemon.api().call("GET", &format!("/containers/{name}/json"))?.status == 200)
}

fn is_running(daemon: &Daemon) -> Result<bool> {
    Ok(state(daemon)? == "running")
}

fn is_ended(daemon: &Daemon) -> Result<bool> {
    Ok(state(daemon)? == "exited")
}

fn memory_is(daemon: &Daemon, wanted: u64) -> Result<bool> {
    Ok(inspect(daemon, "one")?["HostConfig"]["Memory"] == wanted)
}

fn absent(daemon: &Daemon) -> Result<()> {
    for name in ["one", "two"] {
        let answer = daemon.api().call("DELETE", &format!("/containers/{name}?force=1&v=1"))?;
        ensure!(matches!(answer.status, 204 | 404), "{} {}", answer.status, answer.message());
    }
    Ok(())
}

fn created(daemon: &Daemon) -> Result<()> {
    absent(daemon)?;
    // It answers SIGTERM, and what it is told.
    let script =
        "trap 'exit 3' TERM; while :; do if read line; then echo got $line; else sleep 1000 & wait; fi; done";
    let request = json!({
        "Image": "busybox", "Cmd": ["sh", "-c", script], "OpenStdin": true,
        "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {
            "IpcMode": "shareable", "Binds": ["scratch:/scratch"], "Memory": 77 << 20, "MemorySwap": -1,
            "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
        },
    });
    post(daemon, "/containers/create?name=one", &request).map(drop)
}

fn running(daemon: &Daemon) -> Result<()> {
    created(daemon)?;
    post(daemon, "/containers/one/start", &Value::Null).map(drop)
}

fn paused(daemon: &Daemon) -> Result<()> {
    running(daemon)?;
    post(daemon, "/containers/one/pause", &Value::Null).map(drop)
}

fn create(daemon: &mut Daemon) -> Result<()> {
    created(daemon)
}

fn start(daemon: &mut Daemon) -> Result<()> {
    post(daemon, "/containers/one/start", &Value::Null)?;
    // Its address and port are free, whatever went before.
    let address = &inspect(daemon, "one")?["NetworkSettings"]["Networks"]["bridge"]["IPAddress"];
    ensure!(address.as_str().is_some_and(|a| a.ends_with(".0.2")), "its address is {address}");
    Ok(())
}

fn exec(daemon: &mut Daemon) -> Result<()> {
    run_exec(daemon, false)
}

fn exec_terminal(daemon: &mut Daemon) -> Result<()> {
    run_exec(daemon, true)
}

fn run_exec(daemon: &Daemon, terminal: bool) -> Result<()> {
    let request =
        json!({"Cmd": ["echo", "done"], "AttachStdout": true, "AttachStderr": true, "Tty": terminal});
    let made = post(daemon, "/containers/one/exec", &request)?.json();
    let id = made["Id"].as_str().context("an id")?;
    let mut stream = daemon.api().hijack(&format!("/exec/{id}/start"), &json!({"Tty": terminal}))?;
    let mut output = Vec::new();
    stream.read_to_end(&mut output)?;
    ensure!(String::from_utf8_lossy(&output).contains("done"), "it says {output:?}");
    let code = until("its end", || {
        let exec = daemon.api().call("GET", &format!("/exec/{id}/json"))?.json();
        Ok((exec["Running"] == false).then(|| exec["ExitCode"].clone()))
    })?;
    ensure!(code == 0, "it ended with {code}");
    Ok(())
}

fn attach(daemon: &mut Daemon) -> Result<()> {
    let path = "/containers/one/attach?stream=1&stdin=1&stdout=1";
    let mut stream = daemon.api().hijack(path, &json!({}))?;
    stream.write_all(b"word\n")?;
    let mut frame = [0; 17];
    stream.read_exact(&mut frame)?;
    ensure!(frame.ends_with(b"got word\n"), "it says {frame:?}");
    Ok(())
}

fn pause(daemon: &mut Daemon) -> Result<()> {
    post(daemon, "/containers/one/pause", &Value::Null).map(drop)
}

fn unpause(daemon: &mut Daemon) -> Result<()> {
    post(daemon, "/containers/one/unpause", &Value::Null).map(drop)
}

fn update(daemon: &mut Daemon) -> Result<()> {
    post(daemon, "/containers/one/update", &json!({"Memory": 99 << 20, "MemorySwap": -1})).map(drop)
}

fn rename(daemon: &mut Daemon) -> Result<()> {
    post(daemon, "/containers/one/rename?name=two", &Value::Null).map(drop)
}

fn stop(daemon: &mut Daemon) -> Result<()> {
    post(daemon, "/containers/one/stop?t=5", &Value::Null).map(drop)
}

fn kill(daemon: &mut Daemon) -> Result<()> {
    post(daemon, "/containers/one/kill", &Value::Null).map(drop)
}

fn restart(daemon: &mut Daemon) -> Result<()> {
    post(daemon, "/containers/one/restart?t=0", &Value::Null).map(drop)
}

fn remove(daemon: &mut Daemon) -> Result<()> {
    let answer = daemon.api().call("DELETE", "/containers/one?force=1&v=1")?;
    ensure!(answer.status == 204, "{} {}", answer.status, answer.message());
    Ok(())
}

/// The daemon dies, and the next one takes over.
fn restore(daemon: &mut Daemon) -> Result<()> {
    if daemon.is_alive()? {
        daemon.kill9()?;
    }
    daemon.launch()?;
    let pid = inspect(daemon, "one")?["State"]["Pid"].as_i64().context("a pid")?;
    fs::metadata(format!("/proc/{pid}")).context("the container has ended").map(drop)
}
