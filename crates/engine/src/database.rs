//! A bolt file of Docker's, held while the daemon runs.

use crate::{Error, Result};
use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};
use wharf_store::bolt::{BoltFile, Bucket, Opened};

/// A file, what is in it, and the lock of one change at a time.
pub(crate) struct Database(Mutex<Option<Open>>);

struct Open {
    file: BoltFile,
    root: Bucket,
}

impl Database {
    /// Opens and locks a file, made if missing; gives what is in it. One that cannot be read is named in the log and
    /// put aside. Blocks.
    ///
    /// # Errors
    /// When another daemon holds it, or it cannot be read or made.
    pub(crate) fn open(path: &Path, mode: u32) -> Result<(Self, Bucket)> {
        let Opened { file, root, damage } = BoltFile::open(path, mode)?;
        if let Some(damage) = damage {
            let kept_as = damage.kept_as.display();
            tracing::error!(path = %path.display(), damage.what, %kept_as, "damaged, begun anew");
        }
        Ok((Self(Mutex::new(Some(Open { file, root: root.clone() }))), root))
    }

    /// Changes what is in the file. A crash of the daemon does not lose it; a crash of the machine may, until
    /// [`Self::sync`]. Nothing happens once it is closed. Blocks.
    ///
    /// # Errors
    /// When it cannot be written; nothing has changed then.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Bucket)) -> Result<()> {
        let mut open = self.lock();
        let Some(open) = open.as_mut() else { return Ok(()) };
        let mut root = open.root.clone();
        change(&mut root);
        if root != open.root {
            open.file.replace(&root)?;
            open.root = root;
        }
        Ok(())
    }

    /// Waits until what was changed is on the disk; others may change it meanwhile. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn sync(&self) -> Result<()> {
        let pending = match self.lock().as_mut() {
            Some(open) => open.file.pending()?,
            None => return Ok(()),
        };
        Ok(pending.wait()?)
    }

    /// Lets another daemon have the file. Blocks.
    pub(crate) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<wharf_store::Error> for Error {
    fn from(error: wharf_store::Error) -> Self {
        Self::Store(error.to_string(), error.kind())
    }
}
