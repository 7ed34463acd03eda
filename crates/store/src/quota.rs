//! Limits on what a container writes: each limited layer is a project of the file system (source: moby
//! `daemon/internal/quota/projectquota.go`).
//!
//! Files on disk: `overlay2/backingFsBlockDev`, a node of the device that the file system is on, as Docker has it.

use crate::{Error, Result, files};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use wharf_sys::Errno;
use wharf_sys::fs::{DeviceNumber, make_node};
use wharf_sys::quota;

const DEVICE: &str = "backingFsBlockDev";

/// The projects of a data root; looked for when the first limit is asked for.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<Option<Projects>>);

#[derive(Debug)]
struct Projects {
    device: PathBuf,
    next: u32,
}

impl Quotas {
    /// Limits what is written in these empty directories, together.
    ///
    /// # Errors
    /// [`Error::NoQuota`] where the file system has no project quotas.
    pub(crate) fn limit(&self, home: &Path, directories: &[PathBuf], bytes: u64) -> Result<()> {
        let mut projects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let projects = match &mut *projects {
            Some(known) => known,
            none => none.insert(Projects::of(home)?),
        };
        let project = projects.next;
        projects.next += 1;
        quota::limit_project(&projects.device, project, bytes)?;
        for directory in directories {
            quota::set_project(files::open_directory(directory)?, project)?;
        }
        Ok(())
    }

    /// Whether there can be limits at all.
    ///
    /// # Errors
    /// [`Error::NoQuota`] where not.
    pub(crate) fn check(&self, home: &Path) -> Result<()> {
        Projects::of(home).map(drop)
    }
}

impl Projects {
    fn of(home: &Path) -> Result<Projects> {
        let device = device(home)?;
        if !quota::limits_projects(&device) {
            return Err(Error::NoQuota);
        }
        let mut last = quota::project_of(files::open_directory(home)?)?;
        for name in files::names(home)? {
            let directory = home.join(name).join("diff");
            if let Ok(directory) = files::open_directory(&directory) {
                last = last.max(quota::project_of(directory)?);
            }
        }
        Ok(Projects { device, next: last + 1 })
    }
}

/// Makes the node anew: the data root may have been moved to another device.
fn device(home: &Path) -> Result<PathBuf> {
    use rustix::fs::{FileType, Mode, stat};
    let path = home.join(DEVICE);
    let number =
        stat(home).map_err(|errno| wharf_sys::Error::call("stat", home.display().to_string(), errno))?;
    files::remove_file(&path)?;
    let handle = files::open_directory(home)?;
    let mode = Mode::from_raw_mode(0o600);
    match make_node(
        &handle,
        DEVICE.as_ref(),
        FileType::BlockDevice,
        mode,
        DeviceNumber::from_raw(number.st_dev),
    ) {
        Ok(()) => Ok(path),
        Err(error) if error.is(Errno::PERM) || error.is(Errno::NOSYS) => Err(Error::NoQuota),
        Err(error) => Err(error.into()),
    }
}
