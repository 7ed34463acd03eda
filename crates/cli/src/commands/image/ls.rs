//! `docker images`.

use super::tree;
use crate::{
    cli::Cli,
    client::Query,
    command::{Args, Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{
        LIST_FORMAT,
        list::{Columns, List, Row},
        text::{ago, local_time, short_id},
    },
    opts::{filter, size},
};
use std::collections::BTreeMap;
use wharf_api::image::Summary;
use wharf_spec::ImageRef;

/// `docker image ls`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    also: "image ls, image list, images",
    flags: &[FLAGS],
    args: Args::AtMost(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Show all images (default hides intermediate images)").short('a'),
    Flag::bool("digests", "Show digests"),
    Flag::filter("filter", "Filter output based on conditions provided").short('f'),
    Flag::text("format", LIST_FORMAT),
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::bool("quiet", "Only show image IDs").short('q'),
    Flag::bool("tree", "List multi-platform images as a tree (EXPERIMENTAL)"),
];

pub(crate) const COLUMNS: Columns = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const TABLE: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const TABLE_WITH_DIGEST: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    if m.is("tree") {
        return tree::run(&cli, &m).await;
    }
    let (quiet, digests) = (m.is("quiet"), m.is("digests"));
    let asked = match m.text("format") {
        "" if !quiet => cli.config().text("imagesFormat").to_owned(),
        format => format.to_owned(),
    };
    let (format, default) = format(&asked, quiet, digests);
    let mut list = List::new(&format, &default, COLUMNS)?;
    let mut filters = filter::filters(m.all("filter"));
    if !m.arg(0).is_empty() {
        filters.add("reference", m.arg(0));
    }
    let query = Query::new().with_switch("all", m.is("all")).with_filters(&filters);
    let images: Vec<Summary> = cli.client().await?.get("/images/json", query).await?;
    let with_digest = digests || list.asks_for("{{.Digest}}");
    for image in &images {
        for name in names(image, with_digest, digests) {
            list.add(|row| fill(row, image, &name, !m.is("no-trunc")))?;
        }
    }
    list.print()?;
    hint(&cli, &m, images.is_empty());
    Ok(())
}

fn format(asked: &str, quiet: bool, digests: bool) -> (String, String) {
    let default = match (quiet, digests) {
        (true, _) => "{{.ID}}",
        (false, true) => TABLE_WITH_DIGEST,
        (false, false) => TABLE,
    };
    let raw = |digest: &str| {
        format!(
            "repository: {{{{.Repository}}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
        )
    };
    let format = match asked {
        "raw" if quiet => "image_id: {{.ID}}".to_owned(),
        "raw" if digests => raw("digest: {{.Digest}}\n"),
        "raw" => raw(""),
        table if table.starts_with("table ") && digests && !table.contains("{{.Digest}}") => {
            format!("{table}\t{{{{.Digest}}}}")
        }
        other => other.to_owned(),
    };
    (format, default.to_owned())
}

/// One row of an image: repository, tag, digest.
pub(crate) struct Name {
    pub(crate) repository: String,
    pub(crate) tag: String,
    pub(crate) digest: String,
}

impl Name {
    fn new(repository: &str, tag: &str, digest: &str) -> Self {
        Self { repository: repository.to_owned(), tag: tag.to_owned(), digest: digest.to_owned() }
    }

    /// Of an image without a name.
    pub(crate) fn none() -> Self {
        Self::new("<none>", "<none>", "<none>")
    }
}

/// The rows of an image: one for each tag (and digest), one for digests without tag.
fn names(image: &Summary, with_digest: bool, row_per_digest: bool) -> Vec<Name> {
    let (tags, digests) = (by_repository(&image.repo_tags, false), by_repository(&image.repo_digests, true));
    if tags.is_empty() && digests.is_empty() {
        return vec![Name::none()];
    }
    let mut rows = Vec::new();
    for (repository, tags) in &tags {
        let known = digests.get(repository).filter(|_| with_digest);
        for tag in tags {
            match known {
                Some(known) => rows.extend(known.iter().map(|digest| Name::new(repository, tag, digest))),
                None => rows.push(Name::new(repository, tag, "<none>")),
            }
        }
    }
    for (repository, digests) in digests.iter().filter(|(repository, _)| !tags.contains_key(*repository)) {
        if row_per_digest {
            rows.extend(digests.iter().map(|digest| Name::new(repository, "<none>", digest)));
        } else {
            rows.push(Name::new(repository, "<none>", ""));
        }
    }
    rows
}

fn by_repository(references: &Option<Vec<String>>, digests: bool) -> BTreeMap<String, Vec<String>> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in references.iter().flatten() {
        let Ok(reference) = text.parse::<ImageRef>() else { continue };
        let part = if digests {
            reference.digest().map(ToString::to_string)
        } else {
            reference.tag().map(str::to_owned)
        };
        map.entry(reference.familiar_name()).or_default().extend(part);
    }
    map.retain(|_, parts| !parts.is_empty());
    map
}

/// The cells of an image.
pub(crate) fn fill(row: &mut Row<'_>, image: &Summary, name: &Name, truncate: bool) {
    let human = |bytes: i64| size::human(bytes as f64);
    row.cell("ID", || if truncate { short_id(&image.id).to_owned() } else { image.id.clone() });
    row.cell("Repository", || name.repository.clone());
    row.cell("Tag", || name.tag.clone());
    row.cell("Digest", || name.digest.clone());
    row.cell("CreatedSince", || if image.created <= 0 { "N/A".to_owned() } else { ago(image.created) });
    row.cell("CreatedAt", || local_time(image.created));
    row.cell("Size", || size::human_with_precision(image.size as f64, 3));
    row.cell("Containers", || known(image.containers, image.containers.to_string()));
    row.cell("VirtualSize", || human(image.size));
    row.cell("SharedSize", || known(image.shared_size, human(image.shared_size)));
    row.cell("UniqueSize", || {
        known(image.size.min(image.shared_size), human(image.size - image.shared_size))
    });
}

fn known(number: i64, text: String) -> String {
    if number == -1 { "N/A".to_owned() } else { text }
}

/// `docker images ls` looks for an image named `ls`.
fn hint(cli: &Cli, m: &Matches, found_none: bool) {
    const VERBS: [&str; 13] = [
        "build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save",
        "tag",
    ];
    let name = m.arg(0);
    if found_none && VERBS.contains(&name) && m.path.ends_with(" images") {
        eprintln!("\nNo images found matching {name:?}: did you mean \"{} image {name}\"?", cli.program());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> Summary {
        let own = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect());
        Summary { repo_tags: own(tags), repo_digests: own(digests), ..Summary::default() }
    }

    #[test]
    fn tags_and_digests_make_rows() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let named = image(&["busybox:latest", "busybox:1"], &[&format!("busybox@{digest}")]);
        let rows = |image: &Summary, with: bool, per: bool| {
            let shown = |n: &Name| format!("{} {} {}", n.repository, n.tag, n.digest);
            names(image, with, per).iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(rows(&named, false, false), ["busybox latest <none>", "busybox 1 <none>"]);
        assert_eq!(rows(&named, true, true)[0], format!("busybox latest {digest}"));
        let untagged = image(&[], &[&format!("h:5000/x@{digest}")]);
        assert_eq!(rows(&untagged, false, false), ["h:5000/x <none> "]);
        assert_eq!(rows(&image(&[], &[]), false, false), ["<none> <none> <none>"]);
        assert_eq!(
            rows(&image(&["<none>:<none>"], &["<none>@<none>"]), false, false),
            ["<none> <none> <none>"]
        );
    }
}
