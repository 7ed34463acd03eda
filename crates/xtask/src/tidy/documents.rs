//! Rules about documents: what they name exists.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Checks links to files in all documents, and the source files that they name in backquotes.
///
/// # Errors
/// When a document cannot be read.
pub(super) fn check() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for document in documents()? {
        let text = std::fs::read_to_string(&document).with_context(|| document.display().to_string())?;
        let dir = document.parent().unwrap_or(Path::new(""));
        let links = links(&text).filter(|link| !dir.join(link).exists());
        let sources = sources(&text)
            .filter(|path| !["", "crates"].iter().any(|root| Path::new(root).join(path).exists()));
        let name = document.display();
        findings.extend(links.chain(sources).map(|path| format!("{name}: there is no {path}")));
    }
    Ok(findings)
}

fn documents() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in [".", "docs", "docs/adr"] {
        for entry in std::fs::read_dir(dir).with_context(|| dir.to_owned())? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Targets of `[text](target)` that are files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let files = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    files.filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Paths of Rust files in backquotes, but for patterns.
fn sources(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter(|path| path.ends_with(".rs") && path.contains('/') && !path.contains(['<', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_found() {
        let text = "see [a](docs/a.md#x), [b](https://e.org/b.md) and [c](#c)\n`x/y.rs`, `z.rs`, `t/<n>.rs`, `cargo a/b`";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md"]);
        assert_eq!(sources(text).collect::<Vec<_>>(), ["x/y.rs"]);
    }
}
