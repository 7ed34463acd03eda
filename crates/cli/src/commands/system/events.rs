//! `docker events`.

use crate::{
    cli::Cli,
    client::{Call, JsonLines, Query},
    command::{Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    format::{
        INSPECT_FORMAT,
        json::{Ordered, to_template},
        template::Format,
        text::local_nanos,
    },
    opts::{filter, timestamp},
};
use http::Method;
use wharf_api::{event::Message, gojson};

/// `docker system events`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Get real time events from the server",
    also: "system events, events",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::filter("filter", "Filter output based on conditions provided").short('f'),
    Flag::text("format", INSPECT_FORMAT),
    Flag::text("since", "Show all events created since timestamp"),
    Flag::text("until", "Stream events until this timestamp"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let template = match m.text("format") {
        "" => None,
        format => {
            let source = if format == "json" { "{{json .}}" } else { format };
            let parsed = Format::parse(source);
            let failed = |e: Error| Error::Status { code: 64, text: format!("Error parsing format: {e}") };
            Some(parsed.map_err(failed)?)
        }
    };
    let query = Query::new()
        .with_text("since", &timestamp::parse(m.text("since")).map_err(Error::text)?)
        .with_text("until", &timestamp::parse(m.text("until")).map_err(Error::text)?)
        .with_filters(&filter::filters(m.all("filter")));
    let response = cli.client().await?.send(Call::new(Method::GET, "/events", query)).await?;
    let mut lines = JsonLines::of(response);
    while let Some(line) = lines.next().await? {
        match &template {
            Some(template) => {
                let value = Ordered::parse(&line).map_err(|e| Error::text(e.to_string()))?;
                say(&template.fill(&to_template(&value))?);
            }
            None => {
                let event: Message = gojson::from_slice(&line).map_err(|e| Error::text(e.to_string()))?;
                say(&text(&event));
            }
        }
    }
    Ok(())
}

fn text(event: &Message) -> String {
    let nanos = match event.time_nano {
        0 => i128::from(event.time) * 1_000_000_000,
        nanos => i128::from(nanos),
    };
    let time = if nanos == 0 { String::new() } else { format!("{} ", local_nanos(nanos)) };
    let attributes: Vec<String> = event.actor.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let attributes =
        if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    format!("{time}{} {} {}{attributes}", event.kind, event.action, event.actor.id)
}
