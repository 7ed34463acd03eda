//! Overlay mounts, in the newest form the kernel takes.
//!
//! Kernels from 6.8 take the lower layers one by one (`lowerdir+`) on a detached mount. Before, they are one
//! option string, limited to a page by mount(2): layers are named relative to the overlay directory by their
//! short links (`l/<name>`), as Docker does, which needs a working directory of its own, hence a thread.

use super::attrs::legacy_flags;
use super::{FsContext, Recursion, attach_at, clone_tree};
use crate::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use wharf_spec::plan::MountAttrs;

/// An overlay mount.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// The directory that the others are relative to, such as `/var/lib/docker/overlay2`. Absolute.
    pub base: PathBuf,
    /// The lower layers, topmost first, relative to `base`.
    pub lowers: Vec<String>,
    /// The upper directory and the work directory, relative to `base`; without them the mount is read-only.
    pub upper: Option<(String, String)>,
    /// Further options, such as (`index`, `off`).
    pub options: Vec<(String, String)>,
    /// Attributes of the mount.
    pub attrs: MountAttrs,
}

/// Mounts an overlay at `target`, an absolute path the caller trusts.
pub fn mount_overlay(overlay: &Overlay, target: &Path) -> Result<()> {
    if !takes_single_layers() {
        return by_option_string(overlay, target);
    }
    match detached(overlay) {
        Ok(mount) => attach_at(mount, target),
        // A value too long for fsconfig(2).
        Err(error) if error.is(Errno::INVAL) => by_option_string(overlay, target),
        Err(error) => Err(error),
    }
}

/// Makes an overlay that is attached nowhere: gone with its last descriptor and the mounts that were made of it.
pub fn overlay_tree(overlay: &Overlay) -> Result<OwnedFd> {
    if takes_single_layers() {
        match detached(overlay) {
            Err(error) if error.is(Errno::INVAL) => {}
            made => return made,
        }
    }
    let (tree, _namespace) = crate::mountns::private(|| {
        by_option_string(overlay, &overlay.base)?;
        clone_tree(&overlay.base, Recursion::Single)
    })?;
    Ok(tree)
}

/// Whether the kernel knows `lowerdir+`. Asked once and without making a superblock: up to kernel 6.4 overlay
/// reads its options only then, and writes those it does not know into the kernel's log.
fn takes_single_layers() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let Ok(context) = FsContext::open("overlay") else { return false };
        let reads_options = context.set("nosuchoption", "").is_err();
        reads_options && context.set("lowerdir+", "/").is_ok()
    })
}

/// The new way: one fsconfig(2) for each layer.
fn detached(overlay: &Overlay) -> Result<OwnedFd> {
    let context = FsContext::open("overlay")?;
    context.set("source", "overlay")?;
    for lower in &overlay.lowers {
        context.set("lowerdir+", &absolute(&overlay.base, lower))?;
    }
    if let Some((upper, work)) = &overlay.upper {
        context.set("upperdir", &absolute(&overlay.base, upper))?;
        context.set("workdir", &absolute(&overlay.base, work))?;
    }
    for (key, value) in &overlay.options {
        context.set(key, value)?;
    }
    context.mount(overlay.attrs)
}

fn absolute(base: &Path, relative: &str) -> String {
    base.join(relative).to_string_lossy().into_owned()
}

/// The old way: mount(2) with one string, from inside the overlay directory.
fn by_option_string(overlay: &Overlay, target: &Path) -> Result<()> {
    let data = option_string(overlay);
    let page = rustix::param::page_size();
    if data.len() >= page {
        let problem = format!(
            "{} layers take {} bytes of options, the kernel takes {page}",
            overlay.lowers.len(),
            data.len()
        );
        return Err(Error::malformed("overlay mount", problem));
    }
    let data =
        std::ffi::CString::new(data).map_err(|_| Error::malformed("overlay mount", "NUL in a path"))?;
    std::thread::scope(|scope| {
        let mount = || {
            crate::process::unshare_working_directory()?;
            rustix::process::chdir(overlay.base.as_path())
                .on("chdir", || overlay.base.display().to_string())?;
            rustix::mount::mount("overlay", target, "overlay", legacy_flags(overlay.attrs), data.as_c_str())
                .on("mount", || format!("overlay at {}", target.display()))
        };
        scope
            .spawn(mount)
            .join()
            .unwrap_or_else(|_| Err(Error::malformed("overlay mount", "its thread panicked")))
    })
}

/// `lowerdir=l/A:l/B,upperdir=..,workdir=..`.
fn option_string(overlay: &Overlay) -> String {
    let mut data = format!("lowerdir={}", overlay.lowers.join(":"));
    if let Some((upper, work)) = &overlay.upper {
        data.push_str(&format!(",upperdir={upper},workdir={work}"));
    }
    for (key, value) in &overlay.options {
        data.push(',');
        data.push_str(key);
        if !value.is_empty() {
            data.push('=');
            data.push_str(value);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::tests::in_private_mounts;

    fn layers(dir: &Path) -> Overlay {
        for (layer, file) in [("a", "top"), ("b", "bottom")] {
            std::fs::create_dir_all(dir.join(layer)).unwrap();
            std::fs::write(dir.join(layer).join(file), layer).unwrap();
            std::fs::write(dir.join(layer).join("both"), layer).unwrap();
        }
        for name in ["upper", "work", "merged"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        Overlay {
            base: dir.to_owned(),
            lowers: vec!["a".into(), "b".into()],
            upper: Some(("upper".into(), "work".into())),
            options: vec![("index".into(), "off".into())],
            attrs: MountAttrs::empty(),
        }
    }

    fn check(mount: fn(&Overlay, &Path) -> Result<()>) {
        let dir = tempfile::tempdir().unwrap();
        let overlay = layers(dir.path());
        let merged = dir.path().join("merged");
        in_private_mounts(|| {
            mount(&overlay, &merged).unwrap();
            assert_eq!(std::fs::read_to_string(merged.join("both")).unwrap(), "a");
            assert_eq!(std::fs::read_to_string(merged.join("bottom")).unwrap(), "b");
            std::fs::write(merged.join("new"), "x").unwrap();
            super::super::detach(&merged).unwrap();
        });
        assert!(dir.path().join("upper/new").exists());
    }

    #[test]
    fn stacks_layers_with_the_new_calls() {
        if takes_single_layers() {
            check(|overlay, target| attach_at(detached(overlay)?, target));
        }
    }

    #[test]
    fn knows_what_the_kernel_takes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(detached(&layers(dir.path())).is_ok(), takes_single_layers());
        check(mount_overlay);
    }

    #[test]
    fn stacks_layers_with_the_old_call() {
        check(by_option_string);
    }

    #[test]
    fn trees_are_attached_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = Overlay { upper: None, ..layers(dir.path()) };
        let before = crate::mount::mountinfo().unwrap();
        let tree = overlay_tree(&overlay).unwrap();
        assert_eq!(crate::mount::mountinfo().unwrap(), before);
        let both = crate::path::Root::from_fd(tree).read_limited(Path::new("/both"), 9).unwrap();
        assert_eq!(both, b"a");
    }

    #[test]
    fn refuses_what_does_not_fit_in_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let overlay =
            Overlay { lowers: vec!["l/ABCDEFGHIJKLMNOPQRSTUVWXYZ".into(); 200], ..layers(dir.path()) };
        let error = by_option_string(&overlay, &dir.path().join("merged")).unwrap_err();
        assert!(error.to_string().contains("200 layers"), "{error}");
    }
}
