//! wharfd's flags, its configuration file, its socket and its locks.

use anyhow::Result;
use std::os::unix::fs::PermissionsExt;
use wharf_testkit::Daemon;

#[test]
fn a_wrong_configuration_is_refused_by_name() -> Result<()> {
    for (config, flag, expected) in [
        (
            r#"{"nosuchkey": 1}"#,
            "",
            "the following directives don't match any configuration option: nosuchkey",
        ),
        (
            r#"{"debug": true}"#,
            "--debug",
            "the following directives are specified both as a flag and in the configuration file: debug",
        ),
        ("{broken", "", "invalid character 'b' looking for beginning of object key string"),
        ("{}", "--nosuchflag", "nosuchflag"),
        ("{}", "--storage-driver=nosuch", "nosuch"),
        ("{}", "--log-level=loud", "loud"),
        ("{}", "--bip=nonsense", "nonsense"),
    ] {
        let mut builder = Daemon::builder().config(config);
        if !flag.is_empty() {
            builder = builder.flag(flag);
        }
        let daemon = Daemon::prepare(builder)?;
        let out = daemon.run_to_end()?;
        assert_ne!(out.code, 0, "{config} {flag}");
        assert!(out.stderr.contains(expected), "{config} {flag}: {}", out.stderr);
        assert!(!daemon.socket().exists());
    }
    Ok(())
}

#[test]
fn the_file_sets_what_flags_set() -> Result<()> {
    let daemon = Daemon::builder().config(r#"{"debug": true, "labels": ["a=b"]}"#).start()?;
    let info = daemon.api().call("GET", "/info")?.json();
    assert_eq!(info["Debug"], true);
    assert_eq!(info["Labels"], serde_json::json!(["a=b"]));
    daemon.stop()
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused() -> Result<()> {
    let daemon = Daemon::start()?;
    let out = daemon.run_to_end()?;
    assert_ne!(out.code, 0);
    assert!(out.stderr.contains("still running") || out.stderr.contains("in use"), "{}", out.stderr);
    assert_eq!(daemon.api().call("GET", "/_ping")?.status, 200, "the first one is not disturbed");
    daemon.stop()
}

#[test]
fn stale_pidfile_and_socket_are_no_obstacle() -> Result<()> {
    let mut daemon = Daemon::start()?;
    daemon.kill9()?;
    assert!(daemon.socket().exists() && daemon.dir().join("wharfd.pid").exists());
    daemon.launch()?;
    let mode = std::fs::metadata(daemon.socket())?.permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    daemon.terminate()?;
    assert!(!daemon.socket().exists(), "the socket is removed at the end");
    assert!(!daemon.dir().join("wharfd.pid").exists());
    daemon.assert_clean()
}

#[test]
fn tcp_is_served_too() -> Result<()> {
    let daemon = Daemon::builder().flag("--host=tcp://127.0.0.1:2375").start()?;
    let mut command = daemon.cli_command("docker", &["version", "-f", "{{.Server.APIVersion}}"]);
    command.env("DOCKER_HOST", "tcp://127.0.0.1:2375");
    let out = daemon.net().spawn(&mut command)?.wait_with_output()?;
    assert_eq!(String::from_utf8(out.stdout)?, "1.55\n");
    daemon.stop()
}
