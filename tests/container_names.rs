//! Names: of containers that are renamed, and those that links give (source of behaviour: moby `daemon/rename.go`,
//! `daemon/links.go`).

use anyhow::Result;
use serde_json::{Value, json};
use wharf_testkit::Daemon;

fn names(daemon: &Daemon, filter: &str) -> Result<Value> {
    let filters: String =
        json!({"name": [filter]}).to_string().bytes().map(|b| format!("%{b:02X}")).collect();
    let list = daemon.api().call("GET", &format!("/containers/json?all=1&filters={filters}"))?.json();
    Ok(list[0]["Names"].clone())
}

fn inspect(daemon: &Daemon, name: &str, format: &str) -> Result<String> {
    Ok(daemon.docker(&["inspect", "-f", format, name])?.ok()?.trim().to_owned())
}

fn start(daemon: &Daemon, name: &str, options: &[&str]) -> Result<()> {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(options);
    args.extend(["busybox", "sleep", "1000"]);
    daemon.docker(&args)?.ok().map(drop)
}

#[test]
fn links_are_names_that_outlive_renames() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    start(&daemon, "db", &[])?;
    start(&daemon, "web", &["--link", "db:database", "--link", "db"])?;
    let db = inspect(&daemon, "db", "{{.Id}}")?;
    assert_eq!(names(&daemon, "^/db$")?, json!(["/db", "/web/database", "/web/db"]));
    assert_eq!(names(&daemon, "^web/database$")?[0], "/db", "it is found by any of its names");
    assert_eq!(inspect(&daemon, "web/database", "{{.Id}}")?, db);
    assert_eq!(inspect(&daemon, "/web/db", "{{.Id}}")?, db);
    assert_eq!(daemon.api().call("GET", "/containers/web/nosuch/json")?.status, 404);
    let listed = daemon.docker(&["ps", "--no-trunc", "--format", "{{.Names}}", "-f", "name=^/db$"])?.ok()?;
    assert_eq!(listed, "db,web/database,web/db\n");

    daemon.docker(&["rename", "web", "site"])?.ok()?;
    assert_eq!(names(&daemon, "^/db$")?, json!(["/db", "/site/database", "/site/db"]));
    daemon.docker(&["rename", "db", "store"])?.ok()?;
    assert_eq!(names(&daemon, "^/store$")?, json!(["/site/database", "/site/db", "/store"]));
    let links = "{{json .HostConfig.Links}}";
    assert_eq!(inspect(&daemon, "site", links)?, r#"["/store:/site/database","/store:/site/db"]"#);
    for how in ["restart", "a new daemon"] {
        match how {
            "restart" => daemon.docker(&["restart", "-t", "0", "site"])?.ok().map(drop)?,
            _ => {
                daemon.kill9()?;
                daemon.launch()?;
            }
        }
        let hosts = daemon.docker(&["exec", "site", "cat", "/etc/hosts"])?.ok()?;
        assert!(hosts.lines().any(|l| l.contains("database") && l.contains("store")), "{how}: {hosts}");
        assert_eq!(inspect(&daemon, "site/database", "{{.Id}}")?, db, "{how}");
    }
    // Its address is taken by another while it is away.
    daemon.docker(&["stop", "-t", "0", "store"])?.ok()?;
    start(&daemon, "between", &[])?;
    daemon.docker(&["start", "store"])?.ok()?;
    let address = inspect(&daemon, "store", "{{.NetworkSettings.Networks.bridge.IPAddress}}")?;
    let hosts = daemon.docker(&["exec", "site", "cat", "/etc/hosts"])?.ok()?;
    assert!(hosts.lines().any(|l| l.starts_with(&format!("{address}\tdatabase "))), "{address}: {hosts}");
    daemon.docker(&["rm", "-f", "site"])?.ok()?;
    assert_eq!(names(&daemon, "^/store$")?, json!(["/store"]));
    daemon.stop()
}

#[test]
fn renames_are_refused_as_docker_does() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let api = daemon.api();
    start(&daemon, "one", &["--network=none"])?;
    start(&daemon, "two", &["--network=none"])?;
    let one = inspect(&daemon, "one", "{{.Id}}")?;
    let taken = format!(
        "Error when allocating new name: Conflict. The container name \"/one\" is already in use by container \"{one}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    for (path, status, message) in [
        ("/containers/two/rename?name=one", 409, taken.as_str()),
        ("/containers/two/rename?name=/one", 409, taken.as_str()),
        (
            "/containers/two/rename?name=two",
            400,
            "Renaming a container with the same name as its current name",
        ),
        (
            "/containers/two/rename?name=/two",
            400,
            "Renaming a container with the same name as its current name",
        ),
        ("/containers/two/rename?name=", 400, "Neither old nor new names may be empty"),
        ("/containers/nosuch/rename?name=x", 404, "No such container: nosuch"),
        (
            "/containers/two/rename?name=-x",
            400,
            "Error when allocating new name: Invalid container name (/-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
    ] {
        let answer = api.call("POST", path)?;
        assert_eq!((answer.status, answer.message().as_str()), (status, message), "{path}");
    }
    // What is refused reserves nothing.
    assert_eq!(api.call("POST", "/containers/two/rename?name=three")?.status, 204);
    assert_eq!(api.call("POST", "/containers/one/rename?name=two")?.status, 204);
    let event = daemon.events("container", "two")?.pop().unwrap_or_default();
    assert_eq!(
        (&event["Action"], &event["Actor"]["Attributes"]["oldName"]),
        (&json!("rename"), &json!("/one"))
    );
    daemon.stop()
}

#[test]
fn updates_reach_containers_in_every_state() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let api = daemon.api().at("v1.55");
    start(&daemon, "runs", &["--network=none", "-m=64m", "--memory-swap=64m"])?;
    start(&daemon, "ended", &["--network=none", "-m=64m", "--memory-swap=64m"])?;
    daemon.docker(&["stop", "-t", "0", "ended"])?.ok()?;
    let fail = ["-d", "--network=none", "--restart=always", "-m=64m", "--memory-swap=64m", "--name", "again"];
    daemon.docker(&[&["run"], &fail[..], &["busybox", "false"]].concat())?.ok()?;
    let unlimited = ["-d", "--network=none", "--name", "free", "busybox", "sleep", "1000"];
    daemon.docker(&[&["run"], &unlimited[..]].concat())?.ok()?;
    let all = json!({
        "Memory": 32 << 20, "MemorySwap": 32 << 20, "MemoryReservation": 16 << 20, "CpuShares": 512,
        "CpuPeriod": 50_000, "CpuQuota": 25_000, "CpusetCpus": "0", "PidsLimit": 50,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
    });
    for name in ["runs", "ended", "again"] {
        let answer = api.json("POST", &format!("/containers/{name}/update"), &all)?;
        assert_eq!(answer.status, 200, "{name}: {}", answer.message());
        let host = api.call("GET", &format!("/containers/{name}/json"))?.json()["HostConfig"].clone();
        for (key, value) in all.as_object().into_iter().flatten() {
            // A kernel that cannot limit swap has no such limit.
            assert!(
                host[key] == *value || (key == "MemorySwap" && host[key] == -1),
                "{name} {key}: {}",
                host[key]
            );
        }
    }
    daemon.docker(&["stop", "-t", "0", "again"])?.ok()?;
    let pids = "cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max";
    daemon.docker(&["start", "ended"])?.ok()?;
    for name in ["runs", "ended"] {
        assert_eq!(daemon.docker(&["exec", name, "sh", "-c", pids])?.ok()?, "50\n", "{name}");
    }
    let id = |name: &str| inspect(&daemon, name, "{{.Id}}");
    for (name, body, status, message) in [
        (
            "runs",
            json!({"NanoCpus": 1_000_000_000}),
            409,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            "runs",
            json!({"RestartPolicy": {"Name": "sometimes"}}),
            400,
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        ("runs", json!({"Memory": 1}), 400, "Minimum memory limit allowed is 6MB"),
        ("nosuch", json!({}), 404, "No such container: nosuch"),
    ] {
        let answer = api.json("POST", &format!("/containers/{name}/update"), &body)?;
        let prefix =
            if status == 409 { format!("Cannot update container {}: ", id(name)?) } else { String::new() };
        assert_eq!(
            (answer.status, answer.message()),
            (status, format!("{prefix}{message}")),
            "{name} {body}"
        );
    }
    let unchanged = inspect(&daemon, "runs", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}")?;
    assert_eq!(unchanged, format!("on-failure {}", 32 << 20));
    let events = daemon.events("container", "runs")?;
    assert_eq!(events.iter().filter(|e| e["Action"] == "update").count(), 1);
    daemon.stop()
}
