//! `--gpus all`, `--gpus device=0,..` (source: docker/cli `opts/gpus.go`).

use super::csv;
use wharf_api::container::DeviceRequest;

/// Whether the text is a request.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

/// Reads one `--gpus`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut seen: Vec<String> = Vec::new();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if seen.iter().any(|s| s == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        match (key, value) {
            (count, None) => request.count = parse_count(count)?,
            ("driver", Some(value)) => request.driver = value.to_owned(),
            ("count", Some(value)) => request.count = parse_count(value)?,
            ("device", Some(value)) => {
                request.device_ids = Some(value.split(',').map(str::to_owned).collect())
            }
            ("capabilities", Some(value)) => {
                let names = value.split(',').map(str::to_owned).chain(["gpu".to_owned()]).collect();
                request.capabilities = Some(vec![names]);
            }
            ("options", Some(value)) => {
                request.options = Some(super::keyvalue::map(&csv::fields(value)?));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen.iter().any(|s| s == "count") && request.device_ids.is_none() && request.count == 0 {
        request.count = 1;
    }
    request.options.get_or_insert_default();
    request.capabilities.get_or_insert_with(|| vec![vec!["gpu".to_owned()]]);
    Ok(request)
}

fn parse_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| {
        format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_docker_does() {
        let all = parse("all").unwrap();
        assert_eq!((all.count, all.capabilities), (-1, Some(vec![vec!["gpu".to_owned()]])));
        let some = parse("\"device=0,1\",driver=nvidia,\"capabilities=compute,utility\"").unwrap();
        assert_eq!((some.count, some.device_ids.unwrap().len(), some.driver.as_str()), (0, 2, "nvidia"));
        assert_eq!(some.capabilities.unwrap()[0], ["compute", "utility", "gpu"]);
        assert_eq!(parse("2").unwrap().count, 2);
        assert!(parse("x").is_err() && parse("count=1,count=2").is_err() && parse("foo=1").is_err());
    }
}
