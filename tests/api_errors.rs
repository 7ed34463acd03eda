//! Bad input: Docker's status and message, and nothing changed.

use anyhow::Result;
use serde_json::{Value, json};
use wharf_testkit::{Daemon, Response};

/// A bad HostConfig, the status and the message that Docker answers with.
// tidy: long, because it is a table.
fn bad_host_configs() -> Vec<(Value, u16, &'static str)> {
    vec![
        (json!({"Memory": 1024}), 400, "Minimum memory limit allowed is 6MB"),
        (
            json!({"Memory": 64 << 20, "MemorySwap": 32 << 20}),
            400,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (json!({"Binds": ["a:b:c:d"]}), 500, "invalid volume specification: 'a:b:c:d'"),
        (
            json!({"Binds": ["/tmp:rel"]}),
            500,
            "invalid volume specification: '/tmp:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute",
        ),
        (
            json!({"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}),
            400,
            "invalid port specification: \"99999\"",
        ),
        (
            json!({"RestartPolicy": {"Name": "sometimes"}}),
            400,
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}),
            400,
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            json!({"LogConfig": {"Type": "nosuch"}}),
            400,
            "error looking up logging plugin nosuch: plugin \"nosuch\" not found",
        ),
        (
            json!({"LogConfig": {"Type": "json-file", "Config": {"nosuch": "1"}}}),
            400,
            "unknown log opt 'nosuch' for json-file log driver",
        ),
        (json!({"CapAdd": ["NOT_A_CAP"]}), 400, "invalid CapAdd: unknown capability: \"CAP_NOT_A_CAP\""),
        (json!({"IpcMode": "weird"}), 400, "invalid IPC mode: weird"),
        (json!({"PidMode": "weird"}), 400, "invalid PID mode: weird"),
        (
            json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}),
            400,
            "can't create 'AutoRemove' container with restart policy",
        ),
        (json!({"Runtime": "nosuch"}), 400, "unknown or invalid runtime name: nosuch"),
        (json!({"SecurityOpt": ["nosuch=1"]}), 500, "invalid --security-opt 2: \"nosuch=1\""),
        (json!({"VolumesFrom": ["nosuch"]}), 400, "No such container: nosuch"),
        (
            json!({"Links": ["nosuch:alias"]}),
            400,
            "could not get container for nosuch: No such container: nosuch",
        ),
        (
            json!({"Mounts": [{"Type": "weird", "Target": "/x"}]}),
            400,
            "invalid mount config for type \"weird\": mount type unknown",
        ),
        (
            json!({"Mounts": [{"Type": "volume"}]}),
            400,
            "invalid mount config for type \"volume\": field Target must not be empty",
        ),
        (
            json!({"Mounts": [{"Type": "bind", "Source": "/nosuch/dir", "Target": "/x"}]}),
            400,
            "invalid mount config for type \"bind\": bind source path does not exist: /nosuch/dir",
        ),
        (json!({"Binds": ["/tmp:/x", "/tmp:/x"]}), 400, "Duplicate mount point: /x"),
        (json!({"ExtraHosts": ["nocolon"]}), 400, "bad format for add-host: \"nocolon\""),
        (json!({"Dns": ["notanip"]}), 400, "invalid JSON: ParseAddr(\"notanip\"): unable to parse IP"),
        (json!({"ShmSize": -1}), 400, "SHM size can not be less than 0"),
    ]
}

#[test]
fn bad_creates_get_dockers_error_and_leave_nothing() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let create = |extra: Value| {
        let mut body = json!({"Image": "busybox", "Cmd": ["true"]});
        for (key, value) in extra.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        daemon.api().json("POST", "/containers/create?name=bad", &body)
    };
    let mut cases: Vec<(Value, u16, &str)> = bad_host_configs()
        .into_iter()
        .map(|(host, status, text)| (json!({"HostConfig": host}), status, text))
        .collect();
    cases.extend([
        (json!({"Env": ["=x"]}), 400, "invalid environment variable: =x"),
        (
            json!({"WorkingDir": "relative"}),
            400,
            "the working directory 'relative' is invalid, it needs to be an absolute path",
        ),
        (json!({"StopSignal": "SIGNOPE"}), 400, "invalid signal: SIGNOPE"),
        (
            json!({"Healthcheck": {"Test": ["CMD", "x"], "Interval": 1}}),
            400,
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (json!({"Image": "nosuchimage:v9"}), 404, "No such image: nosuchimage:v9"),
        (json!({"Cmd": [], "Entrypoint": [""]}), 400, "no command specified"),
    ]);
    let mut wrong = Vec::new();
    for (extra, status, message) in &cases {
        let answer = create(extra.clone())?;
        if (answer.status, answer.message().as_str()) != (*status, *message) {
            wrong.push(format!(
                "{extra}: {} {:?}, not {status} {message:?}",
                answer.status,
                answer.message()
            ));
        }
        daemon.api().call("DELETE", "/containers/bad?force=1")?;
    }
    println!("{} bad creates compared", cases.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(daemon.api().call("GET", "/containers/json?all=1")?.json(), json!([]));
    assert_eq!(std::fs::read_dir(daemon.data_root().join("containers"))?.count(), 0);
    assert_eq!(daemon.api().call("GET", "/volumes")?.json()["Volumes"].as_array().map_or(0, Vec::len), 0);
    daemon.stop()
}

#[test]
fn bad_bodies_get_gos_words() -> Result<()> {
    let daemon = Daemon::start()?;
    let post = |content_type: &str, body: &[u8]| -> Result<Response> {
        daemon.api().send("POST", "/containers/create", content_type, body)
    };
    for (content_type, body, message) in [
        ("application/json", &b""[..], "invalid JSON: EOF"),
        (
            "application/json",
            b"{nope",
            "invalid JSON: invalid character 'n' looking for beginning of object key string",
        ),
        (
            "text/plain",
            b"Image=x",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
    ] {
        let answer = post(content_type, body)?;
        assert_eq!((answer.status, answer.message().as_str()), (400, message));
    }
    daemon.stop()
}

#[test]
fn verbs_on_what_is_not_there() -> Result<()> {
    let daemon = Daemon::start()?;
    for (method, path, status, message) in [
        ("POST", "/containers/nosuch/start", 404, "No such container: nosuch"),
        ("POST", "/containers/nosuch/stop", 404, "No such container: nosuch"),
        ("POST", "/containers/nosuch/kill", 404, "cannot kill container: nosuch: No such container: nosuch"),
        ("POST", "/containers/nosuch/wait", 404, "No such container: nosuch"),
        ("GET", "/containers/nosuch/logs?stdout=1", 404, "No such container: nosuch"),
        ("GET", "/containers/nosuch/json", 404, "No such container: nosuch"),
        ("DELETE", "/containers/nosuch", 404, "No such container: nosuch"),
        ("GET", "/exec/nosuch/json", 404, "No such exec instance: nosuch"),
        ("GET", "/images/nosuch/json", 404, "No such image: nosuch:latest"),
        ("DELETE", "/images/nosuch", 404, "No such image: nosuch:latest"),
        (
            "GET",
            "/swarm",
            503,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ),
    ] {
        let answer = daemon.api().call(method, path)?;
        assert_eq!((answer.status, answer.message().as_str()), (status, message), "{method} {path}");
    }
    daemon.stop()
}
