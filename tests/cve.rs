//! What the tests of known attacks have in common: rounds of a race, processes that make one, and things of the
//! host that nothing may touch.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use wharf_testkit::{Daemon, Response};

/// How many rounds a race is run for: all of them with `cargo xtask test --full`.
pub(crate) fn rounds(all: usize, part: usize) -> usize {
    if std::env::var_os("WHARF_FULL").is_some() { all } else { part }
}

/// A directory of the host with a secret in it, whose path attackers know.
pub(crate) struct Canary(pub(crate) PathBuf);

impl Canary {
    pub(crate) fn new(daemon: &Daemon) -> Result<Self> {
        let path = daemon.dir().join("canary");
        fs::create_dir(&path)?;
        fs::write(path.join("secret"), "secret")?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// Nothing was added, changed, linked to, or mounted there.
    pub(crate) fn is_untouched(&self) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let names: Vec<_> =
            fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        ensure!(names == ["secret"], "the canary's directory has {names:?}");
        let secret = self.0.join("secret");
        ensure!(fs::read(&secret)? == b"secret", "the canary was written to");
        ensure!(fs::metadata(&secret)?.nlink() == 1, "the canary was linked to");
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains(&self.path()), "something is mounted on the canary");
        Ok(())
    }
}

/// A container by its API: quicker than the CLI, and exact about what is asked for.
pub(crate) struct Container {
    pub(crate) id: String,
}

impl Container {
    /// Makes one of busybox without a network. `more` are further fields of the request.
    pub(crate) fn create(daemon: &Daemon, command: &[&str], more: &Value) -> Result<Result<Self, Response>> {
        let mut request = json!({"Image": "busybox", "Cmd": command, "HostConfig": {}});
        for (key, value) in more.as_object().into_iter().flatten() {
            request[key] = value.clone();
        }
        request["HostConfig"]["NetworkMode"] = "none".into();
        let answer = daemon.api().json("POST", "/containers/create", &request)?;
        if answer.status != 201 {
            return Ok(Err(answer));
        }
        let id = answer.json()["Id"].as_str().context("an id")?.to_owned();
        Ok(Ok(Self { id }))
    }

    /// Makes one, runs it to its end, and gives its code and what it printed; a refusal is the error inside.
    pub(crate) fn run(daemon: &Daemon, line: &str, more: &Value) -> Result<Result<(i64, String), Response>> {
        let container = match Self::create(daemon, &["sh", "-c", line], more)? {
            Ok(container) => container,
            Err(answer) => return Ok(Err(answer)),
        };
        let started = container.start(daemon)?;
        let result = if started.status == 204 { Ok(container.result(daemon)?) } else { Err(started) };
        container.remove(daemon)?;
        Ok(result)
    }

    pub(crate) fn start(&self, daemon: &Daemon) -> Result<Response> {
        daemon.api().call("POST", &format!("/containers/{}/start", self.id))
    }

    fn result(&self, daemon: &Daemon) -> Result<(i64, String)> {
        let code = daemon.api().call("POST", &format!("/containers/{}/wait", self.id))?.json()["StatusCode"]
            .as_i64()
            .context("a status code")?;
        let logs = daemon.api().call("GET", &format!("/containers/{}/logs?stdout=1&stderr=1", self.id))?;
        Ok((code, text_of(&logs.body)))
    }

    pub(crate) fn remove(&self, daemon: &Daemon) -> Result<()> {
        let answer = daemon.api().call("DELETE", &format!("/containers/{}?force=1", self.id))?;
        ensure!(answer.status == 204, "{}", answer.message());
        Ok(())
    }

    /// Runs a further process and gives the status of its start with what it printed.
    pub(crate) fn exec(daemon: &Daemon, id: &str, command: &[&str], more: &Value) -> Result<(u16, String)> {
        let mut request = json!({"Cmd": command, "AttachStdout": true, "AttachStderr": true});
        for (key, value) in more.as_object().into_iter().flatten() {
            request[key] = value.clone();
        }
        let made = daemon.api().json("POST", &format!("/containers/{id}/exec"), &request)?;
        if made.status != 201 {
            return Ok((made.status, made.message()));
        }
        let exec = made.json()["Id"].as_str().context("an id")?.to_owned();
        let answer = daemon.api().json("POST", &format!("/exec/{exec}/start"), &json!({"Detach": false}))?;
        Ok((answer.status, text_of(&answer.body)))
    }
}

/// The payload of Docker's multiplexed stream; the body as it is when it is none.
pub(crate) fn text_of(stream: &[u8]) -> String {
    let (mut rest, mut text) = (stream, Vec::new());
    while let [0..=2, 0, 0, 0, a, b, c, d, ..] = rest {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(payload) = rest.get(8..8 + size) else { break };
        text.extend_from_slice(payload);
        rest = &rest[8 + size..];
    }
    text.extend_from_slice(rest);
    String::from_utf8_lossy(&text).into_owned()
}

/// A container named `attacker` that runs a shell line until it is killed.
pub(crate) fn attacker(daemon: &Daemon, flags: &[&str], line: &str) -> Result<()> {
    let head = ["run", "-d", "--name=attacker", "--network=none"];
    daemon.docker(&[&head, flags, &["busybox", "sh", "-c", line]].concat())?.ok()?;
    Ok(())
}
