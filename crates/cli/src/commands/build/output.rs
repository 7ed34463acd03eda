//! Where a build goes: `--output`, `--load`, `--push` (source: buildx `util/buildflags/export.go`,
//! `build/opt.go`).

use crate::{
    cli::Cli,
    client::{Call, Query},
    commands::image::{push, save::write_stream},
    error::{Error, Result},
    flags::Matches,
    opts::csv,
    progress::Place,
};
use http::Method;
use wharf_spec::ImageRef;

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// The daemon's own images.
    Image {
        /// More names of it.
        names: Vec<String>,
        /// And to its registry.
        push: bool,
    },
    /// An archive as `docker save` writes it, which is an OCI layout too: a file, or standard output when empty.
    Archive { path: String },
}

/// What is asked for.
///
/// # Errors
/// For what makes no sense, and what cannot be done yet.
pub(super) fn parse(m: &Matches) -> Result<Vec<Output>> {
    let mut outputs: Vec<Output> = m.all("output").iter().map(|text| one(text)).collect::<Result<_>>()?;
    if m.is("push") && m.is("load") {
        return Err(Error::text("ERROR: push and load may not be set together at the moment"));
    }
    if m.is("push") {
        outputs.push(Output::Image { names: Vec::new(), push: true });
    }
    Ok(outputs)
}

fn one(text: &str) -> Result<Output> {
    let fields = csv::fields(text).map_err(|why| Error::text(format!("ERROR: {why}")))?;
    let (mut kind, mut names, mut push, mut path) = (String::new(), Vec::new(), false, None);
    if let [only] = fields.as_slice()
        && !only.contains('=')
    {
        return Err(files(if only == "-" { "tar" } else { "local" }));
    }
    for field in &fields {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Error::text(format!("ERROR: invalid value {field}")));
        };
        match key.trim().to_lowercase().as_str() {
            "type" => kind = value.to_owned(),
            "dest" => path = Some(if value == "-" { String::new() } else { value.to_owned() }),
            "name" => names.extend(value.split(',').map(str::to_owned)),
            "push" => push = matches!(value, "true" | "1"),
            other => {
                return Err(Error::text(format!("ERROR: not implemented in Wharf yet: --output {other}=")));
            }
        }
    }
    match (kind.as_str(), path) {
        ("image", None) => Ok(Output::Image { names, push }),
        ("registry", None) => Ok(Output::Image { names, push: true }),
        ("docker", None) => Ok(Output::Image { names, push: false }),
        ("docker", Some(path)) => Ok(Output::Archive { path }),
        ("oci", path) => Ok(Output::Archive { path: path.unwrap_or_default() }),
        ("image" | "registry", Some(_)) => {
            Err(Error::text(format!("ERROR: dest cannot be used with type {kind}")))
        }
        ("local" | "tar", _) => Err(files(&kind)),
        ("", _) => Err(Error::text("ERROR: type is required for output")),
        _ => Err(Error::text(format!("ERROR: unsupported output type {kind:?}"))),
    }
}

/// They need the image's files as one tree, which no endpoint gives.
fn files(kind: &str) -> Error {
    Error::text(format!("ERROR: not implemented in Wharf yet: --output type={kind}"))
}

/// All names of the image.
///
/// # Errors
/// `invalid tag ...`
pub(super) fn tags(m: &Matches, outputs: &[Output]) -> Result<Vec<ImageRef>> {
    let more = outputs.iter().flat_map(|output| match output {
        Output::Image { names, .. } => names.as_slice(),
        Output::Archive { .. } => &[],
    });
    let mut tags: Vec<ImageRef> = Vec::new();
    for text in m.all("tag").iter().chain(more) {
        let failed =
            |why: String| Error::text(format!("ERROR: failed to build: invalid tag {text:?}: {why}"));
        let tag: ImageRef = text.parse().map_err(|e| failed(format!("{e}")))?;
        let tag = tag.or_latest();
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let pushes = outputs.iter().any(|output| matches!(output, Output::Image { push: true, .. }));
    if pushes && tags.is_empty() {
        return Err(Error::text("ERROR: failed to build: tag is needed when pushing to registry"));
    }
    Ok(tags)
}

/// Brings the image where it is wanted.
///
/// # Errors
/// When the daemon or the disk refuses.
pub(super) async fn bring(cli: &Cli, outputs: &[Output], tags: &[ImageRef], image: &str) -> Result<()> {
    for output in outputs {
        match output {
            Output::Image { push: false, .. } => {}
            Output::Image { push: true, .. } => {
                for tag in tags {
                    push::push(cli, tag, "", Place::Stderr).await?;
                }
            }
            Output::Archive { path } => {
                let mut query = Query::new();
                for tag in tags {
                    query = query.with("names", &tag.to_string());
                }
                if tags.is_empty() {
                    query = query.with("names", image);
                }
                write_stream(cli, Call::new(Method::GET, "/images/get", query), path, "write output").await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_buildxs() {
        let image = |names: &[&str], push| Output::Image {
            names: names.iter().map(|n| n.to_string()).collect(),
            push,
        };
        assert_eq!(one("type=docker").unwrap(), image(&[], false));
        assert_eq!(one("type=image,\"name=a,b\",push=true").unwrap(), image(&["a", "b"], true));
        assert_eq!(one("type=registry,name=a").unwrap(), image(&["a"], true));
        assert_eq!(one("type=oci,dest=x.tar").unwrap(), Output::Archive { path: "x.tar".into() });
        assert_eq!(one("type=docker,dest=-").unwrap(), Output::Archive { path: String::new() });
        let error = |text: &str| one(text).unwrap_err().to_string();
        assert_eq!(error("type=zip"), "ERROR: unsupported output type \"zip\"");
        assert_eq!(error("dest=x"), "ERROR: type is required for output");
        assert_eq!(error("out"), "ERROR: not implemented in Wharf yet: --output type=local");
    }
}
