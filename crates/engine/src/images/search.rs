//! `GET /images/search` (source: moby `daemon/pkg/registry/search.go`).

use super::{Inner, pull::credentials};
use crate::{Error, Filters, Result};
use wharf_api::{auth::AuthConfig, image::SearchResult};

const FILTERS: [&str; 3] = ["is-automated", "is-official", "stars"];

/// For [`super::Images::search`].
#[derive(Debug, Clone, Default)]
pub struct SearchImages {
    /// What to look for: `term` or `host/term`.
    pub term: String,
    /// How many at most; 0 is 25.
    pub limit: i64,
    /// `?filters=`.
    pub filters: Filters,
    /// Who asks.
    pub auth: Option<AuthConfig>,
}

/// Asks the registry and leaves out what the filters do.
pub(super) async fn run(inner: &Inner, wanted: SearchImages) -> Result<Vec<SearchResult>> {
    let filters = &wanted.filters;
    filters.validate(&FILTERS)?;
    // No registry builds images by itself any more.
    if filters.bool("is-automated")? == Some(true) {
        return Ok(Vec::new());
    }
    let official = filters.bool("is-official")?;
    let stars = stars(filters)?;
    let found = inner.registry().search(&wanted.term, wanted.limit, &credentials(wanted.auth.clone())).await;
    let found = found.map_err(|error| Error::Registry(error.to_string(), error.kind()))?;
    let fits = |found: &wharf_registry::Found| {
        official.is_none_or(|official| official == found.is_official)
            && stars.is_none_or(|stars| found.star_count >= stars)
    };
    Ok(found.into_iter().filter(fits).map(result).collect())
}

fn result(found: wharf_registry::Found) -> SearchResult {
    SearchResult {
        star_count: found.star_count,
        is_official: found.is_official,
        name: found.name,
        is_automated: false,
        description: found.description,
    }
}

/// The most that is asked for.
fn stars(filters: &Filters) -> Result<Option<i64>> {
    let mut most = filters.contains("stars").then_some(0);
    for text in filters.get("stars") {
        let stars: i64 = text.parse().map_err(|_| {
            Error::Invalid(format!(
                "invalid filter 'stars={text}': strconv.Atoi: parsing {text:?}: invalid syntax"
            ))
        })?;
        most = most.max(Some(stars));
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_stars_count() {
        let filters = |text: &str| Filters::from_json(text).unwrap();
        assert_eq!(stars(&filters("")).unwrap(), None);
        assert_eq!(stars(&filters(r#"{"stars":["3","10"]}"#)).unwrap(), Some(10));
        assert_eq!(
            stars(&filters(r#"{"stars":["x"]}"#)).unwrap_err().to_string(),
            "invalid filter 'stars=x': strconv.Atoi: parsing \"x\": invalid syntax"
        );
    }
}
