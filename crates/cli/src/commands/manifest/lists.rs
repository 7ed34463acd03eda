//! Lists in the making, each a directory of entries (docker/cli: `cli/manifest/store`).
//!
//! Files: `<config dir>/manifests/<list>/<image>`, the names with `-` for `:` and `_` for `/`.

use super::{entry::Entry, json};
use crate::{
    cli::Cli,
    error::{Error, Result},
};
use std::{fs, io::ErrorKind, path::PathBuf};
use wharf_spec::ImageRef;

/// Where they are.
pub(super) struct Lists {
    folder: PathBuf,
}

impl Lists {
    pub(super) fn of(cli: &Cli) -> Self {
        Self { folder: cli.config().folder.join("manifests") }
    }

    /// One image of a list; `None` when it is not in it.
    pub(super) fn entry(&self, list: &ImageRef, image: &ImageRef) -> Result<Option<Entry>> {
        let path = self.path(list).join(file_name(image));
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| Error::text(error.to_string()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path.display().to_string())(error)),
        }
    }

    /// All images of a list, in the order of their files; `None` when there is no such list.
    pub(super) fn entries(&self, list: &ImageRef) -> Result<Option<Vec<Entry>>> {
        let path = self.path(list);
        let io = |error| Error::io(path.display().to_string())(error);
        let mut files = match fs::read_dir(&path) {
            Ok(files) => {
                files.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>().map_err(io)?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        files.sort();
        let read = |file: &PathBuf| {
            let text = fs::read(file).map_err(Error::io(file.display().to_string()))?;
            serde_json::from_slice(&text).map_err(|error| Error::text(error.to_string()))
        };
        files.iter().map(read).collect::<Result<_>>().map(Some)
    }

    /// Puts an image into a list, which is made when it is not there.
    pub(super) fn save(&self, list: &ImageRef, image: &ImageRef, entry: &Entry) -> Result<()> {
        let folder = self.path(list);
        let path = folder.join(file_name(image));
        let written =
            fs::create_dir_all(folder).and_then(|()| fs::write(&path, json(entry).unwrap_or_default()));
        written.map_err(Error::io(path.display().to_string()))
    }

    /// Removes a list.
    pub(super) fn remove(&self, list: &ImageRef) -> Result<()> {
        let path = self.path(list);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(path.display().to_string())(error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, list: &ImageRef) -> PathBuf {
        self.folder.join(file_name(list))
    }
}

/// A name of a list or image that is none here.
pub(super) fn missing(name: &ImageRef) -> Error {
    Error::text(format!("No such manifest: {name}"))
}

fn file_name(name: &ImageRef) -> String {
    name.to_string().replace(':', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_the_names_that_docker_gives_them() {
        let name: ImageRef = "127.0.0.1:5000/team/app:v1".parse().unwrap();
        assert_eq!(file_name(&name), "127.0.0.1-5000_team_app-v1");
    }

    #[test]
    fn lists_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let lists = Lists { folder: folder.path().into() };
        let [list, image]: [ImageRef; 2] = ["l:1", "i:1"].map(|name| name.parse().unwrap());
        assert!(lists.entries(&list).unwrap().is_none());
        // Written by docker's CLI.
        let text = r#"{"Ref":"docker.io/library/i:1","Descriptor":{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"platform":{"architecture":"amd64","os":"linux"}},"Raw":"e30=","SchemaV2Manifest":{}}"#;
        let entry: Entry = serde_json::from_str(text).unwrap();
        lists.save(&list, &image, &entry).unwrap();
        let back = lists.entries(&list).unwrap().unwrap();
        assert_eq!(json(&back[0]).unwrap(), text);
        assert_eq!(lists.entry(&list, &image).unwrap().unwrap().bytes().unwrap(), b"{}");
        lists.remove(&list).unwrap();
        assert!(lists.entries(&list).unwrap().is_none());
    }
}
