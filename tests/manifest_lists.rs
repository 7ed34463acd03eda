//! `docker manifest`: lists that one CLI makes are those of the other, and what it pushes is the same.

use anyhow::Result;
use wharf_testkit::{Daemon, Output, Registry, lacks};

/// Status and words, the name of the list taken out.
fn said(out: &Output, list: &str) -> (i32, String, String) {
    (out.code, out.stdout.replace(list, "LIST"), out.stderr.replace(list, "LIST"))
}

#[test]
fn lists_are_made_and_pushed_as_docker_does() -> Result<()> {
    if lacks(&["docker-registry"]) {
        return Ok(());
    }
    let daemon = Daemon::with_busybox()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    let name = |rest: &str| format!("{}/{rest}", Registry::ADDRESS);
    let (own, other) = (name("many/app:amd"), name("other/app:v1"));
    for image in [&own, &other] {
        daemon.docker(&["tag", "busybox", image])?.ok()?;
        daemon.docker(&["push", "-q", image])?.ok()?;
    }
    type Cli = fn(&Daemon, &[&str]) -> Result<Output>;
    let each = |cli: Cli, reader: Cli, list: &str| -> Result<Vec<(i32, String, String)>> {
        let mut all = Vec::new();
        let mut run = |args: &[&str], cli: Cli| -> Result<()> {
            all.push(said(&cli(&daemon, args)?, list));
            Ok(())
        };
        run(&["manifest", "create", "--insecure", list, &own, &other], cli)?;
        run(&["manifest", "create", "--insecure", list, &own], cli)?;
        run(&["manifest", "create", "--insecure", "--amend", list, &own], cli)?;
        run(&["manifest", "create", "--insecure", &name("bad:1"), &name("nosuch/app:1")], cli)?;
        let arm = ["--arch", "arm64", "--variant", "v8", "--os-features", "a,b", "--os-version", "1"];
        run(&[&["manifest", "annotate"], &arm[..], &[list, &other]].concat(), cli)?;
        run(&["manifest", "annotate", "--arch", "z80", list, &other], cli)?;
        run(&["manifest", "annotate", list, "nosuch"], cli)?;
        // The other CLI reads it too.
        for reader in [cli, reader] {
            run(&["manifest", "inspect", list], reader)?;
            run(&["manifest", "inspect", "-v", list], reader)?;
            run(&["manifest", "inspect", list, &other], reader)?;
            run(&["manifest", "inspect", list, "nosuch"], reader)?;
        }
        run(&["manifest", "push", "--insecure", "-p", list], cli)?;
        run(&["manifest", "push", list], cli)?;
        // From the registry now.
        run(&["manifest", "inspect", "--insecure", list], cli)?;
        run(&["manifest", "create", "--insecure", &name("x:1"), list], cli)?;
        run(&["manifest", "rm", "nosuch:1", list], cli)?;
        run(&["manifest", "create", "--insecure", list, &own], cli)?;
        run(&["manifest", "rm", list], cli)?;
        run(&["manifest", "rm", list], cli)?;
        Ok(all)
    };
    let theirs = each(Daemon::docker, Daemon::wharf, &name("many/app:theirs"))?;
    let ours = each(Daemon::wharf, Daemon::docker, &name("many/app:ours"))?;
    assert_eq!(theirs[0], (0, "Created manifest list LIST\n".into(), String::new()));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(ours, theirs);
    }
    // What was mounted can be pulled.
    daemon.docker(&["rmi", &own, &other])?.ok()?;
    daemon.wharf(&["pull", "-q", &name("many/app:ours")])?.ok()?;
    drop(registry);
    daemon.stop()
}
