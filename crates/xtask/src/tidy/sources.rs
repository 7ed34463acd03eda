//! Rules about source files: headers, sizes, where unsafe is.
//!
//! Sizes lean on rustfmt: an item's body ends at the first closing brace with the item's own indentation.
//! An exception is a comment above the item that begins with `tidy: long,` and gives the reason.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

const MAX_FILE: usize = 600;
const MAX_FUNCTION: usize = 70;

/// What was looked at, what was found.
pub(super) struct Report {
    pub(super) files: usize,
    pub(super) findings: Vec<String>,
}

/// Checks every Rust file of the workspace.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn check() -> Result<Report> {
    let mut files = Vec::new();
    for dir in ["crates", "tests", "examples"] {
        collect(Path::new(dir), &mut files)?;
    }
    let mut findings = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        check_file(file, &text, &mut findings);
    }
    Ok(Report { files: files.len(), findings })
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(file: &Path, text: &str, findings: &mut Vec<String>) {
    let name = file.display();
    if !text.starts_with("//!") {
        findings.push(format!("{name}: no //! header"));
    }
    check_unsafe(file, text, findings);
    let lines: Vec<&str> = text.lines().collect();
    let code = non_test_lines(&lines);
    let excused = lines.iter().take(40).any(|l| l.contains("tidy: long,"));
    if code.len() > MAX_FILE && !excused {
        findings.push(format!("{name}: {} non-test lines, more than {MAX_FILE}", code.len()));
    }
    for (line, length) in long_functions(code) {
        findings.push(format!("{name}:{line}: a function of {length} lines, more than {MAX_FUNCTION}"));
    }
}

/// Crate roots forbid unsafe, but for sys.
fn check_unsafe(file: &Path, text: &str, findings: &mut Vec<String>) {
    let path = file.to_string_lossy();
    let root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs") || path == "tests/e2e.rs";
    if root && !path.starts_with("crates/sys/") && !text.contains("#![forbid(unsafe_code)]") {
        findings.push(format!("{path}: no #![forbid(unsafe_code)]"));
    }
}

/// The lines before the first top-level test module.
fn non_test_lines<'a>(lines: &'a [&'a str]) -> &'a [&'a str] {
    let end = lines.iter().position(|l| *l == "#[cfg(test)]").filter(|i| {
        lines[i + 1..]
            .iter()
            .find(|l| !l.starts_with("#["))
            .is_some_and(|l| l.starts_with("mod ") && l.ends_with('{'))
    });
    &lines[..end.unwrap_or(lines.len())]
}

fn long_functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if !is_function(line.trim_start()) || excused(lines, i) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let Some(length) = lines[i..].iter().position(|l| *l == close) else { continue };
        if length + 1 > MAX_FUNCTION {
            found.push((i + 1, length + 1));
        }
    }
    found
}

fn is_function(line: &str) -> bool {
    let mut rest = line;
    loop {
        if rest.starts_with("fn ") {
            return !line.ends_with(';');
        }
        let word = rest.split_whitespace().next().unwrap_or_default();
        let prefix =
            word.starts_with("pub") || matches!(word, "async" | "const" | "unsafe" | "extern" | "\"C\"");
        if !prefix {
            return false;
        }
        rest = rest[word.len()..].trim_start();
    }
}

/// A `tidy: long,` comment in the comments and attributes right above.
fn excused(lines: &[&str], function: usize) -> bool {
    let above = lines[..function].iter().rev();
    above
        .take_while(|l| l.trim_start().starts_with("//") || l.trim_start().starts_with("#["))
        .any(|l| l.contains("tidy: long,"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check_file(Path::new("crates/x/src/y.rs"), text, &mut found);
        found
    }

    #[test]
    fn a_long_function_is_found_and_an_excuse_is_heard() {
        let body = "    x();\n".repeat(MAX_FUNCTION);
        let long = format!("//! h\npub(crate) async fn f(\n    a: u8,\n) {{\n{body}}}\n");
        assert_eq!(findings(&long).len(), 1);
        let excused = long.replace("pub(crate)", "// tidy: long, because it is a table\npub(crate)");
        assert!(findings(&excused).is_empty());
        let in_tests = format!("//! h\n#[cfg(test)]\nmod tests {{\nfn f() {{\n{body}}}\n}}\n");
        assert!(findings(&in_tests).is_empty());
    }

    #[test]
    fn headers_sizes_and_unsafe() {
        assert_eq!(findings("fn x() {}\n"), ["crates/x/src/y.rs: no //! header"]);
        let long = format!("//! h\n{}", "// line\n".repeat(MAX_FILE));
        assert_eq!(findings(&long).len(), 1);
        let mut found = Vec::new();
        check_file(Path::new("crates/x/src/lib.rs"), "//! h\n", &mut found);
        assert_eq!(found, ["crates/x/src/lib.rs: no #![forbid(unsafe_code)]"]);
    }
}
