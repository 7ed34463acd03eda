//! What a registry wants to see before it answers: the `WWW-Authenticate` header.
//!
//! Source: RFC 7235, section 4.1; distribution `registry/client/auth/challenge/authchallenge.go`.

use http::{HeaderMap, header::WWW_AUTHENTICATE};
use std::collections::BTreeMap;

/// One demand for authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// `realm`, `service`, `scope`, `error`; names in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}

/// The demands in an answer's headers. Malformed ones are cut off where they go wrong.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| parse(value.to_str().ok()?)).collect()
}

fn parse(header: &str) -> Option<Challenge> {
    let (scheme, mut rest) = token(header);
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        let (name, after) = token(rest);
        let Some(after) = after.strip_prefix('=').filter(|_| !name.is_empty()) else { break };
        let Some((value, after)) = token_or_quoted(after) else { break };
        parameters.insert(name.to_ascii_lowercase(), value);
        match after.trim_start().strip_prefix(',') {
            Some(after) => rest = after,
            None => break,
        }
    }
    Some(Challenge { scheme: scheme.to_ascii_lowercase(), parameters })
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_graphic() && !"\"(),/:;<=>?@[]\\{}".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

fn token_or_quoted(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(header: &str) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, header.parse().unwrap());
        challenges(&headers).pop()
    }

    #[test]
    fn bearer_and_basic() {
        let hub = one(r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io", scope="repository:a:pull,push""#)
            .unwrap();
        assert_eq!((hub.scheme.as_str(), hub.parameter("service")), ("bearer", "registry.docker.io"));
        assert_eq!(hub.parameter("scope"), "repository:a:pull,push");
        assert_eq!(hub.parameter("error"), "");
        assert_eq!(one(r#"BASIC Realm="a \"b\"""#).unwrap().parameter("realm"), "a \"b\"");
    }

    #[test]
    fn nonsense_is_cut_off() {
        assert_eq!(one(""), None);
        assert_eq!(one("=x"), None);
        assert!(one("Bearer realm=\"open").unwrap().parameters.is_empty());
        assert_eq!(one("Bearer realm=a,,x=b").unwrap().parameters.len(), 1);
    }
}
