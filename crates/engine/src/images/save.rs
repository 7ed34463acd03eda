//! `GET /images/get` (source: moby `daemon/internal/image/tarexport/save.go`): one archive that is an OCI
//! image layout and, by `manifest.json`, what older Dockers load.
//!
//! Docker writes everything to a temporary directory and packs that. Here the archive is written straight
//! to the client: the lengths of layers are in their records. What is left out are the configs of Docker
//! before 1.10, which nothing reads any more.

use super::{Inner, store_error, stream::StreamWriter};
use crate::{Error, Result};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::Arc,
};
use wharf_archive::{Header, Kind, Time, Writer};
use wharf_spec::{
    AnyRef, Descriptor, DiffId, Digest, ImageId, ImageIndex, ImageManifest, ImageRef, Platform, media_type,
    to_go_json,
};
use wharf_store::{Image, LayerRef};

const BLOBS: &str = "blobs/sha256/";
/// As Docker's writes it, space included.
const LAYOUT: &str = r#"{"imageLayoutVersion": "1.0.0"}"#;
/// The full reference (containerd `images.AnnotationImageName`).
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The tag (OCI image-spec, annotations.md).
pub(super) const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// An image to save, its layers held.
pub(super) struct Selected {
    image: Arc<Image>,
    names: Vec<ImageRef>,
    _layers: Option<LayerRef>,
}

/// One image of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ImageId>,
    layer_sources: BTreeMap<DiffId, Source>,
}

/// A layer's descriptor with its keys in Docker's order, which is another one here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    media_type: String,
    size: u64,
    digest: Digest,
}

/// What stands in the archive, by path.
enum Entry {
    Bytes(Vec<u8>),
    Layer { layer: LayerRef, size: u64 },
}

struct Blob {
    entry: Entry,
    mode: u32,
    created: i64,
}

impl Inner {
    /// The images of these names. A name without tag is every tag of a repository.
    ///
    /// # Errors
    /// When one of them is not there, or of another platform than the wanted one.
    pub(super) fn select(&self, names: &[String], wanted: Option<&Platform>) -> Result<Vec<Selected>> {
        let mut selected: Vec<Selected> = Vec::new();
        for name in names {
            for (id, reference) in self.meaning(name)? {
                self.add_selected(&mut selected, id, reference)?;
            }
        }
        let is_other =
            |image: &Selected| wanted.is_some_and(|w| !w.is_same_as(&image.image.config.platform()));
        match wanted.filter(|_| selected.iter().any(is_other)) {
            None => Ok(selected),
            Some(wanted) => {
                Err(Error::Refused(format!("no suitable export target found for platform {wanted}")))
            }
        }
    }

    fn meaning(&self, name: &str) -> Result<Vec<(ImageId, Option<ImageRef>)>> {
        let missing = |_| Error::NoSuchImage(name.to_owned());
        let named = match name.parse::<AnyRef>() {
            Err(error) => return Err(Error::Invalid(error.to_string())),
            Ok(AnyRef::Id(id)) => return Ok(vec![(ImageId(id), None)]),
            Ok(AnyRef::Named(named)) => named,
        };
        if named.familiar_name() == "sha256" {
            return Ok(vec![(self.store.images.search(name).map_err(missing)?, None)]);
        }
        if !named.is_name_only() {
            let id = self.store.references.get(&named);
            let id =
                id.ok_or_else(|| store_error(wharf_store::Error::NoReference(named.familiar_string())))?;
            return Ok(vec![(id, Some(named))]);
        }
        let all = self.store.references.in_repository(&named);
        if all.is_empty() {
            return Ok(vec![(self.store.images.search(name).map_err(missing)?, None)]);
        }
        Ok(all.into_iter().map(|(reference, id)| (id, Some(reference))).collect())
    }

    fn add_selected(&self, selected: &mut Vec<Selected>, id: ImageId, name: Option<ImageRef>) -> Result<()> {
        let at = match selected.iter().position(|known| known.image.id == id) {
            Some(at) => at,
            None => {
                let image = self.store.images.get(id).map_err(|_| Error::NoSuchImage(id.to_string()))?;
                if image.config.diff_ids().is_empty() {
                    return Err(Error::Refused("empty export - not implemented".into()));
                }
                let layers = image.chain_id.map(|chain| self.store.layers.get(chain));
                let layers = layers.transpose().map_err(store_error)?;
                selected.push(Selected { image, names: Vec::new(), _layers: layers });
                selected.len() - 1
            }
        };
        if let Some(name) = name.filter(|name| name.digest().is_none()).map(ImageRef::or_latest)
            && !selected[at].names.contains(&name)
        {
            selected[at].names.push(name);
        }
        Ok(())
    }

    /// Writes the archive. Its errors end the client's stream.
    pub(super) fn save(&self, selected: &[Selected], mut out: StreamWriter) {
        match self.write_archive(selected, &mut out) {
            Ok(()) => {}
            Err(error) => out.fail(error.to_string()),
        }
    }

    fn write_archive(&self, selected: &[Selected], out: &mut StreamWriter) -> Result<()> {
        let mut contents = Contents::default();
        for image in selected {
            contents.add(self, image)?;
            self.emit("save", image.image.id, &image.image.id.to_string());
        }
        contents.add_parents(self, selected);
        let failed = |error: wharf_archive::Error| store_error(error.into());
        let mut writer = Writer::new(out);
        let newest = contents.blobs.values().map(|blob| blob.created).max().unwrap_or(0);
        writer.header(&directory("blobs/", newest)).map_err(failed)?;
        writer.header(&directory(BLOBS, 0)).map_err(failed)?;
        for (digest, blob) in &contents.blobs {
            self.write_blob(&mut writer, &format!("{BLOBS}{}", digest.hex()), blob)?;
        }
        for (name, bytes) in contents.files() {
            self.write_blob(
                &mut writer,
                name,
                &Blob { entry: Entry::Bytes(bytes), mode: 0o644, created: 0 },
            )?;
        }
        writer.finish().map_err(failed)?;
        Ok(())
    }

    fn write_blob(&self, writer: &mut Writer<&mut StreamWriter>, name: &str, blob: &Blob) -> Result<()> {
        let size = match &blob.entry {
            Entry::Bytes(bytes) => bytes.len() as u64,
            Entry::Layer { size, .. } => *size,
        };
        let mtime = Time { seconds: blob.created, nanos: 0 };
        let header = Header { name: name.into(), size, mode: blob.mode, mtime, ..Header::default() };
        writer.header(&header).map_err(|error| store_error(error.into()))?;
        match &blob.entry {
            Entry::Bytes(bytes) => {
                writer.write_all(bytes).map_err(|source| Error::Os { step: "write archive", source })
            }
            Entry::Layer { layer, .. } => {
                self.store.layers.write_tar(layer.chain_id, writer).map(drop).map_err(store_error)
            }
        }
    }
}

/// The archive in the making.
#[derive(Default)]
struct Contents {
    blobs: BTreeMap<Digest, Blob>,
    items: Vec<Item>,
    index: Vec<Descriptor>,
    /// Name, tag, top layer: the file `repositories`.
    legacy: BTreeMap<String, BTreeMap<String, String>>,
}

impl Contents {
    fn add(&mut self, inner: &Inner, selected: &Selected) -> Result<()> {
        let image = &selected.image;
        let created = image.config.created_at().map_or(0, jiff::Timestamp::as_second);
        let raw = inner.raw(image.id)?;
        let config = Descriptor::new(media_type::OCI_CONFIG, image.id.0, raw.len() as u64);
        self.bytes(image.id.0, raw, created);
        let mut layers = Vec::new();
        for (diff, chain) in
            image.config.diff_ids().iter().zip(wharf_store::chain_ids(image.config.diff_ids()))
        {
            let size = inner.store.layers.tar_size(chain).map_err(store_error)?;
            let layer = inner.store.layers.get(chain).map_err(store_error)?;
            self.blobs.entry(diff.0).or_insert(Blob {
                entry: Entry::Layer { layer, size },
                mode: 0o666,
                created,
            });
            layers.push(Descriptor::new(media_type::OCI_LAYER, diff.0, size));
        }
        self.add_names(selected);
        let source = |layer: &Descriptor| Source {
            media_type: layer.media_type.clone(),
            size: layer.size,
            digest: layer.digest,
        };
        let sources = image.config.diff_ids().iter().copied().zip(layers.iter().map(source)).collect();
        let path = |digest: &Digest| format!("{BLOBS}{}", digest.hex());
        let tags: Vec<String> = selected.names.iter().map(ImageRef::familiar_string).collect();
        self.items.push(Item {
            config: path(&image.id.0),
            repo_tags: (!tags.is_empty()).then_some(tags),
            layers: layers.iter().map(|layer| path(&layer.digest)).collect(),
            parent: None,
            layer_sources: sources,
        });
        let manifest = to_go_json(&ImageManifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.into(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        });
        self.add_manifest(selected, manifest);
        Ok(())
    }

    fn add_names(&mut self, selected: &Selected) {
        let Some(top) = selected.image.config.diff_ids().last() else { return };
        for name in &selected.names {
            let tags = self.legacy.entry(name.familiar_name()).or_default();
            tags.insert(name.tag_or_latest().to_owned(), top.hex());
        }
    }

    /// In the index once for each name, or once without any.
    fn add_manifest(&mut self, selected: &Selected, manifest: Vec<u8>) {
        let digest = wharf_store::sha256(&manifest);
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
        self.bytes(digest, manifest, 0);
        for name in &selected.names {
            let annotations = BTreeMap::from([
                (NAME_ANNOTATION.to_owned(), name.to_string()),
                (REF_ANNOTATION.to_owned(), name.tag_or_latest().to_owned()),
            ]);
            self.index.push(Descriptor { annotations, ..descriptor.clone() });
        }
        if selected.names.is_empty() {
            self.index.push(descriptor);
        }
    }

    fn bytes(&mut self, digest: Digest, bytes: Vec<u8>, created: i64) {
        self.blobs.entry(digest).or_insert(Blob { entry: Entry::Bytes(bytes), mode: 0o644, created });
    }

    /// An image's parent is told if it is in the archive too.
    fn add_parents(&mut self, inner: &Inner, selected: &[Selected]) {
        let saved: BTreeSet<ImageId> = selected.iter().map(|selected| selected.image.id).collect();
        for (item, selected) in self.items.iter_mut().zip(selected) {
            item.parent =
                inner.store.images.parent(selected.image.id).filter(|parent| saved.contains(parent));
        }
    }

    /// The files beside the blobs, in the order of their names.
    fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let line = |mut json: Vec<u8>| {
            json.push(b'\n');
            json
        };
        let index = ImageIndex {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.into(),
            artifact_type: None,
            manifests: self.index.clone(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let mut files = vec![
            ("index.json", to_go_json(&index)),
            ("manifest.json", line(to_go_json(&self.items))),
            ("oci-layout", LAYOUT.into()),
        ];
        if !self.legacy.is_empty() {
            files.push(("repositories", line(to_go_json(&self.legacy))));
        }
        files
    }
}

fn directory(name: &str, seconds: i64) -> Header {
    let mtime = Time { seconds, nanos: 0 };
    Header { name: name.into(), kind: Kind::Directory, mode: 0o755, mtime, ..Header::default() }
}
