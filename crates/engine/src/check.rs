//! Looking at a data-root that no daemon uses: `wharfd --check`.

use crate::{Error, Result};
use std::path::Path;
pub use wharf_store::{Depth, Finding, Report};
use wharf_store::{Store, check};

/// Says what is not as it should be, and changes nothing.
///
/// # Errors
/// When there is no such directory.
pub fn look(data_root: &Path, depth: Depth) -> Result<Report> {
    let io = |source| Error::Io { step: "read", path: data_root.into(), source };
    std::fs::read_dir(data_root).map_err(io)?;
    Ok(check(data_root, depth))
}

/// Removes what crashes left, and writes anew what can be derived from the rest. What is damaged for good stays,
/// to be looked at, and is not used.
///
/// # Errors
/// When the data-root cannot be read or written.
pub fn repair(data_root: &Path) -> Result<()> {
    let store = Store::open(data_root)?;
    store.sweep()?;
    store.mend()?;
    store.layers.flush();
    Ok(())
}
