//! Go templates with Docker's functions (source: docker/cli `templates/templates.go`).

use super::json;
use crate::error::{Error, Result};
use gotmpl::{MissingKey, Template, TemplateError, Value};
use std::sync::Arc;

/// A template that has been read.
pub(crate) struct Format {
    source: String,
    template: Template,
}

type Answer = std::result::Result<Value, TemplateError>;

impl Format {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn parse(source: &str) -> Result<Self> {
        Self::read(source, basic(Template::new("")).missing_key(MissingKey::Error))
    }

    fn read(source: &str, template: Template) -> Result<Self> {
        let template = template.parse(&method_calls(source)).map_err(|e| parse_error(&e))?;
        Ok(Self { source: source.to_owned(), template })
    }

    /// Reads a template for the head of a table: functions give their argument back, which is a column's name.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn parse_header(source: &str) -> Result<Self> {
        let mut template = basic(Template::new("")).missing_key(MissingKey::Error);
        for name in ["json", "split", "join", "title", "lower", "upper", "truncate"] {
            let last = matches!(name, "json" | "title" | "lower" | "upper");
            template = template.func(name, move |args: &[Value]| {
                let argument = if last { args.last() } else { args.first() };
                Ok(argument.cloned().unwrap_or(Value::Nil))
            });
        }
        template = template.func("label", |args: &[Value]| {
            let name = text_of(args.last());
            let last = name.rsplit('.').next().unwrap_or_default();
            Ok(string(&last.replace(['-', '_'], " ")))
        });
        Self::read(source, template)
    }

    /// Fills the template in.
    ///
    /// # Errors
    /// When it names what is not there.
    pub(crate) fn fill(&self, value: &Value) -> Result<String> {
        match self.template.execute_to_string(value) {
            // Fields of Go's types begin with a capital: this is a key of a map, which need not be there.
            Err(TemplateError::MissingKey { key }) if !key.starts_with(|c: char| c.is_ascii_uppercase()) => {
                let lenient = Self::read(&self.source, basic(Template::new("")))?;
                lenient.template.execute_to_string(value).map_err(|error| lenient.execution_error(&error))
            }
            result => result.map_err(|error| self.execution_error(&error)),
        }
    }

    fn execution_error(&self, error: &TemplateError) -> Error {
        match error {
            TemplateError::MissingKey { key } => {
                let (line, column, field) = place(&self.source, key);
                Error::text(format!(
                    "template parsing error: template: :{line}:{column}: executing \"\" at <{field}>: map has no entry for key {key:?}"
                ))
            }
            other => {
                let reason = go_words(&other.to_string()).replace("template: :execution error: ", "");
                Error::text(format!("template parsing error: template: :1: executing \"\": {reason}"))
            }
        }
    }
}

fn parse_error(error: &TemplateError) -> Error {
    Error::text(format!("template parsing error: {}", go_words(&error.to_string())))
}

/// Line, column and chain of fields in which a key is asked for.
fn place(source: &str, key: &str) -> (usize, usize, String) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let dotted = format!(".{key}");
    let found =
        source.match_indices(&dotted).find(|(at, _)| !source[at + dotted.len()..].starts_with(is_word));
    let at = found.map_or(0, |(at, _)| at);
    let start = source[..at].rfind(|c| !is_word(c)).map_or(0, |before| before + 1);
    let line_start = source[..start].rfind('\n').map_or(0, |before| before + 1);
    let line = source[..start].matches('\n').count() + 1;
    let field = source.get(start..at + dotted.len()).unwrap_or(&dotted);
    (line, start - line_start, field.to_owned())
}

/// The template has no name, and Go shows that; where a template is malformed Go shows the line only.
fn go_words(text: &str) -> String {
    let text = text.strip_prefix("template: ").unwrap_or(text);
    let text = text.strip_prefix(':').unwrap_or(text);
    let mut parts = text.splitn(3, ':');
    let number =
        |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    match (parts.next(), parts.next(), parts.next()) {
        (line, column, Some(rest)) if number(line) && number(column) => {
            format!("template: :{}:{rest}", line.unwrap_or_default())
        }
        _ => format!("template: :{text}"),
    }
}

/// `.Label "x"` is a method with an argument: as the function `label` it is `label . "x"`.
fn method_calls(source: &str) -> String {
    source.replace("$.Label ", "label $ ").replace(".Label ", "label . ")
}

fn string(text: &str) -> Value {
    Value::String(Arc::from(text))
}

fn text_of(value: Option<&Value>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn basic(template: Template) -> Template {
    template
        .func("json", |args: &[Value]| Ok(string(&json::of_template(args.last().unwrap_or(&Value::Nil)))))
        .func("split", |args: &[Value]| {
            let (text, separator) = (text_of(args.first()), text_of(args.get(1)));
            let parts: Vec<Value> = match separator.as_str() {
                "" => text.chars().map(|c| string(&c.to_string())).collect(),
                separator => text.split(separator).map(string).collect(),
            };
            Ok(Value::List(parts.into()))
        })
        .func("join", join)
        .func("title", |args: &[Value]| Ok(string(&title(&text_of(args.last())))))
        .func("lower", |args: &[Value]| Ok(string(&text_of(args.last()).to_lowercase())))
        .func("upper", |args: &[Value]| Ok(string(&text_of(args.last()).to_uppercase())))
        .func("pad", |args: &[Value]| {
            let text = text_of(args.first());
            let spaces = |at: usize| " ".repeat(number(args.get(at)).min(1000));
            Ok(string(&if text.is_empty() { text } else { format!("{}{text}{}", spaces(1), spaces(2)) }))
        })
        .func("truncate", |args: &[Value]| {
            let text = text_of(args.first());
            let end = text.floor_char_boundary(number(args.get(1)));
            Ok(string(&text[..end]))
        })
        .func("index", index)
        .func("label", |args: &[Value]| {
            let labels = args.first().and_then(|row| row.field(json::LABELS));
            let name = text_of(args.get(1));
            Ok(labels.and_then(|map| map.field(&name)).cloned().unwrap_or_else(|| string("")))
        })
}

fn number(value: Option<&Value>) -> usize {
    value.and_then(Value::as_int).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

fn title(text: &str) -> String {
    let mut at_start = true;
    let capital = |c: char| {
        let shown = if at_start { c.to_uppercase().collect::<String>() } else { c.to_string() };
        at_start = !(c.is_alphanumeric() || c == '_' || c == '\'');
        shown
    };
    text.chars().map(capital).collect()
}

fn join(args: &[Value]) -> Answer {
    let separator = text_of(args.get(1));
    let mut texts: Vec<String> = match args.first() {
        Some(Value::List(items)) => items.iter().map(ToString::to_string).collect(),
        Some(Value::Map(map)) => {
            map.iter().filter(|(k, _)| !k.starts_with(' ')).map(|(_, v)| v.to_string()).collect()
        }
        None | Some(Value::Nil) => Vec::new(),
        Some(other) => return Err(TemplateError::Exec(format!("expected slice, got {}", other.type_name()))),
    };
    if matches!(args.first(), Some(Value::Map(_))) {
        texts.sort();
    }
    Ok(string(&texts.join(&separator)))
}

/// As Go's `index`, where a map of strings gives an empty string for a key it does not have, and a map that
/// is null is a map all the same.
fn index(args: &[Value]) -> Answer {
    let Some((first, keys)) = args.split_first() else {
        return Err(TemplateError::Exec("index of untyped nil".to_owned()));
    };
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Nil, Value::String(_)) => string(""),
            (Value::Map(map), Value::String(name)) if !map.contains_key(name) => {
                let texts = map.values().all(|v| matches!(v, Value::String(_)));
                if texts { string("") } else { Value::Nil }
            }
            _ => value.index(key)?,
        };
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::json::{Ordered, to_template};

    fn fill(source: &str, data: &str) -> String {
        let value = to_template(&Ordered::parse(data.as_bytes()).unwrap());
        match Format::parse(source).and_then(|format| format.fill(&value)) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn dockers_functions_are_there() {
        let data = r#"{"Name":"/web","Ports":["80","443"],"Labels":{"a.b":"c"},"None":null,"N":3,
            "Nets":{"x":{"IP":"1"},"y":{"IP":"2"}}," labels":{"com.x":"v"}}"#;
        for (source, text) in [
            ("{{.Name}} {{.N}}", "/web 3"),
            ("{{json .Ports}} {{json .Name}}", r#"["80","443"] "/web""#),
            ("{{join .Ports \", \"}}", "80, 443"),
            ("{{upper .Name}} {{title \"foo bar\"}} {{lower \"ABC\"}}", "/WEB Foo Bar abc"),
            ("{{pad .Name 1 2}}|{{truncate .Name 2}}|{{split \"a,b\" \",\"}}", " /web  |/w|[a b]"),
            ("{{index .Labels \"a.b\"}}{{index .Labels \"nope\"}}{{index .None \"x\"}}", "c"),
            ("{{range $k, $v := .Nets}}{{$k}}={{$v.IP}} {{end}}", "x=1 y=2 "),
            ("{{range .Nets}}{{.IP}}{{end}}", "12"),
            ("{{.Label \"com.x\"}}{{.Label \"no\"}}", "v"),
            ("{{if .None}}a{{else}}b{{end}}{{len .Ports}}", "b2"),
            ("{{println .N}}{{printf \"%05d\" .N}}", "3\n00003"),
            ("{{.None}} {{.Labels.nope}}", "<no value> <no value>"),
            ("{{slice .Name 1}}", "web"),
        ] {
            assert_eq!(fill(source, data), text, "{source}");
        }
    }

    #[test]
    fn errors_are_told() {
        assert_eq!(
            fill("{{.Nope}}", "{}"),
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
        );
        assert!(fill("{{.Nope", "{}").starts_with("template parsing error: template: :1"));
        assert!(fill("{{nope .}}", "{}").starts_with("template parsing error: template: :1"));
    }
}
