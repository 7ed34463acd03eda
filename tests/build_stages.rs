//! `wharf build` of several stages: which are built, at once, and what is told of them.

use anyhow::{Result, ensure};
use std::fs;
use wharf_testkit::Daemon;

fn build(daemon: &Daemon, args: &[&str]) -> Result<wharf_testkit::Output> {
    let dir = daemon.dir().join("ctx");
    let dir = dir.to_string_lossy();
    daemon.wharf(&[&["build", "--network=none", "--progress=plain"], args, &[&*dir]].concat())
}

/// Lines without their numbers and times.
fn has(shown: &str, text: &str) -> bool {
    shown.lines().any(|line| line.starts_with('#') && line.ends_with(text))
}

#[test]
fn stages_that_nothing_needs_are_not_built() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let file = "ARG BASE=first\nFROM busybox AS first\nARG USED\nRUN echo one > /one\nFROM busybox AS unused\nRUN exit 9\nFROM busybox AS mounted\nRUN echo two > /two\nFROM ${BASE}\nCOPY --from=0 /one /copied\nRUN --mount=type=bind,from=mounted,target=/m cat /m/two > /three\n";
    daemon.build_context(file)?;
    let out = build(&daemon, &["-t", "x", "--build-arg", "USED=1", "--build-arg", "NOBODY=1"])?;
    ensure!(out.code == 0, "{out:?}");
    ensure!(has(&out.stderr, "[first 3/3] RUN echo one > /one"), "{}", out.stderr);
    ensure!(has(&out.stderr, "[stage-3 2/3] COPY --from=0 /one /copied"), "{}", out.stderr);
    ensure!(!out.stderr.contains("unused"), "{}", out.stderr);
    ensure!(out.stderr.contains("build-args [NOBODY] were not consumed"), "{}", out.stderr);
    let cat = ["run", "--rm", "--network=none", "x", "cat", "/one", "/copied", "/three"];
    assert_eq!(daemon.wharf(&cat)?.ok()?, "one\none\ntwo\n");
    let again = build(&daemon, &["-t", "x", "--build-arg", "USED=1"])?;
    assert_eq!(again.stderr.matches("CACHED").count(), 5, "{}", again.stderr);
    // The classic builder builds all of them.
    let dir = daemon.dir().join("ctx").to_string_lossy().into_owned();
    let classic = daemon.docker(&["build", "--network=none", &dir])?;
    ensure!(classic.code != 0 && classic.stderr.contains("returned a non-zero code: 9"), "{classic:?}");
    let unused = build(&daemon, &["--target", "unused"])?;
    ensure!(unused.code == 1 && unused.stderr.contains("   6 | >>> RUN exit 9"), "{}", unused.stderr);
    daemon.stop()
}

#[test]
fn stages_run_at_once_and_alike_steps_once() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    // Each of two stages waits for the other one.
    let wait = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/c touch /c/{own}; i=0; while ! test -e /c/{other}; do sleep 0.1; i=$((i+1)); test $i -lt 600 || exit 1; done\n"
        )
    };
    let same = "RUN --mount=type=cache,target=/c echo x >> /c/count\n";
    let file = format!(
        "FROM busybox AS a\n{same}{}FROM busybox AS b\n{same}{}FROM busybox\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\nRUN --mount=type=cache,target=/c wc -l < /c/count > /times\n",
        wait("a", "b"),
        wait("b", "a")
    );
    daemon.build_context(&file)?;
    let out = build(&daemon, &["-t", "x"])?;
    ensure!(out.code == 0, "{}", out.stderr);
    assert_eq!(daemon.wharf(&["run", "--rm", "--network=none", "x", "cat", "/times"])?.ok()?, "1\n");
    ensure!(has(&out.stderr, "CACHED"), "{}", out.stderr);
    daemon.stop()
}

#[test]
fn a_stage_that_fails_ends_the_others() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let ready = "until test -e /c/ready; do sleep 0.1; done";
    let file = format!(
        "ARG X\nFROM busybox AS slow\nRUN --mount=type=cache,target=/c touch /c/ready; sleep 1000\nFROM busybox AS bad\nRUN --mount=type=cache,target=/c {ready}; \\\n  exit 4\nFROM busybox\nCOPY --from=slow / /a/\nCOPY --from=bad / /b/\n"
    );
    daemon.build_context(&file)?;
    let out = build(&daemon, &[])?;
    ensure!(out.code == 1, "{}", out.stderr);
    let end = format!(
        "   5 | >>> RUN --mount=type=cache,target=/c {ready}; \\\n   6 | >>>   exit 4\n   7 |     FROM busybox\n   8 |     COPY --from=slow / /a/\n--------------------\nERROR: failed to build: failed to solve: The command '/bin/sh -c {ready};   exit 4' returned a non-zero code: 4\n"
    );
    ensure!(out.stderr.ends_with(&end), "{}", out.stderr);
    ensure!(
        out.stderr.lines().any(|line| line.starts_with('#') && line.ends_with(" CANCELED")),
        "{}",
        out.stderr
    );
    // The one that failed is left to be looked at, as the classic builder leaves it.
    let left = daemon.wharf(&["ps", "-a", "--format", "{{.Status}}"])?.ok()?;
    ensure!(left.lines().count() == 1 && left.starts_with("Exited (4)"), "{left}");
    daemon.stop()
}

#[test]
fn why_a_step_is_not_cached_is_told_and_stages_are_built_anew_by_name() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = daemon.build_context("FROM busybox AS one\nARG A\nCOPY data /\nRUN echo $A\nFROM busybox\nRUN echo hello > /x\nCOPY --from=one /data /\n",
    )?;
    fs::write(dir.join("data"), "1")?;
    let first = build(&daemon, &["--explain", "--build-arg", "A=1"])?;
    ensure!(has(&first.stderr, "not cached: no earlier build did this here"), "{}", first.stderr);
    ensure!(has(&first.stderr, "not cached: the step before was not cached"), "{}", first.stderr);
    let again = build(&daemon, &["--explain", "--build-arg", "A=1"])?;
    ensure!(again.code == 0 && !again.stderr.contains("not cached"), "{}", again.stderr);
    let changed = build(&daemon, &["--explain", "--build-arg", "A=2"])?;
    ensure!(has(&changed.stderr, "not cached: build arguments changed: A"), "{}", changed.stderr);
    fs::write(dir.join("data"), "2")?;
    let changed = build(&daemon, &["--explain", "--build-arg", "A=2"])?;
    ensure!(has(&changed.stderr, "not cached: files changed"), "{}", changed.stderr);
    let filtered = build(&daemon, &["--explain", "--no-cache-filter", "One", "--build-arg", "A=2"])?;
    ensure!(has(&filtered.stderr, "not cached: the cache is not to be used"), "{}", filtered.stderr);
    // The other stage is taken from earlier builds.
    ensure!(filtered.stderr.contains("CACHED"), "{}", filtered.stderr);
    ensure!(!build(&daemon, &[])?.stderr.contains("not cached"), "nobody asked");
    daemon.stop()
}
