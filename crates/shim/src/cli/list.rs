//! `list`: every container below the root.

use super::error::{CliError, CliResult};
use super::store::Container;
use super::{Context, flags, print, state};
use lexopt::prelude::*;
use serde_json::Value;

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let (mut format, mut quiet) = ("table".to_owned(), false);
    let mut arguments = flags::Arguments::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("format") | Short('f') => format = flags::text(parser)?,
            Long("quiet") | Short('q') => quiet = flags::switch(parser)?,
            other => arguments.take(other)?,
        }
    }
    arguments.none("list")?;
    let documents = documents(context)?;
    if quiet {
        let ids: Vec<_> = documents.iter().map(|document| format!("{}\n", text(document, "id"))).collect();
        return print(&ids.concat());
    }
    match format.as_str() {
        "table" => print(&table(&documents)),
        "json" => print(&format!("{}\n", Value::Array(documents))),
        _ => Err(CliError::text("invalid format option")),
    }
}

/// A container that vanishes meanwhile, or whose record cannot be read, does not hide the others.
fn documents(context: &Context) -> CliResult<Vec<Value>> {
    let mut documents = Vec::new();
    for id in context.store.ids()? {
        match context.store.load(&id).and_then(|container| with_owner(&container)) {
            Ok(document) => documents.push(document),
            Err(CliError::NotExist) => {}
            Err(error) => eprintln!("load container {id}: {error}"),
        }
    }
    Ok(documents)
}

fn with_owner(container: &Container) -> CliResult<Value> {
    use std::os::unix::fs::MetadataExt;
    let mut document = state::document(container)?;
    let uid = container.dir_metadata()?.uid();
    let name = if uid == 0 { "root".to_owned() } else { format!("#{uid}") };
    document["owner"] = name.into();
    Ok(document)
}

fn text(document: &Value, key: &str) -> String {
    match &document[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Columns of at least 12 characters, three blanks apart (source: runc's `tabwriter.NewWriter`).
fn table(documents: &[Value]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    let keys = ["id", "pid", "status", "bundle", "created", "owner"];
    rows.extend(documents.iter().map(|document| keys.map(|key| text(document, key))));
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (longest + 3).max(12)
    };
    let widths: Vec<usize> = (0..keys.len() - 1).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push_str(&row[keys.len() - 1]);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_is_aligned() {
        let one = json!({"id": "a-long-container-id", "pid": 7, "status": "running", "bundle": "/b",
            "created": "2026-01-02T03:04:05Z", "owner": "root"});
        let want = "ID                    PID         STATUS      BUNDLE      CREATED                OWNER\n\
                    a-long-container-id   7           running     /b          2026-01-02T03:04:05Z   root\n";
        assert_eq!(table(&[one]), want);
    }
}
