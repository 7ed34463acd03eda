//! Mounts that no path says: a part of a volume or of an image, an image. They are opened once, as mounts that are
//! attached nowhere: what a container does to the names meanwhile changes nothing (source: moby
//! `daemon/volume/safepath`; CVE-2021-25741 of Kubernetes).

use crate::{Error, Result, containers::record::MountPoint, images::Layers};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};
use wharf_spec::ImageId;
use wharf_sys::{
    mount::{Recursion, attach_at, clone_tree_of},
    mountns,
    path::open_beneath,
};

/// Whether a mount point's source is more than a path.
pub(in crate::containers) fn is_tree(point: &MountPoint) -> bool {
    point.kind == "image" || !subpath(point).is_empty()
}

fn subpath(point: &MountPoint) -> &str {
    let of_volume = point.spec.volume_options.as_ref().map(|options| options.subpath.as_str());
    let of_image = point.spec.image_options.as_ref().map(|options| options.subpath.as_str());
    match point.kind.as_str() {
        "image" => of_image.unwrap_or(""),
        "volume" => of_volume.unwrap_or(""),
        _ => "",
    }
}

/// What such a mount point brings. Blocks.
///
/// # Errors
/// `cannot access path ...`; `path concatenation escapes the base directory, ...`.
pub(in crate::containers) fn open_tree(point: &MountPoint, layers: &Layers) -> Result<OwnedFd> {
    let (base, inside) = (Path::new(&point.source), subpath(point));
    if point.kind != "image" {
        let volume = open_directory(base)?;
        return part(&volume, base, inside).and_then(|part| {
            clone_tree_of(part, Recursion::Tree).map_err(|error| io("open a part of volume", base, error))
        });
    }
    let image: ImageId = point.spec.source.parse().map_err(|_| Error::NoSuchImage(point.name.clone()))?;
    let tree = layers.image_tree(&image)?;
    if inside.is_empty() {
        return Ok(tree);
    }
    // Before Linux 6.15 a part is cloned only of what is attached.
    let attached = mountns::private(|| {
        attach_at(&tree, base)?;
        Ok(open_directory(base).and_then(|root| part(&root, base, inside)).and_then(|part| {
            clone_tree_of(part, Recursion::Single).map_err(|error| io("open a part of image", base, error))
        }))
    });
    attached.map_err(|error| io("mount image", base, error))?.0
}

fn io(step: &'static str, path: &Path, error: wharf_sys::Error) -> Error {
    Error::Io { step, path: path.into(), source: std::io::Error::other(error) }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Error::Io {
        step: "open",
        path: path.into(),
        source: errno.into(),
    })
}

/// Links are followed as long as they stay inside.
fn part(root: impl AsFd, base: &Path, inside: &str) -> Result<OwnedFd> {
    let place = base.join(inside);
    open_beneath(root, Path::new(inside), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
        match error.errno() {
            Some(Errno::XDEV) => Error::Invalid(format!(
                "path concatenation escapes the base directory, base: {}, subpath: {inside}",
                base.display()
            )),
            Some(errno @ (Errno::NOENT | Errno::LOOP)) => {
                let why = crate::error::words(&errno.into());
                Error::NotFound(format!("cannot access path {0}: lstat {0}: {why}", place.display()))
            }
            _ => io("open", &place, error),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn parts_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        std::fs::write(dir.path().join("secret"), "").unwrap();
        symlink("a/b", base.join("inner")).unwrap();
        symlink("../secret", base.join("outer")).unwrap();
        symlink("/etc", base.join("absolute")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        let told = |inside| {
            part(open_directory(&base).unwrap(), &base, inside)
                .map_or_else(|e| e.to_string(), |_| "fine".into())
        };
        assert_eq!(
            (told("a/b"), told("inner"), told("a/../a")),
            ("fine".into(), "fine".into(), "fine".into())
        );
        let at = base.display();
        for name in ["outer", "absolute"] {
            assert_eq!(
                told(name),
                format!("path concatenation escapes the base directory, base: {at}, subpath: {name}")
            );
        }
        assert_eq!(
            told("none"),
            format!("cannot access path {at}/none: lstat {at}/none: no such file or directory")
        );
        assert!(told("loop").contains("too many levels of symbolic links"));
    }
}
