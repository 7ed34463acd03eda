//! Lists of objects as tables, templates or JSON lines.

use super::{
    json,
    table::{Tabs, align},
    template::Format,
};
use crate::error::Result;
use gotmpl::Value;
use std::{collections::BTreeMap, io::Write, sync::Arc};

/// What columns there are: field of the template and head of the table.
pub(crate) type Columns = &'static [(&'static str, &'static str)];

/// One object's cells. A cell that the format does not ask for is not made.
pub(crate) struct Row<'a> {
    wanted: &'a str,
    cells: BTreeMap<Arc<str>, Value>,
}

impl Row<'_> {
    /// Adds a cell.
    pub(crate) fn cell(&mut self, field: &'static str, text: impl FnOnce() -> String) {
        if self.wanted.contains(field) || self.wanted.contains("json") {
            self.cells.insert(Arc::from(field), Value::String(Arc::from(text())));
        }
    }

    /// Adds a cell that is null.
    pub(crate) fn null(&mut self, field: &'static str) {
        self.cells.insert(Arc::from(field), Value::Nil);
    }

    /// Adds the labels: a cell, and what `.Label` looks into.
    pub(crate) fn labels(&mut self, labels: Option<&wharf_api::StringMap>) {
        self.cell("Labels", || labels.map(super::text::labels).unwrap_or_default());
        if self.wanted.contains(".Label ") {
            let map = labels.into_iter().flatten();
            let map = map.map(|(k, v)| (Arc::from(k.as_str()), Value::String(Arc::from(v.as_str()))));
            self.cells.insert(Arc::from(json::LABELS), Value::Map(Arc::new(map.collect())));
        }
    }
}

/// A list that is being written.
pub(crate) struct List {
    source: String,
    is_table: bool,
    columns: Columns,
    format: Format,
    out: String,
}

impl List {
    /// Begins a list. `format` is what the user asked for; empty or `table` is `default`.
    ///
    /// # Errors
    /// When the template is malformed.
    pub(crate) fn new(format: &str, default: &str, columns: Columns) -> Result<Self> {
        let chosen = if matches!(format, "" | "table") { default } else { format };
        let (is_table, source) = (chosen.starts_with("table"), source_of(chosen));
        let format = Format::parse(&source)?;
        // A field that there is not is told before the daemon is asked.
        if !source.contains(".Label ") {
            Format::parse_header(&source)?.fill(&heads(columns))?;
        }
        Ok(Self { source, is_table, columns, format, out: String::new() })
    }

    /// Whether the format asks for this field.
    pub(crate) fn asks_for(&self, field: &str) -> bool {
        self.source.contains(field)
    }

    /// Adds an object.
    ///
    /// # Errors
    /// When the template names a field that there is not.
    pub(crate) fn add(&mut self, fill: impl FnOnce(&mut Row<'_>)) -> Result<()> {
        self.out.push_str(&self.format.fill(&row(&self.source, fill))?);
        self.out.push('\n');
        Ok(())
    }

    /// The finished text.
    ///
    /// # Errors
    /// When the template names a column that there is not.
    pub(crate) fn finish(self) -> Result<String> {
        if !self.is_table {
            return Ok(self.out);
        }
        let heads =
            self.columns.iter().map(|(field, head)| (Arc::from(*field), Value::String(Arc::from(*head))));
        let header = Format::parse_header(&self.source)?.fill(&Value::Map(Arc::new(heads.collect())))?;
        Ok(align(&format!("{header}\n{}", self.out), Tabs::LIST))
    }

    /// Writes the list to standard output.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(crate) fn print(self) -> Result<()> {
        let text = self.finish()?;
        // A reader that has seen enough, such as `head`, is no failure.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(())
    }
}

/// An object as a template's value, with the cells that a source asks for.
fn row(source: &str, fill: impl FnOnce(&mut Row<'_>)) -> Value {
    let mut row = Row { wanted: source, cells: BTreeMap::new() };
    fill(&mut row);
    row.cells.insert(Arc::from(json::ROW), Value::Bool(true));
    Value::Map(Arc::new(row.cells))
}

/// An object as a template's value, with all its cells.
pub(crate) fn whole_row(fill: impl FnOnce(&mut Row<'_>)) -> Value {
    row("json", fill)
}

/// The template of a format.
pub(crate) fn source_of(format: &str) -> String {
    let source = match format.strip_prefix("table") {
        Some(rest) => rest,
        None if format == "json" => "{{json .}}",
        None => format,
    };
    source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n")
}

/// The names of the columns, as the row of a table.
fn heads(columns: Columns) -> Value {
    let heads = columns.iter().map(|(field, head)| (Arc::from(*field), Value::String(Arc::from(*head))));
    Value::Map(Arc::new(heads.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Labels", "LABELS")];

    fn write(format: &str) -> String {
        let mut list = match List::new(format, "table {{.ID}}\t{{.Names}}", COLUMNS) {
            Ok(list) => list,
            Err(error) => return error.to_string(),
        };
        let labels = [("com.my-label".to_owned(), "v".to_owned())].into();
        let added = list.add(|row| {
            row.cell("ID", || "0123456789ab".to_owned());
            row.cell("Names", || "web".to_owned());
            row.labels(Some(&labels));
        });
        match added.and_then(|()| list.finish()) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn lists_are_written_as_docker_does() {
        assert_eq!(write(""), "CONTAINER ID   NAMES\n0123456789ab   web\n");
        assert_eq!(
            write("table {{.Names}}\\t{{upper .ID}}"),
            "NAMES     CONTAINER ID\nweb       0123456789AB\n"
        );
        assert_eq!(write("{{.Names}}: {{.ID}}"), "web: 0123456789ab\n");
        assert_eq!(
            write("json"),
            "{\"ID\":\"0123456789ab\",\"Labels\":\"com.my-label=v\",\"Names\":\"web\"}\n"
        );
        assert_eq!(
            write("table {{.Label \"com.my-label\"}}\t{{.Names}}"),
            "my label   NAMES\nv          web\n"
        );
        assert!(write("{{.Nope}}").starts_with("template parsing error"));
    }
}
