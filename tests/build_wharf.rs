//! `wharf build`: contexts, what is drawn, errors, where the image goes.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::{fs, path::Path};
use wharf_testkit::Daemon;

/// A directory with these files; its path.
fn context(daemon: &Daemon, name: &str, files: &[(&str, &str)]) -> Result<String> {
    let root = daemon.dir().join(name);
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, text)?;
    }
    Ok(root.to_string_lossy().into_owned())
}

#[test]
fn a_directory_becomes_an_image() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dockerfile = "FROM busybox\nARG GREETING\nENV G=$GREETING\nCOPY . /src/\nRUN --network=none echo built; ls -A /src > /list\nCMD [\"cat\", \"/list\"]\n";
    let files = [
        ("Dockerfile", dockerfile),
        (".dockerignore", "*\n!a/keep\n"),
        ("a/keep", "x"),
        ("a/drop", "x"),
        ("b", "x"),
    ];
    let dir = context(&daemon, "ctx", &files)?;
    let (iid, written) = (daemon.dir().join("iid"), daemon.dir().join("metadata"));
    let args = [
        "build",
        "--network=none",
        "-t",
        "one",
        "-t",
        "two:v2",
        "--build-arg",
        "GREETING=hello",
        "--label",
        "l=1",
        "--iidfile",
        &iid.to_string_lossy(),
        "--metadata-file",
        &written.to_string_lossy(),
        &dir,
    ];
    let out = daemon.wharf(&args)?;
    ensure!(out.code == 0 && out.stdout.is_empty(), "{out:?}");
    for line in [
        "#1 [internal] load build context",
        "#2 [1/7] FROM busybox",
        "[5/7] RUN --network=none",
        " built\n",
        "exporting to image",
    ] {
        ensure!(out.stderr.contains(line), "no {line:?} in {}", out.stderr);
    }
    let image = daemon.inspect_image("two:v2")?;
    assert_eq!(fs::read_to_string(&iid)?, image["Id"].as_str().unwrap_or_default());
    let metadata: Value = serde_json::from_slice(&fs::read(&written)?)?;
    assert_eq!(metadata["containerimage.config.digest"], image["Id"]);
    assert_eq!(metadata["image.name"], "docker.io/library/one:latest,docker.io/library/two:v2");
    assert_eq!(image["Config"]["Labels"]["l"], "1");
    ensure!(image["Config"]["Env"].to_string().contains("G=hello"), "{image}");
    assert_eq!(daemon.wharf(&["run", "--rm", "--network=none", "one"])?.ok()?, "a\n");
    let again = daemon.wharf(&args)?;
    ensure!(again.stderr.contains("CACHED") && !again.stderr.contains(" built\n"), "{}", again.stderr);
    let quiet = daemon.wharf(&["build", "--network=none", "-q", "--no-cache", &dir])?;
    ensure!(quiet.stdout.starts_with("sha256:") && quiet.stderr.is_empty(), "{quiet:?}");
    daemon.stop()
}

#[test]
fn dockerfiles_come_from_anywhere() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = context(
        &daemon,
        "ctx",
        &[("data", "d"), ("sub/File", "FROM busybox\nCOPY . /c/\n"), ("sub/File.dockerignore", "sub\n")],
    )?;
    let outside = context(&daemon, "elsewhere", &[("Other", "FROM busybox\nCOPY . /c/\n")])? + "/Other";
    let list = |image: &str| daemon.wharf(&["run", "--rm", "--network=none", image, "find", "/c"])?.ok();
    daemon.wharf(&["build", "-t", "inside", "-f", &format!("{dir}/sub/File"), &dir])?.ok()?;
    assert_eq!(list("inside")?, "/c\n/c/data\n");
    daemon.wharf(&["image", "build", "-t", "outside", "-f", &outside, &dir])?.ok()?;
    let mut names: Vec<String> = list("outside")?.lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["/c", "/c/data", "/c/sub", "/c/sub/File", "/c/sub/File.dockerignore"]);
    let file = b"FROM busybox\nCOPY data /c/\n";
    daemon.wharf_stdin(&["builder", "build", "-t", "piped", "-f", "-", &dir], file)?.ok()?;
    assert_eq!(list("piped")?, "/c\n/c/data\n");
    daemon.wharf_stdin(&["buildx", "build", "-t", "lone", "-"], b"FROM busybox\nENV LONE=1\n")?.ok()?;
    ensure!(daemon.inspect_image("lone")?["Config"]["Env"].to_string().contains("LONE=1"));
    let archive = std::process::Command::new("tar").args(["-C", &dir, "-cz", "."]).output()?.stdout;
    daemon.wharf_stdin(&["build", "-t", "archive", "-f", "sub/File", "-"], &archive)?.ok()?;
    ensure!(list("archive")?.contains("/c/data\n"));
    let both = daemon.wharf(&["build", "-f", "-", "-"])?;
    ensure!(
        both.code == 1 && both.stderr.contains("can't use stdin for both build context and dockerfile"),
        "{both:?}"
    );
    daemon.stop()
}

#[test]
fn errors_show_where_they_are() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = context(
        &daemon,
        "ctx",
        &[("Dockerfile", "FROM busybox\nRUN --network=none echo out; \\\n  exit 3\nCMD x\n")],
    )?;
    let out = daemon.wharf(&["build", &dir])?;
    assert_eq!((out.code, out.stdout.as_str()), (1, ""));
    let excerpt = "Dockerfile:2\n--------------------\n   1 |     FROM busybox\n   2 | >>> RUN --network=none echo out; \\\n   3 | >>>   exit 3\n   4 |     CMD x\n   5 |     \n--------------------\nERROR: failed to build: failed to solve: The command '/bin/sh -c echo out;   exit 3' returned a non-zero code: 3\n";
    ensure!(out.stderr.ends_with(excerpt), "{}", out.stderr);
    ensure!(
        out.stderr.contains("------\n > [2/3] RUN --network=none echo out;   exit 3:\n"),
        "{}",
        out.stderr
    );
    fs::write(format!("{dir}/Dockerfile"), "FROM busybox\nRAN x\n")?;
    let out = daemon.wharf(&["build", &dir])?;
    ensure!(out.code == 1 && out.stderr.contains("   2 | >>> RAN x\n"), "{}", out.stderr);
    ensure!(out.stderr.contains("unknown instruction: RAN"), "{}", out.stderr);
    let missing = daemon.wharf(&["build", "/nosuch"])?;
    assert_eq!(missing.stderr, "ERROR: unable to prepare context: path \"/nosuch\" not found\n");
    for flag in ["--ssh=default", "--annotation=a=b", "--sbom=true"] {
        let out = daemon.wharf(&["build", flag, &dir])?;
        ensure!(
            out.code == 1 && out.stderr.starts_with("ERROR: not implemented in Wharf yet: --"),
            "{flag}: {out:?}"
        );
    }
    daemon.stop()
}

#[test]
fn secrets_are_seen_by_commands_only() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dockerfile = "FROM busybox\nRUN --network=none --mount=type=secret,id=word wc -c < /run/secrets/word > /size\nCMD cat /size\n";
    let dir = context(
        &daemon,
        "ctx",
        &[("Dockerfile", dockerfile), (".dockerignore", "word\n"), ("word", "hunter2hunter2")],
    )?;
    let secret = format!("id=word,src={dir}/word");
    daemon.wharf(&["build", "--network=none", "-t", "s", "--secret", &secret, &dir])?.ok()?;
    assert_eq!(daemon.wharf(&["run", "--rm", "--network=none", "s"])?.ok()?, "14\n");
    let history = daemon.wharf(&["history", "--no-trunc", "s"])?.ok()?;
    ensure!(!history.contains("hunter2"), "{history}");
    daemon.stop()
}

#[test]
fn images_go_where_they_are_wanted_and_lines_are_drawn_in_every_way() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir =
        context(&daemon, "ctx", &[("Dockerfile", "FROM busybox\nRUN --network=none echo some-output\n")])?;
    let archive = daemon.dir().join("image.tar").to_string_lossy().into_owned();
    daemon.wharf(&["build", "-t", "a", "-o", &format!("type=docker,dest={archive}"), &dir])?.ok()?;
    daemon.wharf(&["rmi", "a"])?.ok()?;
    daemon.wharf(&["load", "-i", &archive])?.ok()?;
    daemon.inspect_image("a")?;
    let build = |progress: &str| daemon.wharf(&["build", "--no-cache", progress, &dir]);
    let tty = build("--progress=tty")?;
    ensure!(tty.stderr.contains("[+] Building ") && tty.stderr.contains("(4/4) FINISHED"), "{}", tty.stderr);
    ensure!(tty.stderr.contains(" => [2/2] RUN --network=none echo some-output"), "{}", tty.stderr);
    let json = build("--progress=rawjson")?;
    let lines: Vec<Value> = json.stderr.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.iter().any(|line| line["logs"][0]["data"] == "c29tZS1vdXRwdXQK"), "{}", json.stderr);
    ensure!(build("--progress=quiet")?.stderr.is_empty());
    ensure!(build("--progress=wrong")?.stderr.contains("invalid progress mode wrong"));
    let pruned = daemon.wharf(&["builder", "prune", "-f"])?.ok()?;
    ensure!(pruned.contains("Total reclaimed space: "), "{pruned}");
    daemon.stop()
}

#[test]
fn a_file_is_checked_without_building() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = context(&daemon, "ctx", &[("Dockerfile", "FROM busybox\nCOPY $NO /\nCMD x\n")])?;
    let out = daemon.wharf(&["build", "--check", &dir])?;
    let expected = "Check complete, 2 warnings have been found!\n\n\
        WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/\n\
        Usage of undefined variable '$NO'\nDockerfile:2\n--------------------\n   1 |     FROM busybox\n   2 | >>> COPY $NO /\n";
    ensure!(out.code == 1 && out.stdout.starts_with(expected), "{out:?}");
    fs::write(format!("{dir}/Dockerfile"), "FROM busybox\nCMD [\"x\"]\n")?;
    let out = daemon.wharf(&["build", "--call=check", &dir])?;
    assert_eq!((out.code, out.stdout.as_str()), (0, "Check complete, no warnings found.\n"));
    assert_eq!(daemon.wharf(&["images", "-q"])?.ok()?.lines().count(), 1);
    daemon.stop()
}
