//! `list`: every container below the root.

use super::error::{CliError, CliResult};
use super::state::{self, Document};
use super::store::Container;
use super::{Context, flags, print};
use lexopt::prelude::*;

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
        let ids: Vec<_> = documents.iter().map(|document| format!("{}\n", document.id)).collect();
        return print(&ids.concat());
    }
    match format.as_str() {
        "table" => print(&table(&documents)),
        "json" => {
            let text =
                serde_json::to_string(&documents).map_err(|error| CliError::text(error.to_string()))?;
            print(&(text + "\n"))
        }
        _ => Err(CliError::text("invalid format option")),
    }
}

/// A container that vanishes meanwhile, or whose record cannot be read, does not hide the others.
fn documents(context: &Context) -> CliResult<Vec<Document>> {
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

fn with_owner(container: &Container) -> CliResult<Document> {
    use std::os::unix::fs::MetadataExt;
    let mut document = state::document(container)?;
    let uid = container.dir_metadata()?.uid();
    document.owner = if uid == 0 { "root".to_owned() } else { format!("#{uid}") };
    Ok(document)
}

/// The last of six columns.
const LAST: usize = 5;

/// Columns of at least 12 characters, three blanks apart (source: runc's `tabwriter.NewWriter`).
fn table(documents: &[Document]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(documents.iter().map(|one| {
        let pid = one.pid.to_string();
        [&one.id, &pid, &one.status, &one.bundle, &one.created, &one.owner].map(String::clone)
    }));
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (longest + 3).max(12)
    };
    let widths: Vec<usize> = (0..LAST).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push_str(&row[LAST]);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned() {
        let one = Document {
            oci_version: String::new(),
            id: "a-long-container-id".into(),
            pid: 7,
            status: "running".into(),
            bundle: "/b".into(),
            rootfs: String::new(),
            created: "2026-01-02T03:04:05Z".into(),
            annotations: Default::default(),
            owner: "root".into(),
        };
        let want = "ID                    PID         STATUS      BUNDLE      CREATED                OWNER\n\
                    a-long-container-id   7           running     /b          2026-01-02T03:04:05Z   root\n";
        assert_eq!(table(&[one]), want);
    }
}
