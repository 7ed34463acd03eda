//! The same thing many times over, and many at once: nothing grows. A part each time, all with
//! `cargo xtask test --full`. Times are reported, never asserted.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};
use wharf_testkit::{Api, Daemon, Footprint, amount, figure, until};

/// Memory of the daemon and of a shim may grow by this much, whatever the number of cycles: allocators and tables
/// take their time to reach their size.
const DAEMON_SLACK: u64 = 6 << 10;
const SHIM_SLACK: u64 = 512;

fn post(api: &Api, path: &str, body: &Value) -> Result<Value> {
    let answer = match body {
        Value::Null => api.call("POST", path)?,
        body => api.json("POST", path, body)?,
    };
    ensure!(answer.status < 300, "{path}: {} {}", answer.status, answer.message());
    Ok(answer.json())
}

fn create(api: &Api, name: &str, command: &[&str], network: &str) -> Result<()> {
    let request = json!({
        "Image": "busybox", "Cmd": command, "OpenStdin": true, "HostConfig": {"NetworkMode": network},
    });
    post(api, &format!("/containers/create?name={name}"), &request).map(drop)
}

fn start(api: &Api, name: &str) -> Result<()> {
    post(api, &format!("/containers/{name}/start"), &Value::Null).map(drop)
}

/// Resident KiB that are a process's own.
fn memory(pid: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).context("RssAnon")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

fn descriptors(pid: &str) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// The pid of a container's shim.
fn shim(daemon: &Daemon, name: &str) -> Result<String> {
    let told = daemon.api().call("GET", &format!("/containers/{name}/json"))?.json();
    let id = told["Id"].as_str().context("an id")?;
    let text = fs::read_to_string(daemon.exec_root().join("containers").join(id).join("shim.pid"))?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// What is measured over cycles.
struct Course<'a> {
    daemon: &'a Daemon,
    /// A shim that lives through all of them.
    shim: Option<String>,
}

impl Course<'_> {
    /// Runs all cycles. Memory and descriptors after the last are those after the first tenth.
    fn run(&self, cycles: usize, mut cycle: impl FnMut(usize) -> Result<()>) -> Result<()> {
        let daemon = self.daemon.pid().to_string();
        let mut times = Vec::with_capacity(cycles);
        let tenth = (cycles / 10).max(1);
        let mut early = None;
        for number in 0..cycles {
            let begun = Instant::now();
            cycle(number).with_context(|| format!("cycle {number}"))?;
            times.push(begun.elapsed());
            if number + 1 == tenth {
                early = Some((Footprint::at_rest(self.daemon)?, self.memories(&daemon)?));
            }
        }
        let (footprint, before) = early.context("at least one cycle")?;
        footprint.comes_back(self.daemon)?;
        let after = self.memories(&daemon)?;
        figure(&format!(
            "{cycles} cycles, median {:?} in the first tenth, {:?} in the last; daemon {} -> {} KiB, shim {} -> {} KiB",
            median(&mut times[..tenth]),
            median(&mut times[cycles - tenth..]),
            before.0,
            after.0,
            before.1,
            after.1
        ));
        ensure!(after.0 <= before.0 + DAEMON_SLACK, "the daemon grew from {} to {} KiB", before.0, after.0);
        ensure!(after.1 <= before.1 + SHIM_SLACK, "the shim grew from {} to {} KiB", before.1, after.1);
        Ok(())
    }

    fn memories(&self, daemon: &str) -> Result<(u64, u64)> {
        Ok((memory(daemon)?, self.shim.as_deref().map_or(Ok(0), memory)?))
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn start_and_stop() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let api = daemon.api();
    create(&api, "one", &["sleep", "100000"], "bridge")?;
    let cycles = amount(10_000, 60);
    Course { daemon: &daemon, shim: None }.run(cycles, |_| {
        start(&api, "one")?;
        post(&api, "/containers/one/stop?t=0", &Value::Null).map(drop)
    })?;
    daemon.stop()
}

#[test]
fn two_hundred_at_once() -> Result<()> {
    const AT_A_TIME: usize = 8;
    let daemon = Daemon::with_busybox()?;
    let count = amount(200, 40);
    let each = |work: &(dyn Fn(&Api, usize) -> Result<()> + Sync)| -> Result<()> {
        let one = |first| {
            let api = daemon.api();
            (first..count).step_by(AT_A_TIME).try_for_each(|number| work(&api, number))
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_A_TIME).map(|first| scope.spawn(move || one(first))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a thread"))
        })
    };
    // The first of all is what shows what one leaves.
    create(&daemon.api(), "first", &["true"], "bridge")?;
    start(&daemon.api(), "first")?;
    until("its end", || {
        let told = daemon.api().call("GET", "/containers/first/json")?.json();
        Ok((told["State"]["Running"] == false).then_some(()))
    })?;
    let before = Footprint::at_rest(&daemon)?;
    let begun = Instant::now();
    each(&|api, number| {
        create(api, &format!("c{number}"), &["sleep", "100000"], "bridge")?;
        start(api, &format!("c{number}"))
    })?;
    let took = begun.elapsed();
    let running = daemon.api().call("GET", "/containers/json")?.json().as_array().map_or(0, Vec::len);
    ensure!(running == count, "{running} of {count} run");
    let shims = (0..count).map(|number| shim(&daemon, &format!("c{number}"))).collect::<Result<Vec<_>>>()?;
    let memory = shims.iter().map(|pid| memory(pid)).sum::<Result<u64>>()?;
    let begun = Instant::now();
    each(&|api, number| {
        let answer = api.call("DELETE", &format!("/containers/c{number}?force=1"))?;
        ensure!(answer.status == 204, "{} {}", answer.status, answer.message());
        Ok(())
    })?;
    figure(&format!(
        "{count} containers started in {took:?}, 8 at a time, removed in {:?}; {} KiB of its own per shim",
        begun.elapsed(),
        memory / count as u64
    ));
    before.comes_back(&daemon)?;
    daemon.stop()
}

/// A running container that echoes what it is told.
fn echoing() -> Result<(Daemon, String)> {
    let daemon = Daemon::with_busybox()?;
    create(&daemon.api(), "one", &["cat"], "none")?;
    start(&daemon.api(), "one")?;
    let shim = shim(&daemon, "one")?;
    Ok((daemon, shim))
}

fn exec(api: &Api, request: &Value) -> Result<std::os::unix::net::UnixStream> {
    let made = post(api, "/containers/one/exec", request)?;
    let id = made["Id"].as_str().context("an id")?;
    api.hijack(&format!("/exec/{id}/start"), &json!({}))
}

#[test]
fn execs_in_a_row() -> Result<()> {
    let (daemon, shim) = echoing()?;
    let (api, before) = (daemon.api(), descriptors(&shim)?);
    let request = json!({"Cmd": ["echo", "x"], "AttachStdout": true});
    Course { daemon: &daemon, shim: Some(shim.clone()) }.run(amount(1_000, 60), |_| {
        let mut output = Vec::new();
        exec(&api, &request)?.read_to_end(&mut output)?;
        ensure!(output.ends_with(b"x\n"), "{output:?}");
        Ok(())
    })?;
    until("the shim's descriptors", || Ok((descriptors(&shim)? <= before).then_some(())))?;
    daemon.stop()
}

#[test]
fn cve_2025_64329_attached_and_gone() -> Result<()> {
    let (daemon, shim) = echoing()?;
    let (api, before) = (daemon.api(), descriptors(&shim)?);
    let path = "/containers/one/attach?stream=1&stdin=1&stdout=1";
    Course { daemon: &daemon, shim: Some(shim.clone()) }.run(amount(10_000, 200), |number| {
        let mut stream = api.hijack(path, &json!({}))?;
        match number % 3 {
            // Gone at once, gone with half a conversation, gone after a whole one.
            0 => Ok(()),
            1 => Ok(stream.shutdown(Shutdown::Write)?),
            _ => {
                stream.write_all(b"x\n")?;
                Ok(stream.read_exact(&mut [0; 10])?)
            }
        }
    })?;
    until("the shim's descriptors", || Ok((descriptors(&shim)? <= before).then_some(())))?;
    daemon.stop()
}

#[test]
fn cve_2025_64329_half_closed_execs() -> Result<()> {
    let (daemon, shim) = echoing()?;
    let (api, before) = (daemon.api(), descriptors(&shim)?);
    let request = json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true});
    Course { daemon: &daemon, shim: Some(shim.clone()) }.run(amount(1_000, 60), |number| {
        let mut stream = exec(&api, &request)?;
        stream.write_all(b"x\n")?;
        stream.shutdown(Shutdown::Write)?;
        // One in two does not wait for what is left to be read.
        if number % 2 == 0 {
            let mut output = Vec::new();
            stream.read_to_end(&mut output)?;
            ensure!(output.ends_with(b"x\n"), "{output:?}");
        }
        Ok(())
    })?;
    until("the shim's descriptors", || Ok((descriptors(&shim)? <= before).then_some(())))?;
    daemon.stop()
}
