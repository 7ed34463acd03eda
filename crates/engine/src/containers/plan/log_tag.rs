//! The `tag` of a log: a Go template over what its container is (source: moby
//! `daemon/logger/loggerutils/log_tag.go`, `daemon/logger/loginfo.go`, `daemon/logger/templates`).

use super::log_attributes::LogOwner;
use gotmpl::{MissingKey, Template, TemplateError, Value};
use std::{collections::BTreeMap, sync::Arc};

type Answer = std::result::Result<Value, TemplateError>;

/// Fills a tag's template in.
///
/// # Errors
/// When it is malformed or names what a container does not have.
pub(super) fn tag(owner: &LogOwner<'_>, template: &str) -> Result<String, String> {
    let filled = with_functions(Template::new("log-tag"))
        .missing_key(MissingKey::Error)
        .parse(template)
        .and_then(|template| template.execute_to_string(&fields(owner)));
    filled.map_err(|error| error.to_string())
}

/// Fields and methods of moby's `logger.Info`.
fn fields(owner: &LogOwner<'_>) -> Value {
    // Go's TruncateID: twelve digits without the algorithm.
    let short = |id: &str| id.rsplit(':').next().unwrap_or(id).chars().take(12).collect::<String>();
    let config = owner.config;
    let name = owner.name.trim_start_matches('/');
    let (program, args) = owner.command.split_first().map_or(("", &[][..]), |(p, rest)| (p.as_str(), rest));
    let list = |items: &[String]| Value::from(items.iter().map(|i| text(i)).collect::<Vec<_>>());
    let labels = config.labels.iter().flatten().map(|(k, v)| (Arc::from(k.as_str()), text(v)));
    let fields = [
        ("ID", text(&short(owner.id))),
        ("FullID", text(owner.id)),
        ("ContainerID", text(owner.id)),
        ("Name", text(name)),
        ("ContainerName", text(&format!("/{name}"))),
        ("Command", text(&owner.command.join(" "))),
        ("ContainerEntrypoint", text(program)),
        ("ContainerArgs", list(args)),
        ("ImageID", text(&short(owner.image))),
        ("ImageFullID", text(owner.image)),
        ("ContainerImageID", text(owner.image)),
        ("ImageName", text(&config.image)),
        ("ContainerImageName", text(&config.image)),
        ("ContainerEnv", list(config.env.as_deref().unwrap_or_default())),
        ("ContainerLabels", Value::Map(Arc::new(labels.collect()))),
        ("DaemonName", text("docker")),
        ("Hostname", text(&rustix::system::uname().nodename().to_string_lossy())),
    ];
    Value::Map(Arc::new(
        fields.into_iter().map(|(k, v)| (Arc::from(k), v)).collect::<BTreeMap<Arc<str>, _>>(),
    ))
}

fn text(text: &str) -> Value {
    Value::String(Arc::from(text))
}

fn text_of(value: Option<&Value>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn number(value: Option<&Value>) -> usize {
    value.and_then(Value::as_int).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

/// The functions that Docker offers here, besides Go's own.
fn with_functions(template: Template) -> Template {
    template
        .func("json", |args: &[Value]| Ok(text(&json(args.last().unwrap_or(&Value::Nil)).to_string())))
        .func("split", |args: &[Value]| {
            let (whole, separator) = (text_of(args.first()), text_of(args.get(1)));
            let parts: Vec<Value> = match separator.as_str() {
                "" => whole.chars().map(|c| text(&c.to_string())).collect(),
                separator => whole.split(separator).map(text).collect(),
            };
            Ok(Value::List(parts.into()))
        })
        .func("join", join)
        .func("title", |args: &[Value]| Ok(text(&title(&text_of(args.last())))))
        .func("lower", |args: &[Value]| Ok(text(&text_of(args.last()).to_lowercase())))
        .func("upper", |args: &[Value]| Ok(text(&text_of(args.last()).to_uppercase())))
        .func("pad", |args: &[Value]| {
            let inner = text_of(args.first());
            let spaces = |at: usize| " ".repeat(number(args.get(at)).min(1000));
            Ok(text(&if inner.is_empty() { inner } else { format!("{}{inner}{}", spaces(1), spaces(2)) }))
        })
        .func("truncate", |args: &[Value]| {
            let whole = text_of(args.first());
            Ok(text(&whole[..whole.floor_char_boundary(number(args.get(1)))]))
        })
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(map) => {
            serde_json::Value::Object(map.iter().map(|(k, v)| (k.to_string(), json(v))).collect())
        }
        Value::Bool(yes) => (*yes).into(),
        Value::Int(number) => (*number).into(),
        Value::Nil => serde_json::Value::Null,
        other => other.to_string().into(),
    }
}

fn join(args: &[Value]) -> Answer {
    match args.first() {
        Some(Value::List(items)) => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(text(&items.join(&text_of(args.get(1)))))
        }
        None | Some(Value::Nil) => Ok(text("")),
        Some(other) => Err(TemplateError::Exec(format!("expected slice, got {}", other.type_name()))),
    }
}

fn title(whole: &str) -> String {
    let mut at_start = true;
    let capital = |c: char| {
        let shown = if at_start { c.to_uppercase().collect::<String>() } else { c.to_string() };
        at_start = !(c.is_alphanumeric() || c == '_' || c == '\'');
        shown
    };
    whole.chars().map(capital).collect()
}
