//! Images, their names, and blobs.

use super::{Check, layer};
use crate::{Error, chain_ids, digest, files, references};
use wharf_spec::{ChainId, Digest, ImageConfig, ImageId, ImageRef};

impl Check {
    pub(super) fn images(&mut self) {
        let content = self.image_root.join("imagedb/content/sha256");
        self.temporaries(&content);
        for name in self.names(&content).into_iter().filter(|name| !name.starts_with(".tmp-")) {
            match Digest::from_hex(&name).map(ImageId) {
                Ok(id) => self.image(id),
                Err(_) => self.find(content.join(name).display(), "not an image's config"),
            }
        }
        let metadata = self.image_root.join("imagedb/metadata/sha256");
        for name in self.names(&metadata) {
            let directory = metadata.join(&name);
            self.temporaries(&directory);
            if !content.join(&name).exists() {
                self.find(directory.display(), "there is no such image");
            } else if directory.join(crate::images::UNNAMED).exists() {
                self.find(format!("image sha256:{name}"), "it was on its way in or out when the daemon died");
            }
        }
    }

    fn image(&mut self, id: ImageId) {
        self.report.images += 1;
        let object = format!("image {id}");
        let path = self.image_root.join("imagedb/content/sha256").join(id.hex());
        let Some(raw) = self.take(&object, files::read(&path)) else {
            self.blind = true;
            return;
        };
        let actual = digest::sha256(&raw);
        if actual != id.0 {
            self.blind = true;
            return self.find(object, format!("{} has the digest {actual}", path.display()));
        }
        let config = match ImageConfig::parse(&raw) {
            Ok(config) => config,
            Err(error) => {
                self.blind = true;
                return self.find(object, error);
            }
        };
        let stack = chain_ids(config.diff_ids());
        let missing: Vec<ChainId> =
            stack.iter().filter(|chain| !self.layers.contains_key(chain)).copied().collect();
        for chain in missing {
            self.find(&object, format!("its {} does not exist", layer(chain)));
        }
        self.needed.extend(stack);
        self.parent(&object, id);
    }

    fn parent(&mut self, object: &str, id: ImageId) {
        let path = self.image_root.join("imagedb/metadata/sha256").join(id.hex()).join("parent");
        let Some(Some(parent)) = self.take(object, files::optional(files::read_parsed::<ImageId>(&path)))
        else {
            return;
        };
        if !self.image_root.join("imagedb/content/sha256").join(parent.hex()).exists() {
            self.find(object, format!("the image it was built on, {parent}, does not exist"));
        }
    }

    pub(super) fn references(&mut self) {
        let image_root = self.image_root.clone();
        self.temporaries(&image_root);
        let path = image_root.join("repositories.json");
        let Some(Some(names)) = self.take(path.display(), files::optional(references::read(&path))) else {
            return;
        };
        for (repository, name, image) in names {
            let object = format!("reference {name}");
            match name.parse::<ImageRef>() {
                Ok(parsed) if parsed.familiar_name() == repository => {}
                Ok(_) => self.find(&object, format!("it stands in the repository {repository:?}")),
                Err(error) => self.find(&object, error),
            }
            if !image_root.join("imagedb/content/sha256").join(image.hex()).exists() {
                self.find(object, format!("its image {image} does not exist"));
            }
        }
    }

    /// What registries know of layers, and blobs that Docker keeps nowhere.
    pub(super) fn blobs(&mut self) {
        for name in ["diffid-by-digest/sha256", "v2metadata-by-diffid/sha256"] {
            let directory = self.image_root.join("distribution").join(name);
            self.temporaries(&directory);
        }
        let content = self.root.join("wharf/content");
        for name in self.names(&content.join("ingest")) {
            if Digest::from_hex(&name).is_err() {
                self.find(content.join("ingest").join(name).display(), "left of a blob on its way");
            }
        }
        for name in self.names(&content.join("sha256")) {
            let path = content.join("sha256").join(&name);
            let Ok(expected) = Digest::from_hex(&name) else {
                self.find(path.display(), "not a blob");
                continue;
            };
            let actual = std::fs::File::open(&path).and_then(|file| {
                let mut hashing = crate::Hashing::new(file);
                std::io::copy(&mut hashing, &mut std::io::sink()).map(|_| hashing.finish().0)
            });
            match actual {
                Ok(actual) if actual == expected => {}
                Ok(actual) => self.find(format!("blob {expected}"), format!("it has the digest {actual}")),
                Err(error) => self.find(format!("blob {expected}"), Error::file("read", path)(error)),
            }
        }
    }
}
