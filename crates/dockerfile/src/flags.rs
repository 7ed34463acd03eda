//! Flags of instructions (source: buildkit `frontend/dockerfile/instructions/bflag.go`).

use crate::{Error, Result, suggest::suggestion};

/// The values of the flags of `known`, in that order; empty for those that are not given.
pub(crate) fn values<const N: usize>(given: &[String], known: [&'static str; N]) -> Result<[String; N]> {
    let mut values: [Option<String>; N] = std::array::from_fn(|_| None);
    for flag in given {
        let name = flag.strip_prefix("--").ok_or_else(|| Error::NoFlag(flag.clone()))?;
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(at) = known.iter().position(|known| *known == name) else {
            let hint = suggestion(name, &known).map(|near| format!(" (did you mean {near}?)"));
            return Err(Error::UnknownFlag { name: name.into(), hint: hint.unwrap_or_default() });
        };
        if values[at].is_some() {
            return Err(Error::FlagTwice(name.into()));
        }
        values[at] = Some(value.ok_or_else(|| Error::FlagWithoutValue(name.into()))?.to_owned());
    }
    Ok(values.map(Option::unwrap_or_default))
}

/// For instructions that take none.
pub(crate) fn none(given: &[String]) -> Result<()> {
    values(given, []).map(|[]| ())
}
