//! Anonymous volumes of creates that are under way: nothing else tells one that a crash left from one that
//! `docker rm` without `-v` left on purpose.
//!
//! Files on disk: `<data-root>/wharf/creating/<container id>`, the names of its volumes, a line each. It is there
//! before the first of them is, until the container has its record or the volumes are gone again.

use super::Volumes;
use crate::{Error, Result, blocking::blocking, config::make_dir};
use std::{
    fs,
    io::{ErrorKind, Write},
    path::Path,
};
use wharf_spec::ContainerId;
use wharf_sys::fault;

impl Volumes {
    /// An anonymous volume is about to be made for a container.
    pub(super) async fn begin(&self, container: &ContainerId, volume: &str) -> Result<()> {
        let (dir, id, line) = (self.0.creating.clone(), container.clone(), format!("{volume}\n"));
        self.unfinished().insert(container.clone());
        blocking(move || note(&dir, &id, &line)).await
    }

    /// The container has its record, or its volumes are gone.
    pub(crate) async fn finish(&self, container: &ContainerId) {
        if !self.unfinished().remove(container) {
            return;
        }
        let path = self.0.creating.join(container.as_str());
        if let Err(error) = blocking(move || forget(&path)).await {
            tracing::warn!(%container, %error, "note of a finished create stays");
        }
    }

    /// Removes the volumes of creates that a crash tore: of containers that do not exist.
    pub(crate) async fn remove_unfinished(&self, containers: &Path) {
        let (dir, containers) = (self.0.creating.clone(), containers.to_owned());
        let noted = blocking(move || read(&dir, &containers)).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "volumes of torn creates may stay");
            Vec::new()
        });
        for (path, volumes) in noted {
            self.remove_abandoned(&volumes).await;
            if let Err(error) = blocking(move || forget(&path)).await {
                tracing::warn!(%error, "note of a torn create stays");
            }
        }
    }
}

/// The line is whole or not there: it is one write.
fn note(dir: &Path, container: &ContainerId, line: &str) -> Result<()> {
    let path = dir.join(container.as_str());
    let io = |source| Error::Io { step: "write", path: path.clone(), source };
    make_dir(dir, 0o700)?;
    fault::point("volume.note").map_err(io)?;
    let mut file = fs::OpenOptions::new().append(true).create(true).open(&path).map_err(io)?;
    file.write_all(line.as_bytes()).map_err(io)
}

fn forget(path: &Path) -> Result<()> {
    match fault::point("volume.forget").and_then(|()| fs::remove_file(path)) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::Io { step: "remove", path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// Each note with the volumes that are to go: none where the container exists.
fn read(dir: &Path, containers: &Path) -> Result<Vec<(std::path::PathBuf, Vec<String>)>> {
    let io = |source| Error::Io { step: "read", path: dir.into(), source };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io)?,
    };
    let mut noted = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io)?;
        let is_there = containers.join(entry.file_name()).exists();
        let names = if is_there { String::new() } else { fs::read_to_string(entry.path()).map_err(io)? };
        noted.push((entry.path(), names.lines().map(str::to_owned).collect()));
    }
    Ok(noted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_creates_without_a_container_are_torn() {
        let dir = std::env::temp_dir().join(format!("wharf-unfinished-{}", std::process::id()));
        let (notes, containers) = (dir.join("wharf/creating"), dir.join("containers"));
        assert!(read(&notes, &containers).unwrap().is_empty());
        let [torn, made] = [[1; 32], [2; 32]].map(ContainerId::from_random);
        fs::create_dir_all(containers.join(made.as_str())).unwrap();
        for id in [&torn, &made] {
            note(&notes, id, "one\n").unwrap();
            note(&notes, id, "two\n").unwrap();
        }
        let mut found = read(&notes, &containers).unwrap();
        found.sort();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            found,
            [(notes.join(torn.as_str()), names(&["one", "two"])), (notes.join(made.as_str()), names(&[])),]
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
