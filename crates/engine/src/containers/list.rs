//! `GET /containers/json` (source: moby `daemon/list.go`, `daemon/container/view.go`).

use super::{Container, Containers, ListOptions, State};
use crate::{Error, Filters, Result, clock, error::invalid};
use jiff::Timestamp;
use std::{collections::BTreeSet, sync::Arc};
use wharf_api::{container as api, network::EndpointSettings, port::PortRange};

const KNOWN: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// Filters with their values checked and looked up.
struct Wanted {
    filters: Filters,
    all: bool,
    limit: usize,
    exited: Vec<i32>,
    is_task: Option<bool>,
    /// Images that the ancestors stand for.
    images: Option<BTreeSet<String>>,
    publish: BTreeSet<String>,
    expose: BTreeSet<String>,
    before: Option<Arc<Container>>,
    since: Option<Arc<Container>>,
}

/// One container as a list sees it.
struct Row {
    container: Arc<Container>,
    summary: api::Summary,
    created: wharf_api::time::Time,
    running: bool,
    managed: bool,
    exit_code: i32,
    started: bool,
    health: String,
}

impl Containers {
    /// The containers that pass the filters, the newest first. Versions below 1.52 have no `Health`.
    ///
    /// # Errors
    /// For filters that are not known or have values that make no sense.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<api::Summary>> {
        let wanted = self.wanted(&options).await?;
        let mut links = self.link_names();
        let mut rows: Vec<Row> =
            self.all().into_iter().map(|c| row(links.remove(&c.id).unwrap_or_default(), c)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.created));
        let mut listed = Vec::new();
        let mut before_passed = wanted.before.is_none();
        for mut row in rows {
            if !before_passed {
                before_passed = wanted.before.as_ref().is_some_and(|b| b.id == row.container.id);
                continue;
            }
            if wanted.since.as_ref().is_some_and(|s| s.id == row.container.id) || listed.len() == wanted.limit
            {
                break;
            }
            if !includes(&wanted, &row) {
                continue;
            }
            self.refresh_image(&mut row.summary).await;
            if options.size {
                let sizes = self.sizes(&row.container).await?;
                (row.summary.size_rw, row.summary.size_root_fs) = (sizes.rw, sizes.root);
            }
            listed.push(row.summary);
        }
        Ok(listed)
    }

    /// An image name that means another image by now, or none, gives way to the id.
    async fn refresh_image(&self, summary: &mut api::Summary) {
        if summary.image == summary.image_id {
            return;
        }
        let now = self.parts().images.resolve(&summary.image, None).await;
        if !now.is_ok_and(|image| image.id.to_string() == summary.image_id) {
            summary.image.clone_from(&summary.image_id);
        }
    }

    async fn wanted(&self, options: &ListOptions) -> Result<Wanted> {
        let filters = options.filters.clone();
        filters.validate(&KNOWN)?;
        let exited = filters.get("exited").map(exit_code).collect::<Result<_>>()?;
        check_words(&filters, "status", "state", &STATES)?;
        let is_task = match filters.contains("is-task") {
            true => Some(filters.bool("is-task")?.unwrap_or(false)),
            false => None,
        };
        check_words(&filters, "health", "health", &HEALTHS)?;
        let one = |key: &str| filters.get(key).last().map(|name| self.get(name)).transpose();
        let (before, since) = (one("before")?, one("since")?);
        let mut images = filters.contains("ancestor").then(BTreeSet::new);
        if let Some(images) = &mut images {
            for name in filters.get("ancestor") {
                match self.parts().images.resolve(name, None).await {
                    Ok(image) => drop(images.insert(image.id.to_string())),
                    Err(error) => tracing::debug!(name, %error, "ancestor not found"),
                }
            }
        }
        Ok(Wanted {
            all: options.all || options.limit > 0 || filters.contains("status"),
            limit: usize::try_from(options.limit).ok().filter(|n| *n > 0).unwrap_or(usize::MAX),
            exited,
            is_task,
            images,
            publish: ports(&filters, "publish")?,
            expose: ports(&filters, "expose")?,
            before,
            since,
            filters,
        })
    }
}

fn exit_code(value: &str) -> Result<i32> {
    value.parse().map_err(|_| {
        Error::Invalid(format!(
            "invalid filter 'exited={value}': strconv.Atoi: parsing {value:?}: invalid syntax"
        ))
    })
}

fn check_words(filters: &Filters, key: &str, what: &str, known: &[&str]) -> Result<()> {
    match filters.get(key).find(|value| !known.contains(value)) {
        None => Ok(()),
        Some(value) => invalid(format!(
            "invalid filter '{key}={value}': invalid value for {what} ({value}): must be one of {}",
            known.join(", ")
        )),
    }
}

fn ports(filters: &Filters, key: &str) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for value in filters.get(key) {
        if value.contains(':') {
            return Err(Error::Refused(format!("filter for '{key}' should not contain ':': {value}")));
        }
        let range: PortRange = value
            .parse()
            .map_err(|e| Error::Refused(format!("error while looking up for {key} {value}: {e}")))?;
        all.extend(range.ports().map(|port| port.to_string()));
    }
    Ok(all)
}

fn includes(wanted: &Wanted, row: &Row) -> bool {
    let (f, summary) = (&wanted.filters, &row.summary);
    let by_id = !f.contains("id") || f.get("id").any(|prefix| summary.id.starts_with(prefix));
    (wanted.all || row.running)
        && summary
            .names
            .iter()
            .any(|name| f.regex_match("name", name) || f.regex_match("name", name.trim_start_matches('/')))
        && by_id
        && wanted.is_task.is_none_or(|task| task == row.managed)
        && f.match_labels("label", &summary.labels)
        && (wanted.exited.is_empty()
            || (row.started && !row.running && wanted.exited.contains(&row.exit_code)))
        && f.exact_match("status", &summary.state)
        && f.exact_match("health", &row.health)
        && has_volume(f, summary)
        && wanted.images.as_ref().is_none_or(|images| images.contains(&summary.image_id))
        && has_network(f, summary)
        && has_port(wanted, summary)
}

fn has_volume(filters: &Filters, summary: &api::Summary) -> bool {
    let has = |value: &str| {
        summary.mounts.iter().any(|m| {
            let name = if m.name.is_empty() { &m.source } else { &m.name };
            name == value || m.destination == value
        })
    };
    !filters.contains("volume") || filters.get("volume").any(has)
}

fn has_network(filters: &Filters, summary: &api::Summary) -> bool {
    let networks = summary.network_settings.as_ref().map(|s| &s.networks);
    let has = |value: &str| {
        networks.is_some_and(|all| {
            all.contains_key(value) || all.values().any(|n| n.network_id.starts_with(value))
        })
    };
    !filters.contains("network") || filters.get("network").any(has)
}

fn has_port(wanted: &Wanted, summary: &api::Summary) -> bool {
    if wanted.publish.is_empty() && wanted.expose.is_empty() {
        return true;
    }
    summary.ports.iter().any(|port| {
        wanted.publish.contains(&format!("{}/{}", port.public_port, port.protocol))
            || wanted.expose.contains(&format!("{}/{}", port.private_port, port.protocol))
    })
}

/// `links` are its names as a linked container.
fn row(links: Vec<String>, container: Arc<Container>) -> Row {
    let owner = Arc::clone(&container);
    container.with(|state| {
        let facts = state.status.facts();
        let health = state.health.as_ref();
        let word = health.map_or("none", |h| h.status.as_str()).to_owned();
        Row {
            summary: summary(&owner, state, links, &word),
            created: state.record.created,
            running: facts.running,
            managed: state.record.managed,
            exit_code: facts.exit_code,
            started: facts.started_at.is_some(),
            health: word,
            container: owner,
        }
    })
}

fn summary(container: &Container, state: &State, links: Vec<String>, health: &str) -> api::Summary {
    let mut names = links;
    names.push(format!("/{}", state.name));
    names.sort();
    let record = &state.record;
    let networks = record.network_settings.networks.iter();
    let networks = networks.map(|(name, e)| (name.clone(), shown_endpoint(&e.settings))).collect();
    api::Summary {
        id: container.id.to_string(),
        names,
        image: record.config.image.clone(),
        image_id: record.image.clone(),
        image_manifest_descriptor: record.image_manifest.clone(),
        command: command(&record.path, record.args.as_deref().unwrap_or_default()),
        created: record.created.unix(),
        ports: shown_ports(record.network_settings.ports.as_ref()),
        labels: record.config.labels.clone().unwrap_or_default(),
        state: state.status.word().into(),
        status: status_for_people(state, Timestamp::now()),
        host_config: api::SummaryHostConfig {
            network_mode: state.host.network_mode.to_string(),
            annotations: state.host.annotations.clone(),
        },
        health: Some(api::HealthSummary {
            status: health.to_owned(),
            failing_streak: state.health.as_ref().map_or(0, |h| h.failing_streak),
        }),
        network_settings: Some(api::NetworkSettingsSummary { networks }),
        mounts: record.mount_points.values().map(|p| p.to_api()).collect(),
        ..api::Summary::default()
    }
}

/// A list shows what came of an attachment, not what was asked for.
fn shown_endpoint(settings: &EndpointSettings) -> EndpointSettings {
    EndpointSettings { links: None, aliases: None, driver_opts: None, dns_names: None, ..settings.clone() }
}

fn shown_ports(ports: Option<&api::PortMap>) -> Vec<api::PortSummary> {
    let mut all = Vec::new();
    for (port, bindings) in ports.into_iter().flatten() {
        let own = api::PortSummary {
            private_port: port.number(),
            protocol: port.protocol().to_owned(),
            ..api::PortSummary::default()
        };
        let bindings = bindings.as_deref().unwrap_or_default();
        if bindings.is_empty() {
            all.push(own.clone());
        }
        for binding in bindings {
            if let Ok(range) = binding.host_port.parse::<PortRange>() {
                let ip = binding.host_ip.clone();
                all.push(api::PortSummary { ip, public_port: range.start, ..own.clone() });
            }
        }
    }
    all
}

/// Arguments with blanks are quoted.
fn command(path: &str, args: &[String]) -> String {
    let mut text = path.to_owned();
    for arg in args {
        text.push(' ');
        if arg.contains(' ') {
            text.push_str(&format!("'{arg}'"));
        } else {
            text.push_str(arg);
        }
    }
    text
}

/// `Up 2 hours (healthy)` (source: moby `daemon/container/state.go`, String).
fn status_for_people(state: &State, now: Timestamp) -> String {
    let facts = state.status.facts();
    let since =
        |time: Option<Timestamp>| clock::human_duration(time.map_or(0, |t| now.duration_since(t).as_secs()));
    match facts.word {
        "running" => {
            let up = format!("Up {}", since(facts.started_at));
            match state.health.as_ref().map(|h| h.status.as_str()) {
                None | Some("none" | "") => up,
                Some("starting") => format!("{up} (health: starting)"),
                Some(health) => format!("{up} ({health})"),
            }
        }
        "paused" => format!("Up {} (Paused)", since(facts.started_at)),
        "restarting" => format!("Restarting ({}) {} ago", facts.exit_code, since(facts.finished_at)),
        "removing" => "Removal In Progress".into(),
        "dead" => "Dead".into(),
        "created" => "Created".into(),
        _ if facts.finished_at.is_none() => String::new(),
        _ => format!("Exited ({}) {} ago", facts.exit_code, since(facts.finished_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_dockers() {
        let filters = |json| Filters::from_json(json).unwrap();
        let status = check_words(&filters(r#"{"status":["nosuch"]}"#), "status", "state", &STATES);
        assert_eq!(
            status.unwrap_err().to_string(),
            "invalid filter 'status=nosuch': invalid value for state (nosuch): must be one of created, running, paused, restarting, removing, exited, dead"
        );
        assert_eq!(
            exit_code("x").unwrap_err().to_string(),
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert!(ports(&filters(r#"{"publish":["1:2"]}"#), "publish").is_err());
        assert_eq!(ports(&filters(r#"{"publish":["80-81/udp"]}"#), "publish").unwrap().len(), 2);
    }

    #[test]
    fn commands_are_quoted() {
        assert_eq!(command("sh", &["-c".into(), "echo hi".into()]), "sh -c 'echo hi'");
        assert_eq!(command("true", &[]), "true");
    }

    #[test]
    fn ports_are_shown_per_binding() {
        let mut map = api::PortMap::new();
        let binding = |ip: &str| api::PortBinding { host_ip: ip.into(), host_port: "8080".into() };
        map.insert("80/tcp".parse().unwrap(), Some(vec![binding("0.0.0.0"), binding("::")]));
        map.insert("81/tcp".parse().unwrap(), None);
        let shown = shown_ports(Some(&map));
        assert_eq!(shown.len(), 3);
        assert_eq!((shown[0].public_port, shown[2].public_port), (8080, 0));
    }
}
