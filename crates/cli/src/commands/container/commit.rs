//! `docker commit`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
};
use http::Method;
use wharf_api::IdResponse;
use wharf_spec::ImageRef;

/// `docker container commit`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    also: "container commit, commit",
    flags: &[FLAGS],
    args: Args::Between(1, 2),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("author", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")").short('a'),
    Flag::many("change", "Apply Dockerfile instruction to the created image").short('c'),
    Flag::text("message", "Commit message").short('m'),
    Flag::bool("pause", "Pause container during commit (default true)").short('p'),
    Flag::bool("no-pause", "Disable pausing container during commit").hidden(),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let mut query = Query::new().with("container", m.arg(0));
    if m.args.len() > 1 {
        let image: ImageRef = m.arg(1).parse().map_err(|e| Error::text(format!("{e}")))?;
        if image.digest().is_some() {
            return Err(Error::text("refusing to create a tag with a digest reference"));
        }
        query = query.with("repo", &image.name()).with("tag", image.tag_or_latest());
    }
    query = query.with_text("comment", m.text("message")).with_text("author", m.text("author"));
    for change in m.all("change") {
        query = query.with("changes", change);
    }
    let pause = m.switch("pause").unwrap_or(true) && !m.is("no-pause");
    if !pause {
        query = query.with("pause", "0");
    }
    let call = Call::new(Method::POST, "/commit", query);
    let response: IdResponse = cli.client().await?.fetch(call).await?;
    say(&response.id);
    Ok(())
}
