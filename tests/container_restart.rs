//! Restart policies: the back-off and what can be asked meanwhile, counts, manual stops, and daemons that come and go
//! (source of behaviour: moby `daemon/internal/restartmanager`, `daemon/monitor.go`, `daemon/daemon.go`).

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use wharf_testkit::{Daemon, until};

/// Runs on while there is `stay`, else fails at once.
const FLAGGED: &str = "echo run; [ -e /t/stay ] && exec sleep 1000; exit 3";

/// A folder of the daemon's, bound to `/t` of containers.
fn flags(daemon: &Daemon) -> Result<PathBuf> {
    let dir = daemon.dir().join("flags");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn run(daemon: &Daemon, name: &str, options: &[&str], command: &[&str]) -> Result<()> {
    let bind = format!("{}:/t", flags(daemon)?.display());
    let mut args = vec!["run", "-d", "--network=none", "--name", name, "-v", &bind];
    args.extend(options);
    args.push("busybox");
    args.extend(command);
    daemon.docker(&args)?.ok().map(drop)
}

fn inspect(daemon: &Daemon, name: &str) -> Result<Value> {
    Ok(daemon.api().call("GET", &format!("/containers/{name}/json"))?.json())
}

/// Status, exit code and restart count.
fn state(daemon: &Daemon, name: &str) -> Result<(String, i64, i64)> {
    let shown = inspect(daemon, name)?;
    let status = shown["State"]["Status"].as_str().unwrap_or_default().to_owned();
    Ok((
        status,
        shown["State"]["ExitCode"].as_i64().unwrap_or(-1),
        shown["RestartCount"].as_i64().unwrap_or(-1),
    ))
}

fn until_state(daemon: &Daemon, name: &str, wanted: (&str, i64, i64)) -> Result<()> {
    let mut last = (String::new(), 0, 0);
    let reached = until("a state", || {
        last = state(daemon, name)?;
        Ok(((last.0.as_str(), last.1, last.2) == wanted).then_some(()))
    });
    reached.map_err(|e| e.context(format!("{name}: wanted {wanted:?}, has {last:?}")))
}

/// Waits until it has failed so often that the next pause is long: what is asked then is asked during the back-off.
fn until_long_pause(daemon: &Daemon, name: &str) -> Result<()> {
    until("a pause of 800 ms or more", || {
        let (status, _, count) = state(daemon, name)?;
        Ok((status == "restarting" && count >= 4).then_some(()))
    })
}

fn actions(daemon: &Daemon, name: &str) -> Result<Vec<String>> {
    let events = daemon.events("container", name)?;
    Ok(events.iter().filter_map(|e| e["Action"].as_str().map(str::to_owned)).collect())
}

#[test]
fn the_back_off_and_what_can_be_asked_meanwhile() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let api = daemon.api();
    let stay = flags(&daemon)?.join("stay");
    for name in ["stopped", "killed", "removed", "restarted", "updated"] {
        run(&daemon, name, &["--restart=always"], &["sh", "-c", FLAGGED])?;
    }
    until_long_pause(&daemon, "stopped")?;
    let shown = inspect(&daemon, "stopped")?["State"].clone();
    assert_eq!(
        (&shown["Running"], &shown["Restarting"], &shown["Pid"]),
        (&json!(true), &json!(true), &json!(0))
    );
    let listed = daemon.docker(&["ps", "--format", "{{.Status}}", "-f", "name=stopped"])?.ok()?;
    assert!(listed.starts_with("Restarting (3) "), "{listed}");
    let id = inspect(&daemon, "stopped")?["Id"].as_str().unwrap_or_default().to_owned();
    let restarting = format!("Container {id} is restarting, wait until the container is running");
    for (method, path, status, message) in [
        ("POST", "/containers/stopped/start", 304, ""),
        ("POST", "/containers/stopped/pause", 409, restarting.as_str()),
        (
            "DELETE",
            "/containers/stopped",
            409,
            "cannot remove container \"stopped\": container is restarting: stop the container before removing or force remove",
        ),
        ("POST", "/containers/stopped/stop", 204, ""),
        ("POST", "/containers/stopped/stop", 304, ""),
    ] {
        let answer = api.call(method, path)?;
        let text = if message.is_empty() { String::new() } else { answer.message() };
        assert_eq!((answer.status, text.as_str()), (status, message), "{method} {path}");
    }
    let (status, code, count) = state(&daemon, "stopped")?;
    assert_eq!((status.as_str(), code, count >= 4), ("exited", 3, true));
    let told = actions(&daemon, "stopped")?;
    assert_eq!(told[told.len() - 2..], ["die", "stop"], "no signal was sent: {told:?}");
    pauses_double(&daemon)?;

    until_long_pause(&daemon, "killed")?;
    assert_eq!(api.call("POST", "/containers/killed/kill")?.status, 204);
    assert_eq!(state(&daemon, "killed")?.0, "exited");
    until_long_pause(&daemon, "removed")?;
    assert_eq!(api.call("DELETE", "/containers/removed?force=1")?.status, 204);
    assert_eq!(api.call("GET", "/containers/removed/json")?.status, 404);

    until_long_pause(&daemon, "updated")?;
    let no = json!({"RestartPolicy": {"Name": "no"}});
    assert_eq!(api.json("POST", "/containers/updated/update", &no)?.status, 200);
    // The restart that waits happens, and is the last.
    until("its end", || Ok((state(&daemon, "updated")?.0 == "exited").then_some(())))?;

    until_long_pause(&daemon, "restarted")?;
    std::fs::write(&stay, "")?;
    assert_eq!(api.call("POST", "/containers/restarted/restart")?.status, 204);
    until_state(&daemon, "restarted", ("running", 0, 0))?;
    std::fs::remove_file(&stay)?;
    for name in ["stopped", "killed"] {
        assert_eq!(state(&daemon, name)?.0, "exited", "{name} stays as it was left");
    }
    daemon.stop()
}

/// Each start came at least the policy's pause after the end before it.
fn pauses_double(daemon: &Daemon) -> Result<()> {
    let events = daemon.events("container", "stopped")?;
    let time = |e: &Value| e["timeNano"].as_i64().unwrap_or_default() / 1_000_000;
    let turns: Vec<&Value> =
        events.iter().filter(|e| e["Action"] == "die" || e["Action"] == "start").collect();
    let pauses: Vec<i64> = turns
        .windows(2)
        .filter(|pair| pair[0]["Action"] == "die")
        .map(|pair| time(pair[1]) - time(pair[0]))
        .collect();
    ensure!(pauses.len() >= 3, "{turns:#?}");
    for (n, pause) in pauses.iter().enumerate() {
        // What is told is cut to milliseconds.
        assert!(*pause >= (100 << n) - 1, "pause {n} of {pauses:?}");
    }
    Ok(())
}

#[test]
fn who_is_started_again() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let sleep = &["sleep", "1000"];
    // Counts.
    run(&daemon, "twice", &["--restart=on-failure:2"], &["sh", "-c", "echo x; exit 1"])?;
    until_state(&daemon, "twice", ("exited", 1, 2))?;
    daemon.docker(&["start", "twice"])?.ok()?;
    until_state(&daemon, "twice", ("exited", 1, 2))?;
    until("a count that began anew", || {
        Ok((daemon.docker(&["logs", "twice"])?.ok()?.lines().count() == 6).then_some(()))
    })?;
    run(&daemon, "good", &["--restart=on-failure"], &["true"])?;
    until_state(&daemon, "good", ("exited", 0, 0))?;
    // Signals: one that is not the stop signal ends nothing for good.
    let trap = "trap 'exit 9' HUP; while :; do sleep 0.02; done";
    for (name, policy) in [("again", "always"), ("unless", "unless-stopped")] {
        let policy = format!("--restart={policy}");
        run(&daemon, name, &[&policy, "--stop-signal=USR1"], &["sh", "-c", trap])?;
        let pid = inspect(&daemon, name)?["State"]["Pid"].to_string();
        until("the trap", || {
            // The shell catches other signals before it comes to the trap.
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
            Ok((u64::from_str_radix(caught.trim(), 16)? & 1 != 0).then_some(()))
        })?;
        daemon.docker(&["kill", "-s", "HUP", name])?.ok()?;
    }
    until_state(&daemon, "again", ("running", 0, 1))?;
    until_state(&daemon, "unless", ("exited", 9, 0))?;
    // A policy given while it runs.
    run(&daemon, "later", &[], sleep)?;
    daemon.docker(&["update", "--restart=unless-stopped", "later"])?.ok()?;
    kill_from_outside(&daemon, "later")?;
    until_state(&daemon, "later", ("running", 0, 1))?;
    // A restart that fails: the code stays.
    let program = flags(&daemon)?.join("program");
    std::fs::write(&program, "#!/bin/sh\n: > /t/read\nwhile [ ! -e /t/go ]; do sleep 0.02; done; exit 4\n")?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    run(&daemon, "gone", &["--restart=always"], &["/t/program"])?;
    until("a shell that has the program open", || Ok(flags(&daemon)?.join("read").exists().then_some(())))?;
    std::fs::remove_file(&program)?;
    std::fs::write(flags(&daemon)?.join("go"), "")?;
    until_state(&daemon, "gone", ("exited", 4, 1))?;
    let error = inspect(&daemon, "gone")?["State"]["Error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("/t/program") && error.contains("no such file or directory"), "{error}");
    refusals(&daemon)?;
    across_daemons(&mut daemon)?;
    daemon.stop()
}

fn refusals(daemon: &Daemon) -> Result<()> {
    let api = daemon.api();
    run(daemon, "vanishing", &["--rm"], &["sleep", "1000"])?;
    let id = inspect(daemon, "vanishing")?["Id"].as_str().unwrap_or_default().to_owned();
    let always = json!({"RestartPolicy": {"Name": "always"}});
    let refused = api.json("POST", "/containers/vanishing/update", &always)?;
    let wanted = format!(
        "Cannot update container {id}: Restart policy cannot be updated because AutoRemove is enabled for the container"
    );
    assert_eq!((refused.status, refused.message()), (409, wanted));
    let both =
        json!({"Image": "busybox", "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}});
    let refused = api.json("POST", "/containers/create", &both)?;
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (400, "can't create 'AutoRemove' container with restart policy")
    );
    for both in [
        daemon.docker(&["run", "--rm", "--restart=always", "busybox"])?,
        daemon.wharf(&["run", "--rm", "--restart=always", "busybox"])?,
    ] {
        assert!(
            both.stderr.contains("conflicting options: cannot specify both --restart and --rm"),
            "{}",
            both.stderr
        );
    }
    Ok(())
}

fn kill_from_outside(daemon: &Daemon, name: &str) -> Result<()> {
    let pid = inspect(daemon, name)?["State"]["Pid"].as_i64().unwrap_or_default();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).expect("a pid");
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}

/// Containers in every state, before a daemon ends and after the next has begun.
fn across_daemons(daemon: &mut Daemon) -> Result<()> {
    let sleep = &["sleep", "1000"];
    run(daemon, "always-stopped", &["--restart=always"], sleep)?;
    run(daemon, "unless-stopped", &["--restart=unless-stopped"], sleep)?;
    run(daemon, "unless-running", &["--restart=unless-stopped"], sleep)?;
    run(daemon, "no-policy", &[], sleep)?;
    daemon.docker(&["create", "--rm", "--name", "never-started", "busybox"])?.ok()?;
    // Each needs the one before it.
    daemon.docker(&["run", "-d", "--restart=always", "--name", "z-net", "busybox", "sleep", "1000"])?.ok()?;
    let join =
        ["run", "-d", "--restart=always", "--network=container:z-net", "--name", "m-joined", "busybox"];
    daemon.docker(&[&join[..], sleep].concat())?.ok()?;
    let link = ["run", "-d", "--restart=always", "--link=z-net:zed", "--name", "a-linked", "busybox"];
    daemon.docker(&[&link[..], sleep].concat())?.ok()?;
    for name in ["always-stopped", "unless-stopped", "a-linked", "m-joined", "z-net"] {
        daemon.docker(&["stop", "-t", "0", name])?.ok()?;
    }
    run(daemon, "pending", &["--restart=always"], &["sh", "-c", FLAGGED])?;
    let pid = inspect(daemon, "unless-running")?["State"]["Pid"].clone();
    until_long_pause(daemon, "pending")?;
    let count = state(daemon, "pending")?.2;
    daemon.kill9()?;
    daemon.launch()?;
    for (name, wanted) in [
        ("always-stopped", ("running", 0, 0)),
        ("unless-stopped", ("exited", 137, 0)),
        ("unless-running", ("running", 0, 0)),
        ("no-policy", ("running", 0, 0)),
        ("z-net", ("running", 0, 0)),
        ("m-joined", ("running", 0, 0)),
        ("a-linked", ("running", 0, 0)),
        ("twice", ("exited", 1, 2)),
        ("good", ("exited", 0, 0)),
        ("unless", ("exited", 9, 0)),
    ] {
        let (status, code, restarts) = state(daemon, name)?;
        assert_eq!((status.as_str(), code, restarts), wanted, "{name}");
    }
    assert_eq!(inspect(daemon, "unless-running")?["State"]["Pid"], pid, "it ran on");
    assert_eq!(daemon.api().call("GET", "/containers/never-started/json")?.status, 404);
    until("the restart that an earlier daemon had promised", || {
        Ok((state(daemon, "pending")?.2 > count).then_some(()))
    })
}

#[test]
fn what_happens_without_a_daemon_is_made_good() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let dir = flags(&daemon)?;
    let go = "until [ -e /t/go ]; do sleep 0.02; done; rm /t/go; exit 5";
    run(&daemon, "again", &["--restart=on-failure"], &["sh", "-c", go])?;
    run(&daemon, "hog", &["-m=16m", "--memory-swap=16m"], &["sh", "-c", &format!("{WAIT}; {HOG}")])?;
    let child = format!("{WAIT}; sh -c '{HOG}'; echo > /t/eaten; sleep 1000");
    run(&daemon, "parent", &["-m=16m", "--memory-swap=16m"], &["sh", "-c", &child])?;
    run(&daemon, "lost", &[], &["sleep", "1000"])?;
    run(&daemon, "lost-again", &["--restart=on-failure"], &["sleep", "1000"])?;
    let mut waiting = daemon.net().spawn(&mut daemon.cli_command("docker", &["wait", "hog"]))?;
    let pid = |name: &str| Ok::<_, anyhow::Error>(inspect(&daemon, name)?["State"]["Pid"].to_string());
    let pids = [pid("again")?, pid("hog")?];
    let lost = [inspect(&daemon, "lost")?, inspect(&daemon, "lost-again")?];
    daemon.kill9()?;
    for container in &lost {
        vanish(&daemon, container)?;
    }
    assert_ne!(waiting.wait()?.code(), Some(0), "nobody answers it any more");
    let before = now()?;
    std::fs::write(dir.join("go"), "")?;
    std::fs::write(dir.join("eat"), "")?;
    for pid in pids {
        until("an end", || Ok((!Path::new(&format!("/proc/{pid}")).exists()).then_some(())))?;
    }
    until("a child's end", || Ok(dir.join("eaten").exists().then_some(())))?;
    let after = now()?;
    daemon.launch()?;
    until_state(&daemon, "again", ("running", 0, 1))?;
    // As Docker has it after a power failure.
    assert_eq!(state(&daemon, "lost")?, ("exited".to_owned(), 255, 0));
    assert_eq!(state(&daemon, "lost-again")?, ("running".to_owned(), 0, 0));
    let hog = inspect(&daemon, "hog")?["State"].clone();
    assert_eq!(
        (&hog["Status"], &hog["ExitCode"], &hog["OOMKilled"]),
        (&json!("exited"), &json!(137), &json!(true))
    );
    let finished = hog["FinishedAt"].as_str().unwrap_or_default();
    assert!(before.as_str() <= finished && finished <= after.as_str(), "{before} {finished} {after}");
    assert_eq!(actions(&daemon, "hog")?, ["create", "start", "oom", "die"]);
    let die = daemon.events("container", "hog")?.pop().unwrap_or_default();
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "137");
    assert_eq!(daemon.docker(&["wait", "hog"])?.ok()?, "137\n");
    until("a kill that nobody saw", || {
        Ok((actions(&daemon, "parent")? == ["create", "start", "oom"]).then_some(()))
    })?;
    let parent = inspect(&daemon, "parent")?["State"].clone();
    assert_eq!((&parent["Status"], &parent["OOMKilled"]), (&json!("running"), &json!(true)));
    daemon.stop()
}

/// Ends a container so that nothing of its run is left, as when the machine loses its power.
fn vanish(daemon: &Daemon, container: &Value) -> Result<()> {
    let run_dir = daemon.exec_root().join("containers").join(container["Id"].as_str().unwrap_or_default());
    let shim = std::fs::read_to_string(run_dir.join("shim.pid"))?;
    let main = container["State"]["Pid"].to_string();
    for pid in [shim.split_whitespace().next().unwrap_or_default(), &main] {
        let pid = rustix::process::Pid::from_raw(pid.parse()?).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    }
    Ok(std::fs::remove_dir_all(run_dir)?)
}

/// Until it may eat.
const WAIT: &str = "until [ -e /t/eat ]; do sleep 0.02; done";
/// Eats more memory than it may have.
const HOG: &str = "x=$(head -c 60000000 /dev/zero | tr \"\\0\" x); echo ${#x}";

/// The time as an inspect shows it.
fn now() -> Result<String> {
    let date = std::process::Command::new("date").args(["-u", "+%FT%T.%N"]).output()?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}
