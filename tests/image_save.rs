//! save and load: both layouts in one archive, any number of images, archives of every kind.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Command, Stdio};
use wharf_testkit::{Daemon, Entry, Tar, busybox, from_files, lacks};

fn unpack(archive: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    ensure!(Command::new("tar").arg("xf").arg(archive).arg("-C").arg(into).status()?.success());
    Ok(())
}

fn json_file(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path).with_context(|| path.display().to_string())?)?)
}

fn id(daemon: &Daemon, image: &str) -> Result<String> {
    Ok(daemon.docker(&["image", "inspect", "-f", "{{.Id}}", image])?.ok()?.trim().to_owned())
}

/// Two images that share a layer, one of them with two names.
fn with_images() -> Result<Daemon> {
    let daemon = Daemon::with_busybox()?;
    daemon.docker(&["create", "--name", "cc", "--network=none", "busybox", "true"])?.ok()?;
    daemon.docker(&["cp", "/etc/hostname", "cc:/added"])?.ok()?;
    daemon.docker(&["commit", "cc", "local/two:v1"])?.ok()?;
    daemon.docker(&["tag", "local/two:v1", "local/two:v2"])?.ok()?;
    daemon.docker(&["rm", "cc"])?.ok()?;
    Ok(daemon)
}

#[test]
fn the_archive_is_a_layout_and_what_older_dockers_load() -> Result<()> {
    let daemon = with_images()?;
    let archive = daemon.dir().join("a.tar");
    let path = archive.to_string_lossy();
    daemon.docker(&["save", "-o", &path, "busybox", "local/two"])?.ok()?;
    let dir = daemon.dir().join("unpacked");
    unpack(&archive, &dir)?;
    assert_eq!(std::fs::read_to_string(dir.join("oci-layout"))?, r#"{"imageLayoutVersion": "1.0.0"}"#);
    let manifest = json_file(&dir.join("manifest.json"))?;
    let index = json_file(&dir.join("index.json"))?;
    let (one, two) = (id(&daemon, "busybox")?, id(&daemon, "local/two:v1")?);
    let blob = |id: &str| format!("blobs/sha256/{}", id.trim_start_matches("sha256:"));
    assert_eq!((&manifest[0]["Config"], &manifest[1]["Config"]), (&json!(blob(&one)), &json!(blob(&two))));
    assert_eq!(manifest[1]["RepoTags"], json!(["local/two:v1", "local/two:v2"]));
    assert_eq!(manifest[1]["Parent"], json!(one));
    assert_eq!(manifest[0]["Layers"][0], manifest[1]["Layers"][0]);
    let names: Vec<&Value> = index["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|m| &m["annotations"]["io.containerd.image.name"])
        .collect();
    assert_eq!(
        names,
        ["docker.io/library/busybox:latest", "docker.io/local/two:v1", "docker.io/local/two:v2"]
    );
    assert_eq!(index["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"], "v1");
    let oci = json_file(&dir.join(blob(index["manifests"][1]["digest"].as_str().unwrap_or_default())))?;
    assert_eq!(oci["config"]["digest"], two);
    for (layer, path) in oci["layers"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(manifest[1]["Layers"].as_array().into_iter().flatten())
    {
        let file = dir.join(path.as_str().unwrap_or_default());
        assert_eq!(json!(blob(layer["digest"].as_str().unwrap_or_default())), *path);
        assert_eq!(layer["size"], std::fs::metadata(&file)?.len());
        assert_eq!(&manifest[1]["LayerSources"][layer["digest"].as_str().unwrap_or_default()], layer);
        let sum = Command::new("sha256sum").arg(&file).output()?;
        ensure!(
            String::from_utf8_lossy(&sum.stdout)
                .starts_with(layer["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:"))
        );
    }
    let top =
        oci["layers"][1]["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:").to_owned();
    assert_eq!(json_file(&dir.join("repositories"))?["local/two"], json!({"v1": top, "v2": top}));
    let again = daemon.dir().join("b.tar");
    daemon.wharf(&["save", "-o", &again.to_string_lossy(), "busybox", "local/two"])?.ok()?;
    ensure!(std::fs::read(&archive)? == std::fs::read(&again)?, "the same archive each time, by both CLIs");
    by_id(&daemon, &two)?;
    daemon.stop()
}

/// An id saves no names.
fn by_id(daemon: &Daemon, image: &str) -> Result<()> {
    let archive = daemon.dir().join("id.tar");
    daemon.docker(&["save", "-o", &archive.to_string_lossy(), &image[7..19]])?.ok()?;
    let dir = daemon.dir().join("by-id");
    unpack(&archive, &dir)?;
    assert_eq!(json_file(&dir.join("manifest.json"))?[0]["RepoTags"], Value::Null);
    assert_eq!(json_file(&dir.join("index.json"))?["manifests"][0].get("annotations"), None);
    ensure!(!dir.join("repositories").exists());
    let fresh = Daemon::start()?;
    assert_eq!(
        fresh.docker(&["load", "-i", &archive.to_string_lossy()])?.ok()?,
        format!("Loaded image ID: {image}\n")
    );
    fresh.stop()
}

#[test]
fn saves_that_fail_say_why() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for args in [
        &["save", "nosuch"][..],
        &["save", "nosuch:tag"],
        &["save", "busybox:nosuch"],
        &["save", "UPPER"],
        &["save", "--platform", "linux/s390x", "busybox"],
        &["save", "--platform", "bad/platform/too/long", "busybox"],
        &["save", "-o", "/nosuch/dir/x.tar", "busybox"],
        &["save"],
    ] {
        let (docker, wharf) = (daemon.docker(args)?, daemon.wharf(args)?);
        ensure!(docker.code != 0, "{args:?}");
        let ours = wharf.stderr.replace("wharf", "docker");
        assert_eq!((wharf.code, ours), (docker.code, docker.stderr), "{args:?}");
    }
    // What is no file is never replaced by one.
    let pipe = daemon.dir().join("pipe");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let args = ["save", "-o", &pipe.to_string_lossy(), "busybox"];
    let (docker, wharf) = (daemon.docker(&args)?, daemon.wharf(&args)?);
    assert_eq!((wharf.code, wharf.stderr), (docker.code, docker.stderr));
    ensure!(std::fs::symlink_metadata(&pipe)?.file_type().is_fifo(), "the pipe is still there");
    let several =
        "/images/get?names=busybox&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22amd64%22%7D";
    let twice = format!("{several}&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D");
    let old = daemon.api().at("v1.48").call("GET", &twice)?;
    assert_eq!(old.status, 400);
    ensure!(old.message().starts_with("multiple platform parameters are not supported in this API version"));
    let new = daemon.api().at("v1.52").call("GET", &twice)?;
    assert_eq!(new.status, 400);
    ensure!(
        new.message().starts_with("multiple platforms not supported for this image store"),
        "{}",
        new.message()
    );
    daemon.stop()
}

#[test]
fn loads_of_every_compression() -> Result<()> {
    let programs = ["gzip", "bzip2", "xz", "zstd"];
    if lacks(&programs) {
        return Ok(());
    }
    let image = from_files("packed:v1", &[Entry::file("f", 0o644, vec![7; 100_000])], json!({}))?;
    for program in programs {
        let daemon = Daemon::start()?;
        let mut child =
            Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("piped")?;
        stdin.write_all(&image.bytes)?;
        drop(stdin);
        let packed = child.wait_with_output()?.stdout;
        assert_eq!(daemon.docker_stdin(&["load"], &packed)?.ok()?, "Loaded image: packed:v1\n", "{program}");
        assert_eq!(id(&daemon, "packed:v1")?, image.id);
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn a_name_moves_to_the_loaded_image() -> Result<()> {
    let daemon = Daemon::start()?;
    let image = |text: &str| from_files("moving:v1", &[Entry::file("f", 0o644, text)], json!({}));
    let (old, new) = (image("old")?, image("new")?);
    assert_eq!(daemon.docker_stdin(&["load", "-q"], &old.bytes)?.ok()?, "Loaded image: moving:v1\n");
    let archive = daemon.dir().join("new.tar");
    std::fs::write(&archive, &new.bytes)?;
    assert_eq!(
        daemon.wharf(&["load", "-i", &archive.to_string_lossy()])?.ok()?,
        format!(
            "The image moving:v1 already exists, renaming the old one with ID {} to empty string\nLoaded image: moving:v1\n",
            old.id
        )
    );
    assert_eq!(id(&daemon, "moving:v1")?, new.id);
    assert_eq!(daemon.docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"])?.ok()?.trim(), old.id);
    daemon.stop()
}

#[test]
fn platforms_choose_what_is_loaded() -> Result<()> {
    let daemon = Daemon::start()?;
    let image = busybox()?;
    let archive = daemon.dir().join("a.tar");
    std::fs::write(&archive, &image.bytes)?;
    let path = archive.to_string_lossy();
    let none = daemon.docker(&["load", "--platform", "linux/s390x", "-i", &path])?;
    assert_eq!((none.code, none.stdout.trim()), (0, ""), "{}", none.stderr);
    assert_eq!(daemon.docker(&["images", "-q"])?.ok()?, "");
    let host = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let out = daemon.docker(&["load", "--platform", host, "-i", &path])?.ok()?;
    assert_eq!(out, "Loaded image: busybox:latest\n");
    daemon.stop()
}

#[test]
fn progress_is_told_unless_it_is_not_wanted() -> Result<()> {
    let image = from_files("big:v1", &[Entry::file("f", 0o644, vec![1; 3 << 20])], json!({}))?;
    for (quiet, wanted) in [("0", true), ("1", false)] {
        let daemon = Daemon::start()?;
        let answer = daemon.api().send(
            "POST",
            &format!("/images/load?quiet={quiet}"),
            "application/x-tar",
            &image.bytes,
        )?;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let lines: Vec<Value> = String::from_utf8_lossy(&answer.body)
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        assert_eq!(lines.last(), Some(&json!({"stream": "Loaded image: big:v1\n"})));
        let told = lines.iter().any(|line| {
            line["status"] == "Loading layer" && line["progressDetail"]["total"].as_u64() > Some(3 << 20)
        });
        assert_eq!(told, wanted, "{lines:?}");
        daemon.stop()?;
    }
    Ok(())
}

/// A file's place in an archive decides nothing, and layers that are here may be left out of a layout.
#[test]
fn layers_that_are_here_need_not_be_in_the_archive() -> Result<()> {
    let daemon = with_images()?;
    let archive = daemon.dir().join("a.tar");
    daemon.docker(&["save", "-o", &archive.to_string_lossy(), "local/two:v1"])?.ok()?;
    let dir = daemon.dir().join("unpacked");
    unpack(&archive, &dir)?;
    let manifest = json_file(&dir.join("manifest.json"))?;
    let left_out = manifest[0]["Layers"][0].as_str().unwrap_or_default().to_owned();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in std::fs::read_dir(dir.join("blobs/sha256"))? {
        let entry = entry?;
        let name = format!("blobs/sha256/{}", entry.file_name().to_string_lossy());
        if name != left_out {
            files.insert(name, std::fs::read(entry.path())?);
        }
    }
    for name in ["manifest.json", "index.json", "oci-layout"] {
        files.insert(name.into(), std::fs::read(dir.join(name))?);
    }
    let entries: Vec<Entry> =
        files.iter().map(|(name, bytes)| Entry::file(name, 0o644, bytes.clone())).collect();
    let thin = Tar::of(&entries).bytes();
    daemon.docker(&["rmi", "local/two:v1", "local/two:v2"])?.ok()?;
    assert_eq!(daemon.docker_stdin(&["load"], &thin)?.ok()?, "Loaded image: local/two:v1\n");
    daemon.docker(&["run", "--rm", "--network=none", "local/two:v1", "cat", "/added"])?.ok()?;
    let fresh = Daemon::start()?;
    let refused = fresh.docker_stdin(&["load"], &thin)?;
    ensure!(refused.code == 1 && refused.stderr.contains(&left_out), "{}", refused.stderr);
    assert_eq!(fresh.docker(&["images", "-qa"])?.ok()?, "");
    fresh.stop()?;
    daemon.stop()
}
