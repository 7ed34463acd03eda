//! Whether a data root is whole: `wharfd --check`.
//!
//! Reads everything and changes nothing; the data root is not in use. Each finding names an object and what is
//! wrong with it. Layers come first ([`layers`]), since images and containers stand on them, then images and
//! their names ([`images`]).

mod images;
mod layers;
#[cfg(test)]
mod tests;

use crate::{
    Result,
    layers::{Layer, record::Records},
    overlay::Overlay,
    sweep,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
};
use wharf_spec::ChainId;

/// How closely a data root is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Records, and what they name.
    #[default]
    Quick,
    /// Also each layer's archive, rebuilt and compared with its digest.
    Deep,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What has it: `layer sha256:...`, a path.
    pub object: String,
    /// What it is.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}

/// What was looked at, and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Layers that have a record.
    pub layers: usize,
    /// Images that have a config.
    pub images: usize,
    /// Containers that have a directory.
    pub containers: usize,
    /// In the order of the objects' names, by kind.
    pub findings: Vec<Finding>,
}

/// Looks at a data root that no daemon uses.
pub fn check(data_root: &Path, depth: Depth) -> Report {
    let mut check = Check::new(data_root, depth);
    check.layers();
    check.containers();
    check.overlay();
    check.images();
    check.references();
    check.blobs();
    check.unused();
    check.report
}

struct Check {
    root: PathBuf,
    image_root: PathBuf,
    depth: Depth,
    records: Records,
    overlay: Overlay,
    layers: BTreeMap<ChainId, Layer>,
    /// Directories below `overlay2`, and whose they are.
    owners: HashMap<String, String>,
    /// Layers on which something stands.
    needed: HashSet<ChainId>,
    /// A record could not be read: what seems to belong to nobody may belong to it.
    blind: bool,
    report: Report,
}

impl Check {
    fn new(data_root: &Path, depth: Depth) -> Self {
        let image_root = data_root.join("image/overlay2");
        Self {
            records: Records::at(&image_root.join("layerdb")),
            overlay: Overlay::at(data_root.join("overlay2")),
            root: data_root.into(),
            image_root,
            depth,
            layers: BTreeMap::new(),
            owners: HashMap::new(),
            needed: HashSet::new(),
            blind: false,
            report: Report::default(),
        }
    }

    fn find(&mut self, object: impl fmt::Display, problem: impl fmt::Display) {
        self.report.findings.push(Finding { object: object.to_string(), problem: problem.to_string() });
    }

    /// A directory's names, sorted; one that cannot be read is a finding.
    fn names(&mut self, directory: &Path) -> Vec<String> {
        let mut names = self.take(directory.display(), crate::files::names(directory)).unwrap_or_default();
        names.sort_unstable();
        names
    }

    /// The value, or a finding about the object.
    fn take<T>(&mut self, object: impl fmt::Display, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.find(object, error)).ok()
    }

    /// What [`crate::files::replace`] was about to rename.
    fn temporaries(&mut self, directory: &Path) {
        for name in self.names(directory).into_iter().filter(|name| name.starts_with(".tmp-")) {
            self.find(directory.join(name).display(), "left of a write that was torn");
        }
    }

    fn unused(&mut self) {
        if self.blind || sweep::dockers_build_cache(&self.root).exists() {
            return;
        }
        let unused: Vec<ChainId> =
            self.layers.keys().filter(|chain| !self.needed.contains(*chain)).copied().collect();
        for chain in unused {
            self.find(layer(chain), "no image, container or other layer stands on it");
        }
    }
}

fn layer(chain: ChainId) -> String {
    format!("layer {chain}")
}
