//! Where `wharf build` puts what it built, and what it says of a doubtful file.

use anyhow::{Result, ensure};
use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};
use wharf_testkit::{Daemon, Output};

fn context(daemon: &Daemon, dockerfile: &str) -> Result<PathBuf> {
    let dir = daemon.dir().join("ctx");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("Dockerfile"), dockerfile)?;
    Ok(dir)
}

fn build(daemon: &Daemon, args: &[&str]) -> Result<Output> {
    let dir = daemon.dir().join("ctx");
    daemon.wharf(&[&["build", "--network=none"], args, &[&*dir.to_string_lossy()]].concat())
}

#[test]
fn files_come_out_as_a_tree_and_as_an_archive() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = context(
        &daemon,
        "FROM busybox AS made\nRUN mkdir /out; echo one > /out/a; ln -s a /out/l; chown 5:6 /out/a; chmod 4750 /out/a; echo x > /out/gone\nRUN rm /out/gone\nFROM scratch\nCOPY --from=made /out /\nCOPY b /sub/\n",
    )?;
    fs::write(dir.join("b"), "two")?;
    let to = daemon.dir().join("out").to_string_lossy().into_owned();
    fs::create_dir(&to)?;
    fs::write(format!("{to}/kept"), "k")?;
    let names = || -> Result<Vec<String>> {
        let mut names: Vec<String> =
            fs::read_dir(&to)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    };
    for output in [format!("type=local,dest={to}"), to.clone()] {
        let out = build(&daemon, &["-o", &output])?;
        ensure!(out.code == 0 && out.stdout.is_empty(), "{out:?}");
        assert_eq!(names()?, ["a", "kept", "l", "sub"]);
        assert_eq!(fs::read_to_string(format!("{to}/sub/b"))?, "two");
        assert_eq!(fs::read_link(format!("{to}/l"))?.to_string_lossy(), "a");
        let stat = fs::symlink_metadata(format!("{to}/a"))?;
        assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o4750, 0), "files are the user's");
        fs::remove_file(format!("{to}/a"))?;
    }
    let archive = daemon.dir().join("out.tar").to_string_lossy().into_owned();
    ensure!(build(&daemon, &["-o", &format!("type=tar,dest={archive}")])?.code == 0);
    let list = |path: &str| -> Result<String> {
        Ok(String::from_utf8(std::process::Command::new("tar").args(["-tvf", path]).output()?.stdout)?)
    };
    let listed = list(&archive)?;
    ensure!(listed.contains("-rwsr-x--- 5/6") && listed.contains(" sub/b\n"), "{listed}");
    // What containers get besides is not among it.
    ensure!(!listed.contains("etc") && !listed.contains("dev"), "{listed}");
    let dir = dir.to_string_lossy().into_owned();
    let binary = env!("CARGO_MANIFEST_DIR").replace("/tests", "/target/debug/wharf");
    let piped = std::process::Command::new(binary)
        .args(["-H", &format!("unix://{}", daemon.socket().display()), "build", "-q", "-o", "-", &dir])
        .output()?;
    ensure!(piped.stdout == fs::read(&archive)?, "{}", String::from_utf8_lossy(&piped.stderr));
    let bad = build(&daemon, &["-o", "type=local"])?;
    assert_eq!((bad.code, bad.stderr.as_str()), (1, "ERROR: dest is required for local exporter\n"));
    let missing = daemon.api().call("GET", "/images/nosuch/files")?;
    assert_eq!(missing.status, 404);
    daemon.stop()
}

#[test]
fn doubts_are_told_at_the_end_or_end_the_build() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    context(&daemon, "FROM busybox AS Base\nCMD true\n")?;
    let doubts = "\n 2 warnings found (use docker --debug to expand):\n - StageNameCasing: Stage name 'Base' should be lowercase (line 1)\n - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)\n";
    let out = build(&daemon, &["--progress=plain", "-t", "x"])?;
    ensure!(out.code == 0 && out.stderr.ends_with(doubts), "{out:?}");
    ensure!(!build(&daemon, &["-q"])?.stderr.contains("warning"));
    context(
        &daemon,
        "# check=error=true;skip=StageNameCasing\nFROM busybox AS Base\nRUN touch /x\nCMD true\n",
    )?;
    let out = build(&daemon, &["--progress=plain", "-t", "y"])?;
    let end =
        "ERROR: failed to build: failed to solve: lint violation found for rules: JSONArgsRecommended\n";
    ensure!(out.code == 1 && out.stderr.ends_with(end), "{out:?}");
    ensure!(out.stderr.contains("   4 | >>> CMD true\n"), "{out:?}");
    ensure!(daemon.inspect_image("y").is_err(), "nothing was built");
    let argument = "BUILDKIT_DOCKERFILE_CHECK=skip=all;error=true";
    ensure!(build(&daemon, &["--build-arg", argument, "-t", "y"])?.code == 0);
    context(&daemon, "FROM busybox\nCMD [\"true\"]\n")?;
    ensure!(!build(&daemon, &["--progress=plain"])?.stderr.contains("warning"));
    daemon.stop()
}
