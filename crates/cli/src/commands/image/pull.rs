//! `docker pull`, and the pull that `docker run` does.

use crate::{
    cli::Cli,
    client::{Call, JsonLines, Query},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    progress::{self, Place},
};
use http::Method;
use wharf_spec::{ImageRef, Platform};

/// `docker image pull`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    also: "image pull, pull",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("all-tags", "Download all tagged images in the repository").short('a'),
    Flag::bool("disable-content-trust", "Skip image verification (default true)"),
    Flag::text("platform", "Set platform if server is multi-platform capable"),
    Flag::bool("quiet", "Suppress verbose output").short('q'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let image: ImageRef = m.arg(0).parse().map_err(|e| Error::text(format!("{e}")))?;
    let (all, quiet) = (m.is("all-tags"), m.is("quiet"));
    if all && !image.is_name_only() {
        return Err(Error::text("tag can't be used with --all-tags/-a"));
    }
    if !all && image.is_name_only() && !quiet {
        say("Using default tag: latest");
    }
    let image = if all { image } else { image.or_latest() };
    let platform = match m.text("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        text => text.to_owned(),
    };
    if !platform.is_empty() {
        platform.parse::<Platform>().map_err(|e| Error::text(format!("{e}")))?;
    }
    let place = if quiet { Place::Nowhere } else { Place::Stdout };
    fetch(&cli, &image, &platform, place).await?;
    say(&image.to_string());
    Ok(())
}

/// Pulls one image and shows the progress.
///
/// # Errors
/// When the daemon cannot pull it.
pub(crate) async fn pull(cli: &Cli, image: &str, platform: &str, place: Place) -> Result<()> {
    let image: ImageRef = image.parse().map_err(|e| Error::text(format!("{e}")))?;
    // Here a credential helper that fails is an error (docker/cli: `RetrieveAuthTokenFromImage`).
    cli.config().auth(image.domain())?;
    fetch(cli, &image.or_latest(), platform, place).await
}

async fn fetch(cli: &Cli, image: &ImageRef, platform: &str, place: Place) -> Result<()> {
    let tag = match (image.digest(), image.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => String::new(),
    };
    let query = Query::new()
        .with("fromImage", &image.name())
        .with_text("tag", &tag)
        .with_text("platform", &platform.to_lowercase());
    let auth = cli.config().auth(image.domain()).unwrap_or_default().to_header();
    let call = Call::new(Method::POST, "/images/create", query).header("x-registry-auth", auth);
    let response = cli.client().await?.send(call).await?;
    progress::show(JsonLines::of(response), place).await.map(drop)
}
