//! `--restart no|always|unless-stopped|on-failure[:n]` (source: docker/cli `opts/parse.go`).

use wharf_api::container::RestartPolicy;

/// Reads a restart policy.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    if name.is_empty() && count.is_some() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let maximum_retry_count = match count {
        None | Some("") => 0,
        Some(count) => count.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_docker_does() {
        let policy = parse("on-failure:3").unwrap();
        assert_eq!((policy.name.as_str(), policy.maximum_retry_count), ("on-failure", 3));
        assert_eq!(parse("always").unwrap().maximum_retry_count, 0);
        assert_eq!(parse("").unwrap().name, "");
        assert_eq!(
            parse("on-failure:x").unwrap_err(),
            "invalid restart policy format: maximum retry count must be an integer"
        );
        assert_eq!(
            parse(":3").unwrap_err(),
            "invalid restart policy format: no policy provided before colon"
        );
    }
}
