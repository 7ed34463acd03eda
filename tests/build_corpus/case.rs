//! Cases of the corpus, as they stand in files: `=== name options of docker build`, the Dockerfile, and after
//! `>>> name` further files of the context.

use super::Facts;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// A Dockerfile and what it is built with.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) name: String,
    /// Options of `docker build`.
    pub(super) options: Vec<String>,
    /// Name and content.
    pub(super) files: Vec<(String, String)>,
}

impl Case {
    /// Whether classic builders cannot do it: docker.io does it by BuildKit.
    pub(super) fn is_for_buildkit(&self) -> bool {
        self.name.starts_with("buildkit_")
    }

    /// Writes its files into a directory.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        for (name, content) in &self.files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().context("a directory")?)?;
            std::fs::write(&path, content)?;
            super::tree::set_time(&path)?;
        }
        Ok(())
    }
}

/// Where the corpus is.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("build_corpus")
}

/// The cases of a file.
pub(super) fn read(group: &str) -> Result<Vec<Case>> {
    let path = directory().join("cases").join(format!("{group}.txt"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut cases: Vec<Case> = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(header) = line.strip_prefix("=== ") {
            let mut words = header.split_whitespace().map(str::to_owned);
            let name = words.next().context("a name")?;
            cases.push(Case { name, options: words.collect(), files: Vec::new() });
            continue;
        }
        let Some(case) = cases.last_mut() else { bail!("{group}: {line} stands before the first case") };
        if let Some(name) = line.strip_prefix(">>> ") {
            case.files.push((name.trim().to_owned(), String::new()));
            continue;
        }
        if case.files.is_empty() {
            case.files.push(("Dockerfile".to_owned(), String::new()));
        }
        case.files.last_mut().context("a file")?.1.push_str(line);
    }
    Ok(cases)
}

/// What docker.io makes of a group's cases: name and facts.
pub(super) fn expected(group: &str) -> Result<Facts> {
    sections(&directory().join("expected").join(format!("{group}.txt")))
}

/// Where we do otherwise: name and difference. What stands between `#` and the end of a line is the reason.
pub(super) fn known() -> Result<Facts> {
    let sections = sections(&directory().join("differences.txt"))?;
    let without_reason =
        |text: String| text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
    Ok(sections.into_iter().map(|(name, text)| (name, without_reason(text))).collect())
}

fn sections(path: &Path) -> Result<Facts> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let sections = text.split("=== ").skip(1).filter_map(|section| section.split_once('\n'));
    Ok(sections.map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
}

/// Writes down what docker.io made of them.
pub(super) fn record(group: &str, facts: &[(String, String)]) -> Result<()> {
    let text: String = facts.iter().map(|(name, facts)| format!("=== {name}\n{facts}")).collect();
    Ok(std::fs::write(directory().join("expected").join(format!("{group}.txt")), text)?)
}
