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
use std::collections::{BTreeMap, BTreeSet};
use wharf_dockerfile::{
    Patterns,
    lint::{self, Finding},
};
use wharf_spec::Platform;

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

/// Checks the file; nothing is built. The daemon is asked for what it has of images.
///
/// # Errors
/// Status 1 where something is found, and when there is no file to read.
pub(super) async fn run(cli: &Cli, m: &Matches) -> Result<()> {
    let context = Context::find(m.arg(0), m.text("file"))?;
    let linter = Linter::new(cli, m, &context)?.ok_or_else(|| {
        Error::text("ERROR: not implemented in Wharf yet: --check of a context that is no directory")
    })?;
    let found = linter.find(cli).await.map_err(failed)?;
    if found.is_empty() {
        print("Check complete, no warnings found.\n");
        return Ok(());
    }
    let count = match found.len() {
        1 => "1 warning has been found!".to_owned(),
        n => format!("{n} warnings have been found!"),
    };
    print(&format!("Check complete, {count}\n{}", report(&found, &linter.text, &linter.name)));
    Err(Error::exit(1))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::text(format!("ERROR: failed to build: failed to solve: {error}"))
}

/// What a file is checked with.
pub(super) struct Linter {
    text: String,
    name: String,
    ignored: Option<Patterns>,
    arguments: BTreeMap<String, String>,
    target: Option<Platform>,
}

impl Linter {
    /// `None` where this machine does not have the file.
    ///
    /// # Errors
    /// When there is no such platform.
    pub(super) fn new(cli: &Cli, m: &Matches, context: &Context) -> Result<Option<Self>> {
        let Some(text) = context.dockerfile_text() else { return Ok(None) };
        let given = request::build_args(cli, m).into_iter();
        Ok(Some(Self {
            text,
            name: context.dockerfile_name(),
            ignored: context.ignored().cloned(),
            arguments: given.filter_map(|(name, value)| Some((name, value?))).collect(),
            target: request::platform(m)?.parse().ok(),
        }))
    }

    async fn find(&self, cli: &Cli) -> std::result::Result<Vec<Finding>, wharf_dockerfile::Error> {
        let images = images(cli, lint::bases(&self.text, &self.arguments)?).await;
        let environment = |(name, image): (&String, &Inspected)| {
            (name.clone(), image.config.as_ref().and_then(|config| config.env.clone()).unwrap_or_default())
        };
        let platform = |(name, image): (&String, &Inspected)| {
            let text = format!("{}/{}", image.os, image.architecture);
            Some((name.clone(), text.parse().ok()?))
        };
        let options = lint::Options {
            ignored: self.ignored.as_ref(),
            arguments: self.arguments.clone(),
            environments: images.iter().map(environment).collect(),
            platforms: images.iter().filter_map(platform).collect(),
            target: self.target.clone(),
        };
        lint::lint(&self.text, &options)
    }

    /// Ends the build before it begins, if the file wants that.
    ///
    /// # Errors
    /// `lint violation found for rules: ...`
    pub(super) async fn stop(&self, cli: &Cli) -> Result<()> {
        if !lint::is_error(&self.text, &self.arguments).map_err(failed)? {
            return Ok(());
        }
        let found = self.find(cli).await.map_err(failed)?;
        let Some(first) = found.first() else { return Ok(()) };
        let rules: BTreeSet<&str> = found.iter().map(|finding| finding.rule.name).collect();
        let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
        let lines: Vec<&str> = self.text.split('\n').collect();
        let excerpt = super::excerpt::around(&lines, &self.name, first.start, first.end, &"-".repeat(20));
        let text = format!(
            "{}{excerpt}ERROR: failed to build: failed to solve: lint violation found for rules: {rules}",
            self.summary(cli, &found)
        );
        Err(Error::Status { code: 1, text })
    }

    /// What is said at the end of a build (source: buildx `commands/build.go`, `printWarnings`). A file that cannot be
    /// read has its error already.
    pub(super) async fn warnings(&self, cli: &Cli) -> String {
        let found = self.find(cli).await.unwrap_or_default();
        self.summary(cli, &found)
    }

    fn summary(&self, cli: &Cli, found: &[Finding]) -> String {
        if found.is_empty() {
            return String::new();
        }
        let count = match found.len() {
            1 => "1 warning found".to_owned(),
            n => format!("{n} warnings found"),
        };
        let hint = if cli.is_debug() { "" } else { " (use docker --debug to expand)" };
        let line = |finding: &Finding| {
            let text = format!(" - {}: {} (line {})\n", finding.rule.name, finding.message, finding.start);
            let lines: Vec<&str> = self.text.split('\n').collect();
            let more =
                || super::excerpt::around(&lines, &self.name, finding.start, finding.end, &"-".repeat(20));
            if cli.is_debug() { format!("{text}More info: {}\n{}\n", finding.rule.url, more()) } else { text }
        };
        format!("\n {count}{hint}:\n{}", found.iter().map(line).collect::<String>())
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inspected {
    config: Option<Config>,
    architecture: String,
    os: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    env: Option<Vec<String>>,
}

/// Those images that are there. A file can be checked without a daemon.
async fn images(cli: &Cli, names: Vec<String>) -> BTreeMap<String, Inspected> {
    let mut known = BTreeMap::new();
    let Ok(client) = cli.client().await else { return known };
    for name in names {
        let path = format!("/images/{}/json", encode_path(&name));
        if let Ok(image) = client.get(&path, Query::new()).await {
            known.insert(name, image);
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
