//! `spec`: writes an example `config.json` (source: runc `libcontainer/specconv/example.go`).

use super::bundle::{self, CONFIG};
use super::error::{CliError, CliResult};
use super::flags;
use lexopt::prelude::*;
use std::io::Write;
use std::path::PathBuf;
use wharf_runtime::oci::{Config, IdMapping, Linux, Mount, Namespace};
use wharf_sys::cgroup::Hierarchies;

const EXAMPLE: &[u8] = include_bytes!("example.json");

pub(super) fn main(parser: &mut lexopt::Parser) -> CliResult<u8> {
    let (mut bundle, mut rootless) = (None, false);
    let mut arguments = flags::Arguments::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("bundle") | Short('b') => bundle = Some(PathBuf::from(parser.value()?)),
            Long("rootless") => rootless = flags::switch(parser)?,
            other => arguments.take(other)?,
        }
    }
    arguments.none("spec")?;
    let path = bundle::path(bundle.as_deref())?.join(CONFIG);
    let mut file = match std::fs::File::create_new(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(CliError::text(format!("File {CONFIG} exists. Remove it first")));
        }
        Err(source) => return Err(CliError::io(format!("open {}", path.display()), source)),
    };
    let json = json_with_tabs(&example(rootless)?)?;
    file.write_all(&json).map_err(|source| CliError::io(format!("write {}", path.display()), source))?;
    Ok(0)
}

fn example(rootless: bool) -> CliResult<Config> {
    let mut config = Config::parse(EXAMPLE)?;
    let linux = config.linux.get_or_insert_default();
    if matches!(Hierarchies::detect(), Ok(Hierarchies::V2(_))) {
        linux.namespaces.push(Namespace { kind: "cgroup".to_owned(), path: String::new() });
    }
    if rootless {
        for_the_caller_alone(linux);
        config.mounts.iter_mut().for_each(without_foreign_ids);
    }
    Ok(config)
}

/// A user namespace with the caller as root, the host's network, no limits.
fn for_the_caller_alone(linux: &mut Linux) {
    linux.namespaces.retain(|namespace| !matches!(namespace.kind.as_str(), "network" | "user"));
    linux.namespaces.push(Namespace { kind: "user".to_owned(), path: String::new() });
    let map = |host_id| Some(vec![IdMapping { container_id: 0, host_id, size: 1 }]);
    linux.uid_mappings = map(rustix::process::geteuid().as_raw());
    linux.gid_mappings = map(rustix::process::getegid().as_raw());
    linux.resources = None;
}

fn without_foreign_ids(mount: &mut Mount) {
    if mount.destination == "/sys" {
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
        mount.source = "/sys".to_owned();
        mount.kind = "none".to_owned();
        mount.options = options.into();
        return;
    }
    mount.options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
}

fn json_with_tabs(config: &Config) -> CliResult<Vec<u8>> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(config, &mut serializer)
        .map_err(|error| CliError::text(error.to_string()))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--bundle", dir.path().to_str().unwrap()];
        assert_eq!(main(&mut lexopt::Parser::from_args(args)).unwrap(), 0);
        let config = bundle::config(dir.path()).unwrap();
        assert_eq!(config.process.unwrap().args, ["sh"]);
        let again = main(&mut lexopt::Parser::from_args(args)).unwrap_err();
        assert_eq!(again.to_string(), "File config.json exists. Remove it first");
    }

    #[test]
    fn a_rootless_example_maps_the_caller() {
        let config = example(true).unwrap();
        let linux = config.linux.unwrap();
        assert!(linux.namespaces.iter().any(|n| n.kind == "user") && linux.resources.is_none());
        assert!(!linux.namespaces.iter().any(|n| n.kind == "network"));
        assert!(config.mounts.iter().all(|m| m.options.iter().all(|o| !o.starts_with("gid="))));
    }
}
