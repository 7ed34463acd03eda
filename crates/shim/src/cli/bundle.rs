//! A bundle: a directory with a `config.json` and a root file system.

use super::error::{CliError, CliResult};
use std::path::{Path, PathBuf};
use wharf_runtime::oci::Config;

/// The file's name.
pub(super) const CONFIG: &str = "config.json";

/// The largest `config.json` that is read, in bytes: no caller writes one near it.
const CONFIG_MAX: u64 = 16 << 20;

/// A bundle's absolute path; without one it is the working directory.
pub(super) fn path(given: Option<&Path>) -> CliResult<PathBuf> {
    let given = given.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    given.canonicalize().map_err(|source| CliError::io(format!("chdir {}", given.display()), source))
}

/// Reads a bundle's configuration.
pub(super) fn config(bundle: &Path) -> CliResult<Config> {
    let bytes = read_document(&bundle.join(CONFIG))
        .map_err(not_found_in_runcs_words)?
        .ok_or_else(|| CliError::text(format!("{CONFIG} is larger than {CONFIG_MAX} bytes")))?;
    Ok(Config::parse(&bytes)?)
}

fn not_found_in_runcs_words(error: CliError) -> CliError {
    match error {
        CliError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            CliError::text(format!("JSON specification file {CONFIG} not found"))
        }
        other => other,
    }
}

/// Reads a JSON file, `None` when it is too large.
pub(super) fn read_document(path: &Path) -> CliResult<Option<Vec<u8>>> {
    use std::io::Read;
    let failed = |source| CliError::io(format!("open {}", path.display()), source);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(CONFIG_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes.len() as u64 <= CONFIG_MAX).then_some(bytes))
}
