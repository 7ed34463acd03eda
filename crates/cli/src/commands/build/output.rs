//! Where a build goes: `--output`, `--load`, `--push` (source: buildx `util/buildflags/export.go`,
//! `build/opt.go`).

use crate::{
    cli::Cli,
    client::{Call, Query, encode_path},
    commands::{
        container::cp::{progress::Counter, stream},
        image::{push, save::write_stream},
    },
    error::{Error, Result},
    flags::Matches,
    opts::csv,
    progress::Place,
    terminal,
};
use http::Method;
use std::os::fd::AsFd;
use wharf_archive::{Options, Owner, unpack};
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
    /// The image's files as an archive: a file, or standard output when empty.
    Tar { path: String },
    /// The image's files, in a directory.
    Local { directory: String },
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
        return match only.as_str() {
            "-" => tar(String::new()),
            directory => Ok(Output::Local { directory: directory.to_owned() }),
        };
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
        ("tar", path) => tar(path.unwrap_or_default()),
        ("local", Some(directory)) if !directory.is_empty() => Ok(Output::Local { directory }),
        ("local", _) => Err(Error::text("ERROR: dest is required for local exporter")),
        ("", _) => Err(Error::text("ERROR: type is required for output")),
        _ => Err(Error::text(format!("ERROR: unsupported output type {kind:?}"))),
    }
}

fn tar(path: String) -> Result<Output> {
    if path.is_empty() && terminal::stdout_is_terminal() {
        return Err(Error::text(
            "ERROR: dest file is required for tar exporter. refusing to write to console",
        ));
    }
    Ok(Output::Tar { path })
}

/// All names of the image.
///
/// # Errors
/// `invalid tag ...`
pub(super) fn tags(m: &Matches, outputs: &[Output]) -> Result<Vec<ImageRef>> {
    let more = outputs.iter().flat_map(|output| match output {
        Output::Image { names, .. } => names.as_slice(),
        _ => &[],
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
            Output::Tar { path } => write_stream(cli, files(image), path, "write output").await?,
            Output::Local { directory } => extract(cli, files(image), directory).await?,
        }
    }
    Ok(())
}

/// The image's files: the daemon's own extension.
fn files(image: &str) -> Call {
    Call::new(Method::GET, &format!("/images/{}/files", encode_path(image)), Query::new())
}

/// Whether files are wanted, which only Wharf's daemon gives.
pub(super) fn wants_files(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Tar { .. } | Output::Local { .. }))
}

/// Puts the files of an answer into a directory, made if it is missing; they belong to the user, as with buildx. What is
/// there stays, unless a file of the answer has its name.
///
/// # Errors
/// The daemon's, and when the disk fails.
pub(super) async fn extract(cli: &Cli, call: Call, directory: &str) -> Result<()> {
    let failed = || Error::io(format!("ERROR: failed to write {directory}"));
    std::fs::create_dir_all(directory).map_err(failed())?;
    let root = std::fs::File::open(directory).map_err(failed())?;
    let response = cli.client().await?.send(call).await?;
    let (archive, feeding) = stream::feed(response, Counter::default());
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let options = Options { owner: Owner::Fixed { uid, gid }, ..Options::default() };
    let extracting = tokio::task::spawn_blocking(move || unpack(archive, root.as_fd(), options));
    let ((), extracted) = tokio::join!(feeding, extracting);
    let extracted = extracted.map_err(|error| Error::text(error.to_string()))?;
    extracted.map(drop).map_err(|error| Error::text(format!("ERROR: {}", error.below(directory))))
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
        assert_eq!(error("type=local"), "ERROR: dest is required for local exporter");
        assert_eq!(one("out").unwrap(), Output::Local { directory: "out".into() });
        assert_eq!(one("type=tar,dest=x").unwrap(), Output::Tar { path: "x".into() });
    }
}
