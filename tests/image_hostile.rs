//! Archives made to do harm, through every door: load, import and copy into a container.

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use wharf_testkit::{Daemon, Entry, Inventory, Tar, from_layers, until};

/// What a daemon may take while it deals with any of them: several times as much as it takes otherwise.
const MEMORY_KIB: u64 = 120 << 10;

/// The most memory that the daemon ever had.
fn peak_memory(daemon: &Daemon) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Something outside of every layer, that nothing may change.
struct Canary(PathBuf);

impl Canary {
    fn new(daemon: &Daemon) -> Result<Self> {
        let path = daemon.dir().join("canary");
        fs::create_dir(&path)?;
        fs::write(path.join("secret"), "secret")?;
        Ok(Self(path))
    }

    fn is_alive(&self) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let names: Vec<_> =
            fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        ensure!(names == ["secret"], "the canary's directory has {names:?}");
        let secret = self.0.join("secret");
        ensure!(fs::read(&secret)? == b"secret" && fs::metadata(&secret)?.nlink() == 1, "the canary is dead");
        Ok(())
    }
}

fn extended(records: &[(&str, &str)], entry: Entry) -> Vec<Entry> {
    let record = |(key, value): &(&str, &str)| {
        let bare = key.len() + value.len() + 3;
        let length = bare + (bare + 2).to_string().len();
        format!("{length} {key}={value}\n")
    };
    let text: String = records.iter().map(record).collect();
    vec![Entry { kind: b'x', ..Entry::file("PaxHeaders/x", 0o644, text) }, entry]
}

fn device(name: &str, major: u32, minor: u32) -> Entry {
    Entry { kind: b'3', device: (major, minor), ..Entry::file(name, 0o666, "") }
}

/// What a door does with an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// With an error that says so.
    Refused(&'static str),
    /// It does what it says, inside.
    Contained,
}
use Fate::{Contained, Refused};

/// Name, archive, and what becomes of it as a layer.
// tidy: long, because it is a table.
fn corpus(outside: &Path) -> BTreeMap<&'static str, (Vec<u8>, Fate)> {
    let absolute = outside.display().to_string();
    let up = format!("{}{absolute}", "../".repeat(12));
    let tar = |entries: &[Entry]| Tar::of(entries).bytes();
    let good = tar(&[Entry::file("a", 0o644, vec![7; 2000])]);
    let inner = tar(&[Entry::file("smuggled", 0o644, "")]);
    let outer = Entry { content: Vec::new(), ..Entry::file("outer", 0o644, "") };
    let mut desync = Tar::of(&extended(&[("size", inner.len().to_string().as_str())], outer)).bytes();
    desync.truncate(desync.len() - 1024);
    desync.extend_from_slice(&inner);
    desync.extend_from_slice(&[0; 1024]);
    BTreeMap::from([
        ("dot dot", (tar(&[Entry::file(&up, 0o644, "x")]), Refused("invalid entry name"))),
        ("absolute", (tar(&[Entry::file(&format!("{absolute}/new"), 0o644, "x")]), Contained)),
        (
            "link then write",
            (tar(&[Entry::symlink("l", &absolute), Entry::file("l/secret", 0o644, "x")]), Contained),
        ),
        (
            "whiteout through a link",
            (tar(&[Entry::symlink("l", &absolute), Entry::file("l/.wh.secret", 0o644, "")]), Contained),
        ),
        (
            "hard link outside",
            (tar(&[Entry::hardlink("h", &format!("{up}/secret"))]), Refused("invalid hardlink target")),
        ),
        (
            "hard link through a link",
            (
                tar(&[Entry::symlink("l", &absolute), Entry::hardlink("h", "l/secret")]),
                Refused("no such file or directory"),
            ),
        ),
        ("device", (tar(&[device("dev/null", 1, 3), device("dev/mem", 1, 1)]), Contained)),
        ("no whiteout", (tar(&[Entry::file("d/.wh.", 0o644, "")]), Refused("invalid whiteout entry"))),
        ("dots whited out", (tar(&[Entry::file("d/.wh...", 0o644, "")]), Refused("invalid whiteout entry"))),
        ("of aufs", (tar(&[Entry::file(".wh..wh.plnk/1", 0o644, "x")]), Contained)),
        (
            "twice the same",
            (
                tar(&[Entry::file("a", 0o644, "1"), Entry::file("./a", 0o644, "2")]),
                Refused("duplicates of file paths not supported"),
            ),
        ),
        ("desync", (desync, Contained)),
        (
            "long name",
            (
                tar(&extended(&[("path", "n".repeat(300).as_str())], Entry::file("n", 0o644, ""))),
                Refused("file name too long"),
            ),
        ),
        (
            "deep",
            (
                tar(&extended(&[("path", "d/".repeat(4096).as_str())], Entry::file("n", 0o644, ""))),
                Refused("header field too long"),
            ),
        ),
        (
            "steering overlayfs",
            (
                tar(&extended(&[("SCHILY.xattr.trusted.overlay.opaque", "y")], Entry::dir("etc", 0o755))),
                Contained,
            ),
        ),
        ("cut", (good[..1500].to_vec(), Refused("unexpected EOF"))),
        ("after the end", ([good.clone(), good].concat(), Contained)),
        ("nothing", (vec![0; 1024], Contained)),
    ])
}

/// What the answer's stream says of an error, if any.
fn error_of(answer: &wharf_testkit::Response) -> Option<String> {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    (answer.status >= 400 || text.contains("errorDetail")).then_some(text)
}

fn check(what: &str, fate: Fate, error: Option<String>) -> Result<()> {
    match (fate, error) {
        (Contained, None) => Ok(()),
        (Refused(why), Some(error)) if error.contains(why) => Ok(()),
        (fate, error) => anyhow::bail!("{what}: {fate:?}, but {error:?}"),
    }
}

#[test]
fn layers_are_refused_or_contained() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let canary = Canary::new(&daemon)?;
    let empty = Inventory::of(&daemon)?;
    for (what, (layer, fate)) in corpus(&canary.0) {
        let image = from_layers("hostile:latest", std::slice::from_ref(&layer), json!({}))?;
        let loaded = daemon.api().send("POST", "/images/load?quiet=1", "application/x-tar", &image.bytes)?;
        check(&format!("load, {what}"), fate, error_of(&loaded))?;
        if fate == Contained {
            // It also comes back, and as it came.
            let saved = daemon.api().call("GET", "/images/hostile/get")?;
            ensure!(saved.body.windows(layer.len()).any(|piece| piece == layer), "save, {what}");
            daemon.docker(&["rmi", "hostile"])?.ok()?;
        }
        let imported = daemon.docker_stdin(&["import", "-", "hostile"], &layer)?;
        check(&format!("import, {what}"), fate, (imported.code != 0).then_some(imported.stderr))?;
        if fate == Contained {
            daemon.docker(&["rmi", "hostile"])?.ok()?;
        }
        canary.is_alive().with_context(|| what.to_owned())?;
        until("everything to be taken back", || Ok((Inventory::of(&daemon)? == empty).then_some(())))?;
    }
    let peak = peak_memory(&daemon)?;
    ensure!(peak < MEMORY_KIB, "{peak} KiB");
    daemon.terminate()?;
    daemon.assert_whole()?;
    daemon.assert_clean()
}

#[test]
fn cve_2026_17106_archives_for_a_container_are_refused_or_contained() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let canary = Canary::new(&daemon)?;
    daemon.docker(&["create", "--name", "one", "--network=none", "busybox"])?.ok()?;
    for (what, (archive, fate)) in corpus(&canary.0) {
        let put =
            daemon.api().send("PUT", "/containers/one/archive?path=/tmp", "application/x-tar", &archive)?;
        // Here a whiteout is a file like others, and the last of two entries counts.
        let fate = match what {
            "no whiteout" | "dots whited out" | "twice the same" => Contained,
            _ => fate,
        };
        check(&format!("put, {what}"), fate, error_of(&put))?;
        canary.is_alive().with_context(|| what.to_owned())?;
    }
    let peak = peak_memory(&daemon)?;
    ensure!(peak < MEMORY_KIB, "{peak} KiB");
    daemon.stop()
}

fn gzip(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    write(&mut encoder)?;
    Ok(encoder.finish()?)
}

#[test]
fn cve_2017_14992_bombs_fill_neither_disk_nor_memory_for_good() -> Result<()> {
    let mut daemon = Daemon::builder().data_size(32 << 20).start()?;
    let empty = Inventory::of(&daemon)?;
    let header = |size: u64| {
        let mut block = Tar::of(&[Entry::file("big", 0o644, "")]).bytes()[..512].to_vec();
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        block
    };
    // A file of 256 MiB in a megabyte, and many thousand entries in little more.
    let zeros = vec![0; 1 << 20];
    let file = gzip(|out| {
        out.write_all(&header(256 << 20))?;
        (0..256).try_for_each(|_| out.write_all(&zeros))
    })?;
    let many = gzip(|out| {
        (0..60_000).try_for_each(|n| {
            let entry = Tar::of(&[Entry::file(&format!(".wh..wh.{n}"), 0o644, "")]).bytes();
            out.write_all(&entry[..512])
        })
    })?;
    let names = gzip(|out| {
        let long = Entry { kind: b'L', ..Entry::file("././@LongLink", 0o644, vec![b'n'; 1 << 20]) };
        let long = Tar::of(&[long]).bytes();
        (0..64).try_for_each(|_| out.write_all(&long[..long.len() - 1024]))
    })?;
    for (what, archive, fate) in [
        ("one file", file, Refused("no space left on device")),
        ("many entries", many, Contained),
        ("long names", names, Refused("header field too long")),
    ] {
        let imported = daemon.docker_stdin(&["import", "-", "bomb"], &archive)?;
        check(what, fate, (imported.code != 0).then_some(imported.stderr))?;
        if fate == Contained {
            daemon.docker(&["rmi", "bomb"])?.ok()?;
        }
        until("everything to be taken back", || Ok((Inventory::of(&daemon)? == empty).then_some(())))?;
        let peak = peak_memory(&daemon)?;
        ensure!(peak < MEMORY_KIB, "{what}: {peak} KiB");
    }
    daemon.terminate()?;
    daemon.assert_whole()?;
    daemon.assert_clean()
}
