//! `-v [source:]target[:options]` (source: docker/cli `internal/volumespec`).

use std::path::Path;

/// What one `-v` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// A volume of its own at this path.
    Anonymous(String),
    /// A bind or a named volume, as the API takes it.
    Bind(String),
}

/// Reads one `-v`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(spec: &str) -> Result<Volume, String> {
    if spec.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    if spec.len() <= 2 {
        return Ok(Volume::Anonymous(spec.to_owned()));
    }
    let invalid = |why: &str| format!("invalid spec: {spec}: {why}");
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(invalid("empty section between colons"));
    }
    match parts.as_slice() {
        [target] => Ok(Volume::Anonymous((*target).to_owned())),
        [source, rest @ ..] if rest.len() <= 2 => {
            Ok(Volume::Bind(format!("{}:{}", absolute(source), rest.join(":"))))
        }
        _ => Err(invalid("too many colons")),
    }
}

/// A path that begins with `.` is ours: the daemon does not know where we are.
pub(crate) fn absolute(source: &str) -> String {
    if !source.starts_with('.') {
        return source.to_owned();
    }
    let Ok(here) = std::env::current_dir() else { return source.to_owned() };
    clean(&here.join(source))
}

/// The path without `.` and `..` (Go: `filepath.Clean`).
pub(crate) fn clean(path: &Path) -> String {
    use std::path::Component;
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let cleaned: std::path::PathBuf = parts.iter().collect();
    if cleaned.as_os_str().is_empty() { ".".to_owned() } else { cleaned.to_string_lossy().into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_as_docker_does() {
        let bind = |text: &str| Ok(Volume::Bind(text.to_owned()));
        assert_eq!(parse("/data"), Ok(Volume::Anonymous("/data".into())));
        assert_eq!(parse("/a:/b"), bind("/a:/b"));
        assert_eq!(parse("name:/b:ro,z"), bind("name:/b:ro,z"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse("./x/../y:/b"), bind(&format!("{}/y:/b", here.display())));
        assert_eq!(parse(""), Err("invalid empty volume spec".into()));
        assert_eq!(parse("/a::/b"), Err("invalid spec: /a::/b: empty section between colons".into()));
        assert_eq!(parse("/a:/b:ro:x"), Err("invalid spec: /a:/b:ro:x: too many colons".into()));
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in
            [("/a/./b/../c", "/a/c"), ("/..", "/"), ("a/..", "."), ("../a", "../a"), ("a//b/", "a/b")]
        {
            assert_eq!(clean(Path::new(path)), cleaned);
        }
    }
}
