//! `docker push`.

use crate::{
    cli::Cli,
    client::{Call, JsonLines, Query, encode_path},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    progress::{self, Place},
};
use http::Method;
use wharf_spec::{ImageRef, Platform};

/// `docker image push`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    also: "image push, push",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("all-tags", "Push all tags of an image to the repository").short('a'),
    Flag::bool("disable-content-trust", "Skip image signing (default true)"),
    Flag::text(
        "platform",
        "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
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
        "" => String::new(),
        text => {
            let platform: Platform = text.parse().map_err(|e| Error::text(format!("{e}")))?;
            serde_json::to_string(&platform).map_err(|e| Error::text(e.to_string()))?
        }
    };
    push(&cli, &image, &platform, if quiet { Place::Nowhere } else { Place::Stdout }).await?;
    if quiet {
        say(&image.to_string());
    }
    Ok(())
}

/// Pushes an image, or all tags of its repository when it has none; `platform` is JSON or empty.
///
/// # Errors
/// When the daemon cannot push it.
pub(crate) async fn push(cli: &Cli, image: &ImageRef, platform: &str, place: Place) -> Result<()> {
    let query =
        Query::new().with_text("tag", image.tag().unwrap_or_default()).with_text("platform", platform);
    let path = format!("/images/{}/push", encode_path(&image.name()));
    // A credential helper that fails leaves it to the registry to refuse (docker/cli: `ResolveAuthConfig`).
    let auth = cli.config().auth(image.domain()).unwrap_or_default().to_header();
    let call = Call::new(Method::POST, &path, query).header("x-registry-auth", auth);
    let response = cli.client().await?.send(call).await?;
    progress::show(JsonLines::of(response), place).await.map(drop)
}
