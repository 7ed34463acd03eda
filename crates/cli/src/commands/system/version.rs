//! `docker version`.

use crate::{
    cli::{BUILD, Cli, VERSION},
    client::{API_VERSION, Query},
    command::{Command, runs},
    commands::{print, say},
    error::{Error, Result},
    flags::{Flag, Matches},
    format::{
        INSPECT_FORMAT,
        json::{Ordered, to_template},
        table::{Tabs, align},
        template::Format,
    },
};
use serde_json::{Value, json};
use wharf_api::system::{Component, VersionResponse};

/// `docker version`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Show the Docker version information",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[Flag::text("format", INSPECT_FORMAT).short('f')];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let template = match m.text("format") {
        "" => None,
        "json" => Some(Format::parse("{{json .}}")?),
        source => Some(Format::parse(source).map_err(|e| Error::Status { code: 64, text: e.to_string() })?),
    };
    let client = cli.client().await;
    let api = client.as_ref().map_or(API_VERSION, |client| client.version());
    let server = match &client {
        Ok(client) => client.get::<VersionResponse>("/version", Query::new()).await,
        Err(_) => Err(Error::text("")),
    };
    match template {
        Some(template) => {
            let both = json!({"Client": client_object(&cli, &api.to_string()), "Server": server_object(server.as_ref().ok())});
            let value =
                Ordered::parse(both.to_string().as_bytes()).map_err(|e| Error::text(e.to_string()))?;
            say(&template.fill(&to_template(&value))?);
        }
        None => print(&text(&cli, &api.to_string(), server.as_ref().ok())),
    }
    client?;
    server.map(drop)
}

fn client_object(cli: &Cli, api: &str) -> Value {
    json!({
        "Version": VERSION, "ApiVersion": api, "APIVersion": api, "DefaultAPIVersion": API_VERSION.to_string(),
        "GitCommit": BUILD, "GoVersion": "", "Os": std::env::consts::OS,
        "Arch": wharf_spec::Platform::host().architecture, "BuildTime": "", "Context": cli.context(),
    })
}

fn server_object(server: Option<&VersionResponse>) -> Value {
    let mut value = server.map_or(Value::Null, |s| serde_json::to_value(s).unwrap_or_default());
    if let Some(version) = value.get("ApiVersion").cloned() {
        value["APIVersion"] = version;
    }
    value
}

fn text(cli: &Cli, api: &str, server: Option<&VersionResponse>) -> String {
    let downgraded = if api == API_VERSION.to_string() {
        String::new()
    } else {
        format!(" (downgraded from {API_VERSION})")
    };
    let host = wharf_spec::Platform::host();
    let mut out = format!(
        "Client:\n Version:\t{VERSION}\n API version:\t{api}{downgraded}\n Git commit:\t{BUILD}\n OS/Arch:\t{}/{}\n Context:\t{}\n",
        host.os,
        host.architecture,
        cli.context()
    );
    if let Some(server) = server {
        out.push_str(&server_text(server));
    }
    align(&out, Tabs { min: 20, padding: 1 })
}

fn server_text(server: &VersionResponse) -> String {
    let name =
        if server.platform.name.is_empty() { String::new() } else { format!(" {}", server.platform.name) };
    let mut out = format!("\nServer:{name}\n");
    let engine = server.components.iter().find(|c| c.name == "Engine");
    for component in &server.components {
        out.push_str(&format!(" {}:\n", component.name));
        if component.name == "Engine" {
            out.push_str(&engine_text(component));
            continue;
        }
        out.push_str(&format!("  Version:\t{}\n", component.version));
        for (key, value) in &component.details {
            out.push_str(&format!("  {key}:\t{value}\n"));
        }
    }
    if engine.is_none() {
        let detail = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let component = Component {
            name: "Engine".to_owned(),
            version: server.version.clone(),
            details: [
                detail("ApiVersion", &server.api_version),
                detail("MinAPIVersion", &server.min_api_version),
                detail("GoVersion", &server.go_version),
                detail("GitCommit", &server.git_commit),
                detail("BuildTime", &server.build_time),
                detail("Os", &server.os),
                detail("Arch", &server.arch),
                detail("Experimental", &server.experimental.to_string()),
            ]
            .into(),
        };
        out.push_str(&format!(" Engine:\n{}", engine_text(&component)));
    }
    out
}

fn engine_text(component: &Component) -> String {
    let detail = |key: &str| component.details.get(key).map_or("", String::as_str);
    format!(
        "  Version:\t{}\n  API version:\t{} (minimum version {})\n  Go version:\t{}\n  Git commit:\t{}\n  Built:\t{}\n  OS/Arch:\t{}/{}\n  Experimental:\t{}\n",
        component.version,
        detail("ApiVersion"),
        detail("MinAPIVersion"),
        detail("GoVersion"),
        detail("GitCommit"),
        ansi_c(detail("BuildTime")),
        detail("Os"),
        detail("Arch"),
        detail("Experimental")
    )
}

/// A time as Go's `time.ANSIC` writes it; what is no time stays as it is.
fn ansi_c(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string(),
        Err(_) => text.to_owned(),
    }
}
