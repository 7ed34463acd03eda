//! `docker build --check`: what is doubtful in a Dockerfile, by BuildKit's rules (source: buildx
//! `commands/build.go`, buildkit `frontend/subrequests/lint/lint.go`).

use super::{context::Context, request};
use crate::{
    cli::Cli,
    client::{Query, encode_path},
    commands::print,
    error::{Error, Result},
    flags::Matches,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use wharf_dockerfile::lint::{self, Finding};

/// Whether the build is only checked.
///
/// # Errors
/// For a method that there is not.
pub(super) fn is_asked_for(m: &Matches) -> Result<bool> {
    match m.text("call") {
        _ if m.is("check") => Ok(true),
        "" | "build" => Ok(false),
        "check" | "lint" => Ok(true),
        other => Err(Error::text(format!("ERROR: not implemented in Wharf yet: --call {other}"))),
    }
}

/// Checks the file; nothing is built. The daemon is asked for the environments of images that it has.
///
/// # Errors
/// Status 1 where something is found, and when there is no file to read.
pub(super) async fn run(cli: &Cli, m: &Matches) -> Result<()> {
    let context = Context::find(m.arg(0), m.text("file"))?;
    let text = context.dockerfile_text().ok_or_else(|| {
        Error::text("ERROR: not implemented in Wharf yet: --check of a context that is no directory")
    })?;
    let failed = |error| Error::text(format!("ERROR: failed to build: failed to solve: {error}"));
    let arguments: BTreeMap<String, String> =
        request::build_args(cli, m).into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let bases = lint::bases(&text, &arguments).map_err(failed)?;
    let environments = environments(cli, bases).await;
    let options = lint::Options { ignored: context.ignored(), arguments, environments };
    let found = lint::lint(&text, &options).map_err(failed)?;
    if found.is_empty() {
        print("Check complete, no warnings found.\n");
        return Ok(());
    }
    let count = match found.len() {
        1 => "1 warning has been found!".to_owned(),
        n => format!("{n} warnings have been found!"),
    };
    print(&format!("Check complete, {count}\n{}", report(&found, &text, &context.dockerfile_name())));
    Err(Error::exit(1))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inspected {
    config: Option<Config>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    env: Option<Vec<String>>,
}

/// Environments of those images that are there. A file can be checked without a daemon.
async fn environments(cli: &Cli, images: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut known = BTreeMap::new();
    let Ok(client) = cli.client().await else { return known };
    for image in images {
        let path = format!("/images/{}/json", encode_path(&image));
        if let Ok(Inspected { config }) = client.get(&path, Query::new()).await {
            known.insert(image, config.and_then(|config| config.env).unwrap_or_default());
        }
    }
    known
}

fn report(found: &[Finding], text: &str, name: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let rule = "-".repeat(20);
    let mut out = String::new();
    for finding in found {
        let url =
            if finding.rule.url.is_empty() { String::new() } else { format!(" - {}", finding.rule.url) };
        out.push_str(&format!("\nWARNING: {}{url}\n{}\n", finding.rule.name, finding.message));
        out.push_str(&super::excerpt::around(&lines, name, finding.start, finding.end, &rule));
    }
    out
}
