//! `cargo xtask tidy`: the rules of the workspace that a compiler does not check.

mod documents;
mod edges;
mod licences;
mod sources;

use crate::sh;
use anyhow::{Result, bail};

/// Checks everything and reports all findings, not just the first.
///
/// # Errors
/// When there is a finding, or a tool is missing.
pub(crate) fn run() -> Result<()> {
    let metadata = sh::output(sh::cargo().args(["metadata", "--format-version", "1", "--all-features"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let mut findings = edges::check(&metadata);
    findings.extend(licences::check(&metadata));
    findings.extend(documents::check()?);
    let sources = sources::check()?;
    findings.extend(sources.findings);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    sh::run(sh::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    if !findings.is_empty() {
        bail!("{} finding(s)", findings.len());
    }
    println!("tidy: {} files, no finding", sources.files);
    Ok(())
}
