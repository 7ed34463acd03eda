//! `cp` by the stock CLI and by ours: the same trees, outputs and exit codes.

use anyhow::{Context, Result};
use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};
use wharf_testkit::{Daemon, Entry, Output, Tar};

/// Stand-ins for the two CLIs in paths: of one length, so that archives are.
const SIDES: [&str; 2] = ["side-docker", "side-wharf!"];

/// Words of `cp`: `H/` is a folder of the host, `C:` a container and its folder, each as [`tree`] makes it.
const CASES: &[&str] = &[
    // In.
    "H/file C:",
    "H/file C:/",
    "H/file C:/new",
    "H/file C:/new/",
    "H/file C:/file",
    "H/file C:/file/",
    "H/file C:/dir",
    "H/file C:/dir/",
    "H/file C:/dir/.",
    "H/file C:/link",
    "H/file C:/dlink",
    "H/file C:/dangling",
    "H/file C:/no/such",
    "H/file C:/file/x",
    "H/dir C:",
    "H/dir C:/new",
    "H/dir C:/new/",
    "H/dir C:/new/.",
    "H/dir C:/file",
    "H/dir C:/dir",
    "H/dir C:/link",
    "H/dir/ C:/new",
    "H/dir/. C:/new",
    "H/dir/. C:/dir",
    "H/dir/. C:/empty",
    "H/dir/../dir C:/new",
    "H/link C:/new",
    "-L H/link C:/new",
    "-L H/link C:",
    "H/dlink C:/new",
    "H/dlink/ C:/new",
    "H/dlink/ C:",
    "H/dlink/. C:/new",
    "-L H/dlink C:/empty",
    "H/dangling C:/new",
    "-L H/dangling C:/new",
    "H/nosuch C:",
    "H/file/ C:",
    "-a H/dir C:/new",
    "-q H/file C:",
    "- C:/empty",
    "- C:/file",
    "- C:/new",
    "-a - C:/dir",
    // A directory over a file, and the reverse.
    "H/clash/. C:",
    // Out.
    "C:/file H/",
    "C:/file H/new",
    "C:/file H/new/",
    "C:/file H/file",
    "C:/file H/file/",
    "C:/file H/dir",
    "C:/file H/link",
    "C:/file H/dlink",
    "C:/file H/dangling",
    "C:/file H/no/such",
    "C:/dir H/",
    "C:/dir H/new",
    "C:/dir H/new/",
    "C:/dir H/file",
    "C:/dir H/dir",
    "C:/dir/ H/new",
    "C:/dir/. H/new",
    "C:/dir/. H/empty",
    "C:/link H/new",
    "-L C:/link H/new",
    "-L C:/link H/dir",
    "C:/dlink H/new",
    "C:/dlink/ H/new",
    "C:/dlink/. H/new",
    "-L C:/dlink H/empty",
    "-L C:/chain H/new",
    "-L C:/dangling H/new",
    "C:/dangling H/new",
    "C:/nosuch H/",
    "C:/file/ H/",
    "C:/file/x H/",
    "C:/clash/. H/",
    "C:/file -",
    "C:/dir -",
    "C:/dir/. -",
    "C:/dlink/ -",
    "-q C:/dir H/new",
    "C:/file /dev/null",
    // Neither, or both.
    "C:/file C:/new",
    "H/file H/new",
    "box: H/new",
    "nobody:/file H/new",
    "H/file nobody:/new",
];

/// The tree that each case begins with, on both sides.
fn tree(prefix: &str) -> Vec<Entry> {
    let at = |name: &str| format!("{prefix}{name}");
    let mut entries = vec![
        Entry::file(&at("file"), 0o640, "a file"),
        Entry::dir(&at("dir"), 0o750),
        Entry::file(&at("dir/a"), 0o600, "a"),
        Entry::dir(&at("dir/sub"), 0o755),
        Entry::file(&at("dir/sub/b"), 0o4755, "b"),
        Entry::symlink(&at("dir/up"), "../file"),
        Entry::hardlink(&at("dir/z"), &at("dir/a")),
        Entry::dir(&at("empty"), 0o700),
        Entry::symlink(&at("link"), "file"),
        Entry::symlink(&at("dlink"), "dir"),
        Entry::symlink(&at("chain"), "dlink"),
        Entry::symlink(&at("dangling"), "nowhere"),
        Entry::dir(&at("clash"), 0o755),
        Entry::dir(&at("clash/file"), 0o755),
    ];
    entries.iter_mut().for_each(|entry| entry.owner = (33, 33));
    entries
}

fn extract(archive: &Tar, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut tar = Command::new("tar").arg("-xpf-").arg("-C").arg(directory).stdin(Stdio::piped()).spawn()?;
    tar.stdin.take().context("a pipe")?.write_all(&archive.bytes())?;
    anyhow::ensure!(tar.wait()?.success(), "tar");
    Ok(())
}

/// Name, mode, owner, kind, content or target of everything below a directory.
fn listing(directory: &Path, below: &str, list: &mut Vec<String>) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let (path, name) = (entry.path(), format!("{below}/{}", entry.file_name().to_string_lossy()));
        let found = fs::symlink_metadata(&path)?;
        let mut line = format!("{name} {:o} {}:{}", found.permissions().mode(), found.uid(), found.gid());
        if found.is_symlink() {
            line += &format!(" -> {}", fs::read_link(&path)?.display());
        } else if found.is_file() {
            line += &format!(" {} {}", found.nlink(), fs::read_to_string(&path)?.len());
        }
        list.push(line);
        if found.is_dir() {
            listing(&path, &name, list)?;
        }
    }
    Ok(())
}

struct Bench<'a> {
    daemon: &'a Daemon,
    container: &'a str,
}

impl Bench<'_> {
    fn host(&self, side: &str, case: usize) -> std::path::PathBuf {
        self.daemon.dir().join("cp").join(self.container).join(side).join(case.to_string())
    }

    /// Runs a case, and gives its output and both trees afterwards, in words that name no side.
    fn run(&self, side: &str, case: usize, input: &[u8]) -> Result<(Output, Vec<String>)> {
        let host = self.host(side, case);
        let words: Vec<String> = CASES[case]
            .split(' ')
            .map(|word| match (word.strip_prefix("H/"), word.strip_prefix("C:")) {
                (Some(name), _) => format!("{}/{name}", host.display()),
                (_, Some(name)) => format!("{}:/w/{side}/{case}{name}", self.container),
                _ => word.to_owned(),
            })
            .collect();
        let mut args = vec!["cp"];
        if !CASES[case].contains("-q") {
            args.push("--quiet=false");
        }
        args.extend(words.iter().map(String::as_str));
        let out = match side {
            "side-wharf!" => self.daemon.wharf_stdin(&args, input)?,
            _ => self.daemon.docker_stdin(&args, input)?,
        };
        // The stock CLI logs of its pipe that nobody reads any more, when it comes to that.
        let is_said = |line: &&str| !line.starts_with("time=");
        let neutral =
            |text: &str| text.replace(side, "SIDE").split_inclusive('\n').filter(is_said).collect::<String>();
        let out = Output { code: out.code, stdout: neutral(&out.stdout), stderr: neutral(&out.stderr) };
        let mut list = Vec::new();
        listing(&host, "", &mut list)?;
        if CASES[case].rsplit(' ').next().is_some_and(|word| word.starts_with("C:")) {
            list.extend(self.inside(side, case)?);
        }
        Ok((out, list))
    }

    /// The container's tree, as an archive of it tells.
    fn inside(&self, side: &str, case: usize) -> Result<Vec<String>> {
        let path = format!("/containers/{}/archive?path=/w/{side}/{case}/.", self.container);
        let tar = self.daemon.api().call("GET", &path)?;
        anyhow::ensure!(tar.status == 200, "{}", tar.message());
        let copy = self.daemon.dir().join("inside");
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        fs::create_dir(&copy)?;
        let mut program =
            Command::new("tar").arg("-xpf-").arg("-C").arg(&copy).stdin(Stdio::piped()).spawn()?;
        program.stdin.take().context("a pipe")?.write_all(&tar.body)?;
        anyhow::ensure!(program.wait()?.success(), "tar");
        let mut list = Vec::new();
        listing(&copy, "in", &mut list)?;
        Ok(list)
    }
}

#[test]
fn both_clis_copy_alike() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for (name, program) in [("box", "sleep"), ("ended", "true")] {
        let args = ["run", "-d", "--name", name, "--network=none", "-v", "/vol", "busybox", program, "1000"];
        daemon.docker(&args)?.ok()?;
    }
    daemon.docker(&["wait", "ended"])?.ok()?;
    let mut prepared = vec![Entry::dir("w", 0o755)];
    for side in SIDES {
        prepared.push(Entry::dir(&format!("w/{side}"), 0o755));
        for case in 0..CASES.len() {
            prepared.push(Entry::dir(&format!("w/{side}/{case}"), 0o755));
            prepared.extend(tree(&format!("w/{side}/{case}/")));
        }
    }
    let prepared = Tar::of(&prepared).bytes();
    let piped = Tar::of(&[Entry::dir("p", 0o755), Entry::file("p/x", 0o600, "x").owned(7, 8)]).bytes();
    let (mut different, mut compared) = (Vec::new(), 0);
    for container in ["box", "ended"] {
        let put =
            daemon.api().send("PUT", &format!("/containers/{container}/archive?path=/"), "", &prepared)?;
        anyhow::ensure!(put.status == 200, "{}", put.message());
        let bench = Bench { daemon: &daemon, container };
        // The ended one differs in how its root is found, which a part of the cases shows.
        for case in (0..CASES.len()).filter(|case| container == "box" || case % 4 == 0) {
            compared += 1;
            let mut both = Vec::new();
            for side in SIDES {
                let host = bench.host(side, case);
                extract(&Tar::of(&tree("")), &host)?;
                both.push(bench.run(side, case, &piped)?);
            }
            let [(docker, theirs), (wharf, ours)] = &both[..] else { unreachable!("two sides") };
            let only = |list: &[String], other: &[String]| -> Vec<String> {
                list.iter().filter(|line| !other.contains(line)).cloned().collect()
            };
            let (missing, added) = (only(theirs, ours), only(ours, theirs));
            if wharf != docker || missing != added {
                let case = CASES[case];
                different
                    .push(format!("{container} {case}:\n{docker:?}\n{wharf:?}\n-{missing:?} +{added:?}"));
            }
        }
    }
    let count = different.len();
    assert!(different.is_empty(), "{count} of {compared} differ:\n{}", different.join("\n"));
    println!("{compared} copies by both CLIs, equal");
    daemon.stop()
}

#[test]
fn archives_are_compressed_on_request_and_mounts_of_the_stopped_are_seen() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let script = "echo volume > /vol/in; ln -s /vol/in /way; mkdir /vol/sub";
    daemon
        .docker(&["run", "--name", "box", "--network=none", "-v", "/vol", "busybox", "sh", "-c", script])?
        .ok()?;
    let get = |path: &str, encoding: &str| {
        let path = format!("/containers/box/archive?path={path}");
        daemon.api().request("GET", &path, "", &[("Accept-Encoding", encoding)], b"")
    };
    let plain = get("/vol", "identity")?;
    assert_eq!(plain.header("content-encoding"), None);
    let gzip = get("/vol", "deflate;q=0.5, gzip")?;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert!(gzip.body.starts_with(&[0x1f, 0x8b]) && gzip.body.len() < plain.body.len());
    let deflate = get("/vol", "deflate")?;
    assert_eq!(deflate.header("content-encoding"), Some("deflate"));
    assert!(deflate.body.len() < plain.body.len());
    // Through a link of the root into a volume, and the volume as a part of the root.
    assert_eq!(daemon.docker(&["cp", "-L", "box:/way", "-"])?.ok()?.matches("volume\n").count(), 1);
    let root = String::from_utf8_lossy(&get("/", "")?.body).into_owned();
    assert!(root.contains("volume\n") && root.starts_with("/\0"), "the volume's file is in the root");
    let file = daemon.dir().join("file");
    fs::write(&file, "put")?;
    daemon.docker(&["cp", &file.display().to_string(), "box:/vol/sub/put"])?.ok()?;
    assert!(String::from_utf8_lossy(&get("/vol/sub/put", "")?.body).contains("put"));
    daemon.stop()
}
