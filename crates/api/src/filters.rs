//! The `filters` parameter of lists, prunes and events
//! (source: moby `daemon/internal/filters`).

use crate::{Error, StringMap, gojson};
use std::collections::{BTreeMap, BTreeSet};

/// Filters by name, each with its set of values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters {
    fields: BTreeMap<String, BTreeSet<String>>,
}

impl Filters {
    /// Reads the parameter in either form, `{"name":{"value":true}}` or `{"name":["value"]}`. Empty means
    /// no filter.
    ///
    /// # Errors
    /// [`Error::FilterSyntax`] for anything else.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        type Maps = BTreeMap<String, BTreeMap<String, bool>>;
        if let Ok(maps) = gojson::from_slice::<Maps>(text.as_bytes()) {
            return Ok(maps.into_iter().map(|(name, values)| (name, values.into_keys().collect())).collect());
        }
        let lists: BTreeMap<String, BTreeSet<String>> =
            gojson::from_slice(text.as_bytes()).map_err(|_| Error::FilterSyntax)?;
        Ok(Self { fields: lists })
    }

    /// Writes the newer form, the empty string where there is no filter.
    pub fn to_json(&self) -> String {
        if self.fields.is_empty() {
            return String::new();
        }
        let maps: BTreeMap<&str, BTreeMap<&str, bool>> = (self.fields.iter())
            .map(|(name, values)| (name.as_str(), values.iter().map(|v| (v.as_str(), true)).collect()))
            .collect();
        serde_json::to_string(&maps).unwrap_or_default()
    }

    /// Adds a value to a filter.
    pub fn add(&mut self, name: &str, value: &str) {
        self.fields.entry(name.to_owned()).or_default().insert(value.to_owned());
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether the filter is given, even without values.
    pub fn contains(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The filters given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// The values of a filter, sorted.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Refuses filters other than these.
    ///
    /// # Errors
    /// [`Error::FilterName`] naming one that is not accepted.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), Error> {
        match self.names().find(|name| !accepted.contains(name)) {
            Some(unknown) => Err(Error::FilterName(unknown.to_owned())),
            None => Ok(()),
        }
    }

    /// A filter that is true or false: `1`/`true` or `0`/`false`, `None` when not given.
    ///
    /// # Errors
    /// [`Error::FilterValue`] for other values or for both at once.
    pub fn bool(&self, name: &str) -> Result<Option<bool>, Error> {
        let Some(values) = self.fields.get(name) else { return Ok(None) };
        let has = |a: &str, b: &str| values.contains(a) || values.contains(b);
        match (has("1", "true"), has("0", "false")) {
            _ if values.is_empty() => Err(Error::FilterName(name.to_owned())),
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(self.bad_value(name)),
        }
    }

    /// The error for a filter whose values make no sense.
    pub fn bad_value(&self, name: &str) -> Error {
        let values: Vec<&str> = self.get(name).collect();
        Error::FilterValue { name: name.to_owned(), values: values.join(" ") }
    }

    /// Whether `source` is one of the filter's values, or there is no such filter.
    pub fn exact_match(&self, name: &str, source: &str) -> bool {
        self.fields.get(name).is_none_or(|values| values.is_empty() || values.contains(source))
    }

    /// As [`Self::exact_match`], where a value may also be a prefix of `source`.
    pub fn fuzzy_match(&self, name: &str, source: &str) -> bool {
        self.exact_match(name, source) || self.get(name).any(|prefix| source.starts_with(prefix))
    }

    /// As [`Self::exact_match`], where a value may also be a regular expression found in `source`. What is
    /// no expression matches nothing.
    pub fn regex_match(&self, name: &str, source: &str) -> bool {
        self.exact_match(name, source)
            || self.get(name).any(|e| regex_lite::Regex::new(e).is_ok_and(|e| e.is_match(source)))
    }

    /// Whether every value, `key` or `key=value`, is among the labels, or there is no such filter.
    pub fn match_labels(&self, name: &str, labels: &StringMap) -> bool {
        self.get(name).all(|wanted| has_label(labels, wanted))
    }

    /// Whether the labels pass `label` and `label!` together, as prunes use them.
    pub fn match_label_pair(&self, labels: &StringMap) -> bool {
        let excluded = self.contains("label!") && self.match_labels("label!", labels);
        self.match_labels("label", labels) && !excluded
    }
}

fn has_label(labels: &StringMap, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    }
}

impl FromIterator<(String, BTreeSet<String>)> for Filters {
    fn from_iter<I: IntoIterator<Item = (String, BTreeSet<String>)>>(iter: I) -> Self {
        Self { fields: iter.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::from_json(text).unwrap()
    }

    #[test]
    fn both_forms_are_read() {
        for text in [r#"{"name":{"a":true,"b":true}}"#, r#"{"name":["a","b","a"]}"#] {
            assert_eq!(filters(text).get("name").collect::<Vec<_>>(), ["a", "b"], "{text}");
        }
        assert!(filters("").is_empty() && filters("{}").is_empty() && filters("null").is_empty());
        assert_eq!(filters(&filters(r#"{"x":["y"]}"#).to_json()), filters(r#"{"x":["y"]}"#));
        for bad in ["{bad", "[]", r#"{"a":"b"}"#, r#"{"a":["x"],"b":{"y":true}}"#] {
            assert_eq!(Filters::from_json(bad).unwrap_err().to_string(), "invalid filter", "{bad}");
        }
    }

    #[test]
    fn errors_are_dockers() {
        let f = filters(r#"{"nosuch":["1"],"dangling":["x"]}"#);
        assert_eq!(f.validate(&["dangling"]).unwrap_err().to_string(), "invalid filter 'nosuch'");
        assert_eq!(f.bool("dangling").unwrap_err().to_string(), "invalid filter 'dangling=[x]'");
        assert_eq!(filters(r#"{"dangling":["1"]}"#).bool("dangling").unwrap(), Some(true));
        assert_eq!(f.bool("other").unwrap(), None);
    }

    #[test]
    fn matches() {
        let f = filters(r#"{"name":["^/we","db"],"label":["a=b","c"]}"#);
        assert!(f.regex_match("name", "/web") && !f.regex_match("name", "/xweb"));
        assert!(f.fuzzy_match("name", "dbx") && !f.exact_match("name", "dbx"));
        assert!(f.exact_match("absent", "anything"));
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert!(f.match_labels("label", &labels(&[("a", "b"), ("c", "")])));
        assert!(!f.match_labels("label", &labels(&[("a", "x"), ("c", "")])));
        let not = filters(r#"{"label!":["keep"]}"#);
        assert!(!not.match_label_pair(&labels(&[("keep", "1")])) && not.match_label_pair(&labels(&[])));
    }
}
