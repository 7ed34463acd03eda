//! Several clients do what comes to their minds while daemon, zygote and shims are killed at random. In the end API,
//! disk and kernel agree, what succeeded is there, and nothing leaks.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use wharf_testkit::{Api, Daemon, amount, figure};

const CLIENTS: u64 = 4;
const NAMES: usize = 3;

/// xorshift: the same seed, the same thoughts; what the machine makes of them differs.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// What a client knows of a container of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    There,
    Gone,
    /// The answer got lost.
    Either,
}

#[test]
fn random_deaths() -> Result<()> {
    let seed = match std::env::var("WHARF_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64 | 1,
    };
    figure(&format!("WHARF_SEED={seed}"));
    soak(seed).with_context(|| format!("WHARF_SEED={seed}"))
}

fn soak(seed: u64) -> Result<()> {
    let deaths = amount(1_000, 25);
    let mut daemon = Daemon::with_busybox()?;
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let stopping = AtomicBool::new(false);
    let mut killed = BTreeMap::new();
    let known = std::thread::scope(|scope| -> Result<_> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let api = daemon.api();
                let random = Random(seed.wrapping_mul(2 * number + 3) | 1);
                let (stopping, done, failed) = (&stopping, &done, &failed);
                scope.spawn(move || client(number, &api, random, stopping, [done, failed]))
            })
            .collect();
        let mut random = Random(seed);
        let killing = (0..deaths).try_for_each(|_| {
            // Not a wait for anything: deaths are to come at any moment.
            std::thread::sleep(Duration::from_millis(random.below(200) as u64));
            let victim = kill_something(&mut daemon, &mut random)?;
            *killed.entry(victim).or_insert(0) += 1;
            Ok(())
        });
        stopping.store(true, Ordering::Relaxed);
        let known: Vec<_> = clients.into_iter().flat_map(|c| c.join().expect("a client")).collect();
        killing.map(|()| known)
    })?;
    figure(&format!("{done:?} operations done, {failed:?} failed, killed {killed:?}"));
    ensure!(done.into_inner() > deaths as u64 / 5, "hardly anything was done");
    for (name, known) in known {
        daemon.assert_true(&name)?;
        let is_there = daemon.api().call("GET", &format!("/containers/{name}/json"))?.status == 200;
        let expected = known == Known::Either || (known == Known::There) == is_there;
        ensure!(expected, "{name} is there: {is_there}, known to be {known:?}\n{}", daemon.log());
    }
    // What a create that failed had made is gone with the container.
    let list = daemon.api().call("GET", "/containers/json?all=1")?.json();
    for container in list.as_array().into_iter().flatten() {
        let id = container["Id"].as_str().context("an id")?;
        let answer = daemon.api().call("DELETE", &format!("/containers/{id}?force=1&v=1"))?;
        ensure!(answer.status == 204, "{} {}", answer.status, answer.message());
    }
    let volumes = daemon.api().call("GET", "/volumes")?.json();
    ensure!(volumes["Volumes"].as_array().is_none_or(Vec::is_empty), "volumes are left: {volumes}");
    daemon.terminate()?;
    daemon.assert_whole()?;
    daemon.assert_clean()
}

/// One client with containers of its own; gives back what it knows of them.
fn client(
    number: u64,
    api: &Api,
    mut random: Random,
    stopping: &AtomicBool,
    [done, failed]: [&AtomicU64; 2],
) -> Vec<(String, Known)> {
    let names: Vec<String> = (0..NAMES).map(|of_it| format!("c{number}-{of_it}")).collect();
    let mut known = vec![Known::Gone; NAMES];
    while !stopping.load(Ordering::Relaxed) {
        let which = random.below(NAMES);
        let (status, makes) = operation(api, &names[which], random.below(12));
        let counter = if status.is_some_and(|status| status < 400) { done } else { failed };
        counter.fetch_add(1, Ordering::Relaxed);
        known[which] = match (makes, status) {
            (None, _) => known[which],
            (Some(after), Some(201 | 204)) => after,
            // There already, or gone already.
            (Some(Known::There), Some(409)) => Known::There,
            (Some(Known::Gone), Some(404)) => Known::Gone,
            (Some(_), _) => Known::Either,
        };
        if status.is_none() {
            // Nobody listens: the next daemon is on its way.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    names.into_iter().zip(known).collect()
}

/// Does something; the status of the answer, and what it makes of the container if it succeeds.
fn operation(api: &Api, name: &str, which: usize) -> (Option<u16>, Option<Known>) {
    let path = |verb: &str| format!("/containers/{name}/{verb}");
    let post = |verb: &str| api.call("POST", &path(verb)).ok().map(|answer| answer.status);
    match which {
        0..=2 => {
            let request = json!({
                "Image": "busybox", "Cmd": ["sleep", "100000"], "Volumes": {"/data": {}},
                "HostConfig": {"NetworkMode": if name.ends_with('0') { "bridge" } else { "none" }},
            });
            let answer = api.json("POST", &format!("/containers/create?name={name}"), &request);
            (answer.ok().map(|answer| answer.status), Some(Known::There))
        }
        3..=5 => (post("start"), None),
        6 => (post("stop?t=0"), None),
        7 => (post("kill"), None),
        8 => (post("pause"), None),
        9 => (post("unpause"), None),
        10 => (exec(api, name).ok(), None),
        _ => {
            let answer = api.call("DELETE", &format!("/containers/{name}?force=1&v=1"));
            (answer.ok().map(|answer| answer.status), Some(Known::Gone))
        }
    }
}

fn exec(api: &Api, name: &str) -> Result<u16> {
    let request = json!({"Cmd": ["true"], "AttachStdout": true});
    let made = api.json("POST", &format!("/containers/{name}/exec"), &request)?;
    if made.status != 201 {
        return Ok(made.status);
    }
    let id = made.json()["Id"].as_str().context("an id")?.to_owned();
    Ok(api.json("POST", &format!("/exec/{id}/start"), &json!({"Detach": true}))?.status)
}

fn kill_something(daemon: &mut Daemon, random: &mut Random) -> Result<&'static str> {
    match random.below(4) {
        0 => {
            daemon.kill9()?;
            daemon.launch()?;
            Ok("daemon")
        }
        1 => {
            let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
            let children = fs::read_to_string(children).unwrap_or_default();
            let zygotes = children.split_whitespace().filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "wharf-zygote\n")
            });
            zygotes.for_each(kill);
            Ok("zygote")
        }
        _ => {
            let entries = fs::read_dir(daemon.exec_root().join("containers"))?;
            let shims: Vec<String> = entries
                .flatten()
                .filter_map(|entry| fs::read_to_string(entry.path().join("shim.pid")).ok())
                .filter_map(|text| text.split(' ').next().map(str::to_owned))
                .collect();
            if shims.is_empty() {
                return Ok("nobody");
            }
            kill(&shims[random.below(shims.len())]);
            Ok("shim")
        }
    }
}

fn kill(pid: &str) {
    // It may be gone, and its number somebody else's: only what is ours by name is killed.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if let (true, Some(pid)) =
        (name.starts_with("wharf-"), pid.parse().ok().and_then(rustix::process::Pid::from_raw))
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[test]
fn the_same_seed_has_the_same_thoughts() {
    let thoughts = |seed| {
        let mut random = Random(seed);
        (0..8).map(|_| random.below(100)).collect::<Vec<_>>()
    };
    assert_eq!(thoughts(7), thoughts(7));
    assert_ne!(thoughts(7), thoughts(8));
}
