//! `docker system df`.

use crate::{
    cli::Cli,
    client::Query,
    command::{Command, runs},
    commands::{container::ls as containers, image::ls as images, print, say, volume::ls as volumes},
    error::Result,
    flags::{Flag, Matches},
    format::{
        LIST_FORMAT,
        json::of_rows,
        list::{Columns, List, Row, source_of, whole_row},
        template::Format,
        text::{ago, short_id},
    },
    opts::size,
};
use wharf_api::{build_cache::CacheRecord, container, image, system::DiskUsage, volume};
use wharf_spec::ImageRef;

/// `docker system df`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Show docker disk usage",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("format", LIST_FORMAT),
    Flag::bool("verbose", "Show detailed information on space usage").short('v'),
];

const COLUMNS: Columns = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const TABLE: &str = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";
const CACHE: &str = "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";
const CACHE_COLUMNS: Columns = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let usage: DiskUsage = cli.client().await?.get("/system/df", Query::new()).await?;
    if m.is("verbose") {
        return verbose(&usage, m.text("format"));
    }
    let mut list = List::new(m.text("format"), TABLE, COLUMNS)?;
    for line in [
        of_images(&usage),
        of_containers(usage.containers.as_deref().unwrap_or_default()),
        of_volumes(usage.volumes.as_deref().unwrap_or_default()),
        of_cache(usage.build_cache.as_deref().unwrap_or_default()),
    ] {
        list.add(|row| {
            row.cell("Type", || line.kind.to_owned());
            row.cell("TotalCount", || line.total.to_string());
            row.cell("Active", || line.active.to_string());
            row.cell("Size", || size::human(line.size as f64));
            row.cell("Reclaimable", || line.reclaimable_text());
        })?;
    }
    list.print()
}

struct Line {
    kind: &'static str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    with_percent: bool,
}

impl Line {
    fn reclaimable_text(&self) -> String {
        let text = size::human(self.reclaimable as f64);
        if self.with_percent && self.size > 0 {
            return format!("{text} ({}%)", self.reclaimable * 100 / self.size);
        }
        text
    }
}

fn of_images(usage: &DiskUsage) -> Line {
    let images = usage.images.as_deref().unwrap_or_default();
    let known = |i: &&image::Summary| i.containers != 0 && i.size != -1 && i.shared_size != -1;
    let used: i64 = images.iter().filter(known).map(|i| i.size - i.shared_size).sum();
    Line {
        kind: "Images",
        total: images.len(),
        active: images.iter().filter(|i| i.containers > 0).count(),
        size: usage.layers_size,
        reclaimable: usage.layers_size - used,
        with_percent: true,
    }
}

fn of_containers(all: &[container::Summary]) -> Line {
    let is_active = |c: &&container::Summary| matches!(c.state.as_str(), "running" | "paused" | "restarting");
    let size: i64 = all.iter().map(|c| c.size_rw).sum();
    let active: i64 = all.iter().filter(is_active).map(|c| c.size_rw).sum();
    Line {
        kind: "Containers",
        total: all.len(),
        active: all.iter().filter(is_active).count(),
        size,
        reclaimable: size - active,
        with_percent: true,
    }
}

fn of_volumes(all: &[volume::Volume]) -> Line {
    let usage = || all.iter().filter_map(|v| v.usage_data.as_ref());
    let sized = || usage().filter(|u| u.size != -1);
    Line {
        kind: "Local Volumes",
        total: all.len(),
        active: usage().filter(|u| u.ref_count > 0).count(),
        size: sized().map(|u| u.size).sum(),
        reclaimable: sized().filter(|u| u.ref_count == 0).map(|u| u.size).sum(),
        with_percent: true,
    }
}

fn of_cache(all: &[CacheRecord]) -> Line {
    let own = || all.iter().filter(|c| !c.shared);
    let size: i64 = own().map(|c| c.size).sum();
    let in_use: i64 = own().filter(|c| c.in_use).map(|c| c.size).sum();
    Line {
        kind: "Build Cache",
        total: all.len(),
        active: all.iter().filter(|c| c.in_use).count(),
        size,
        reclaimable: size - in_use,
        with_percent: false,
    }
}

fn verbose(usage: &DiskUsage, format: &str) -> Result<()> {
    if !matches!(format, "" | "table") {
        return by_template(usage, format);
    }
    say("Images space usage:\n");
    let mut list = List::new("", IMAGES, images::COLUMNS)?;
    for image in usage.images.iter().flatten() {
        let name = first_name(image);
        list.add(|row| images::fill(row, image, &name, true))?;
    }
    list.print()?;
    say("\nContainers space usage:\n");
    let mut list = List::new("", CONTAINERS, containers::COLUMNS)?;
    for container in usage.containers.iter().flatten().map(without_image) {
        list.add(|row| containers::fill(row, &container, true))?;
    }
    list.print()?;
    say("\nLocal Volumes space usage:\n");
    let mut list = List::new("", VOLUMES, volumes::COLUMNS)?;
    for volume in usage.volumes.iter().flatten() {
        list.add(|row| volumes::fill(row, volume))?;
    }
    list.print()?;
    cache(usage.build_cache.as_deref().unwrap_or_default())
}

/// All of it through one template (docker/cli: `DiskUsageContext.verboseWrite`).
fn by_template(usage: &DiskUsage, format: &str) -> Result<()> {
    let template = Format::parse(&source_of(format))?;
    let truncate = format.starts_with("table");
    let images = usage.images.iter().flatten();
    let images = images.map(|i| whole_row(|row| images::fill(row, i, &first_name(i), truncate)));
    let containers = usage.containers.iter().flatten().map(without_image);
    let containers = containers.map(|c| whole_row(|row| containers::fill(row, &c, truncate)));
    let volumes = usage.volumes.iter().flatten().map(|v| whole_row(|row| volumes::fill(row, v)));
    let cache = usage.build_cache.iter().flatten().map(|c| whole_row(|row| fill_cache(row, c, truncate)));
    let all = of_rows([
        ("Images", images.collect()),
        ("Containers", containers.collect()),
        ("Volumes", volumes.collect()),
        ("BuildCache", cache.collect()),
    ]);
    print(&template.fill(&all)?);
    Ok(())
}

/// The size of the image stands with the images.
fn without_image(container: &container::Summary) -> container::Summary {
    container::Summary { size_root_fs: 0, ..container.clone() }
}

fn first_name(image: &image::Summary) -> images::Name {
    let first = image.repo_tags.iter().flatten().find_map(|tag| tag.parse::<ImageRef>().ok());
    match first.as_ref().and_then(|reference| Some((reference.familiar_name(), reference.tag()?))) {
        Some((repository, tag)) => images::Name { repository, tag: tag.to_owned(), digest: String::new() },
        None => images::Name { digest: String::new(), ..images::Name::none() },
    }
}

fn cache(all: &[CacheRecord]) -> Result<()> {
    let size: i64 = all.iter().filter(|c| !c.shared).map(|c| c.size).sum();
    print(&format!("\nBuild cache usage: {}\n\n", size::human(size as f64)));
    let mut list = List::new("", CACHE, CACHE_COLUMNS)?;
    for record in all {
        list.add(|row| fill_cache(row, record, true))?;
    }
    list.print()
}

fn fill_cache(row: &mut Row<'_>, record: &CacheRecord, truncate: bool) {
    let id = if truncate { short_id(&record.id) } else { &record.id };
    row.cell("ID", || format!("{id}{}", if record.in_use { "*" } else { "" }));
    row.cell("CacheType", || record.kind.clone());
    row.cell("Size", || size::human(record.size as f64));
    row.cell("CreatedSince", || ago(record.created_at.unix()));
    row.cell("LastUsedSince", || record.last_used_at.as_ref().map_or(String::new(), |t| ago(t.unix())));
    row.cell("UsageCount", || record.usage_count.to_string());
    row.cell("Shared", || record.shared.to_string());
}
