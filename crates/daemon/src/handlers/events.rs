//! `GET /events` (source: moby `daemon/server/router/system`, `getEvents`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, header};
use wharf_api::{Version, event::Message, gojson, time};
use wharf_engine::events::EventsQuery;

/// `GET /events`
pub(crate) async fn stream(call: Call) -> Result<Reply> {
    let moment = |name: &str| {
        time::parse_unix(call.form.get(name))
            .map_err(|e| Error::invalid(format!("invalid value for '{name}': {e}")))
    };
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(s), Some(u)) = (since, until)
        && u < s
    {
        let (since, until) = (call.form.get("since"), call.form.get("until"));
        return Err(Error::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let filters = call.form.filters()?;
    let query = EventsQuery { since: since.map(|t| t.0), until: until.map(|t| t.0), filters };
    let events = call.app.engine.events.subscribe(query)?;
    let content_type = content_type(call.headers(), call.version);
    let version = call.version;
    let stopping = call.app.stopping.clone().cancelled_owned();
    let lines = events
        .filter(move |event| std::future::ready(is_known(event, version)))
        .map(move |event| line(event, version, content_type))
        .take_until(stopping);
    Ok(reply::stream(content_type, lines))
}

/// Creations of images came with 1.46.
fn is_known(event: &Message, version: Version) -> bool {
    version >= Version(1, 46) || event.kind != "image" || event.action != "create"
}

fn line(event: Message, version: Version, content_type: &str) -> std::io::Result<Bytes> {
    let event = if version < Version(1, 52) { event.with_legacy_fields() } else { event };
    let mut text = gojson::to_vec(&event)?;
    if content_type == "application/json-seq" {
        text.insert(0, 0x1e);
    }
    Ok(text.into())
}

/// One of the three forms of JSON streams when the client names it, else the version's own. Wild cards name
/// nothing (source: moby `contenttype.MatchAcceptStrict`).
fn content_type(headers: &HeaderMap, version: Version) -> &'static str {
    match accepted(headers) {
        Some(kind) => kind,
        None if version < Version(1, 52) => "application/json",
        None => "application/jsonl",
    }
}

/// The form of a JSON stream that the client names.
pub(super) fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    let accepted =
        headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut best: Option<(&'static str, f32)> = None;
    for item in accepted {
        let mut fields = item.split(';').map(str::trim);
        let name = fields.next().unwrap_or_default().to_ascii_lowercase();
        let quality = fields.find_map(|f| f.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        let known = ["application/jsonl", "application/x-ndjson", "application/json-seq"];
        let Some(kind) = known.into_iter().find(|k| *k == name) else { continue };
        if quality > 0.0 && best.is_none_or(|(_, q)| quality > q) {
            best = Some((kind, quality));
        }
    }
    best.map(|(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_json_streams() {
        let with = |accept: &'static str, minor| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            content_type(&headers, Version(1, minor))
        };
        assert_eq!(with("*/*", 51), "application/json");
        assert_eq!(with("*/*", 52), "application/jsonl");
        assert_eq!(with("application/json-seq;q=0.5, application/x-ndjson", 41), "application/x-ndjson");
        assert_eq!(with("application/jsonl;q=0", 41), "application/json");
    }

    #[test]
    fn old_clients_get_old_fields() {
        let event = Message { kind: "container".into(), action: "die".into(), ..Default::default() };
        let text = |minor, kind: &str| {
            String::from_utf8(line(event.clone(), Version(1, minor), kind).unwrap().to_vec()).unwrap()
        };
        assert!(text(51, "application/json").starts_with("{\"status\":\"die\""));
        assert!(text(52, "application/jsonl").starts_with("{\"Type\""));
        assert!(text(52, "application/json-seq").starts_with("\u{1e}{"));
    }
}
