//! `--ulimit name=soft[:hard]` (source: docker/go-units `ulimit.go`).

use wharf_api::container::Ulimit;

const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Whether the text is a limit.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

/// Reads one `--ulimit`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number =
        |s: &str| s.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {s:?}: invalid syntax"));
    let (soft, hard) = match limits.split(':').collect::<Vec<_>>().as_slice() {
        [both] => (number(both)?, number(both)?),
        [soft, hard] => {
            let hard = number(hard)?;
            (number(soft)?, hard)
        }
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    let too_large = "ulimit soft limit must be less than or equal to hard limit:";
    match (soft, hard) {
        (-1, hard) if hard != -1 => Err(format!("{too_large} soft: -1 (unlimited), hard: {hard}")),
        (soft, hard) if hard != -1 && soft > hard => Err(format!("{too_large} {soft} > {hard}")),
        _ => Ok(Ulimit { name: name.to_owned(), soft, hard }),
    }
}

/// The limits of all flags, one for each name, sorted by name; the last counts.
pub(crate) fn all(texts: &[String]) -> Vec<Ulimit> {
    let by_name: std::collections::BTreeMap<String, Ulimit> =
        texts.iter().filter_map(|t| parse(t).ok()).map(|u| (u.name.clone(), u)).collect();
    by_name.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_does() {
        let shown = |text: &str| match parse(text) {
            Ok(u) => format!("{}={}:{}", u.name, u.soft, u.hard),
            Err(error) => error,
        };
        assert_eq!(shown("nofile=1024"), "nofile=1024:1024");
        assert_eq!(shown("nofile=512:1024"), "nofile=512:1024");
        assert_eq!(shown("core=-1:-1"), "core=-1:-1");
        assert_eq!(shown("nofile"), "invalid ulimit argument: nofile");
        assert_eq!(shown("x=1"), "invalid ulimit type: x");
        assert_eq!(shown("core=2:1"), "ulimit soft limit must be less than or equal to hard limit: 2 > 1");
        assert_eq!(
            shown("core=-1:1"),
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 1"
        );
        assert!(shown("core=1:2:3").starts_with("too many limit value arguments"));
    }
}
