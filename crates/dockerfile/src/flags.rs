//! Flags of instructions (source: buildkit `frontend/dockerfile/instructions/bflag.go`).

use crate::{Error, Result, suggest::suggestion};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A value, once.
    Value,
    /// A value, any number of times.
    Values,
    /// `true`, `false` or nothing.
    Switch,
}

/// The values given of each flag of `known`, in that order; none for those that are not given.
pub(crate) fn read<const N: usize>(
    given: &[String],
    known: [(&'static str, Takes); N],
) -> Result<[Vec<String>; N]> {
    let mut values: [Vec<String>; N] = std::array::from_fn(|_| Vec::new());
    for flag in given {
        let name = flag.strip_prefix("--").ok_or_else(|| Error::NoFlag(flag.clone()))?;
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(at) = known.iter().position(|(known, _)| *known == name) else {
            let hint = suggestion(name, &known.map(|(name, _)| name));
            let hint = hint.map(|near| format!(" (did you mean {near}?)"));
            return Err(Error::UnknownFlag { name: name.into(), hint: hint.unwrap_or_default() });
        };
        let takes = known[at].1;
        if !values[at].is_empty() && takes != Takes::Values {
            return Err(Error::FlagTwice(name.into()));
        }
        values[at].push(match (takes, value) {
            (Takes::Switch, None) => "true".to_owned(),
            (Takes::Switch, Some("")) | (_, None) => return Err(Error::FlagWithoutValue(name.into())),
            (Takes::Switch, Some(value)) => switch(name, value)?,
            (_, Some(value)) => value.to_owned(),
        });
    }
    Ok(values)
}

fn switch(name: &str, value: &str) -> Result<String> {
    match value.to_lowercase() {
        known if matches!(known.as_str(), "true" | "false") => Ok(known),
        _ => Err(Error::FlagNotBoolean { name: name.into(), value: value.into() }),
    }
}

/// As [`read`], each flag with one value; empty for those that are not given.
pub(crate) fn values<const N: usize>(given: &[String], known: [&'static str; N]) -> Result<[String; N]> {
    let read = read(given, known.map(|name| (name, Takes::Value)))?;
    Ok(read.map(|values| values.into_iter().next().unwrap_or_default()))
}

/// For instructions that take none.
pub(crate) fn none(given: &[String]) -> Result<()> {
    values(given, []).map(|[]| ())
}
