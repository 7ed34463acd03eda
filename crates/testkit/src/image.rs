//! Images that tests make themselves: archives in the form of `docker save`.

use crate::tar::{Entry, Tar};
use anyhow::{Context, Result};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::path::Path;

/// An image, ready for `POST /images/load`.
#[derive(Debug, Clone)]
pub struct Archive {
    /// `name:tag`.
    pub name: String,
    /// `sha256:<hex>` of the config.
    pub id: String,
    /// A classic docker archive: manifest.json, config, layer.tar.
    pub bytes: Vec<u8>,
}

/// `busybox:latest`: Debian's static busybox with links for its applets and a small /etc.
///
/// # Errors
/// When Debian's `busybox-static` is not installed.
pub fn busybox() -> Result<Archive> {
    let program = std::fs::read("/bin/busybox").context("the package busybox-static is needed")?;
    let mut entries: Vec<Entry> =
        ["bin", "dev", "etc", "proc", "root", "sys", "usr", "var"].map(|d| Entry::dir(d, 0o755)).into();
    entries.push(Entry::dir("tmp", 0o1777));
    entries.push(Entry::dir("home", 0o755));
    entries.push(Entry::file("bin/busybox", 0o755, program));
    for applet in APPLETS.split_whitespace() {
        entries.push(Entry::hardlink(&format!("bin/{applet}"), "bin/busybox"));
    }
    entries.push(Entry::file("etc/passwd", 0o644, PASSWD));
    entries.push(Entry::file("etc/group", 0o644, GROUP));
    from_files("busybox:latest", &entries, json!({"Cmd": ["sh"], "Env": [PATH]}))
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
    www-data:x:33:33:www-data:/var/www:/bin/false\nuser:x:1000:1000:A User:/home:/bin/sh\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:user\nwww-data:x:33:\nextra:x:44:user,root\nuser:x:1000:\n";
const APPLETS: &str = "sh ash cat chmod chown cp cut date dd df echo env expr false find free grep head hostname id \
    ifconfig ip kill killall ln ls md5sum mkdir mkfifo mknod more mount mv nc nslookup od ping ping6 printf ps pwd \
    readlink realpath rm rmdir route sed seq sha256sum sleep sort stat stty sync tail tar tee telnet test timeout top \
    touch tr true tty umount uname unshare uniq usleep vi wc wget which whoami xargs yes httpd nproc hexdump";

/// An image holding one static program at `/<name>`, run by default.
///
/// # Errors
/// When the program cannot be read.
pub fn static_program(image: &str, program: &Path) -> Result<Archive> {
    let file = program.file_name().context("a file")?.to_string_lossy().into_owned();
    let content = std::fs::read(program).with_context(|| program.display().to_string())?;
    from_files(image, &[Entry::file(&file, 0o755, content)], json!({"Entrypoint": [format!("/{file}")]}))
}

/// An image of one layer with these files and this `config`.
///
/// # Errors
/// When `config` is no JSON object.
pub fn from_files(name: &str, files: &[Entry], config: Value) -> Result<Archive> {
    from_layers(name, &[files], config)
}

/// An image of several layers, from the bottom up.
///
/// # Errors
/// When `config` is no JSON object.
pub fn from_layers(name: &str, layers: &[&[Entry]], config: Value) -> Result<Archive> {
    let layers: Vec<Vec<u8>> = layers.iter().map(|files| Tar::of(files).bytes()).collect();
    let ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let history = json!({"created": "2026-01-02T03:04:05Z", "created_by": "testkit"});
    let image = serde_json::to_vec(&json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "comment": "made by testkit",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ids.iter().map(|id| format!("sha256:{id}")).collect::<Vec<_>>()},
        "history": vec![history; layers.len()],
    }))?;
    let id = sha256(&image);
    let paths: Vec<String> = ids.iter().map(|id| format!("{id}/layer.tar")).collect();
    let manifest = json!([{"Config": format!("{id}.json"), "RepoTags": [name], "Layers": paths}]);
    let mut entries = vec![Entry::file(&format!("{id}.json"), 0o644, image)];
    for (folder, layer) in ids.iter().zip(layers) {
        entries.push(Entry::dir(folder, 0o755));
        entries.push(Entry::file(&format!("{folder}/layer.tar"), 0o644, layer));
    }
    entries.push(Entry::file("manifest.json", 0o644, serde_json::to_vec(&manifest)?));
    Ok(Archive { name: name.into(), id: format!("sha256:{id}"), bytes: Tar::of(&entries).bytes() })
}

/// The digest in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
