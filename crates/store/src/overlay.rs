//! Directories of layers as Docker's `overlay2` graph driver has them (source: moby
//! `daemon/graphdriver/overlay2/overlay.go`).
//!
//! ```text
//! overlay2/l/<26 chars> -> ../<id>/diff    short names, so that many lowers fit in a mount's options
//! overlay2/<id>/diff                        the layer's files
//! overlay2/<id>/link                        its short name
//! overlay2/<id>/lower                       l/<parent>:l/<grandparent>..., absent without a parent
//! overlay2/<id>/work                        overlayfs's own, absent without a parent
//! overlay2/<id>/committed                   there is a child
//! overlay2/<id>/merged                      the mount, while there is one
//! ```

use crate::{
    Error, Result,
    files::{self, Owner},
};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use wharf_spec::plan::MountAttrs;
use wharf_sys::{
    fault,
    mount::{self, AttrChange, Recursion},
};

/// More lowers than this are refused.
const MAX_LOWERS: usize = 128;

const LINK_LENGTH: usize = 26;

/// Where a layer's directories are, as `GraphDriver.Data` of inspect shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphData {
    /// Lower directories, topmost first; none for a layer without parent.
    pub lower: Vec<PathBuf>,
    /// The mount point.
    pub merged: PathBuf,
    /// The layer's files.
    pub upper: PathBuf,
    /// Overlayfs's own.
    pub work: PathBuf,
}

/// The directory `overlay2`.
pub(crate) struct Overlay {
    home: PathBuf,
    /// The host's user and group that are the containers' root, where they are in user namespaces.
    root: Option<Owner>,
}

impl Overlay {
    pub(crate) fn open(data_root: &Path, root: Option<Owner>) -> Result<Self> {
        let this = Self { home: data_root.join("overlay2"), root };
        files::make_directory_of(&this.home, 0o710, this.passable())?;
        files::make_directory(&this.home.join("l"), 0o700)?;
        Ok(this)
    }

    /// The containers' root, if it is another than the host's.
    pub(crate) fn root(&self) -> Option<Owner> {
        self.root
    }

    /// The owner of a directory that the containers' root may pass through.
    fn passable(&self) -> Option<Owner> {
        self.root.map(|root| Owner { uid: 0, ..root })
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The directories that writing to a layer fills: its own and overlayfs's, between which files are renamed.
    pub(crate) fn writable(&self, id: &str) -> Vec<PathBuf> {
        let directory = self.directory(id);
        [directory.join("diff"), directory.join("work")].into_iter().filter(|path| path.exists()).collect()
    }

    /// To be looked at only.
    pub(crate) fn at(home: PathBuf) -> Self {
        Self { home, root: None }
    }

    /// Names of layers' directories.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let names = files::names(&self.home)?;
        // Docker keeps a block device here for quotas.
        Ok(names.into_iter().filter(|name| name != "l" && self.home.join(name).is_dir()).collect())
    }

    /// Short names, with the layer each leads to; `None` when it leads elsewhere.
    pub(crate) fn links(&self) -> Result<Vec<(String, Option<String>)>> {
        let names = files::names(&self.home.join("l"))?;
        Ok(names.into_iter().map(|name| (self.link_target(&name), name)).map(|(t, n)| (n, t)).collect())
    }

    fn link_target(&self, link: &str) -> Option<String> {
        let target = std::fs::read_link(self.home.join("l").join(link)).ok()?;
        let id = target.to_str()?.strip_prefix("../")?.strip_suffix("/diff")?;
        files::is_cache_id(id).then(|| id.to_owned())
    }

    pub(crate) fn remove_link(&self, link: &str) -> Result<()> {
        files::remove_file(&self.home.join("l").join(link))
    }

    /// What is wrong with a layer's directory, that stands on `parent`; nothing is a good sign.
    pub(crate) fn faults(&self, id: &str, parent: Option<&str>) -> Vec<String> {
        let mut faults = Vec::new();
        let directory = self.directory(id);
        if !self.exists(id) {
            return vec![format!("{} is missing", self.diff(id).display())];
        }
        match self.link(id) {
            Err(error) => faults.push(error.to_string()),
            Ok(link) => match self.link_target(&link) {
                Some(target) if target == id => {}
                Some(other) => faults.push(format!("its link l/{link} leads to {other}")),
                None => faults.push(format!("its link l/{link} is missing or leads nowhere")),
            },
        }
        let expected = parent.map(|parent| self.lowers_of_child(parent)).transpose();
        match (expected, self.lowers(id)) {
            (Ok(expected), Ok(found)) if expected.clone().unwrap_or_default() == found => {}
            (Ok(_), Ok(_)) => {
                faults.push(format!("{} does not name the layers below", directory.join("lower").display()));
            }
            // The parent's own faults are told for the parent.
            (Err(_), _) => {}
            (_, Err(error)) => faults.push(error.to_string()),
        }
        if parent.is_some() && !directory.join("work").is_dir() {
            faults.push(format!("{} is missing", directory.join("work").display()));
        }
        faults
    }

    /// Writes link, short name and `lower` anew where they are wrong; the layers below were mended before.
    pub(crate) fn mend(&self, id: &str, parent: Option<&str>) -> Result<()> {
        let link = match self.link(id) {
            Ok(link) => link,
            Err(_) => {
                let known = self.links()?.into_iter().find(|(_, target)| target.as_deref() == Some(id));
                let link = known.map_or_else(random_link, |(link, _)| link);
                files::replace(&self.directory(id).join("link"), link.as_bytes(), 0o644, files::Sync::Now)?;
                link
            }
        };
        if self.link_target(&link).as_deref() != Some(id) {
            self.remove_link(&link)?;
            self.make_link(id, &link)?;
        }
        match parent {
            Some(parent) => self.set_parent(id, parent),
            None => Ok(()),
        }
    }

    fn make_link(&self, id: &str, link: &str) -> Result<()> {
        let symlink = self.home.join("l").join(link);
        fault::point("store.symlink")
            .and_then(|()| std::os::unix::fs::symlink(format!("../{id}/diff"), &symlink))
            .map_err(Error::file("symlink", symlink))
    }

    /// A layer's short name.
    fn link(&self, id: &str) -> Result<String> {
        let path = self.directory(id).join("link");
        let link = files::read_text(&path)?;
        if is_link(&link) { Ok(link) } else { Err(Error::Damaged { path, what: format!("{link:?}") }) }
    }

    pub(crate) fn directory(&self, id: &str) -> PathBuf {
        self.home.join(id)
    }

    pub(crate) fn diff(&self, id: &str) -> PathBuf {
        self.home.join(id).join("diff")
    }

    pub(crate) fn exists(&self, id: &str) -> bool {
        self.diff(id).is_dir()
    }

    /// Makes a layer without parent yet.
    pub(crate) fn create(&self, id: &str) -> Result<()> {
        let directory = self.directory(id);
        files::make_directory_of(&directory, 0o710, self.passable())?;
        files::make_directory_of(&directory.join("diff"), 0o755, self.root)?;
        let link = random_link();
        self.make_link(id, &link)?;
        files::write_new(&directory.join("link"), link.as_bytes(), 0o644, files::Sync::Later)
    }

    /// Puts a layer on top of another.
    pub(crate) fn set_parent(&self, id: &str, parent: &str) -> Result<()> {
        let lowers = self.lowers_of_child(parent)?;
        if lowers.len() > MAX_LOWERS {
            return Err(Error::TooDeep);
        }
        let committed = self.directory(parent).join("committed");
        if !committed.exists() {
            files::write_new(&committed, b"", 0o600, files::Sync::Later)?;
        }
        let directory = self.directory(id);
        files::make_directory_of(&directory.join("work"), 0o700, self.root)?;
        files::write_new(&directory.join("lower"), lowers.join(":").as_bytes(), 0o644, files::Sync::Later)
    }

    /// The parent and its lowers, `l/<link>` each.
    fn lowers_of_child(&self, parent: &str) -> Result<Vec<String>> {
        let link = self.link(parent)?;
        let mut lowers = vec![format!("l/{link}")];
        lowers.extend(self.lowers(parent)?);
        Ok(lowers)
    }

    /// `l/<link>` of each lower, topmost first.
    fn lowers(&self, id: &str) -> Result<Vec<String>> {
        let text = files::optional(files::read_text(&self.directory(id).join("lower")))?;
        Ok(text
            .iter()
            .flat_map(|text| text.split(':'))
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// The `diff` directory of each lower, topmost first.
    pub(crate) fn lower_directories(&self, id: &str) -> Result<Vec<PathBuf>> {
        let resolve = |lower: String| {
            let link = self.home.join(&lower);
            let target = std::fs::read_link(&link).map_err(Error::file("readlink", &link))?;
            let target = target.strip_prefix("..").map(Path::to_owned).unwrap_or(target);
            Ok(self.home.join(target))
        };
        self.lowers(id)?.into_iter().map(resolve).collect()
    }

    pub(crate) fn graph_data(&self, id: &str) -> Result<GraphData> {
        let directory = self.directory(id);
        Ok(GraphData {
            lower: self.lower_directories(id)?,
            merged: directory.join("merged"),
            upper: directory.join("diff"),
            work: directory.join("work"),
        })
    }

    /// Mounts a layer and gives the path of its files. A committed layer is mounted read-only; one without
    /// lowers needs no mount. A mount that is there (from before the daemon restarted) is used.
    pub(crate) fn mount(&self, id: &str) -> Result<PathBuf> {
        let lowers = self.lowers(id)?;
        if lowers.is_empty() {
            return Ok(self.diff(id));
        }
        let merged = self.directory(id).join("merged");
        if self.is_mounted(id)? {
            return Ok(merged);
        }
        files::make_directory_of(&merged, 0o700, self.root)?;
        let read_only = self.directory(id).join("committed").exists();
        let own = format!("{id}/diff");
        let overlay = if read_only {
            mount::Overlay { lowers: [vec![own], lowers].concat(), upper: None, ..self.overlay() }
        } else {
            mount::Overlay { lowers, upper: Some((own, format!("{id}/work"))), ..self.overlay() }
        };
        let mounted = fault::point("store.mount").map_err(Error::file("mount", &merged));
        match mounted.and_then(|()| Ok(mount::mount_overlay(&overlay, &merged)?)) {
            Ok(()) => {
                self.give_work(id);
                Ok(merged)
            }
            Err(error) => {
                let _ = std::fs::remove_dir(&merged);
                Err(error)
            }
        }
    }

    /// A layer with all below it, read-only, attached nowhere.
    pub(crate) fn tree(&self, id: &str) -> Result<OwnedFd> {
        let lowers = self.lowers(id)?;
        if lowers.is_empty() {
            let tree = mount::clone_tree(&self.diff(id), Recursion::Single)?;
            let readonly = AttrChange { set: MountAttrs::READONLY, ..AttrChange::default() };
            mount::set_attrs(&tree, &readonly, Recursion::Single)?;
            return Ok(tree);
        }
        let lowers = [vec![format!("{id}/diff")], lowers].concat();
        Ok(mount::overlay_tree(&mount::Overlay { lowers, attrs: MountAttrs::READONLY, ..self.overlay() })?)
    }

    /// Overlayfs's own directory belongs to the containers' root, as Docker has it. Nothing of ours depends on it,
    /// and a read-only mount has none.
    fn give_work(&self, id: &str) {
        if let Some(Owner { uid, gid }) = self.root {
            let _ = std::os::unix::fs::chown(self.directory(id).join("work/work"), Some(uid), Some(gid));
        }
    }

    /// As Docker's options, and without the features that would make `diff` something else than a layer.
    fn overlay(&self) -> mount::Overlay {
        let option = |key: &str| (key.to_owned(), "off".to_owned());
        mount::Overlay {
            base: self.home.clone(),
            lowers: Vec::new(),
            upper: None,
            options: vec![option("index"), option("metacopy")],
            attrs: MountAttrs::empty(),
        }
    }

    fn is_mounted(&self, id: &str) -> Result<bool> {
        let directory = self.directory(id);
        let merged = match files::open_directory(&directory.join("merged")) {
            Err(error) if error.is_not_found() => return Ok(false),
            other => other?,
        };
        Ok(!mount::same_mount(&merged, &files::open_directory(&directory)?)?)
    }

    /// Removes the mount; none is fine.
    pub(crate) fn unmount(&self, id: &str) -> Result<()> {
        let merged = self.directory(id).join("merged");
        mount::detach_if_mounted(&merged)?;
        // Removing the mount point removes the mount from other mount namespaces too (since Linux 3.18).
        match std::fs::remove_dir(&merged) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::file("rmdir", merged)(error)),
        }
    }

    /// Removes a layer's directories; none is fine.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        if !files::is_cache_id(id) {
            // It comes from a file and goes into a path.
            return Err(Error::Damaged { path: self.directory("?"), what: format!("layer id {id:?}") });
        }
        let directory = self.directory(id);
        self.unmount(id)?;
        if let Some(link) = files::optional(files::read_text(&directory.join("link")))?.filter(|l| is_link(l))
        {
            files::remove_file(&self.home.join("l").join(link))?;
        }
        files::remove_tree(&directory)
    }
}

fn is_link(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// 26 characters of base32 (source: moby `daemon/graphdriver/overlayutils/randomid.go`).
fn random_link() -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let random: [u8; LINK_LENGTH] = files::random();
    random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}
