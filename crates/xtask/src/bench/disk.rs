//! A file system of the bench's own, in a file.
//!
//! ext4 searches long for inodes where many were deleted in the last five minutes (`recently_deleted`): a bench
//! on the machine's file system would measure what was removed there before it. On this one nothing is removed.

use crate::sh;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) struct Disk {
    image: PathBuf,
    root: PathBuf,
}

impl Disk {
    pub(super) fn new() -> Result<Self> {
        let root = PathBuf::from(format!("/var/tmp/wharf-bench-{}", std::process::id()));
        let image = root.with_extension("ext4");
        fs::create_dir_all(&root)?;
        let disk = Self { image, root };
        sh::output(Command::new("truncate").args(["-s", "40G"]).arg(&disk.image))?;
        sh::output(
            Command::new("mkfs.ext4")
                .args(["-q", "-E", "lazy_itable_init=0", "-i", "32768"])
                .arg(&disk.image),
        )?;
        sh::output(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.root))?;
        Ok(disk)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.root).status();
        if unmounted.is_ok_and(|status| status.success()) {
            let _ = fs::remove_file(&self.image).and_then(|()| fs::remove_dir(&self.root));
        } else {
            eprintln!("{} is still mounted and was left", self.root.display());
        }
    }
}
