//! The licences of everything we link.

use serde_json::Value;

const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MPL-2.0",
    "Unlicense",
    "Zlib",
    "0BSD",
    "BSL-1.0",
    "Unicode-3.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
];

/// One line for each package whose licence is not among the allowed ones.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    packages.iter().filter_map(finding).collect()
}

fn finding(package: &Value) -> Option<String> {
    let licence = package["license"].as_str().unwrap_or("none given");
    (!allowed(licence)).then(|| format!("{}: licence {licence}", package["name"].as_str().unwrap_or("?")))
}

/// An SPDX expression: every AND part needs one allowed OR alternative. Parentheses occur only around ORs.
fn allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ");
    let plain = plain.replace(['(', ')'], "");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|one| ALLOWED.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions() {
        assert!(allowed("MIT OR Apache-2.0"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("(MIT OR GPL-3.0) AND ISC"));
        assert!(!allowed("GPL-3.0-or-later"));
        assert!(!allowed("MIT AND GPL-3.0"));
    }
}
