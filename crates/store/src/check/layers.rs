//! Layers, read-only and writable, and the directories of `overlay2`.

use super::{Check, Depth, layer};
use crate::{
    Error, files,
    layers::{Layer, RwLayer, stored_archive},
    union::tree_size,
};
use serde::Deserialize;
use std::path::Path;
use wharf_spec::{ChainId, ContainerId, Digest};

/// As much of `config.v2.json` as is needed here.
#[derive(Deserialize)]
struct ContainerRecord {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Driver", default)]
    driver: String,
}

impl Check {
    pub(super) fn layers(&mut self) {
        let layerdb = self.image_root.join("layerdb");
        for name in self.names(&layerdb.join("sha256")) {
            let path = layerdb.join("sha256").join(&name);
            match Digest::from_hex(&name).map(ChainId) {
                Ok(chain) => self.layer_record(chain),
                Err(_) if name.ends_with("-removing") => {
                    self.find(path.display(), "left of a removal that was torn");
                }
                Err(_) => self.find(path.display(), "not a layer's record"),
            }
        }
        for name in self.names(&layerdb.join("tmp")) {
            self.find(layerdb.join("tmp").join(name).display(), "left of a layer that was being extracted");
        }
        let all: Vec<Layer> = self.layers.values().cloned().collect();
        self.report.layers = all.len();
        for layer in all {
            self.layer(&layer);
        }
    }

    fn layer_record(&mut self, chain: ChainId) {
        let Some(record) = self.take(layer(chain), self.records.read(chain)) else {
            self.blind = true;
            return;
        };
        self.own(&record.cache_id, layer(chain));
        self.layers.insert(chain, record);
    }

    /// Notes whose a directory is.
    fn own(&mut self, id: &str, owner: String) {
        if let Some(other) = self.owners.insert(id.to_owned(), owner.clone()) {
            self.find(owner, format!("it and {other} have the same directory overlay2/{id}"));
        }
    }

    fn layer(&mut self, this: &Layer) {
        let object = layer(this.chain_id);
        let mut below = None;
        if let Some(parent) = this.parent {
            self.needed.insert(parent);
            below = self.layers.get(&parent).map(|parent| parent.cache_id.clone());
            if below.is_none() {
                self.find(&object, format!("the layer below it, {parent}, does not exist"));
            }
        }
        if this.parent.is_none() || below.is_some() {
            self.directory(&object, &this.cache_id, below.as_deref());
        }
        match self.depth {
            Depth::Quick => self.record_is_there(&object, this),
            Depth::Deep => self.contents(&object, this),
        }
    }

    fn directory(&mut self, object: &str, id: &str, parent: Option<&str>) {
        for fault in self.overlay.faults(id, parent) {
            self.find(object, fault);
        }
    }

    fn record_is_there(&mut self, object: &str, this: &Layer) {
        let path = self.records.tar_split(this.chain_id);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() > 0 => {}
            Ok(_) => self.find(object, format!("{} is empty", path.display())),
            Err(error) => self.find(object, Error::file("stat", path)(error)),
        }
    }

    /// Rebuilds the archive, and counts the files' bytes.
    fn contents(&mut self, object: &str, this: &Layer) {
        let rebuilt = stored_archive(&self.records, &self.overlay, this, &mut std::io::sink());
        self.take(object, rebuilt);
        let size = files::open_directory(&self.overlay.diff(&this.cache_id)).and_then(tree_size);
        if let Some(size) = self.take(object, size)
            && size != this.size
        {
            self.find(object, format!("its files have {size} bytes, its record says {}", this.size));
        }
    }

    pub(super) fn containers(&mut self) {
        let Some(mounts) = self.take("layerdb/mounts", self.records.mount_names()) else { return };
        for container in &mounts {
            self.mount(container);
        }
        let containers = self.root.join("containers");
        for name in self.names(&containers) {
            let directory = containers.join(&name);
            match name.parse::<ContainerId>() {
                Ok(id) => self.container(&directory, &id, mounts.contains(&id)),
                Err(_) if name.ends_with("-removing") => {
                    self.find(directory.display(), "left of a removal; the daemon's next start ends it");
                }
                Err(_) => self.find(directory.display(), "not a container's directory"),
            }
        }
    }

    fn mount(&mut self, container: &ContainerId) {
        let object = format!("layer of container {container}");
        if !self.root.join("containers").join(container.as_str()).exists() {
            self.find(&object, "there is no such container");
        }
        let Some(mount) = self.take(&object, self.records.read_mount(container)) else {
            self.blind = true;
            return;
        };
        self.rw_layer(&object, &mount);
    }

    fn rw_layer(&mut self, object: &str, mount: &RwLayer) {
        let mut below = None;
        if let Some(parent) = mount.parent {
            self.needed.insert(parent);
            below = self.layers.get(&parent).map(|parent| parent.cache_id.clone());
            if below.is_none() {
                self.find(object, format!("the layer below it, {parent}, does not exist"));
            }
        }
        self.own(&mount.mount_id, object.to_owned());
        let Some(init) = &mount.init_id else {
            return self.directory(object, &mount.mount_id, below.as_deref());
        };
        self.own(init, object.to_owned());
        if mount.parent.is_none() || below.is_some() {
            self.directory(object, init, below.as_deref());
        }
        self.directory(object, &mount.mount_id, Some(init));
    }

    fn container(&mut self, directory: &Path, id: &ContainerId, has_layer: bool) {
        let object = format!("container {id}");
        let record = directory.join("config.v2.json");
        if !record.exists() {
            return self.find(object, "left of a create that was torn; the daemon's next start removes it");
        }
        self.report.containers += 1;
        let damaged = |path: &Path, error: serde_json::Error| Error::Damaged {
            path: path.into(),
            what: error.to_string(),
        };
        let parsed = files::read(&record).and_then(|raw| {
            serde_json::from_slice::<ContainerRecord>(&raw).map_err(|error| damaged(&record, error))
        });
        if let Some(parsed) = self.take(&object, parsed) {
            if parsed.id != id.as_str() {
                self.find(&object, format!("{} is that of {:?}", record.display(), parsed.id));
            }
            if parsed.driver == "overlay2" && !has_layer {
                self.find(&object, "it has no layer");
            }
        }
        let host = directory.join("hostconfig.json");
        let parsed = files::read(&host).and_then(|raw| {
            serde_json::from_slice::<serde_json::Value>(&raw).map_err(|error| damaged(&host, error))
        });
        self.take(&object, parsed);
        self.temporaries(directory);
    }

    /// Directories and short names that belong to nothing. Other names than the layer store's are BuildKit's.
    pub(super) fn overlay(&mut self) {
        let Some(mut names) = self.take("overlay2", self.overlay.names()) else { return };
        names.sort_unstable();
        for id in names.iter().filter(|id| files::is_mount_id(id)) {
            if !self.owners.contains_key(id) && !self.blind {
                self.find(format!("overlay2/{id}"), "it belongs to no layer and no container");
            }
        }
        let Some(mut links) = self.take("overlay2/l", self.overlay.links()) else { return };
        links.sort_unstable();
        for (link, target) in links {
            match target {
                Some(target) if names.contains(&target) => {}
                Some(target) => {
                    self.find(format!("overlay2/l/{link}"), format!("{target} does not exist"));
                }
                None => self.find(format!("overlay2/l/{link}"), "not a link to a layer"),
            }
        }
    }
}
