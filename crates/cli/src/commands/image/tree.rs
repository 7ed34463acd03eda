//! `docker images --tree`: images with the platforms they have (source: docker/cli 28
//! `cli/command/image/tree.go`).

use crate::{
    cli::Cli,
    client::Query,
    commands::print,
    error::{Error, Result},
    flags::Matches,
    format::text::{short_id, width},
    opts::{filter, size::human_with_precision},
    terminal,
};
use wharf_api::image::Summary;

const WARNING: &str =
    "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
const LEGEND: &str = "Info ->  U In Use ";
const UNTAGGED: &str = "<untagged>";
const IN_USE: &str = "U";
/// Blanks between columns.
const GAP: usize = 3;
/// ID, disk usage, content size, extra.
const WIDTHS: [usize; 4] = [12, 10, 12, 5];
/// Of an output that is no terminal.
const LINE: usize = 80;

/// One line's facts.
struct Details {
    id: String,
    disk_usage: String,
    content_size: String,
    in_use: bool,
}

/// An image, or an image of an index.
struct Node {
    names: Vec<String>,
    details: Details,
    children: Vec<Node>,
}

/// Refuses what does not go with `--tree`, then lists.
///
/// # Errors
/// Docker's, for other options; the daemon's.
pub(super) async fn run(cli: &Cli, m: &Matches) -> Result<()> {
    for (flag, said) in
        [("quiet", "quiet"), ("no-trunc", "no-trunc"), ("digests", "show-digest"), ("format", "format")]
    {
        if m.is(flag) || (flag == "format" && !m.text(flag).is_empty()) {
            return Err(Error::text(format!("--{said} is not yet supported with --tree")));
        }
    }
    let client = cli.client().await?;
    if !client.knows(1, 47) {
        let version = client.version();
        return Err(Error::text(format!(
            "\"--tree\" requires API version 1.47, but the Docker daemon API version is {version}"
        )));
    }
    let mut filters = filter::filters(m.all("filter"));
    if !m.arg(0).is_empty() {
        filters.add("reference", m.arg(0));
    }
    let query = Query::new().with_switch("all", m.is("all")).with_filters(&filters).with("manifests", "1");
    let mut images: Vec<Summary> = client.get("/images/json", query).await?;
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let is_named = |image: &&Summary| image.repo_tags.as_ref().is_some_and(|tags| !tags.is_empty());
    let nodes = images.iter().filter(|image| m.is("all") || is_named(image)).map(node).collect();
    let line = if terminal::stdout_is_terminal() { usize::from(terminal::size().1).max(20) } else { LINE };
    print(&text(nodes, line));
    Ok(())
}

fn node(image: &Summary) -> Node {
    let human = |bytes: i64| human_with_precision(bytes as f64, 3);
    let images =
        image.manifests.iter().filter_map(|manifest| Some((manifest, manifest.image_data.as_ref()?)));
    let children: Vec<Node> = images
        .map(|(manifest, data)| Node {
            names: vec![data.platform.to_string()],
            details: Details {
                id: manifest.id.to_string(),
                disk_usage: human(manifest.size.total),
                content_size: human(manifest.size.content),
                in_use: !data.containers.is_empty(),
            },
            children: Vec::new(),
        })
        .collect();
    let mut names = image.repo_tags.clone().unwrap_or_default();
    // The longest first, else as the daemon has them.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    Node {
        names,
        details: Details {
            id: image.id.clone(),
            disk_usage: human(image.size),
            content_size: human(image.manifests.iter().map(|manifest| manifest.size.content).sum()),
            in_use: children.iter().any(|child| child.details.in_use),
        },
        children,
    }
}

fn text(nodes: Vec<Node>, line: usize) -> String {
    let name_width = name_width(&nodes, line);
    let blank_between = nodes.iter().any(|node| !node.children.is_empty());
    let mut out = format!("{WARNING}\n{LEGEND:>line$}\n\n{}\n", head(name_width));
    for node in nodes {
        out.push_str(&names(&node.names, name_width));
        out.push_str(&details(&node.details));
        out.push('\n');
        let last = node.children.len().saturating_sub(1);
        for (at, child) in node.children.iter().enumerate() {
            let branch = if at == last { "└─" } else { "├─" };
            let platform = format!("{branch} {}", child.names.concat());
            out.push_str(&padded(&platform, name_width));
            out.push_str(&details(&child.details));
            out.push('\n');
        }
        if blank_between {
            out.push('\n');
        }
    }
    out
}

/// As wide as the widest name, in bytes as docker counts them, if the line has room for it.
fn name_width(nodes: &[Node], line: usize) -> usize {
    let branch = "└─ ".len();
    let of_node = |node: &Node| {
        let names = node.names.iter().map(String::len).max().unwrap_or(UNTAGGED.len());
        let platforms = node.children.iter().map(|child| branch + child.names.concat().len()).max();
        names.max(platforms.unwrap_or(0))
    };
    let widest = nodes.iter().map(of_node).max().unwrap_or(0).max("Image".len());
    let others: usize = WIDTHS.iter().map(|width| width + GAP).sum();
    widest.min(line.saturating_sub(others).max("Image".len()))
}

fn head(name_width: usize) -> String {
    let title = |title: &str, width: usize| {
        format!("\u{1b}[39m\u{1b}[1m{title}\u{1b}[0m{}", " ".repeat(width.saturating_sub(title.len())))
    };
    let mut out = title("IMAGE", name_width);
    for (text, width) in ["ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"].into_iter().zip(WIDTHS) {
        out.push_str(&" ".repeat(GAP));
        out.push_str(&title(text, width));
    }
    out
}

/// Each name on a line of its own but the last, unless that one is too long as well.
fn names(names: &[String], name_width: usize) -> String {
    let Some((last, others)) = names.split_last() else { return padded(UNTAGGED, name_width) };
    let mut out: String = others.iter().map(|name| format!("{name}\n")).collect();
    out.push_str(&padded(last, name_width));
    if width(last) > name_width {
        out.push('\n');
        out.push_str(&" ".repeat(name_width));
    }
    out
}

fn details(details: &Details) -> String {
    let [id, disk, content, extra] = WIDTHS;
    let gap = " ".repeat(GAP);
    let chip = if details.in_use { IN_USE } else { "" };
    format!(
        "{gap}{:<id$}{gap}{:>disk$}{gap}{:>content$}{gap}{chip:<extra$}",
        short_id(&details.id),
        details.disk_usage,
        details.content_size
    )
}

fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::gojson;

    fn shown(json: &str) -> String {
        let images: Vec<Summary> = gojson::from_slice(json.as_bytes()).unwrap();
        let out = text(images.iter().map(node).collect(), LINE);
        out.split_once("EXTRA\u{1b}[0m\n").unwrap().1.to_owned()
    }

    /// As docker 28.2.2 prints them.
    #[test]
    fn names_and_platforms_are_set_as_docker_does() {
        let (a, b, one, two) = ("a".repeat(64), "b".repeat(64), "1".repeat(64), "2".repeat(64));
        let descriptor = format!(r#"{{"mediaType":"m","digest":"sha256:{one}","size":1}}"#);
        let manifest = |id: &str, arch: &str, containers: &str| {
            format!(
                r#"{{"ID":"sha256:{id}","Descriptor":{descriptor},"Available":true,"Size":{{"Content":1000000,"Total":3000000}},
                "Kind":"image","ImageData":{{"Platform":{{"os":"linux","architecture":"{arch}"}},"Size":{{"Unpacked":5}},"Containers":{containers}}}}}"#
            )
        };
        let plain = format!(
            r#"[{{"Id":"sha256:{b}","RepoTags":["b:2","a-long-name-of-an-image/with-many-parts:andtag"],"Size":12345678}},
            {{"Id":"sha256:{a}","RepoTags":[],"Size":12345678}}]"#
        );
        assert_eq!(
            shown(&plain),
            "a-long-name-of-an-image/with-many-parts:andtag\n\
             b:2                             bbbbbbbbbbbb       12.3MB             0B        \n\
             <untagged>                      aaaaaaaaaaaa       12.3MB             0B        \n"
        );
        let multi = format!(
            r#"[{{"Id":"sha256:{b}","RepoTags":["z:1"],"Size":12345678,"Manifests":[{},{}]}},{{"Id":"sha256:{a}","RepoTags":["x:1","a:1","long:1"],"Size":1}}]"#,
            manifest(&one, "amd64", r#"["k"]"#),
            manifest(&two, "arm64", "[]")
        );
        assert_eq!(
            shown(&multi),
            "z:1                  bbbbbbbbbbbb       12.3MB            2MB   U    \n\
             ├─ linux/amd64       111111111111          3MB            1MB   U    \n\
             └─ linux/arm64       222222222222          3MB            1MB        \n\n\
             long:1\nx:1\n\
             a:1                  aaaaaaaaaaaa           1B             0B        \n\n"
        );
    }
}
