//! Environment variables: `-e NAME=value`, `-e NAME` (ours), `--env-file`.

use super::keyvalue;

/// The variables of files and flags. A name without value gets ours, or is left out when we have none.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn variables(files: &[String], flags: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        for (key, value) in keyvalue::read_file(file)? {
            all.extend(with_ours(&key, value));
        }
    }
    for flag in flags {
        match flag.split_once('=') {
            Some((key, value)) => all.extend(with_ours(key, Some(value.to_owned()))),
            // A name alone that we do not have is sent as it is: it removes the image's variable.
            None => all.push(with_ours(flag, None).unwrap_or_else(|| flag.clone())),
        }
    }
    Ok(all)
}

fn with_ours(key: &str, value: Option<String>) -> Option<String> {
    let value = value.or_else(|| std::env::var(key).ok())?;
    Some(format!("{key}={value}"))
}

/// Whether the text is a variable.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_alone_take_our_value() {
        let flags = ["A=1".to_owned(), "PATH".to_owned(), "WHARF_NOT_SET".to_owned(), "B=".to_owned()];
        let all = variables(&[], &flags).unwrap();
        assert_eq!(all, ["A=1", &format!("PATH={}", std::env::var("PATH").unwrap()), "WHARF_NOT_SET", "B="]);
        assert_eq!(check("=x").unwrap_err(), "invalid environment variable: =x");
    }
}
