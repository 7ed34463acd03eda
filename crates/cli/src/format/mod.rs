//! Output: tables, Go templates, JSON (source: docker/cli `cli/command/formatter`).

pub(crate) mod indent;
pub(crate) mod inspect;
pub(crate) mod json;
pub(crate) mod list;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod text;

/// The help of `--format` for lists.
pub(crate) const LIST_FORMAT: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// The help of `--format` for single objects.
pub(crate) const INSPECT_FORMAT: &str = "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";
