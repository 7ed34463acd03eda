//! What is told of a build and its image, without what is never the same twice.

use super::{case::Case, tree};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use wharf_testkit::{Output, sha256};

/// An engine with the `docker` CLI.
pub(super) trait Engine {
    /// Builds in a directory; whether by BuildKit, where the engine has a choice.
    fn build(&self, dir: &Path, args: &[&str], by_buildkit: bool) -> Result<Output>;
    /// Another command.
    fn ask(&self, args: &[&str]) -> Result<Output>;
}

/// Layers of `busybox`: all begin with these.
const BASE_LAYERS: usize = 1;

/// What of an image's config is compared.
const CONFIG: [&str; 12] = [
    "User",
    "ExposedPorts",
    "Env",
    "Cmd",
    "Entrypoint",
    "Healthcheck",
    "Volumes",
    "WorkingDir",
    "OnBuild",
    "Labels",
    "StopSignal",
    "Shell",
];

/// Builds a case in `dir`, where its context is, and says what came out.
pub(super) fn of(engine: &impl Engine, case: &Case, dir: &Path) -> Result<String> {
    let id_file = dir.with_extension("id");
    let id_path = id_file.to_string_lossy();
    let mut args = vec!["build", "--iidfile", &id_path];
    args.extend(case.options.iter().map(String::as_str));
    args.push(".");
    let built = engine.build(dir, &args, case.is_for_buildkit())?;
    // Debian's BuildKit CLI does not tell the command's own.
    let code = if case.is_for_buildkit() { i32::from(built.code != 0) } else { built.code };
    let mut facts = format!("exit {code}\n");
    if !case.is_for_buildkit() {
        let dir_name = dir.to_string_lossy();
        let above = dir.parent().unwrap_or(dir).to_string_lossy();
        let without = |text: &str| text.replace(&*dir_name, "<dir>").replace(&*above, "<above>");
        // What a command writes to its error output comes in pieces of any size.
        tell(&mut facts, "out", &without(&built.stdout).replace("\u{1b}[0m\u{1b}[91m", ""));
        tell(&mut facts, "err", &without(&built.stderr));
    }
    if built.code == 0 {
        let id = std::fs::read_to_string(&id_file).context("the file of the id")?;
        let image = id.trim();
        let inspected: Value = serde_json::from_str(&engine.ask(&["image", "inspect", image])?.ok()?)?;
        config(&inspected[0], &mut facts);
        if !case.is_for_buildkit() {
            history(engine, image, &mut facts)?;
        }
        if !is_nothing(&inspected[0]["RootFS"]["Layers"]) {
            layers(engine, image, case, dir, &mut facts)?;
        }
    }
    Ok(facts)
}

fn tell(facts: &mut String, what: &str, text: &str) {
    for line in text.lines().filter(|line| !is_noise(line)) {
        let _ = writeln!(facts, "{what}| {}", same(line).trim_end());
    }
}

/// What the CLI says by itself, and the name of an image that is not always printed.
fn is_noise(line: &str) -> bool {
    let noise =
        ["Sending build context", "DEPRECATED: The legacy builder", "Install the buildx", "BuildKit is"];
    let line = line.trim();
    noise.iter().any(|noise| line.contains(noise)) || line.contains("docs.docker.com/go/buildx")
}

/// What Docker 20.10 says otherwise than those after it.
const WORDS: [(&str, &str); 3] = [
    (" ---> Removed intermediate", "Removing intermediate"),
    ("dockerfile parse error line ", "dockerfile parse error on line "),
    ("Unknown flag: ", "unknown flag: --"),
];

/// A line without ids and in the words of later Dockers.
fn same(line: &str) -> String {
    let mut line = line.to_owned();
    for (old, new) in WORDS {
        line = line.replace(old, new);
    }
    if let Some((before, after)) = line.split_once("dial tcp: lookup ") {
        let name = after.split([' ', ':']).next().unwrap_or_default();
        line = format!("{before}dial tcp: lookup {name} fails");
    }
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        words.push(word.split('/').map(without_ids).collect::<Vec<_>>().join("/"));
    }
    words.join(" ")
}

fn without_ids(word: &str) -> String {
    for kind in ["file:", "dir:", "multi:", "sha256:"] {
        if let Some((before, after)) = word.split_once(kind) {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
            if after.len() - rest.len() == 64 {
                // 20.10 forgets the space after the value of --chown.
                let space = if before.starts_with("--chown=") { " " } else { "" };
                return format!("{before}{space}{kind}<sum>{rest}");
            }
        }
    }
    let bare = word.trim_end_matches([':', '.', ',']);
    let is_id = [12, 64].contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { format!("<id>{}", &word[bare.len()..]) } else { word.to_owned() }
}

fn config(image: &Value, facts: &mut String) {
    for key in CONFIG {
        let value = &image["Config"][key];
        if !is_nothing(value) {
            let _ = writeln!(facts, "config| {key} {value}");
        }
    }
    if !is_nothing(&image["Author"]) {
        let _ = writeln!(facts, "author| {}", image["Author"]);
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

fn history(engine: &impl Engine, image: &str, facts: &mut String) -> Result<()> {
    let format = "{{.CreatedBy}}|{{.Comment}}";
    let answer = engine.ask(&["history", "--no-trunc", "--format", format, image])?.ok()?;
    tell(facts, "history", &answer);
    Ok(())
}

/// The files of each layer above the base; all of them together where it was built by BuildKit, with which commands that
/// change nothing have none.
fn layers(engine: &impl Engine, image: &str, case: &Case, dir: &Path, facts: &mut String) -> Result<()> {
    let saved = dir.with_extension("tar");
    let unpacked = dir.with_extension("saved");
    engine.ask(&["save", "-o", &saved.to_string_lossy(), image])?.ok()?;
    extract(&saved, &unpacked)?;
    let manifest: Value = serde_json::from_slice(&std::fs::read(unpacked.join("manifest.json"))?)?;
    let layers = manifest[0]["Layers"].as_array().cloned().unwrap_or_default();
    let is_whole = layers.first().and_then(Value::as_str).is_none_or(|first| !is_base(&unpacked.join(first)));
    let mut together: BTreeMap<String, String> = BTreeMap::new();
    for (number, layer) in layers.iter().enumerate().skip(if is_whole { 0 } else { BASE_LAYERS }) {
        let files = unpacked.join(format!("files-{number}"));
        extract(&unpacked.join(layer.as_str().context("a name")?), &files)?;
        let mut list = BTreeMap::new();
        walk(&files, &files, &mut BTreeMap::new(), &mut list)?;
        if case.is_for_buildkit() {
            together.extend(list);
            continue;
        }
        let _ = writeln!(facts, "layer");
        list.values().for_each(|line| facts.push_str(&format!("  {line}\n")));
    }
    // BuildKit touches /etc for its resolv.conf.
    together.retain(|name, line| !(name == "etc" && line.starts_with('d')));
    together.values().for_each(|line| facts.push_str(&format!("  {line}\n")));
    for path in [&unpacked, &saved] {
        let _ = std::fs::remove_dir_all(path).or_else(|_| std::fs::remove_file(path));
    }
    Ok(())
}

/// Whether a layer is that of `busybox`.
fn is_base(layer: &Path) -> bool {
    let listed = Command::new("tar").arg("-tf").arg(layer).output();
    listed.is_ok_and(|listed| String::from_utf8_lossy(&listed.stdout).contains("bin/busybox\n"))
}

fn extract(archive: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-pxf"]).arg(archive).arg("-C").arg(to);
    let out = tar.output()?;
    ensure!(out.status.success(), "{}: {}", archive.display(), String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// A line for each file below `dir`, by its name.
fn walk(
    root: &Path,
    dir: &Path,
    seen: &mut BTreeMap<u64, String>,
    list: &mut BTreeMap<String, String>,
) -> Result<()> {
    let mut entries = std::fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let meta = std::fs::symlink_metadata(&path)?;
        let kind = tree::letter(meta.mode());
        let owner = format!("{}:{}", meta.uid(), meta.gid());
        let mut line = format!("{kind} {:o} {owner} {name}", tree::permissions(meta.mode()));
        if let ('f', Some(first)) = (kind, seen.get(&meta.ino())) {
            let _ = write!(line, " = {first}");
        } else if kind == 'f' {
            let time = if meta.mtime() == tree::TIME { "kept" } else { "new" };
            let sum = sha256(&std::fs::read(&path)?);
            let _ = write!(line, " {time} {} {}", meta.len(), &sum[..8]);
            seen.insert(meta.ino(), name.clone());
        } else if kind == 'l' {
            let _ = write!(line, " -> {}", std::fs::read_link(&path)?.display());
        }
        line.push_str(&attributes(&path)?);
        list.insert(name, line);
        if kind == 'd' {
            walk(root, &path, seen, list)?;
        }
    }
    Ok(())
}

fn attributes(path: &Path) -> Result<String> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    let names = String::from_utf8_lossy(&names[..length]).into_owned();
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(|name| format!(" +{name}")).collect())
}
