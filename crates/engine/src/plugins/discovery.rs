//! Finding plugins: sockets in a directory (`/run/docker/plugins`), and files in `/etc/docker/plugins` and `/usr/lib/docker/plugins`
//! that say where one listens (source: moby `pkg/plugins/discovery.go`). Everything here blocks.

use super::Address;
use crate::{Error, Result};
use serde::Deserialize;
use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

const SPECS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];

/// `<name>.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SpecFile {
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls_config: Option<serde_json::Value>,
}

/// Where the plugin of a name listens.
///
/// # Errors
/// `plugin "..." not found`; a file that says nothing.
pub(super) fn find(name: &str, sockets: &Path) -> Result<Address> {
    find_in(name, sockets, &SPECS.map(Path::new))
}

fn find_in(name: &str, sockets: &Path, specs: &[&Path]) -> Result<Address> {
    let missing = || Error::NotFound(format!("plugin {name:?} not found"));
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(missing());
    }
    if let Some(socket) = places(sockets, name, "sock").into_iter().find(|path| is_socket(path)) {
        return Ok(Address::Unix(socket));
    }
    for dir in specs {
        for extension in ["spec", "json"] {
            if let Some(path) = places(dir, name, extension).into_iter().find(|path| path.exists()) {
                return read(&path);
            }
        }
    }
    Err(missing())
}

/// Names of all plugins, sorted.
pub(super) fn scan(sockets: &Path) -> Vec<String> {
    scan_in(sockets, &SPECS.map(Path::new))
}

fn scan_in(sockets: &Path, specs: &[&Path]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let found = |dir: &Path| {
        let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let stems = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        stems.collect::<Vec<_>>()
    };
    for name in found(sockets) {
        if places(sockets, &name, "sock").iter().any(|path| is_socket(path)) {
            names.push(name);
        }
    }
    for dir in specs {
        for name in found(dir) {
            if ["spec", "json"].iter().any(|e| places(dir, &name, e).iter().any(|path| path.is_file())) {
                names.push(name);
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

fn places(dir: &Path, name: &str, extension: &str) -> [PathBuf; 2] {
    let file = format!("{name}.{extension}");
    [dir.join(&file), dir.join(name).join(file)]
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn read(path: &Path) -> Result<Address> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Io { step: "read", path: path.into(), source })?;
    if path.extension().is_none_or(|extension| extension != "json") {
        return Address::parse(&text);
    }
    let file: SpecFile =
        serde_json::from_str(&text).map_err(|source| Error::Record { path: path.into(), source })?;
    match file.tls_config {
        Some(_) => Err(Error::NotImplemented("a plugin behind TLS")),
        None => Address::parse(&file.addr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_come_before_files() {
        let dir = tempfile::tempdir().unwrap();
        let (sockets, specs) = (dir.path().join("sockets"), dir.path().join("specs"));
        fs::create_dir_all(sockets.join("deep")).unwrap();
        fs::create_dir_all(&specs).unwrap();
        let _flat = std::os::unix::net::UnixListener::bind(sockets.join("flat.sock")).unwrap();
        let _deep = std::os::unix::net::UnixListener::bind(sockets.join("deep/deep.sock")).unwrap();
        fs::write(sockets.join("none.sock"), "").unwrap();
        fs::write(specs.join("flat.spec"), "tcp://elsewhere:1").unwrap();
        fs::write(specs.join("text.spec"), "tcp://there:1\n").unwrap();
        fs::write(specs.join("full.json"), r#"{"Name":"full","Addr":"http://there:2"}"#).unwrap();
        fs::write(specs.join("tls.json"), r#"{"Addr":"tcp://there:3","TLSConfig":{}}"#).unwrap();
        let find = |name: &str| find_in(name, &sockets, &[&specs]);
        assert_eq!(find("flat").unwrap(), Address::Unix(sockets.join("flat.sock")));
        assert_eq!(find("deep").unwrap(), Address::Unix(sockets.join("deep/deep.sock")));
        assert_eq!(find("text").unwrap(), Address::Tcp("there:1".into()));
        assert_eq!(find("full").unwrap(), Address::Tcp("there:2".into()));
        assert!(matches!(find("tls"), Err(Error::NotImplemented(_))));
        for name in ["none", "../specs/text", ""] {
            assert_eq!(find(name).unwrap_err().to_string(), format!("plugin {name:?} not found"));
        }
        assert_eq!(scan_in(&sockets, &[&specs]), ["deep", "flat", "full", "text", "tls"]);
    }
}
