//! The image that is measured: about 600 MB of this machine's `/usr` in eight layers.
//!
//! Which files is decided by a hash of their names: the same on every run, programs and texts mixed as in images.

use crate::sh;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

const LAYERS: usize = 8;
const BYTES: u64 = 600 << 20;
/// Larger files would make layers of unlike sizes.
const LARGEST: u64 = 12 << 20;

/// An archive as `docker save` made them.
pub(super) struct Sample {
    pub(super) archive: PathBuf,
    pub(super) files: usize,
    pub(super) megabytes: u64,
}

impl Sample {
    /// Makes it below `dir`.
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let (files, bytes) = chosen()?;
        ensure!(bytes > BYTES / 2, "/usr of this machine is too small for the sample image");
        let mut layers = vec![String::new(); LAYERS];
        let mut done = 0;
        for (path, size) in &files {
            let at = usize::try_from(done * LAYERS as u64 / bytes)?;
            layers[at].push_str(&format!("{path}\n"));
            done += size;
        }
        let (mut diff_ids, mut names) = (Vec::new(), Vec::new());
        for (at, list) in layers.iter().enumerate() {
            let name = format!("layer{at}.tar");
            fs::write(dir.join("list"), list)?;
            let mut tar = Command::new("tar");
            tar.args(["-C", "/", "--no-recursion", "-cf"])
                .arg(dir.join(&name))
                .arg("-T")
                .arg(dir.join("list"));
            sh::output(&mut tar)?;
            let sum = sh::output(Command::new("sha256sum").arg(dir.join(&name)))?;
            diff_ids.push(format!("sha256:{}", sum.split(' ').next().context("a digest")?));
            names.push(name);
        }
        let archive = Self::assemble(dir, &diff_ids, &names)?;
        Ok(Self { archive, files: files.len(), megabytes: bytes >> 20 })
    }

    fn assemble(dir: &Path, diff_ids: &[String], names: &[String]) -> Result<PathBuf> {
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": ["sample:latest"], "Layers": names}]);
        fs::write(dir.join("config.json"), config.to_string())?;
        fs::write(dir.join("manifest.json"), manifest.to_string())?;
        let archive = dir.join("sample.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(dir).arg("-cf").arg(&archive).args(["config.json", "manifest.json"]).args(names);
        sh::output(&mut tar)?;
        Ok(archive)
    }
}

/// Files and their sizes, sorted by name.
fn chosen() -> Result<(Vec<(String, u64)>, u64)> {
    let mut found = Vec::new();
    for top in ["/usr/bin", "/usr/include", "/usr/lib", "/usr/share"] {
        walk(Path::new(top), &mut found)?;
    }
    found.sort_by_key(|(path, _)| {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        hasher.finish()
    });
    let mut bytes = 0;
    found.retain(|(_, size)| {
        let fits = bytes + size <= BYTES;
        bytes += if fits { *size } else { 0 };
        fits
    });
    found.sort();
    Ok((found, bytes))
}

fn walk(directory: &Path, found: &mut Vec<(String, u64)>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if metadata.is_dir() {
            walk(&path, found)?;
        } else if metadata.is_file() && metadata.len() <= LARGEST {
            // A name that is no text, or a line of its own in a list, is left out.
            let name = path.to_str().filter(|name| !name.contains('\n') && !name.contains('\\'));
            found.extend(name.map(|name| (name.trim_start_matches('/').to_owned(), metadata.len())));
        }
    }
    Ok(())
}
