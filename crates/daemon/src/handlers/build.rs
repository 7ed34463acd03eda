//! The builder's endpoints (source: moby `daemon/server/router/build/build_routes.go`).

use super::progress::{self, EarlyErrors};
use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use base64::{Engine as _, engine::general_purpose};
use http::StatusCode;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use wharf_api::{
    Version,
    auth::AuthConfig,
    build_cache::PruneReport,
    container::{HostConfig, Ulimit},
};
use wharf_engine::builds::{BuildImage, ContextSource, PruneCaches, Request, Stages, UpdateContext};
use wharf_spec::{ErrorKind, ParsePlatformError};

/// A client's secrets for commands, `{"id": "<base64>"}` in base64: an extension of ours, for classic builds have none.
const SECRETS: &str = "x-wharf-build-secrets";

/// Contexts of a build that the daemon has, by their names, `{"": {"id": "..."}, "name": {"address": "..."}}` in base64: an
/// extension of ours. With one that has the empty name, the body is the Dockerfile.
const CONTEXTS: &str = "x-wharf-build-contexts";
/// What a context is called, by its client.
const CONTEXT: &str = "x-wharf-build-context";
/// What it was called before.
const CONTEXT_FROM: &str = "x-wharf-build-context-from";

/// `POST /build/context`: a context, or what has changed in one, ahead of the build. An extension of ours; that there is
/// no such endpoint tells a client to send an archive.
pub(crate) async fn context(call: Call) -> Result<Reply> {
    let update =
        UpdateContext { id: call.header(CONTEXT).to_owned(), from: call.header(CONTEXT_FROM).to_owned() };
    let builds = call.app.engine.builds.clone();
    builds.update_context(update, call.body_stream()).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// `POST /build`
pub(crate) async fn build(call: Call) -> Result<Reply> {
    let options = options(&call)?;
    let builds = call.app.engine.builds.clone();
    let context = call.body_stream();
    progress::run(EarlyErrors::Status, |sender| async move { builds.build(options, context, sender).await })
        .await
}

/// `POST /build/prune`: steps of classic builds are images, which `image prune` removes; what is freed here are cache
/// mounts.
pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let keep = ["reserved-space", "keep-storage"].map(|key| bytes(&call, key));
    let [reserved, keep] = keep;
    let keep = Some(reserved?).filter(|bytes| *bytes > 0).unwrap_or(keep?);
    let wanted = PruneCaches { keep, filters: call.form.filters()? };
    let pruned = call.app.engine.builds.prune(wanted).await?;
    let caches_deleted = (!pruned.ids.is_empty()).then_some(pruned.ids);
    reply::ok(&PruneReport { caches_deleted, space_reclaimed: pruned.freed })
}

/// A parameter that is a number of bytes.
fn bytes(call: &Call, key: &str) -> Result<u64> {
    let text = call.form.get(key);
    let wrong = |_| Error::invalid(format!("{key} is in bytes and expects an integer, got {text}"));
    if text.is_empty() { Ok(0) } else { text.parse().map_err(wrong) }
}

/// `GET /images/{name}/files`: an image's files as one tree, for a build whose outcome is files. An extension of ours.
pub(crate) async fn files(call: Call) -> Result<Reply> {
    let tar = call.app.engine.builds.files(call.var("name")).await?;
    Ok(reply::stream("application/x-tar", tar))
}

/// `POST /build/cancel`
pub(crate) async fn cancel(call: Call) -> Result<Reply> {
    match call.form.get("id") {
        "" => Err(Error::invalid("build ID not provided")),
        id => {
            call.app.engine.builds.cancel(id);
            Ok(reply::empty(StatusCode::OK))
        }
    }
}

fn options(call: &Call) -> Result<BuildImage> {
    let form = &call.form;
    if form.has("securityopt") {
        return Err(Error::invalid("security options are not supported on linux"));
    }
    match form.get("version") {
        "" | "1" => {}
        "2" => return Err(not_built("BuildKit's builds (version=2)")),
        other => return Err(Error::invalid(format!("invalid version {other:?}"))),
    }
    if form.bool("squash") {
        return Err(Error::invalid("squash is only supported with experimental mode"));
    }
    if call.version >= Version(1, 40) && !matches!(form.get("outputs"), "" | "[]" | "null") {
        return Err(not_built("outputs of a build"));
    }
    let platform = match form.get("platform") {
        text if text.is_empty() || call.version < Version(1, 32) => None,
        text => Some(text.parse().map_err(|error: ParsePlatformError| Error::invalid(error.to_string()))?),
    };
    let force_remove = form.bool("forcerm");
    let build_args: BTreeMap<String, Option<String>> = json(call, "buildargs", "error reading build args")?;
    let epoch = build_args.get("SOURCE_DATE_EPOCH").cloned().flatten().filter(|text| !text.is_empty());
    let epoch = epoch.map(|text| {
        text.parse().map_err(|_| {
            Error::invalid(format!("invalid SOURCE_DATE_EPOCH: {text:?} is no number of seconds"))
        })
    });
    let request = Request {
        build_args,
        epoch: epoch.transpose()?,
        labels: json(call, "labels", "error reading labels")?,
        target: form.get("target").to_owned(),
        no_cache: form.bool("nocache"),
        no_cache_filter: json(call, "wharf-no-cache-filter", "error reading no-cache-filter")?,
        stages: match form.get("wharf-stages") {
            "" | "all" => Stages::All,
            "needed" => Stages::Needed,
            other => return Err(Error::invalid(format!("invalid wharf-stages {other:?}"))),
        },
        explain: form.bool("wharf-explain"),
        pull: form.bool("pull"),
        remove: force_remove || form.get("rm").is_empty() || form.bool("rm"),
        force_remove,
        platform,
        host_network: false,
    };
    Ok(BuildImage {
        request,
        id: form.get("buildid").to_owned(),
        dockerfile: form.get("dockerfile").to_owned(),
        remote: form.get("remote").to_owned(),
        tags: form.all("t").map(str::to_owned).collect(),
        quiet: form.bool("q"),
        host: host(call)?,
        registries: registries(call),
        cache_from: json(call, "cachefrom", "error reading cache-from")?,
        secrets: secrets(call)?,
        contexts: contexts(call)?,
    })
}

/// How commands run.
fn host(call: &Call) -> Result<HostConfig> {
    let form = &call.form;
    // As moby, which takes what is no number as none.
    let number = |key: &str| form.get(key).trim().parse::<i64>().unwrap_or(0);
    let isolation = form.get("isolation");
    if !matches!(isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return Err(Error::invalid(format!("unsupported isolation: {isolation:?}")));
    }
    let ulimits: Vec<Ulimit> = json(call, "ulimits", "error reading ulimit settings")?;
    let hosts: Vec<String> = form.all("extrahosts").map(str::to_owned).collect();
    let mut host = HostConfig {
        network_mode: match form.get("networkmode") {
            "" => "default".into(),
            mode => mode.into(),
        },
        extra_hosts: (!hosts.is_empty()).then_some(hosts),
        shm_size: match form.get("shmsize") {
            "" => 0,
            text => text.parse().map_err(|_| {
                Error::new(ErrorKind::System, format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            })?,
        },
        ..HostConfig::default()
    };
    host.memory = number("memory");
    host.memory_swap = number("memswap");
    host.cpu_shares = number("cpushares");
    host.cpu_period = number("cpuperiod");
    host.cpu_quota = number("cpuquota");
    host.cpuset_cpus = form.get("cpusetcpus").to_owned();
    host.cpuset_mems = form.get("cpusetmems").to_owned();
    host.cgroup_parent = form.get("cgroupparent").to_owned();
    host.ulimits = (!ulimits.is_empty()).then_some(ulimits);
    Ok(host)
}

/// A parameter that is JSON; none is nothing.
fn json<T: DeserializeOwned + Default>(call: &Call, key: &str, what: &str) -> Result<T> {
    match call.form.get(key) {
        "" => Ok(T::default()),
        text => serde_json::from_str::<Option<T>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::invalid(format!("{what}: {error}"))),
    }
}

/// Who asks which registry; what cannot be read counts as nobody, as in moby.
fn registries(call: &Call) -> BTreeMap<String, AuthConfig> {
    let decoded = decode(call.header("x-registry-config"));
    decoded.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

fn secrets(call: &Call) -> Result<BTreeMap<String, Vec<u8>>> {
    let text = call.header(SECRETS);
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wrong = || Error::invalid(format!("header {SECRETS} cannot be read"));
    let encoded: BTreeMap<String, String> =
        decode(text).and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(wrong)?;
    encoded.into_iter().map(|(id, value)| Ok((id, decode(&value).ok_or_else(wrong)?))).collect()
}

/// Of a header that is not there, none.
fn contexts(call: &Call) -> Result<BTreeMap<String, ContextSource>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Source {
        Id(String),
        Address(String),
    }
    let text = call.header(CONTEXTS);
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sources: Option<BTreeMap<String, Source>> =
        decode(text).and_then(|json| serde_json::from_slice(&json).ok());
    let sources = sources.ok_or_else(|| Error::invalid(format!("header {CONTEXTS} cannot be read")))?;
    let source = |source| match source {
        Source::Id(id) => ContextSource::Kept(id),
        Source::Address(address) => ContextSource::Address(address),
    };
    Ok(sources.into_iter().map(|(name, given)| (name, source(given))).collect())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let decoded = general_purpose::URL_SAFE_NO_PAD.decode(text);
    decoded.or_else(|_| general_purpose::STANDARD_NO_PAD.decode(text)).ok()
}

fn not_built(what: &str) -> Error {
    Error::new(ErrorKind::NotImplemented, format!("not implemented in Wharf yet: {what}"))
}
