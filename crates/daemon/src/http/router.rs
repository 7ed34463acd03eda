//! Routes in Go's manner: a method, a pattern, a handler.
//!
//! Patterns are gorilla/mux's as far as moby uses them: literal text, `{name}` for what has no slash,
//! `{name:.*}` for anything and `{name:.+}` for anything but nothing. Every pattern is also served below
//! `/v<version>`. The first route that fits wins (source: moby `daemon/server/server.go`, `CreateMux`).

use crate::error::Result;
use crate::http::{call::Call, reply::Reply};
use http::Method;
use std::{future::Future, pin::Pin};
use wharf_api::Version;

/// What a handler returns.
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;

/// A handler.
pub(crate) type Handler = fn(Call) -> HandlerFuture;

/// One line of the route table.
pub(crate) struct Route {
    /// The method.
    pub(crate) method: Method,
    /// The pattern, without version.
    pub(crate) pattern: &'static str,
    /// The oldest API version that has it.
    pub(crate) since: Version,
    /// What answers.
    pub(crate) handler: Handler,
    /// The handler's name in the table, for the test that holds the documents against it.
    #[cfg(test)]
    pub(crate) name: &'static str,
}

/// The values of a pattern's names.
pub(crate) type Vars = Vec<(&'static str, String)>;

/// The compiled route table.
pub(crate) struct Router {
    routes: Vec<(Vec<Part>, &'static Route)>,
}

/// A piece of a pattern.
#[derive(Debug, PartialEq)]
enum Part {
    Text(&'static str),
    Var { name: &'static str, takes: Takes },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    Segment,
    Anything,
    Something,
}

impl Router {
    /// Compiles a table.
    pub(crate) fn new(table: &'static [Route]) -> Self {
        Self { routes: table.iter().map(|route| (compile(route.pattern), route)).collect() }
    }

    /// The first route for a method and a path without version, and the values of its names.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<(&'static Route, Vars)> {
        self.routes.iter().filter(|(_, route)| route.method == *method).find_map(|(parts, route)| {
            let mut vars = Vars::new();
            fits(parts, path, &mut vars).then_some((*route, vars))
        })
    }
}

/// Takes `/v1.47` off a path: version and rest. `None` where there is no version before a slash.
pub(crate) fn split_version(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/v")?;
    let (version, _) = rest.split_once('/')?;
    let numeric = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    numeric.then(|| (version, &rest[version.len()..]))
}

fn compile(pattern: &'static str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some((text, tail)) = rest.split_once('{') {
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        let (var, tail) = tail.split_once('}').unwrap_or((tail, ""));
        let (name, takes) = match var.split_once(':') {
            Some((name, ".+")) => (name, Takes::Something),
            Some((name, _)) => (name, Takes::Anything),
            None => (var, Takes::Segment),
        };
        parts.push(Part::Var { name, takes });
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

/// Whether the whole of `path` fits; names take as much as they can, as in a regular expression.
fn fits(parts: &[Part], path: &str, vars: &mut Vars) -> bool {
    let Some((part, tail)) = parts.split_first() else { return path.is_empty() };
    match part {
        Part::Text(text) => path.strip_prefix(text).is_some_and(|rest| fits(tail, rest, vars)),
        Part::Var { name, takes } => {
            let limit =
                if *takes == Takes::Segment { path.find('/').unwrap_or(path.len()) } else { path.len() };
            let least = usize::from(*takes != Takes::Anything);
            let ends = (least..=limit).rev().filter(|end| path.is_char_boundary(*end));
            for end in ends {
                let known = vars.len();
                vars.push((name, path[..end].to_owned()));
                if fits(tail, &path[end..], vars) {
                    return true;
                }
                vars.truncate(known);
                if tail.is_empty() {
                    return false;
                }
            }
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &'static str, path: &str) -> Option<Vec<String>> {
        let mut vars = Vars::new();
        fits(&compile(pattern), path, &mut vars).then(|| vars.into_iter().map(|(_, v)| v).collect())
    }

    #[test]
    fn patterns_fit_as_in_gorilla() {
        for (pattern, path, want) in [
            ("/info", "/info", Some(vec![])),
            ("/info", "/info/", None),
            ("/images/{name:.*}/json", "/images/a/b:c/json", Some(vec!["a/b:c"])),
            ("/images/{name:.*}/json", "/images//json", Some(vec![""])),
            ("/images/{name:.*}/json", "/images/json", None),
            ("/images/{name:.*}/json", "/images/json/json", Some(vec!["json"])),
            ("/images/{name:.*}", "/images/a/b", Some(vec!["a/b"])),
            ("/networks/{id:.+}", "/networks/", None),
            ("/networks/{id:.+}", "/networks/é", Some(vec!["é"])),
            ("/c/{name}/x/{check}", "/c/a/x/b", Some(vec!["a", "b"])),
            ("/c/{name}/x/{check}", "/c/a/b/x/c", None),
            ("/{anyroute:.*}", "/", Some(vec![""])),
        ] {
            let want = want.map(|list| list.into_iter().map(String::from).collect::<Vec<_>>());
            assert_eq!(matched(pattern, path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn versions_are_split_off() {
        assert_eq!(split_version("/v1.47/info"), Some(("1.47", "/info")));
        assert_eq!(split_version("/v9.99/"), Some(("9.99", "/")));
        assert_eq!(split_version("/v1.47"), None);
        assert_eq!(split_version("/version"), None);
        assert_eq!(split_version("/vx/info"), None);
    }
}
