//! Where `wharf build` puts what it built, and what it says of a doubtful file.

use anyhow::{Result, ensure};
use std::{fs, os::unix::fs::MetadataExt};
use wharf_testkit::{Daemon, Output, until};

fn build(daemon: &Daemon, args: &[&str]) -> Result<Output> {
    let dir = daemon.dir().join("ctx");
    daemon.wharf(&[&["build", "--network=none"], args, &[&*dir.to_string_lossy()]].concat())
}

#[test]
fn files_come_out_as_a_tree_and_as_an_archive() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = daemon.build_context("FROM busybox AS made\nRUN mkdir /out; echo one > /out/a; ln -s a /out/l; chown 5:6 /out/a; chmod 4750 /out/a; echo x > /out/gone\nRUN rm /out/gone\nFROM scratch\nCOPY --from=made /out /\nCOPY b /sub/\n",
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
    let program = daemon.program("wharf");
    let mut piped = daemon.cli_command(&program.to_string_lossy(), &["build", "-o", "-", &dir]);
    let piped = piped.output()?;
    ensure!(piped.stdout == fs::read(&archive)?, "{piped:?} and {listed}");
    let bad = build(&daemon, &["-o", "type=local"])?;
    assert_eq!((bad.code, bad.stderr.as_str()), (1, "ERROR: dest is required for local exporter\n"));
    let missing = daemon.api().call("GET", "/images/nosuch/files")?;
    assert_eq!(missing.status, 404);
    daemon.stop()
}

#[test]
fn doubts_are_told_at_the_end_or_end_the_build() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.build_context("FROM busybox AS Base\nCMD true\n")?;
    let doubts = "\n 2 warnings found (use docker --debug to expand):\n - StageNameCasing: Stage name 'Base' should be lowercase (line 1)\n - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)\n";
    let out = build(&daemon, &["--progress=plain", "-t", "x"])?;
    ensure!(out.code == 0 && out.stderr.ends_with(doubts), "{out:?}");
    ensure!(!build(&daemon, &["-q"])?.stderr.contains("warning"));
    daemon.build_context(
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
    daemon.build_context("FROM busybox\nCMD [\"true\"]\n")?;
    ensure!(!build(&daemon, &["--progress=plain"])?.stderr.contains("warning"));
    daemon.stop()
}

#[test]
fn a_cache_in_a_directory_is_used_after_all_is_gone() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir =
        daemon.build_context("FROM busybox\nRUN echo one > /one\nCOPY data /\nRUN echo two > /two\n")?;
    fs::write(dir.join("data"), "1")?;
    let cache = daemon.dir().join("cache").to_string_lossy().into_owned();
    let (to, from) = (format!("type=local,dest={cache}"), format!("type=local,src={cache}"));
    let first = build(&daemon, &["-t", "x", "--cache-from", &from, "--cache-to", &to])?;
    ensure!(first.code == 0, "{first:?}");
    ensure!(
        first.stderr.contains(&format!("WARNING: local cache import at {cache} not found\n")),
        "{first:?}"
    );
    ensure!(
        fs::metadata(format!("{cache}/index.json")).is_ok()
            && fs::metadata(format!("{cache}/oci-layout")).is_ok()
    );
    daemon.wharf(&["rmi", "x"])?.ok()?;
    daemon.wharf(&["image", "prune", "-f"])?.ok()?;
    fs::write(dir.join("data"), "2")?;
    let again = build(&daemon, &["--progress=plain", "--cache-from", &from, "--cache-to", &to])?;
    ensure!(again.code == 0 && again.stderr.matches("CACHED").count() == 1, "{}", again.stderr);
    ensure!(
        !fs::read_dir(daemon.dir())?.flatten().any(|e| e.file_name().to_string_lossy().starts_with("cache."))
    );
    for (flag, value) in [
        ("--cache-to", "type=gha"),
        ("--cache-from", "type=s3"),
        ("--cache-to", "type=local,dest=x,mode=max"),
    ] {
        let out = build(&daemon, &[flag, value])?;
        ensure!(out.stderr.starts_with("ERROR: not implemented in Wharf yet: --cache-"), "{out:?}");
    }
    daemon.stop()
}

/// A server of one repository in the daemon's network; ends when dropped.
struct Server(std::process::Child);

impl Server {
    fn start(daemon: &Daemon, repositories: &str) -> Result<Self> {
        let programs = std::process::Command::new("git").arg("--exec-path").output()?.stdout;
        let programs = String::from_utf8(programs)?;
        let mut command = std::process::Command::new(format!("{}/git-daemon", programs.trim()));
        command.args(["--reuseaddr", "--export-all", "--listen=127.0.0.1", "--port=9418"]);
        command.args([&format!("--base-path={repositories}"), repositories]);
        let server = Self(daemon.net().spawn(&mut command)?);
        let mut ready = std::process::Command::new("git");
        ready
            .args(["ls-remote", "git://127.0.0.1/repo.git"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        until("git daemon's first answer", || {
            Ok(daemon.net().spawn(&mut ready)?.wait()?.success().then_some(()))
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn add_takes_repositories() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let repositories = daemon.dir().join("repositories");
    let repository = repositories.join("repo.git");
    fs::create_dir_all(repository.join("sub"))?;
    fs::write(repository.join("top"), "t")?;
    fs::write(repository.join("sub/file"), "f")?;
    let git = |args: &[&str]| -> Result<String> {
        let mut command = std::process::Command::new("git");
        command.current_dir(&repository).env("HOME", "/nonexistent");
        command.args(["-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]).args(args);
        let out = command.output()?;
        ensure!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8(out.stdout)?.trim().to_owned())
    };
    git(&["init", "-q"])?;
    git(&["add", "."])?;
    git(&["commit", "-q", "-m", "one"])?;
    git(&["tag", "v1"])?;
    let commit = git(&["rev-parse", "HEAD"])?;
    fs::write(repository.join("later"), "l")?;
    git(&["add", "."])?;
    git(&["commit", "-q", "-m", "two"])?;
    let server = Server::start(&daemon, &repositories.to_string_lossy())?;
    let url = "git://127.0.0.1/repo.git";
    daemon.build_context(&format!(
            "FROM busybox\nADD {url} /all/\nADD --keep-git-dir=true {url}#v1 /kept/\nADD --checksum={commit} --exclude=none {url}#v1:sub /sub/\nRUN find /all /kept/top /kept/.git/HEAD /sub -type f | sort > /list\n"
        ),
    )?;
    let out = build(&daemon, &["-t", "x", "--progress=plain"])?;
    ensure!(out.code == 0, "{}", out.stderr);
    let list = daemon.wharf(&["run", "--rm", "--network=none", "x", "cat", "/list"])?.ok()?;
    assert_eq!(list, "/all/later\n/all/sub/file\n/all/top\n/kept/.git/HEAD\n/kept/top\n/sub/file\n");
    let again = build(&daemon, &["--progress=plain"])?;
    assert_eq!(again.stderr.matches("CACHED").count(), 4, "{}", again.stderr);
    daemon.build_context(&format!("FROM busybox\nADD --checksum=0123 {url} /all/\n"))?;
    let wrong = build(&daemon, &[])?;
    ensure!(wrong.stderr.contains("expected checksum to match 0123, got "), "{}", wrong.stderr);
    drop(server);
    daemon.stop()
}
