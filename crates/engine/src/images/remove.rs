//! `DELETE /images/{name}` (source: moby `daemon/images/image_delete.go`).
//!
//! Hard conflicts: child images, running containers. Soft ones, which force overrides: names, stopped
//! containers.

use super::{Inner, RemoveImage, store_error};
use crate::{Error, Result, containers::Container};
use std::sync::Arc;
use wharf_api::image as api;
use wharf_spec::{ErrorKind, ImageId, ImageRef};
use wharf_store::Force;

/// Which conflicts count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conflicts {
    /// Hard ones.
    Hard,
    /// Also stopped containers.
    HardAndStopped,
    /// Also names.
    All,
}

/// Why an image cannot go.
struct Conflict {
    error: Error,
    /// A container uses it.
    used: bool,
}

/// How an image is deleted once its name is gone.
#[derive(Clone, Copy)]
struct Deletion {
    force: bool,
    /// Parents without names go too.
    prune: bool,
    /// A conflict is nothing to tell of.
    quiet: bool,
}

impl Inner {
    pub(super) fn remove(&self, name: &str, options: &RemoveImage) -> Result<Vec<api::DeleteItem>> {
        let platform = match options.platforms.as_slice() {
            [] => None,
            [platform] => Some(platform),
            _ => return Err(Error::Invalid("multiple platforms are not supported".into())),
        };
        let image = self.resolve(name, platform)?.id;
        // Names go first: a crash must not leave an image without any.
        self.store.images.doom(image);
        let names = self.store.references.of(image);
        let removed = self.remove_image(image, name, options);
        if removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::System) {
            self.give_back(image, &names);
        }
        self.store.images.spare(image);
        removed
    }

    /// The disk failed when the names were gone: an image that is still there has them again.
    fn give_back(&self, image: ImageId, names: &[ImageRef]) {
        let is_nameless = self.store.images.get(image).is_ok() && self.store.references.of(image).is_empty();
        for name in names.iter().filter(|_| is_nameless) {
            let given = match name.digest() {
                Some(_) => self.store.references.add_digest(name, image),
                None => self.store.references.add_tag(name, image, Force::No),
            };
            if let Err(error) = given {
                tracing::warn!(%image, %name, %error, "an image lost its name");
            }
        }
    }

    fn remove_image(
        &self,
        image: ImageId,
        name: &str,
        options: &RemoveImage,
    ) -> Result<Vec<api::DeleteItem>> {
        let mut items = Vec::new();
        let mut deletion = Deletion { force: options.force, prune: !options.no_prune, quiet: false };
        if is_id_prefix(image, name) {
            self.untag_single(image, options.force, &mut items)?;
        } else {
            if self.untag(image, name, options.force, &mut items)? {
                return Ok(items);
            }
            deletion.quiet = true;
        }
        self.delete(image, deletion, &mut items)?;
        Ok(items)
    }

    /// Removes the name that was given. Whether others are left.
    fn untag(
        &self,
        image: ImageId,
        name: &str,
        force: bool,
        items: &mut Vec<api::DeleteItem>,
    ) -> Result<bool> {
        if !force
            && is_single(&self.store.references.of(image))
            && let Some(user) = self.first_user(|container| uses(container, image))
        {
            return Err(Error::Conflict(format!(
                "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {}",
                user.id.short(),
                short(image)
            )));
        }
        let given: ImageRef =
            name.parse().map_err(|e: wharf_spec::ParseReferenceError| Error::Invalid(e.to_string()))?;
        let given = given.or_latest();
        self.remove_name(&given)?;
        self.emit("untag", image, &image.to_string());
        items.push(untagged(&given));
        let mut left = self.store.references.of(image);
        let same = |name: &ImageRef| name.name() == given.name();
        if given.digest().is_none() && !left.iter().any(|name| name.digest().is_none() && same(name)) {
            // Digests of a repository go with its last tag.
            for digest in left.iter().filter(|name| same(name)) {
                self.remove_name(digest)?;
                items.push(untagged(digest));
            }
            left.retain(|name| !same(name));
        }
        Ok(!left.is_empty())
    }

    /// An image given by its id loses its name, if it has but one.
    fn untag_single(&self, image: ImageId, force: bool, items: &mut Vec<api::DeleteItem>) -> Result<()> {
        let names = self.store.references.of(image);
        if !is_single(&names) {
            return Ok(());
        }
        let counted = if force { Conflicts::Hard } else { Conflicts::HardAndStopped };
        if let Some(conflict) = self.conflict(image, counted) {
            return Err(conflict.error);
        }
        self.untag_all(image, &names, items)
    }

    fn untag_all(&self, image: ImageId, names: &[ImageRef], items: &mut Vec<api::DeleteItem>) -> Result<()> {
        for name in names {
            self.remove_name(name)?;
            self.emit("untag", image, &image.to_string());
            items.push(untagged(name));
        }
        Ok(())
    }

    /// A name that is not there any more is fine.
    fn remove_name(&self, name: &ImageRef) -> Result<()> {
        match self.store.references.delete(name) {
            Ok(_) | Err(wharf_store::Error::NoReference(_)) => Ok(()),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Deletes an image, then its parents as long as nothing speaks against it.
    fn delete(&self, image: ImageId, deletion: Deletion, items: &mut Vec<api::DeleteItem>) -> Result<()> {
        let (mut image, mut deletion) = (image, deletion);
        loop {
            let counted = if deletion.force { Conflicts::Hard } else { Conflicts::All };
            if let Some(conflict) = self.conflict(image, counted) {
                // One that stays without a name, though nobody uses it, is worth a word.
                let is_told = !deletion.quiet || (self.is_dangling(image) && !conflict.used);
                return if is_told { Err(conflict.error) } else { Ok(()) };
            }
            let parent = self.store.images.parent(image);
            self.untag_all(image, &self.store.references.of(image), items)?;
            let layers = self.store.images.delete(image).map_err(store_error)?;
            self.emit("delete", image, &image.to_string());
            items.push(deleted(image.to_string()));
            items.extend(layers.iter().map(|layer| deleted(layer.to_string())));
            match parent {
                Some(parent) if deletion.prune => image = parent,
                _ => return Ok(()),
            }
            deletion = Deletion { force: false, prune: true, quiet: true };
        }
    }

    fn conflict(&self, image: ImageId, counted: Conflicts) -> Option<Conflict> {
        let conflict = |how: &str, used: bool, why: String| {
            let text = format!("conflict: unable to delete {} ({how}) - {why}", short(image));
            Some(Conflict { error: Error::Conflict(text), used })
        };
        let (never, force) = ("cannot be forced", "must be forced");
        if !self.store.images.children(image).is_empty() {
            return conflict(never, false, "image has dependent child images".into());
        }
        let is_of = |container: &Container| uses(container, image);
        if let Some(user) = self.first_user(|container| is_of(container) && container.is_running()) {
            return conflict(
                never,
                true,
                format!("image is being used by running container {}", user.id.short()),
            );
        }
        if counted == Conflicts::All && !self.store.references.of(image).is_empty() {
            return conflict(force, false, "image is referenced in multiple repositories".into());
        }
        if counted != Conflicts::Hard
            && let Some(user) = self.first_user(|container| is_of(container) && !container.is_running())
        {
            return conflict(
                force,
                true,
                format!("image is being used by stopped container {}", user.id.short()),
            );
        }
        None
    }

    fn is_dangling(&self, image: ImageId) -> bool {
        self.store.references.of(image).is_empty() && self.store.images.children(image).is_empty()
    }

    fn first_user(&self, is_user: impl Fn(&Container) -> bool) -> Option<Arc<Container>> {
        self.containers.all().into_iter().find(|container| is_user(container))
    }
}

/// As its root or as a mount.
fn uses(container: &Container, image: ImageId) -> bool {
    let id = image.to_string();
    container.with(|state| {
        state.record.image == id
            || state
                .record
                .mount_points
                .values()
                .any(|mount| mount.kind == "image" && mount.spec.source == id)
    })
}

/// Whether all names are of one repository, with one tag at most.
fn is_single(names: &[ImageRef]) -> bool {
    let (digests, tags): (Vec<&ImageRef>, Vec<&ImageRef>) =
        names.iter().partition(|name| name.digest().is_some());
    match (tags.as_slice(), digests.first()) {
        ([], None) => false,
        ([_], None) => true,
        ([], Some(first)) => digests.iter().all(|name| name.name() == first.name()),
        ([tag], Some(_)) => digests.iter().all(|name| name.name() == tag.name()),
        _ => false,
    }
}

fn is_id_prefix(image: ImageId, text: &str) -> bool {
    image.to_string().starts_with(text) || image.hex().starts_with(text)
}

fn short(image: ImageId) -> String {
    image.hex()[..12].to_owned()
}

fn untagged(name: &ImageRef) -> api::DeleteItem {
    api::DeleteItem { untagged: name.familiar_string(), ..api::DeleteItem::default() }
}

fn deleted(id: String) -> api::DeleteItem {
    api::DeleteItem { deleted: id, ..api::DeleteItem::default() }
}
