//! Directories that the daemon keeps from build to build: what has changed since travels, and nothing else.
//!
//! Files on disk, `$XDG_CACHE_HOME/wharf/contexts/<hash>` (`~/.cache`): what the daemon has of a directory. Three texts, each
//! ended by a zero byte: daemon and directory, the id by which the daemon knows it; then a [`Manifest`]. The id is made
//! by chance, and who knows it may build with these files: the file is for its owner alone.

use crate::{
    cli::Cli,
    client::{Call, Query},
    commands::container::cp::{progress::Counter, stream},
    error::{Error, Result},
};
use http::Method;
use rustix::rand::GetRandomFlags;
use serde_json::json;
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use wharf_archive::{Changes, Filter, Manifest, PackOptions};

const ID: &str = "x-wharf-build-context";
const FROM: &str = "x-wharf-build-context-from";
/// What is remembered of a directory that nobody builds any more goes after this time.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A directory to be built from.
pub(super) struct Tree {
    pub(super) path: PathBuf,
    pub(super) root: OwnedFd,
    /// What of it is meant.
    pub(super) filter: Filter,
}

/// What the daemon has.
struct State {
    id: String,
    manifest: Manifest,
}

/// What became of an attempt to send.
enum Sent {
    Yes,
    /// The daemon has nothing to change.
    Unknown,
    /// It keeps no contexts.
    Unable,
}

impl Tree {
    /// Brings the daemon's copy up to date; gives its id, or `None` where the daemon keeps none or there are names that
    /// are no text.
    ///
    /// # Errors
    /// The daemon's.
    pub(super) async fn bring(&self, cli: &Cli, counter: &Counter) -> Result<Option<String>> {
        let (root, filter) = (self.root()?, self.filter.clone());
        let scan = move || Manifest::scan(root.as_fd(), Some(&filter));
        let scanned = tokio::task::spawn_blocking(scan).await.map_err(|e| Error::text(e.to_string()))?;
        let manifest = match scanned {
            Err(wharf_archive::Error::Manifest) => return Ok(None),
            other => other.map_err(|error| Error::text(format!("ERROR: {error}")))?,
        };
        let key = format!("{}\n{}", cli.address().as_str(), self.path.display());
        let file = state_file(&key);
        let known = file.as_deref().and_then(|file| State::read(file, &key));
        if let Some(known) = known {
            let changes = manifest.since(&known.manifest);
            let is_same = changes == Changes::default();
            let id = if is_same { known.id.clone() } else { new_id()? };
            match self.send(cli, (&id, &known.id), &manifest, changes, counter).await? {
                Sent::Yes if is_same => return Ok(Some(id)),
                Sent::Yes => return Ok(Some(remember(file, &key, State { id, manifest }))),
                Sent::Unable => return Ok(None),
                Sent::Unknown => {}
            }
        }
        let (id, changes) = (new_id()?, manifest.since(&Manifest::default()));
        match self.send(cli, (&id, ""), &manifest, changes, counter).await? {
            Sent::Yes => Ok(Some(remember(file, &key, State { id, manifest }))),
            Sent::Unknown | Sent::Unable => Ok(None),
        }
    }

    async fn send(
        &self,
        cli: &Cli,
        (id, from): (&str, &str),
        manifest: &Manifest,
        changes: Changes,
        counter: &Counter,
    ) -> Result<Sent> {
        let mut call = Call::new(Method::POST, "/build/context", Query::new())
            .header(ID, id.to_owned())
            .header(FROM, from.to_owned());
        if id != from {
            let filter = Some(manifest.filter(&changes));
            let options = PackOptions { owner: Some((0, 0)), filter, ..PackOptions::default() };
            let text = json!({ "removed": changes.removed }).to_string();
            let length = u32::try_from(text.len()).map_err(|_| Error::text("too many files were removed"))?;
            let head = [&length.to_be_bytes()[..], text.as_bytes()].concat();
            let (root, is_empty) = (self.root()?, changes.sent.is_empty());
            call = call.tar(stream::archive_after(head, options, counter.clone(), move |packer| {
                if is_empty { Ok(()) } else { packer.children(root.as_fd(), b"") }
            }));
        }
        match cli.client().await?.fetch_raw(call).await {
            Ok(_) => Ok(Sent::Yes),
            Err(Error::Daemon { status: 404, .. }) => Ok(Sent::Unable),
            Err(Error::Daemon { status: 409, .. }) => Ok(Sent::Unknown),
            Err(error) => Err(error),
        }
    }

    fn root(&self) -> Result<OwnedFd> {
        Ok(self.root.try_clone()?)
    }
}

impl State {
    /// What is remembered; what is of another directory or cannot be read is nothing.
    fn read(file: &Path, key: &str) -> Option<Self> {
        let text = fs::read(file).ok()?;
        let mut parts = text.splitn(3, |byte| *byte == 0);
        if parts.next()? != key.as_bytes() {
            return None;
        }
        let id = String::from_utf8(parts.next()?.to_vec()).ok()?;
        Some(Self { id, manifest: Manifest::from_bytes(parts.next()?).ok()? })
    }

    fn write(&self, file: &Path, key: &str) -> std::io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let new = file.with_extension(std::process::id().to_string());
        let mut out = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        out.write_all(
            &[key.as_bytes(), b"\0", self.id.as_bytes(), b"\0", &self.manifest.to_bytes()].concat(),
        )?;
        fs::rename(&new, file)?;
        for old in fs::read_dir(folder)?.flatten() {
            let used = old.metadata()?.modified()?;
            if SystemTime::now().duration_since(used).is_ok_and(|age| age > MAX_AGE) {
                fs::remove_file(old.path())?;
            }
        }
        Ok(())
    }
}

/// Gives the id. Where it cannot be written down, all is sent again next time.
fn remember(file: Option<PathBuf>, key: &str, state: State) -> String {
    if let Some(file) = file {
        let _ = state.write(&file, key);
    }
    state.id
}

fn state_file(key: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")))?.join("wharf/contexts");
    // Another hash of a later release means that all is sent once more.
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    Some(folder.join(format!("{:016x}", hasher.finish())))
}

/// 256 bits by chance.
fn new_id() -> Result<String> {
    let mut bytes = [0_u8; 32];
    rustix::rand::getrandom(&mut bytes[..], GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_has_is_remembered_for_its_directory_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/state");
        let root = fs::File::open(dir.path()).unwrap();
        fs::write(dir.path().join("one"), "1").unwrap();
        let manifest = Manifest::scan(root.as_fd(), None).unwrap();
        State { id: new_id().unwrap(), manifest: manifest.clone() }.write(&file, "key").unwrap();
        assert!(State::read(&file, "other").is_none());
        let state = State::read(&file, "key").unwrap();
        assert_eq!((state.manifest, state.id.len()), (manifest, 64));
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&file, "key\0id\0nonsense\0").unwrap();
        assert!(State::read(&file, "key").is_none());
    }
}
