//! `inspect`: objects as the daemon describes them, or through a template.

use super::{
    json::{Ordered, indent, to_template},
    template::Format,
};
use crate::error::{Error, Result, join};
use bytes::Bytes;
use std::{future::Future, io::Write};

/// Fields that Go's types have and their JSON leaves out when they are empty: templates may ask for them.
const MISSING: [&[&str]; 12] = [
    &["State", "Health"],
    &["Config", "Healthcheck"],
    &["Config", "StopTimeout"],
    &["Config", "StopSignal"],
    &["Config", "Shell"],
    &["Config", "ExposedPorts"],
    &["HostConfig", "Init"],
    &["HostConfig", "Mounts"],
    &["HostConfig", "Tmpfs"],
    &["HostConfig", "Sysctls"],
    &["HostConfig", "StorageOpt"],
    &["HostConfig", "Annotations"],
];

/// Writes all objects; what cannot be found is told afterwards.
///
/// # Errors
/// When one cannot be found, or the template does not fit.
pub(crate) async fn inspect<F, Fut>(names: &[String], format: &str, mut fetch: F) -> Result<()>
where
    F: FnMut(String) -> Fut,
    Fut: Future<Output = Result<Bytes>>,
{
    let template = match format {
        "" | "json" => None,
        source => {
            Some(Format::parse(source).map_err(|error| Error::Status { code: 64, text: error.to_string() })?)
        }
    };
    let (mut errors, mut found, mut out) = (Vec::new(), Vec::new(), String::new());
    for name in names {
        match (fetch(name.clone()).await, &template) {
            (Err(error), _) => errors.push(error),
            (Ok(raw), None) => found.push(String::from_utf8_lossy(&raw).trim().to_owned()),
            (Ok(raw), Some(template)) => match fill(template, &raw) {
                Ok(text) => {
                    out.push_str(&text);
                    out.push('\n');
                }
                Err(error) => errors.push(error),
            },
        }
    }
    match (&template, format) {
        (None, "json") => out = format!("[{}]\n", found.join(",")),
        (None, _) => out = format!("{}\n", indent(&format!("[{}]", found.join(",")))),
        (Some(_), _) if out.is_empty() => out.push('\n'),
        (Some(_), _) => {}
    }
    let _ = std::io::stdout().write_all(out.as_bytes());
    join(errors)
}

fn fill(template: &Format, raw: &[u8]) -> Result<String> {
    let mut value =
        Ordered::parse(raw).map_err(|e| Error::text(format!("unable to read inspect data: {e}")))?;
    for path in MISSING {
        value.add_missing(path);
    }
    template.fill(&to_template(&value))
}
