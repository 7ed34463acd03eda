//! `docker tag`.

use crate::{
    cli::Cli,
    client::{Query, encode_path},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::Matches,
};
use wharf_spec::{AnyRef, ImageRef};

/// `docker image tag`.
pub(crate) const COMMAND: Command = Command {
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    also: "image tag, tag",
    args: Args::Exactly(2),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let (source, target) = (m.arg(0), m.arg(1));
    let parsed = |text: &str, e: &dyn std::fmt::Display| {
        Error::text(format!("Error parsing reference: {text:?} is not a valid repository/tag: {e}"))
    };
    source.parse::<AnyRef>().map_err(|e| parsed(source, &e))?;
    let image: ImageRef = target.parse().map_err(|e| parsed(target, &e))?;
    if image.digest().is_some() {
        return Err(Error::text("refusing to create a tag with a digest reference"));
    }
    let query = Query::new().with("repo", &image.name()).with("tag", image.tag_or_latest());
    cli.client().await?.post(&format!("/images/{}/tag", encode_path(source)), query).await
}
