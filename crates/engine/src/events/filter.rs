//! Which events a listener wants (source: moby `daemon/events/filter.go`).

use crate::{Filters, Result};
use wharf_api::event::Message;
use wharf_spec::ImageRef;

const KNOWN: [&str; 14] = [
    "type",
    "event",
    "scope",
    "label",
    "container",
    "image",
    "volume",
    "network",
    "daemon",
    "plugin",
    "node",
    "service",
    "secret",
    "config",
];

/// Checked filters.
pub(super) struct EventFilter(Filters);

impl EventFilter {
    /// # Errors
    /// For a filter that is not known.
    pub(super) fn new(filters: Filters) -> Result<Self> {
        filters.validate(&KNOWN)?;
        Ok(Self(filters))
    }

    pub(super) fn wants(&self, message: &Message) -> bool {
        let f = &self.0;
        let named =
            ["daemon", "container", "plugin", "volume", "network", "service", "node", "secret", "config"];
        self.wants_action(&message.action)
            && f.exact_match("type", &message.kind)
            && f.exact_match("scope", &message.scope)
            && named.iter().all(|kind| self.wants_name(kind, message))
            && self.wants_image(message)
            && f.match_labels("label", &message.actor.attributes)
    }

    /// `exec_create`, `exec_start` and `health_status` are followed by more text.
    fn wants_action(&self, action: &str) -> bool {
        let open = ["health_status", "exec_create", "exec_start"];
        if self.0.get("event").any(|wanted| open.contains(&wanted)) {
            self.0.fuzzy_match("event", action)
        } else {
            self.0.exact_match("event", action)
        }
    }

    fn wants_name(&self, kind: &str, message: &Message) -> bool {
        let name = message.actor.attributes.get("name").map_or("", String::as_str);
        self.0.fuzzy_match(kind, &message.actor.id) || self.0.fuzzy_match(kind, name)
    }

    /// Images by id or name, with or without tag; containers by the image they were made of.
    fn wants_image(&self, message: &Message) -> bool {
        let attribute = if message.kind == "image" { "name" } else { "image" };
        let name = message.actor.attributes.get(attribute).map_or("", String::as_str);
        let id = message.actor.id.as_str();
        let without_tag = |text: &str| {
            text.parse::<ImageRef>().map_or_else(|_| text.to_owned(), |reference| reference.familiar_name())
        };
        self.0.exact_match("image", id)
            || self.0.exact_match("image", name)
            || self.0.exact_match("image", &without_tag(id))
            || self.0.exact_match("image", &without_tag(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::event::Actor;

    fn wants(filters: &str) -> bool {
        let attributes = [("name", "web"), ("image", "busybox:latest"), ("tier", "front")];
        let message = Message {
            kind: "container".into(),
            action: "exec_start: sh -c true".into(),
            scope: "local".into(),
            actor: Actor {
                id: "abcdef".into(),
                attributes: attributes.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            },
            ..Message::default()
        };
        EventFilter::new(Filters::from_json(filters).unwrap()).unwrap().wants(&message)
    }

    #[test]
    fn filters_match_as_dockers() {
        for yes in [
            "",
            r#"{"container":["web"]}"#,
            r#"{"container":["abc"]}"#,
            r#"{"image":["busybox"]}"#,
            r#"{"image":["busybox:latest"]}"#,
            r#"{"event":["exec_start"]}"#,
            r#"{"label":["tier=front"]}"#,
            r#"{"type":["container"],"scope":["local"]}"#,
        ] {
            assert!(wants(yes), "{yes}");
        }
        for no in [
            r#"{"container":["other"]}"#,
            r#"{"network":["net"]}"#,
            r#"{"image":["busybox:1"]}"#,
            r#"{"event":["exec"]}"#,
            r#"{"label":["tier=back"]}"#,
            r#"{"type":["image"]}"#,
        ] {
            assert!(!wants(no), "{no}");
        }
    }
}
