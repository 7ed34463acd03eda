//! /_ping, /version, /info, versions and unknown routes.

use anyhow::Result;
use wharf_testkit::Daemon;

#[test]
fn versions_are_negotiated_and_bounded() -> Result<()> {
    let daemon = Daemon::start()?;
    for version in ["v1.24", "v1.40", "v1.47", "v1.55", ""] {
        let answer = daemon.api().at(version).call("GET", "/version")?;
        assert_eq!(answer.status, 200, "{version}");
        assert_eq!(
            (&answer.json()["ApiVersion"], &answer.json()["MinAPIVersion"]),
            (&"1.55".into(), &"1.24".into())
        );
    }
    let new = daemon.api().at("v1.56").call("GET", "/info")?;
    assert_eq!(
        (new.status, new.message().as_str()),
        (400, "client version 1.56 is too new. Maximum supported API version is 1.55")
    );
    let old = daemon.api().at("v1.23").call("GET", "/info")?;
    assert_eq!(old.status, 400);
    assert!(
        String::from_utf8_lossy(&old.body)
            .contains("client version 1.23 is too old. Minimum supported API version is 1.24")
    );
    daemon.stop()
}

#[test]
fn ping_has_dockers_headers() -> Result<()> {
    let daemon = Daemon::start()?;
    for method in ["GET", "HEAD"] {
        let ping = daemon.api().at("").call(method, "/_ping")?;
        assert_eq!(ping.status, 200);
        for (name, value) in [
            ("api-version", "1.55"),
            ("docker-experimental", "false"),
            ("ostype", "linux"),
            ("cache-control", "no-cache, no-store, must-revalidate"),
            ("pragma", "no-cache"),
            ("swarm", "inactive"),
        ] {
            assert_eq!(ping.header(name), Some(value), "{method} {name}");
        }
        assert!(
            ping.header("server").is_some_and(|s| s.starts_with("Docker/")),
            "{:?}",
            ping.header("server")
        );
    }
    assert_eq!(daemon.api().call("GET", "/_ping")?.body, b"OK");
    daemon.stop()
}

#[test]
fn unknown_routes_and_methods_are_404() -> Result<()> {
    let daemon = Daemon::start()?;
    for (method, path) in
        [("GET", "/nosuch"), ("PUT", "/version"), ("POST", "/containers/json"), ("GET", "/")]
    {
        let answer = daemon.api().call(method, path)?;
        assert_eq!((answer.status, answer.message().as_str()), (404, "page not found"), "{method} {path}");
    }
    let later = daemon.api().call("POST", "/grpc")?;
    assert_eq!(later.status, 501, "{}", later.message());
    daemon.stop()
}

#[test]
fn info_counts() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["create", "--network=none", "busybox"])?.ok()?;
    daemon.docker(&["run", "-d", "--network=none", "busybox", "sleep", "1000"])?.ok()?;
    let info = daemon.docker(&[
        "info",
        "-f",
        "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}} {{.Driver}} {{.OSType}}",
    ])?;
    assert_eq!(info.ok()?, "2 1 1 1 overlay2 linux\n");
    daemon.stop()
}
