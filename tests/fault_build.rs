//! Builds under faults: at each step something fails, or the daemon dies there.

use anyhow::{Context, Result, ensure};
use wharf_testkit::{Daemon, Entry, Inventory, Pass, Point, Tar, amount, figure, until};

/// A step of each kind.
const TEXT: &str = "FROM busybox\nENV a=b\nRUN echo x > /x\nCOPY f /f\n";

fn build(daemon: &Daemon) -> Result<()> {
    let context = Tar::of(&[Entry::file("Dockerfile", 0o644, TEXT), Entry::file("f", 0o644, "f")]).bytes();
    let answer = daemon.api().send("POST", "/build?t=built:v1&forcerm=1", "application/x-tar", &context)?;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status < 300 && !text.contains("errorDetail"), "{} {text}", answer.status);
    ensure!(text.contains("Successfully tagged built:v1"), "{text}");
    Ok(())
}

/// With the images of its steps, which stay as a cache when a build is cut off.
fn remove(daemon: &Daemon) -> Result<()> {
    daemon.api().call("DELETE", "/images/built:v1")?;
    daemon.docker(&["image", "prune", "-f"])?.ok()?;
    Ok(())
}

/// What a build that was cut off leaves is images of its steps; no container, and nothing that a second try minds.
#[test]
fn a_build_that_is_cut_off_leaves_a_cache_at_most() -> Result<()> {
    let mut daemon = Daemon::with_busybox()?;
    let faults = daemon.faults()?;
    build(&daemon)?;
    remove(&daemon)?;
    let empty = Inventory::of(&daemon)?;
    let points = faults.trace(|| build(&daemon))?;
    remove(&daemon)?;
    let passes: Vec<Pass> = points.iter().flat_map(Point::struck).collect();
    let wanted = ["build.created", "build.started", "build.changed", "build.committed"];
    for name in wanted {
        ensure!(passes.iter().any(|(point, _)| point == name), "{name} is not passed: {passes:?}");
    }
    let count = amount(passes.len(), 24);
    // Those of the builder itself first.
    let (own, other): (Vec<_>, Vec<_>) =
        passes.into_iter().partition(|(point, _)| point.starts_with("build."));
    for pass in own.iter().chain(&other).take(count) {
        faults.arm(pass, "kill")?;
        // A build may outlive the death of what is not the daemon.
        let _ = build(&daemon);
        until("the fault to strike", || Ok(faults.victim().map(drop)))
            .with_context(|| format!("{pass:?}"))?;
        faults.disarm()?;
        if faults.victim() == Some(daemon.pid()) {
            daemon.wait_for_death()?;
            daemon.launch()?;
        }
        let again = || -> Result<()> {
            ensure!(daemon.docker(&["ps", "-aq"])?.ok()?.is_empty(), "a container is left");
            build(&daemon)?;
            assert_eq!(
                daemon.docker(&["run", "--rm", "--network=none", "built:v1", "cat", "/x", "/f"])?.ok()?,
                "x\nf"
            );
            remove(&daemon)?;
            until("the space to come back", || Ok((Inventory::of(&daemon)? == empty).then_some(())))
        };
        again().with_context(|| format!("{pass:?}\n{}", daemon.log()))?;
    }
    figure(&format!("fault_build: {count} strikes"));
    daemon.terminate()?;
    daemon.assert_whole()?;
    daemon.assert_clean()
}
