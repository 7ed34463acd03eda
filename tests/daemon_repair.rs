//! Records that a power failure tore: the daemon names them, leaves them, and does its work.

use crate::container_lifecycle::run_detached;
use anyhow::{Result, ensure};
use std::{fs, path::PathBuf};
use wharf_testkit::Daemon;

#[test]
fn torn_records_are_named_and_stop_nothing() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    daemon.docker(&["network", "create", "lost"])?.ok()?;
    daemon.docker(&["volume", "create", "--label", "a=b", "kept"])?.ok()?;
    for name in ["one", "two", "fine"] {
        daemon.docker(&["create", "--name", name, "busybox", "true"])?.ok()?;
    }
    run_detached(&daemon, "running", &["sleep", "100"])?;
    let dir = |name: &str| -> Result<PathBuf> {
        let id = daemon.docker(&["inspect", "-f", "{{.Id}}", name])?.ok()?;
        Ok(daemon.data_root().join("containers").join(id.trim()))
    };
    let mut torn = vec![dir("one")?.join("config.v2.json"), dir("two")?.join("hostconfig.json")];
    let root = daemon.data_root();
    torn.push(root.join("image/overlay2/repositories.json"));
    torn.push(root.join("network/files/local-kv.db"));
    torn.push(root.join("volumes/metadata.db"));
    daemon.kill9()?;
    let whole: Vec<Vec<u8>> = torn.iter().map(fs::read).collect::<Result<_, _>>()?;
    for (path, bytes) in torn.iter().zip(&whole) {
        fs::write(path, &bytes[..bytes.len() / 3])?;
    }

    daemon.launch()?;
    let log = daemon.log();
    for path in &torn {
        ensure!(log.contains(&path.display().to_string()), "{} is not named: {log}", path.display());
    }
    let list = |daemon: &Daemon, args: &[&str]| -> Result<Vec<String>> {
        Ok(daemon.docker(args)?.ok()?.lines().map(Into::into).collect())
    };
    let ps = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
    assert_eq!(list(&daemon, &ps)?, ["running running", "fine created"]);
    assert_eq!(
        list(&daemon, &["volume", "inspect", "-f", "{{.Name}} {{json .Labels}}", "kept"])?,
        ["kept null"]
    );
    assert_eq!(list(&daemon, &["network", "ls", "--format", "{{.Name}}"])?, ["bridge", "host", "none"]);
    assert_eq!(list(&daemon, &["images", "--format", "{{.Repository}}"])?, ["<none>"]);
    daemon.docker(&["start", "-a", "fine"])?.ok()?;

    // The administrator finds the files as they were, and puts them back.
    daemon.terminate()?;
    for (path, bytes) in torn.iter().zip(&whole) {
        let kept = PathBuf::from(format!("{}.damaged-1", path.display()));
        if kept.exists() {
            assert_eq!(fs::read(&kept)?, bytes[..bytes.len() / 3]);
        }
        fs::write(path, bytes)?;
    }
    daemon.launch()?;
    let mut names: Vec<String> = list(&daemon, &["ps", "-a", "--format", "{{.Names}}"])?;
    names.sort();
    assert_eq!(names, ["fine", "one", "running", "two"]);
    assert_eq!(list(&daemon, &["volume", "inspect", "-f", "{{json .Labels}}", "kept"])?, [r#"{"a":"b"}"#]);
    daemon.docker(&["network", "rm", "lost"])?.ok()?;
    daemon.stop()
}
