//! Looking a group up in /etc/group, without NSS.

use std::path::Path;

/// The number of a group given by name or number; `None` when there is none of that name.
pub(super) fn number(name: &str, file: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    found.or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_then_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("group");
        std::fs::write(&file, "root:x:0:\ndocker:x:999:me,you\n5:x:7:\nbroken\n").unwrap();
        assert_eq!(number("docker", &file), Some(999));
        assert_eq!(number("5", &file), Some(7));
        assert_eq!(number("123", &file), Some(123));
        assert_eq!(number("nosuch", &file), None);
        assert_eq!(number("docker", Path::new("/nosuch")), None);
    }
}
