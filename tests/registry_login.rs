//! `docker login` and `docker logout`, with both command lines, and where they keep what they are told.

use anyhow::{Context, Result};
use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::PathBuf};
use wharf_testkit::{Daemon, Output, OwnRegistry, Registry, lacks};

/// `user` with the password `secret`, as bcrypt.
const USERS: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

#[test]
fn a_registry_takes_and_refuses_passwords() -> Result<()> {
    if lacks(&["docker-registry"]) {
        return Ok(());
    }
    let daemon = Daemon::start()?;
    let registry = Registry::start_with_users(daemon.net(), daemon.dir(), USERS)?;
    let login = |password: &str| {
        daemon.docker_stdin(
            &["login", "-u", "user", "--password-stdin", Registry::ADDRESS],
            password.as_bytes(),
        )
    };
    let refused = login("wrong")?;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("unauthorized"), "{}", refused.stderr);
    assert!(login("secret")?.ok()?.contains("Login Succeeded"));
    drop(registry);
    let nobody = login("secret")?;
    assert!(nobody.code == 1 && nobody.stderr.contains("connection refused"), "{}", nobody.stderr);
    daemon.stop()
}

const OWN: &str = "127.0.0.1:5001";

/// A credential helper that keeps entries as files below its folder, and says what it was asked.
const HELPER: &str = r#"#!/bin/sh
folder=$(dirname "$0")/kept
echo "$1" >> "$folder/log"
case "$1" in
store) cat > "$folder/entry" ;;
get) if [ -f "$folder/entry" ]; then cat "$folder/entry"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f "$folder/entry" ;;
*) exit 2 ;;
esac
"#;

/// A command line of either make with the helper on its path.
fn cli(daemon: &Daemon, name: &str, args: &[&str], stdin: &str) -> Result<Output> {
    let program = match name {
        "wharf" => wharf_testkit::bin_dir().join("wharf"),
        other => PathBuf::from(other),
    };
    let mut command = daemon.cli_command(&program.to_string_lossy(), args);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", daemon.dir().join("helper").display()));
    let mut child = daemon.net().spawn(&mut command)?;
    // One that ends early does not read.
    let _ = child.stdin.take().context("a pipe")?.write_all(stdin.as_bytes());
    let out = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output { code: out.status.code().unwrap_or(-1), stdout: text(&out.stdout), stderr: text(&out.stderr) })
}

/// What the file holds: the order of its fields is nobody's business.
fn kept(daemon: &Daemon) -> serde_json::Value {
    serde_json::from_slice(&fs::read(config(daemon)).unwrap_or_default()).unwrap_or_default()
}

fn config(daemon: &Daemon) -> PathBuf {
    daemon.dir().join("home/.docker/config.json")
}

#[test]
fn both_command_lines_say_and_keep_the_same() -> Result<()> {
    let daemon = Daemon::start()?;
    let registry = OwnRegistry::start(daemon.net(), OWN)?;
    registry.faults(|faults| faults.user = Some(("user".into(), "secret".into())));
    let in_stdin = ["login", "-u", "user", "--password-stdin", OWN];
    for (args, stdin) in [
        (&in_stdin[..], "wrong"),
        (&in_stdin, "secret\r\n"),
        // It is known now, and used.
        (&["login", OWN], ""),
        (&["login", "https://127.0.0.1:5001/v2/"], ""),
        (&["logout", OWN], ""),
        (&["logout", OWN], ""),
        (&["login", OWN], ""),
        (&["login", "-u", "user", "-p", "secret", OWN], ""),
        (&["login", "-u", "user", "-p", "secret", "--password-stdin", OWN], ""),
        (&["login", "--password-stdin", OWN], ""),
        (&["login", "-u", "", OWN], ""),
        (&["login", "-u", "user", "-p", "", OWN], ""),
        (&["login", "-u", "user", OWN], ""),
        (&["logout"], ""),
        (&["logout", "http://127.0.0.1:5001"], ""),
    ] {
        let before = fs::read(config(&daemon)).unwrap_or_default();
        let theirs = cli(&daemon, "docker", args, stdin)?;
        let after = kept(&daemon);
        match before.is_empty() {
            true => drop(fs::remove_file(config(&daemon))),
            false => fs::write(config(&daemon), before)?,
        }
        let ours = cli(&daemon, "wharf", args, stdin)?;
        assert_eq!(
            (ours.code, &ours.stdout, &ours.stderr),
            (theirs.code, &theirs.stdout, &theirs.stderr),
            "{args:?}"
        );
        assert_eq!(kept(&daemon), after, "{args:?}");
    }
    daemon.stop()
}

#[test]
fn helpers_keep_what_they_are_given() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let registry = OwnRegistry::start(daemon.net(), OWN)?;
    registry.faults(|faults| faults.user = Some(("user".into(), "secret".into())));
    let helper = daemon.dir().join("helper");
    fs::create_dir_all(helper.join("kept"))?;
    fs::write(helper.join("docker-credential-test"), HELPER)?;
    fs::set_permissions(helper.join("docker-credential-test"), fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(daemon.dir().join("home/.docker"))?;
    let name = format!("{OWN}/app:v1");
    daemon.docker(&["tag", "busybox", &name])?.ok()?;
    for settings in
        [r#"{"credsStore":"test"}"#, r#"{"credsStore":"no-such","credHelpers":{"127.0.0.1:5001":"test"}}"#]
    {
        let mut results = Vec::new();
        for program in ["docker", "wharf"] {
            fs::write(config(&daemon), settings)?;
            let _ = fs::remove_file(helper.join("kept/log"));
            let login = cli(&daemon, program, &["login", "-u", "user", "--password-stdin", OWN], "secret")?;
            let entry = fs::read_to_string(helper.join("kept/entry"))?;
            let file = fs::read_to_string(config(&daemon))?;
            assert!(login.stdout.contains("Login Succeeded") && login.stderr.is_empty(), "{}", login.stderr);
            assert!(
                entry.contains("secret") && !file.contains("c2VjcmV0") && file.contains(OWN),
                "{entry} {file}"
            );
            let pushed = cli(&daemon, program, &["push", &name], "")?.ok()?;
            assert!(pushed.contains("v1: digest: sha256:"), "{pushed}");
            let logout = cli(&daemon, program, &["logout", OWN], "")?;
            assert!(!helper.join("kept/entry").exists());
            let refused = cli(&daemon, program, &["push", &name], "")?;
            assert!(refused.stderr.contains("unauthorized: authentication required"), "{}", refused.stderr);
            let log = fs::read_to_string(helper.join("kept/log"))?;
            let calls =
                ["store", "get", "erase"].map(|action| log.lines().filter(|l| *l == action).count() > 0);
            let file = kept(&daemon);
            results.push((login.stdout, entry, logout.stdout, logout.stderr, calls, file));
        }
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0].4, [true; 3]);
    }
    // One that is not there.
    fs::write(config(&daemon), r#"{"credsStore":"no-such"}"#)?;
    for args in [&["login", "-u", "user", "--password-stdin", OWN][..], &["push", &name], &["logout", OWN]] {
        let (theirs, ours) =
            (cli(&daemon, "docker", args, "secret")?, cli(&daemon, "wharf", args, "secret")?);
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        // Docker tells of several failures in the order of a Go map.
        assert_eq!((ours.code, sorted(&ours.stderr)), (theirs.code, sorted(&theirs.stderr)), "{args:?}");
    }
    daemon.stop()
}

#[test]
fn headers_of_the_file_go_with_every_request() -> Result<()> {
    let daemon = Daemon::prepare(Daemon::builder())?;
    let dir = daemon.dir().join("home/.docker");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("config.json"), r#"{"HttpHeaders":{"X-Meta-Team":"harbour"}}"#)?;
    // A registry is a web server like a daemon is, and tells what it saw.
    let server = OwnRegistry::start(daemon.net(), "127.0.0.1:2375")?;
    for program in ["docker", "wharf"] {
        cli(&daemon, program, &["-H", "tcp://127.0.0.1:2375", "version"], "")?;
        let seen = server.seen("HEAD", "/_ping");
        let last = seen.last().context("a ping")?;
        assert_eq!(last.header("x-meta-team"), "harbour", "{program}");
    }
    assert!(server.seen("HEAD", "/_ping").len() >= 2);
    Ok(())
}
