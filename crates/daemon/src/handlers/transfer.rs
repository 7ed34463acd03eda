//! Images coming and going: pull, push, import, load, save (source: moby `daemon/server/router/image`).

use super::{
    images::{platform_parameter, platform_parameters},
    progress::{self, EarlyErrors},
};
use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use wharf_api::{Version, progress::Message};
use wharf_engine::{
    Filters,
    images::{ImportImage, ImportSource, SearchImages, Transfer},
};
use wharf_spec::{ErrorKind, ImageRef, Platform};

/// `POST /images/create`: a pull, or an import when there is no `fromImage`
pub(crate) async fn create(call: Call) -> Result<Reply> {
    let platform = short_platform(&call, Version(1, 32))?;
    match call.form.get("fromImage") {
        "" => import(call, platform).await,
        _ => pull(call, platform).await,
    }
}

/// A platform as `os/architecture`.
fn short_platform(call: &Call, since: Version) -> Result<Option<Platform>> {
    match call.form.get("platform") {
        text if text.is_empty() || call.version < since => Ok(None),
        text => {
            text.parse().map(Some).map_err(|e: wharf_spec::ParsePlatformError| Error::invalid(e.to_string()))
        }
    }
}

async fn pull(call: Call, platform: Option<Platform>) -> Result<Reply> {
    // `docker pull -a` of old sends a name with a colon at its end.
    let image = call.form.get("fromImage");
    let image = image.strip_suffix(':').unwrap_or(image);
    let transfer = transfer(&call, image, call.form.get("tag"), platform);
    let images = call.app.engine.images.clone();
    progress::run(EarlyErrors::Status, |sender| async move { images.pull(transfer, sender).await }).await
}

/// What to transfer, as which user. Without any tag it is every tag of the repository.
fn transfer(call: &Call, image: &str, tag: &str, platform: Option<Platform>) -> Transfer {
    let reference = match tag {
        "" => image.to_owned(),
        digest if digest.contains(':') => format!("{image}@{digest}"),
        tag => format!("{image}:{tag}"),
    };
    let last = reference.rsplit('/').next().unwrap_or_default();
    Transfer {
        all_tags: !last.contains([':', '@']),
        reference,
        platform,
        auth: Some(call.registry_auth()).filter(|auth| *auth != Default::default()),
        meta_headers: meta_headers(call),
    }
}

fn meta_headers(call: &Call) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in call.headers().iter().filter(|(name, _)| name.as_str().starts_with("x-meta-")) {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        found.entry(name.as_str().to_owned()).or_default().push(text);
    }
    found
}

async fn import(call: Call, platform: Option<Platform>) -> Result<Reply> {
    let source = call.form.get("fromSrc").to_owned();
    if source.is_empty() {
        // What Go's client says of the address that moby makes of nothing.
        return Err(Error::new(ErrorKind::System, "Get \"http:\": http: no Host in request URL"));
    }
    let message = match call.form.get("message") {
        "" => format!("Imported from {source}"),
        given => given.to_owned(),
    };
    let options = ImportImage {
        repository: call.form.get("repo").to_owned(),
        tag: call.form.get("tag").to_owned(),
        message,
        changes: call.form.all("changes").map(str::to_owned).collect(),
        platform,
    };
    let images = call.app.engine.images.clone();
    let source =
        if source == "-" { ImportSource::Stream(call.body_stream()) } else { ImportSource::Url(source) };
    progress::run(EarlyErrors::Status, |sender| async move { images.import(source, options, sender).await })
        .await
}

/// `POST /images/{name}/push`
pub(crate) async fn push(call: Call) -> Result<Reply> {
    let platform = platform_parameter(&call, "platform", Version(1, 46))?;
    let reference = push_reference(call.var("name"), call.form.get("tag"))?;
    let transfer = transfer(&call, &reference.to_string(), "", platform);
    let images = call.app.engine.images.clone();
    progress::run(EarlyErrors::Status, |sender| async move { images.push(transfer, sender).await }).await
}

/// What to push: a name with the tag, or as it is for every tag (source: moby `httputils.RepoTagReference`).
fn push_reference(name: &str, tag: &str) -> Result<ImageRef> {
    let invalid = |e: wharf_spec::ParseReferenceError| Error::invalid(e.to_string());
    let reference: ImageRef = name.parse().map_err(invalid)?;
    match tag {
        "" => Ok(reference),
        _ if reference.digest().is_some() => Err(Error::invalid("cannot import digest reference")),
        tag => reference.with_tag(tag).map_err(invalid),
    }
}

/// `POST /images/load`: errors are always in the stream
pub(crate) async fn load(call: Call) -> Result<Reply> {
    let platforms = platforms(&call)?;
    let quiet = call.form.bool_or("quiet", true);
    let images = call.app.engine.images.clone();
    let tar = call.body_stream();
    progress::run(EarlyErrors::Stream, |sender| async move {
        let sender = if quiet { without_progress(sender) } else { sender };
        images.load(tar, platforms, sender).await
    })
    .await
}

/// A sender whose messages about progress go nowhere.
fn without_progress(wanted: mpsc::Sender<Message>) -> mpsc::Sender<Message> {
    let (sender, mut messages) = mpsc::channel::<Message>(16);
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            if message.progress.is_none() && wanted.send(message).await.is_err() {
                return;
            }
        }
    });
    sender
}

/// `GET /images/get` and `GET /images/{name}/get`
pub(crate) async fn save(call: Call) -> Result<Reply> {
    let platforms = platforms(&call)?;
    let names: Vec<String> = match call.var("name") {
        "" => call.form.all("names").map(str::to_owned).collect(),
        name => vec![name.to_owned()],
    };
    let tar = call.app.engine.images.save(names, platforms).await?;
    Ok(reply::stream("application/x-tar", tar))
}

/// The platforms that are wanted; more than one since 1.52, and then the image store's to refuse.
fn platforms(call: &Call) -> Result<Vec<Platform>> {
    let several = call.form.all("platform").nth(1).is_some();
    if several && call.version >= Version(1, 48) && call.version < Version(1, 52) {
        return Err(Error::invalid(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later",
        ));
    }
    platform_parameters(call, "platform", Version(1, 48))
}

/// `GET /distribution/{name}/json`
pub(crate) async fn distribution(call: Call) -> Result<Reply> {
    let wanted = transfer(&call, call.var("name"), "", None);
    reply::ok(&call.app.engine.images.distribution(wanted).await?)
}

/// `GET /images/search`
pub(crate) async fn search(call: Call) -> Result<Reply> {
    let limit = call
        .form
        .int("limit")
        .map_err(|error| Error::invalid(format!("invalid limit specified: {error}")))?;
    let wanted = SearchImages {
        term: call.form.get("term").to_owned(),
        limit: limit.unwrap_or(0),
        filters: Filters::from_json(call.form.get("filters"))?,
        auth: Some(call.registry_auth()),
    };
    reply::ok(&call.app.engine.images.search(wanted).await?)
}
