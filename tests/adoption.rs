//! A host moves from Debian's docker.io to Wharf and back: the same images, containers, networks and volumes.

use anyhow::{Context, Result, ensure};
use std::process::Command;
use wharf_testkit::{Daemon, DockerIo, Output, Registry, busybox, lacks_oracle, sha256, until};

/// Something that runs the `docker` CLI.
trait Engine {
    fn cli(&self, args: &[&str]) -> Result<Output>;

    fn ok(&self, args: &[&str]) -> Result<String> {
        self.cli(args)?.ok().with_context(|| format!("docker {}", args.join(" ")))
    }
}

impl Engine for Daemon {
    fn cli(&self, args: &[&str]) -> Result<Output> {
        self.docker(args)
    }
}

impl Engine for DockerIo {
    fn cli(&self, args: &[&str]) -> Result<Output> {
        self.docker(args)
    }
}

const SCRIPT: &str = "echo out; echo '<err>' >&2; echo kept > /n/file; echo x > /changed; exit 3";

/// Containers, networks and volumes of every sort.
fn furnish(engine: &impl Engine) -> Result<()> {
    engine.ok(&["tag", "busybox", "localhost:5000/other/name:v2"])?;
    let options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m"];
    engine.ok(&[&["volume", "create", "--label", "v=<1>"], &options[..], &["labelled"]].concat())?;
    let ran = engine.cli(&[
        "run",
        "--name",
        "writer",
        "--label",
        "a=b",
        "-v",
        "named:/n",
        "-v",
        "/anonymous",
        "-e",
        "X=1",
        "busybox",
        "sh",
        "-c",
        SCRIPT,
    ])?;
    ensure!(ran.code == 3, "{ran:?}");
    engine.ok(&["network", "create", "--subnet", "172.30.5.0/24", "--label", "net=1", "fixnet"])?;
    engine.ok(&["network", "create", "--internal", "auto"])?;
    engine.ok(&[
        "create",
        "--name",
        "onnet",
        "--network",
        "fixnet",
        "--network-alias",
        "ali",
        "--ip",
        "172.30.5.77",
        "-p",
        "127.0.0.1:18099:80",
        "--restart",
        "on-failure:2",
        "busybox",
        "httpd",
        "-f",
        "-h",
        "/etc",
    ])?;
    Ok(())
}

/// What a commit of a container has of its own.
const COMMITTED: [&str; 5] = [
    "image",
    "inspect",
    "-f",
    "{{.Id}} {{.Parent}} {{json .RootFS.Layers}} {{.Comment}} {{.Author}}",
    "mine:v1",
];

const CONTAINER: &str = "{{.Id}} {{.Created}} {{.Name}} {{.State.Status}} {{.State.ExitCode}} {{.State.StartedAt}} \
    {{.State.FinishedAt}} {{.Image}} {{.Path}} {{json .Args}} {{json .Config.Env}} {{json .Config.Labels}} \
    {{.HostConfig.NetworkMode}} {{json .HostConfig.PortBindings}} {{json .HostConfig.RestartPolicy}} {{.Driver}}";

/// Commands, the format they are given, what it is for.
const QUESTIONS: [(&str, &str, &str); 9] = [
    ("history --no-trunc --format", "{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}", "busybox"),
    ("image inspect -f", "{{.Id}} {{.Created}} {{json .RootFS.Layers}} {{json .Config.Cmd}}", "busybox"),
    ("ps -a --no-trunc --format", "{{.ID}} {{.Names}} {{.Image}} {{.State}} {{.Command}} {{.Networks}}", ""),
    ("inspect -f", CONTAINER, "writer onnet"),
    ("inspect -f", "{{(index .NetworkSettings.Networks \"fixnet\").IPAMConfig.IPv4Address}}", "onnet"),
    ("network ls --format", "{{.Name}} {{.Driver}} {{.Scope}}", ""),
    (
        "network inspect -f",
        "{{.Id}} {{.Name}} {{.Created}} {{.Driver}} {{.Internal}} {{(index .IPAM.Config 0).Subnet}} {{json .Labels}}",
        "fixnet auto",
    ),
    ("volume ls --format", "{{.Name}} {{.Driver}}", ""),
    ("volume inspect -f", "{{.Name}} {{json .Labels}} {{json .Options}}", "labelled named"),
];

/// Those that Docker answers in no order.
const UNORDERED: [(&str, &str, &str); 2] = [
    ("images --no-trunc --format", "{{.Repository}}:{{.Tag}} {{.ID}}", ""),
    (
        "inspect -f",
        "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{println}}{{end}}",
        "writer",
    ),
];

/// What both engines must say alike.
fn facts(engine: &impl Engine) -> Result<Vec<String>> {
    let ask = |(before, format, after): (&str, &str, &str)| {
        let args = before.split(' ').chain([format]).chain(after.split_whitespace());
        engine.ok(&args.collect::<Vec<_>>())
    };
    let sorted = |answer: String| {
        let mut lines: Vec<&str> = answer.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    let mut facts = QUESTIONS.into_iter().map(ask).collect::<Result<Vec<_>>>()?;
    for question in UNORDERED {
        facts.push(sorted(ask(question)?));
    }
    facts.push(sorted(engine.ok(&["diff", "writer"])?));
    let logs = engine.cli(&["logs", "writer"])?;
    facts.extend([logs.stdout, logs.stderr]);
    Ok(facts)
}

fn assert_same(before: &[String], after: &[String]) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
}

/// `start` of both containers, with what they have of the network and the volumes.
fn assert_they_start(engine: &impl Engine, net: &wharf_testkit::NetNs) -> Result<()> {
    engine.ok(&["start", "onnet"])?;
    let address = "{{(index .NetworkSettings.Networks \"fixnet\").IPAddress}} {{.State.Running}}";
    assert_eq!(engine.ok(&["inspect", "-f", address, "onnet"])?, "172.30.5.77 true\n");
    until("the page of onnet", || {
        Ok(net.within(|| Ok(std::net::TcpStream::connect("127.0.0.1:18099")?)).ok())
    })?;
    engine.ok(&["start", "writer"])?;
    assert_eq!(engine.ok(&["wait", "writer"])?, "3\n");
    let twice = engine.cli(&["logs", "writer"])?;
    assert_eq!((twice.stdout.as_str(), twice.stderr.as_str()), ("out\nout\n", "<err>\n<err>\n"));
    let resolve = ["run", "--rm", "--network", "fixnet", "-v", "named:/n:ro", "busybox", "cat", "/n/file"];
    assert_eq!(engine.ok(&resolve)?, "kept\n");
    let tmpfs =
        engine.ok(&["run", "--rm", "-v", "labelled:/l", "busybox", "grep", " /l ", "/proc/mounts"])?;
    ensure!(tmpfs.contains("size=1024k"), "{tmpfs}");
    Ok(())
}

/// A member of an archive.
fn member(archive: &std::path::Path, name: &str) -> Result<Vec<u8>> {
    let out = Command::new("tar").arg("-xOf").arg(archive).arg(name).output()?;
    ensure!(out.status.success(), "tar: {}", String::from_utf8_lossy(&out.stderr));
    Ok(out.stdout)
}

#[test]
fn wharf_takes_over_a_root_of_docker_io() -> Result<()> {
    if lacks_oracle("dockerd") {
        return Ok(());
    }
    let mut daemon = Daemon::prepare(Daemon::builder())?;
    let docker = DockerIo::start(&daemon.data_root())?;
    docker.load(&busybox()?)?;
    furnish(&docker)?;
    docker.ok(&["commit", "-m", "by docker", "writer", "mine:v1"])?;
    let before = facts(&docker)?;
    let committed = docker.ok(&COMMITTED)?;
    docker.stop()?;

    daemon.launch()?;
    assert_same(&before, &facts(&daemon)?);
    assert_eq!(daemon.ok(&COMMITTED)?, committed);
    let saved = daemon.dir().join("saved.tar");
    daemon.ok(&["save", "-o", &saved.to_string_lossy(), "mine:v1"])?;
    let manifest: serde_json::Value = serde_json::from_slice(&member(&saved, "manifest.json")?)?;
    let layers = manifest[0]["Layers"].as_array().context("layers")?;
    assert_eq!(layers.len(), 2);
    for layer in layers {
        let name = layer.as_str().context("a name")?;
        let sum = sha256(&member(&saved, name)?);
        ensure!(name.contains(&sum) && committed.contains(&sum), "{name} has {sum}, not one of {committed}");
    }
    assert_they_start(&daemon, daemon.net())?;
    assert_eq!(daemon.ok(&["run", "--rm", "mine:v1", "cat", "/changed"])?, "x\n");
    assert_pushed_and_pulled(&daemon, "mine:v1")?;
    daemon.stop()
}

/// An image goes to a registry and comes back the same.
fn assert_pushed_and_pulled(daemon: &Daemon, image: &str) -> Result<()> {
    let _registry = Registry::start(daemon.net(), daemon.dir())?;
    let id = daemon.ok(&["image", "inspect", "-f", "{{.Id}}", image])?;
    let there = format!("{}/{image}", Registry::ADDRESS);
    daemon.ok(&["tag", image, &there])?;
    daemon.ok(&["push", &there])?;
    daemon.ok(&["rmi", &there, image])?;
    daemon.ok(&["pull", &there])?;
    assert_eq!(daemon.ok(&["image", "inspect", "-f", "{{.Id}}", &there])?, id);
    Ok(())
}

#[test]
fn docker_io_takes_over_a_root_of_wharf() -> Result<()> {
    if lacks_oracle("dockerd") {
        return Ok(());
    }
    let mut daemon = Daemon::with_busybox()?;
    furnish(&daemon)?;
    daemon.ok(&["commit", "-m", "by wharf", "-a", "me", "writer", "mine:v1"])?;
    let before = facts(&daemon)?;
    let committed = daemon.ok(&COMMITTED)?;
    daemon.terminate()?;

    let docker = DockerIo::start(&daemon.data_root())?;
    assert_same(&before, &facts(&docker)?);
    assert_eq!(docker.ok(&COMMITTED)?, committed);
    assert_they_start(&docker, docker.net())?;
    assert_eq!(docker.ok(&["run", "--rm", "mine:v1", "cat", "/changed"])?, "x\n");
    docker.ok(&["commit", "writer", "theirs:v1"])?;
    docker.stop()?;

    // And back again.
    daemon.launch()?;
    assert_eq!(daemon.ok(&["run", "--rm", "theirs:v1", "cat", "/changed"])?, "x\n");
    daemon.ok(&["rm", "-f", "onnet"])?;
    daemon.ok(&["network", "rm", "fixnet", "auto"])?;
    daemon.stop()
}

#[test]
fn a_root_has_one_daemon_at_a_time() -> Result<()> {
    if lacks_oracle("dockerd") {
        return Ok(());
    }
    let daemon = Daemon::start()?;
    let refused = DockerIo::start(&daemon.data_root()).unwrap_err().to_string();
    ensure!(refused.contains("error while opening volume store metadata database: timeout"), "{refused}");
    daemon.docker(&["volume", "create", "--label", "a=b", "mine"])?.ok()?;
    daemon.stop()?;

    let daemon = Daemon::prepare(Daemon::builder())?;
    let docker = DockerIo::start(&daemon.data_root())?;
    let refused = daemon.run_to_end()?;
    ensure!(refused.code == 1 && refused.stderr.contains("is in use by another daemon"), "{refused:?}");
    docker.stop()
}
