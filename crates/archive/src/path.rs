//! Names as text: Go's `path.Clean` and `filepath.IsLocal`, on bytes.

/// The shortest name that means the same, looking at no file system: `a//b/./c/..` is `a/b`, nothing is
/// `.`, a leading `..` stays unless the name is absolute (source: Go `path.Clean`).
pub fn clean(name: &[u8]) -> Vec<u8> {
    let rooted = name.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let mut cleaned = Vec::with_capacity(name.len());
    if rooted {
        cleaned.push(b'/');
    }
    cleaned.extend_from_slice(&parts.join(&b'/'));
    if cleaned.is_empty() {
        cleaned.push(b'.');
    }
    cleaned
}

/// Whether a cleaned name stays below the directory it is relative to.
pub fn is_local(cleaned: &[u8]) -> bool {
    !cleaned.is_empty() && cleaned[0] != b'/' && cleaned != b".." && !cleaned.starts_with(b"../")
}

/// Parent (empty for the root) and last component of a cleaned local name.
pub(crate) fn split(cleaned: &[u8]) -> (&[u8], &[u8]) {
    match cleaned.iter().rposition(|&byte| byte == b'/') {
        None => (&[], cleaned),
        Some(slash) => (&cleaned[..slash], &cleaned[slash + 1..]),
    }
}

/// An entry's name relative to the root it is extracted to: leading slashes stripped, cleaned. `None` for
/// the root itself.
///
/// # Errors
/// The name, when it leads out of the root or is longer than the system takes.
pub(crate) fn entry_name(name: &[u8]) -> Result<Option<Vec<u8>>, crate::Error> {
    let start = name.iter().position(|&byte| byte != b'/').unwrap_or(name.len());
    let cleaned = clean(&name[start..]);
    if cleaned == b"." {
        return Ok(None);
    }
    if !is_local(&cleaned) || cleaned.contains(&0) {
        return Err(crate::Error::Name(crate::error::lossy(name)));
    }
    if cleaned.len() >= 4096 {
        return Err(crate::Error::TooLong);
    }
    Ok(Some(cleaned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_is_gos() {
        for (name, cleaned) in [
            ("", "."),
            ("/", "/"),
            ("a/b/", "a/b"),
            ("./a", "a"),
            ("a/./b//c", "a/b/c"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/../a", "/a"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(name.as_bytes()), cleaned.as_bytes(), "{name}");
        }
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        assert_eq!(entry_name(b"//a/b/").unwrap().unwrap(), b"a/b");
        assert!(entry_name(b"./").unwrap().is_none() && entry_name(b"/").unwrap().is_none());
        for bad in ["..", "../a", "a/../../b", "/../a"] {
            assert!(entry_name(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(entry_name(&b"a/".repeat(4096)).is_err());
    }
}
