//! `docs/api-compat.md` held against the route table and the options: what one says, the other does.

use crate::routes::ROUTES;

const TEXT: &str = include_str!("../../../docs/api-compat.md");

/// Handlers that answer 501 as a whole for a reason of their own.
const REFUSING: [&str; 1] = ["images::attestations"];

/// The rows of the table below a heading: their cells, headings of groups left out.
pub(crate) fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = TEXT.split_once(&format!("\n## {heading}\n")).map_or("", |(_, rest)| rest);
    let section = section.split_once("\n## ").map_or(section, |(this, _)| this);
    let section = section.split_once("\n### ").map_or(section, |(this, _)| this);
    let lines = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| **"));
    // The first one is the table's head.
    lines.skip(1).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// `GET /containers/{}/json` of both ways to write a name: `{name:.*}` and `{id}`.
fn plain(method: &str, path: &str) -> String {
    let mut text = format!("{method} ");
    let mut inside = false;
    for c in path.chars() {
        if !inside || c == '}' {
            text.push(c);
        }
        inside = (inside || c == '{') && c != '}';
    }
    text
}

#[test]
fn every_route_says_what_its_row_says() {
    let mut routes: Vec<(String, &str)> =
        ROUTES.iter().map(|route| (plain(route.method.as_str(), route.pattern), route.name)).collect();
    let rows = rows("Engine API");
    assert!(rows.len() > 100, "the table was not found");
    for row in rows {
        let [endpoint, state, _] = row[..] else { panic!("{row:?}") };
        let (method, path) = endpoint.split_once(' ').unwrap_or_default();
        let wanted = plain(method, path);
        let at = routes.iter().position(|(route, _)| *route == wanted);
        let (_, handler) =
            routes.remove(at.unwrap_or_else(|| panic!("{endpoint} is no route, or twice there")));
        let expected = match handler {
            "not_built" | "experimental" => "501",
            refusing if REFUSING.contains(&refusing) => "501",
            swarm if swarm.starts_with("swarm::") => "503",
            "plugins::missing" => "404",
            _ => "built",
        };
        assert_eq!(state, expected, "{endpoint} is answered by {handler}");
    }
    assert_eq!(routes, [], "routes without a row");
}
