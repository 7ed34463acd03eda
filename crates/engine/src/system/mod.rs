//! The engine as a whole: what it is, what the machine is, what takes up the disk.
//!
//! Files on disk: `<data-root>/engine-id`, a UUID in text.

mod host;
mod info;
mod kernel;
mod usage;
mod version;

pub(crate) use host::{host_platform, hostname, memory_total};
pub(crate) use kernel::{CgroupVersion, Kernel, parse_list};
pub use usage::{DiskUsage, UsageKinds};
pub use version::WHARF;

use crate::{
    Config, Containers, Error, Events, Images, Result, blocking::blocking, containers::record::write_file,
    random,
};
use std::{path::Path, sync::Arc};

/// The handle of the engine as a whole: cheap to clone.
#[derive(Clone)]
pub struct System(Arc<Inner>);

struct Inner {
    id: String,
    config: Arc<Config>,
    containers: Containers,
    images: Images,
    events: Events,
}

impl System {
    pub(crate) async fn open(
        config: Arc<Config>,
        containers: Containers,
        images: Images,
        events: Events,
    ) -> Result<Self> {
        let path = config.data_root.join("engine-id");
        let id = blocking(move || engine_id(&path)).await?;
        Ok(Self(Arc::new(Inner { id, config, containers, images, events })))
    }

    /// The engine's id: a UUID, the same for ever.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The settings the engine runs with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }
}

/// Reads the id, or makes one (source: moby `daemon/id.go`).
pub(crate) fn engine_id(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::Io { step: "read", path: path.into(), source }),
    }
    let id = uuid();
    write_file(path, id.as_bytes(), 0o600)?;
    Ok(id)
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> String {
    let mut raw = [0; 16];
    raw.copy_from_slice(&random::bytes32()[..16]);
    raw[6] = raw[6] & 0x0f | 0x40;
    raw[8] = raw[8] & 0x3f | 0x80;
    let hex: String = raw.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays() {
        let dir = std::env::temp_dir().join(format!("wharf-id-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let first = engine_id(&dir.join("engine-id")).unwrap();
        assert_eq!(engine_id(&dir.join("engine-id")).unwrap(), first);
        let groups: Vec<usize> = first.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(&first[14..15], "4");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
