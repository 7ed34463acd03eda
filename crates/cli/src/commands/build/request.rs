//! The request of a build: parameters and headers (source: docker/cli `vendor/.../client/image_build.go`).

use super::{context::Context, transfer::Tree};
use crate::{
    cli::Cli,
    client::{Call, Query},
    commands::container::cp::progress::Counter,
    error::{Error, Result},
    flags::Matches,
    opts::{csv, hosts, keyvalue, ulimit},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use http::{Method, Response};
use hyper::body::Incoming;
use serde::Serialize;
use std::collections::BTreeMap;
use wharf_spec::{ImageRef, Platform};

/// Secrets for commands: the daemon's own extension of the classic builder.
const SECRETS: &str = "x-wharf-build-secrets";
/// Where the daemon finds what it builds from: its own extension too.
const CONTEXTS: &str = "x-wharf-build-contexts";
/// All secrets together, in bytes: a header carries them.
const MAX_SECRETS: usize = 128 << 10;

/// Refuses what the daemon cannot do, in words that say so.
///
/// # Errors
/// Where such a thing is asked for.
pub(super) fn refuse(m: &Matches) -> Result<()> {
    let refused = |what: &str| Err(Error::text(format!("ERROR: not implemented in Wharf yet: {what}")));
    for name in ["annotation", "compress", "squash", "ssh"] {
        if m.given(name) && !matches!(m.text(name), "false") {
            return refused(&format!("--{name}"));
        }
    }
    for name in ["attest", "provenance", "sbom"] {
        if m.given(name) && !is_off(m.text(name)) {
            return refused(&format!("--{name}: attestations"));
        }
    }
    if let Some(entitlement) = m.split("allow").first() {
        return refused(&format!(
            "--allow {entitlement}: with --network=host commands may use the host's network"
        ));
    }
    if m.given("builder") && !matches!(m.text("builder"), "" | "default") {
        return Err(Error::text(format!("ERROR: no builder {:?} found", m.text("builder"))));
    }
    Ok(())
}

/// `false`, or `type=...,disabled=true`
fn is_off(text: &str) -> bool {
    text == "false" || text.split(',').any(|field| field == "disabled=true")
}

/// The request, its body still to come.
///
/// # Errors
/// When a flag makes no sense.
pub(super) fn call(
    cli: &Cli,
    m: &Matches,
    context: &Context,
    tags: &[ImageRef],
    cache_from: &[String],
) -> Result<Call> {
    let switch = |name: &str| if m.switch(name).unwrap_or(name == "rm") { "1" } else { "0" };
    let mut query = Query::new().with("version", "1").with("rm", switch("rm"));
    for tag in tags {
        query = query.with("t", &tag.to_string());
    }
    for host in m.all("add-host") {
        query = query.with("extrahosts", &hosts::extra_host(host));
    }
    for option in m.split("security-opt") {
        query = query.with("securityopt", &option);
    }
    query = query
        .with_switch("forcerm", m.is("force-rm"))
        .with_switch("nocache", m.is("no-cache"))
        .with_switch("pull", m.is("pull"))
        .with_switch("wharf-explain", m.is("explain"))
        .with_text("wharf-stages", if super::style(m)?.is_some() { "needed" } else { "" })
        .with_text("wharf-no-cache-filter", &json(&m.split("no-cache-filter")))
        .with_text("target", m.text("target"))
        .with_text("networkmode", m.text("network"))
        .with_text("isolation", m.text("isolation"))
        .with_text("cgroupparent", m.text("cgroup-parent"))
        .with_text("cpusetcpus", m.text("cpuset-cpus"))
        .with_text("cpusetmems", m.text("cpuset-mems"))
        .with_text("platform", &platform(m)?)
        .with_text("buildargs", &json(&build_args(cli, m)))
        .with_text("labels", &json(&keyvalue::map(m.all("label"))))
        .with_text("cachefrom", &json(&cache_from))
        .with_text("ulimits", &json(&ulimit::all(m.all("ulimit"))));
    for (parameter, flag) in
        [("cpuperiod", "cpu-period"), ("cpuquota", "cpu-quota"), ("cpushares", "cpu-shares")]
    {
        query = query.with_text(parameter, m.text(flag));
    }
    for (parameter, flag) in [("memory", "memory"), ("memswap", "memory-swap"), ("shmsize", "shm-size")] {
        let size = if m.given(flag) { m.bytes(flag).to_string() } else { String::new() };
        query = query.with_text(parameter, &size);
    }
    let auths = cli.config().all_auths().unwrap_or_default();
    let auths = URL_SAFE.encode(serde_json::to_vec(&auths).unwrap_or_default());
    Ok(Call::new(Method::POST, "/build", context.parameters(query))
        .header("x-registry-config", auths)
        .header(SECRETS, secrets(m.all("secret"))?))
}

/// A value as a parameter; what is empty is none.
fn json<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    if matches!(text.as_str(), "{}" | "[]") { String::new() } else { text }
}

/// One platform: an index of several needs a store that keeps one.
pub(super) fn platform(m: &Matches) -> Result<String> {
    let given = m.split("platform");
    let default = std::env::var("DOCKER_DEFAULT_PLATFORM").ok();
    let text = match given.as_slice() {
        [] => default.unwrap_or_default(),
        [one] => one.clone(),
        _ => {
            return Err(Error::text(
                "ERROR: failed to build: Multi-platform build is not supported for the docker driver.",
            ));
        }
    };
    if !text.is_empty() {
        text.parse::<Platform>().map_err(|e| Error::text(format!("ERROR: {e}")))?;
    }
    Ok(text)
}

/// `NAME` alone takes our value, and is null without one.
pub(super) fn build_args(cli: &Cli, m: &Matches) -> BTreeMap<String, Option<String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.clone(), std::env::var(text).ok()),
    };
    let mut args: BTreeMap<String, Option<String>> = m.all("build-arg").iter().map(pair).collect();
    let proxies = cli.config().proxy_variables(cli.address().host_header(), m.all("build-arg"));
    args.extend(proxies.iter().map(pair));
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        args.entry("SOURCE_DATE_EPOCH".into()).or_insert(Some(epoch));
    }
    args
}

/// Refuses what only Wharf's daemon can do, where the daemon is another.
///
/// # Errors
/// In words that say so.
pub(super) async fn require_wharf(cli: &Cli, what: &str) -> Result<()> {
    let version: wharf_api::system::VersionResponse =
        cli.client().await?.get("/version", Query::new()).await?;
    if version.components.iter().any(|component| component.name == "wharfd") {
        return Ok(());
    }
    Err(Error::text(format!("ERROR: the daemon is not Wharf's: it cannot do {what}")))
}

/// A request and what it is made from, on its way: directories go ahead to a daemon that keeps them.
pub(super) struct Prepared {
    call: Call,
    context: Context,
    named: Vec<(String, Source)>,
}

/// What a name stands for.
enum Source {
    Directory(Tree),
    /// The daemon's to fetch.
    Address(String),
}

impl Prepared {
    /// With what `--build-context` says.
    ///
    /// # Errors
    /// When a directory is missing, and for addresses that the daemon cannot fetch.
    pub(super) fn new(m: &Matches, call: Call, context: Context) -> Result<Self> {
        let named = m.all("build-context").iter().map(|text| named(text)).collect::<Result<_>>()?;
        Ok(Self { call, context, named })
    }

    /// Sends it, the bytes of files counted; gives the answer.
    ///
    /// # Errors
    /// The daemon's.
    pub(super) async fn send(self, cli: &Cli, counter: &Counter) -> Result<Response<Incoming>> {
        let mut contexts: BTreeMap<String, BTreeMap<&str, String>> = BTreeMap::new();
        for (name, source) in self.named {
            let (kind, value) = match source {
                Source::Address(address) => ("address", address),
                Source::Directory(tree) => {
                    let unable = || Error::text("ERROR: --build-context: the daemon keeps no build contexts");
                    ("id", tree.bring(cli, counter).await?.ok_or_else(unable)?)
                }
            };
            contexts.insert(name, BTreeMap::from([(kind, value)]));
        }
        let mut file = None;
        if let Some((tree, text)) = self.context.tree()?
            && let Some(id) = tree.bring(cli, counter).await?
        {
            contexts.insert(String::new(), BTreeMap::from([("id", id)]));
            file = Some(text);
        }
        let mut call = self.call;
        if !contexts.is_empty() {
            let json = serde_json::to_vec(&contexts).map_err(|e| Error::text(e.to_string()))?;
            call = call.header(CONTEXTS, URL_SAFE.encode(json));
        }
        let call = match file {
            Some(text) => call.tar(futures_util::stream::iter([Ok(text.into())])),
            None => self.context.send(call, counter),
        };
        cli.client().await?.send(call).await
    }
}

/// `name=path|docker-image://...|https://...|git...` (source: buildx `util/buildflags/context.go`).
fn named(text: &str) -> Result<(String, Source)> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Error::text(format!("ERROR: invalid context value: {text}, expected key=value")))?;
    if name.is_empty() || value.is_empty() {
        return Err(Error::text(format!("ERROR: invalid context value: {text}, expected key=value")));
    }
    let is_address = value.starts_with("docker-image://") || super::context::is_remote(value);
    let source = match value {
        _ if is_address => Source::Address(value.to_owned()),
        _ if value.contains("://") => {
            return Err(Error::text(format!("ERROR: not implemented in Wharf yet: --build-context {value}")));
        }
        path => Source::Directory(super::context::named(path)?),
    };
    Ok((name.to_owned(), source))
}

/// The header of all secrets, or nothing.
fn secrets(given: &[String]) -> Result<String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut size = 0;
    for text in given {
        let (id, value) = secret(text)?;
        size += value.len();
        if size > MAX_SECRETS {
            return Err(Error::text(format!(
                "ERROR: secret {id} too big: all secrets together may have {MAX_SECRETS} bytes"
            )));
        }
        all.insert(id, URL_SAFE.encode(value));
    }
    if all.is_empty() {
        return Ok(String::new());
    }
    let json = serde_json::to_vec(&all).map_err(|e| Error::text(e.to_string()))?;
    Ok(URL_SAFE.encode(json))
}

/// `id=name[,src=file|,env=VARIABLE]` (source: buildx `util/buildflags/secrets.go`, buildkit
/// `session/secrets/secretsprovider/store.go`).
fn secret(text: &str) -> Result<(String, Vec<u8>)> {
    let refused = |why: String| Error::text(format!("ERROR: {why}"));
    let (mut id, mut file, mut variable, mut kind) =
        (String::new(), String::new(), String::new(), String::new());
    for field in csv::fields(text).map_err(|why| refused(format!("failed to parse csv secret: {why}")))? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(refused(format!("invalid field '{field}' must be a key=value pair")));
        };
        match key.to_lowercase().as_str() {
            "type" if matches!(value, "file" | "env") => kind = value.into(),
            "type" => return Err(refused(format!("unsupported secret type {value:?}"))),
            "id" => id = value.into(),
            "source" | "src" => file = value.into(),
            "env" => variable = value.into(),
            _ => return Err(refused(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    if id.is_empty() {
        return Err(refused("secret missing id".into()));
    }
    if kind == "env" && variable.is_empty() {
        variable = std::mem::take(&mut file);
    }
    if variable.is_empty() && file.is_empty() {
        if std::env::var_os(&id).is_some() { variable.clone_from(&id) } else { file.clone_from(&id) }
    }
    let value = if variable.is_empty() {
        let failed =
            |e: std::io::Error| refused(format!("failed to stat {file}: {}", keyvalue::go_error(&e)));
        std::fs::read(&file).map_err(failed)?
    } else {
        std::env::var_os(&variable).map(|value| value.into_encoded_bytes()).unwrap_or_default()
    };
    Ok((id, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s");
        std::fs::write(&file, "hunter2").unwrap();
        let of_file = secret(&format!("id=a,src={}", file.display())).unwrap();
        assert_eq!(of_file, ("a".to_owned(), b"hunter2".to_vec()));
        let path = std::env::var("PATH").unwrap().into_bytes();
        assert_eq!(secret("id=b,env=PATH").unwrap().1, path);
        assert_eq!(secret("type=env,id=PATH").unwrap().1, path);
        let error = |text: &str| secret(text).unwrap_err().to_string();
        assert_eq!(error("src=x"), "ERROR: secret missing id");
        assert_eq!(error("x"), "ERROR: invalid field 'x' must be a key=value pair");
        assert_eq!(error("id=x,src=/nosuch"), "ERROR: failed to stat /nosuch: no such file or directory");
        assert_eq!(error("id=x,colour=red"), "ERROR: unexpected key 'colour' in 'colour=red'");
        assert!(is_off("false") && is_off("type=sbom,disabled=true") && !is_off("true"));
    }
}
