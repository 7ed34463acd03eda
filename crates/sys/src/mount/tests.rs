//! Tests of mounts, each in a mount namespace of a thread that then ends.

use super::*;
use wharf_spec::plan::Propagation;

/// Runs `body` on a thread with its own private mount namespace.
pub(crate) fn in_private_mounts(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            crate::process::unshare(crate::process::Namespaces::MOUNT).unwrap();
            set_propagation(Path::new("/"), Propagation::RPrivate).unwrap();
            body();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn tmpfs_is_attached_by_descriptor_and_made_readonly() {
    let dir = tempfile::tempdir().unwrap();
    in_private_mounts(|| {
        let mount = new_filesystem("tmpfs", &[("mode", "700"), ("size", "64k")], MountAttrs::NOSUID).unwrap();
        let target = std::fs::File::open(dir.path()).unwrap();
        attach(&mount, &target).unwrap();
        std::fs::write(dir.path().join("x"), "1").unwrap();
        let change = AttrChange { set: MountAttrs::READONLY, ..AttrChange::default() };
        set_attrs(&mount, &change, Recursion::Single).unwrap();
        let error = std::fs::write(dir.path().join("x"), "2").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        let info = mountinfo().unwrap();
        let line = info.iter().find(|mount| mount.target == dir.path()).unwrap();
        assert!(line.options.starts_with("ro,nosuid"), "{}", line.options);
        assert_eq!(mount_id(&mount).unwrap(), line.id);
    });
    assert!(!dir.path().join("x").exists());
}

#[test]
fn bind_clone_shows_the_same_file_and_old_remount_works() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::write(&from, "content").unwrap();
    std::fs::write(&to, "").unwrap();
    in_private_mounts(|| {
        let mount = clone_tree(&from, Recursion::Single).unwrap();
        attach_at(&mount, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "content");
        remount_bind(&mount, MountAttrs::READONLY | MountAttrs::NODEV).unwrap();
        assert_eq!(std::fs::write(&to, "x").unwrap_err().raw_os_error(), Some(libc::EROFS));
        detach(&to).unwrap();
        detach_if_mounted(&to).unwrap();
    });
}

#[test]
fn refusals_name_the_option() {
    let error = new_filesystem("tmpfs", &[("nonsense", "1")], MountAttrs::empty()).unwrap_err();
    assert!(error.to_string().starts_with("fsconfig tmpfs nonsense=1: "), "{error}");
}
