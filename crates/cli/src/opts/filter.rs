//! Filters: `label=a=b`.

use wharf_api::filters::Filters;

/// Whether the text is a filter.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}

/// The filters of a command line.
pub(crate) fn filters(texts: &[String]) -> Filters {
    let mut filters = Filters::default();
    for text in texts {
        if let Some((name, value)) = text.split_once('=') {
            filters.add(&name.trim().to_lowercase(), value.trim());
        }
    }
    filters
}
