//! `docker build`, `docker builder` and `docker buildx build`.
//!
//! The daemon's classic builder does the work; its stream of lines is read by [`classic`] and drawn by [`board`] as
//! BuildKit draws. With `DOCKER_BUILDKIT=0` the lines are shown as they come. What docker/cli and buildx know and
//! the daemon cannot do yet is refused, never ignored.

mod board;
mod cache;
mod check;
mod classic;
mod context;
mod excerpt;
mod output;
pub(crate) mod prune;
mod request;
mod transfer;

use crate::{
    cli::Cli,
    client::JsonLines,
    command::{Args, Command, runs},
    commands::{container::cp::progress::Counter, say},
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::{hosts, keyvalue, ulimit},
    progress::{self, Place},
    terminal,
};
use board::{Board, Style};
use check::Linter;
use context::Context;
use request::Prepared;
use serde_json::json;
use wharf_spec::ImageRef;

/// `docker build`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] PATH | URL | -",
    about: "Build an image from a Dockerfile",
    also: "build, builder build, buildx build, image build",
    flags: &[FLAGS, STEPS, REFUSED],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::many("build-arg", "Set build-time variables"),
    Flag::many("build-context", "Additional build contexts (e.g., name=path)").named("stringArray"),
    Flag::strings(
        "cache-from",
        "External cache sources (e.g., \"user/app:cache\", \"type=registry,ref=user/app:cache\")",
    ),
    Flag::many("cache-to", "Cache export destinations (e.g., \"type=local,dest=path/to/dir\")")
        .named("stringArray"),
    Flag::text("call", "Set method for evaluating build (\"check\") (default \"build\")"),
    Flag::bool("check", "Shorthand for \"--call=check\""),
    Flag::bool("explain", "Say why a step was not cached"),
    Flag::text("file", "Name of the Dockerfile (default: \"PATH/Dockerfile\")").short('f'),
    Flag::bool("force-rm", "Always remove intermediate containers"),
    Flag::text("iidfile", "Write the image ID to a file"),
    Flag::many("label", "Set metadata for an image").checked(keyvalue::check_label),
    Flag::bool("load", "Shorthand for \"--output=type=docker\""),
    Flag::text("metadata-file", "Write build result metadata to a file"),
    Flag::bool("no-cache", "Do not use cache when building the image"),
    Flag::strings("no-cache-filter", "Do not cache specified stages"),
    Flag::many("output", "Output destination (format: \"type=local,dest=path\")")
        .short('o')
        .named("stringArray"),
    Flag::strings("platform", "Set target platform for build"),
    Flag::text(
        "progress",
        "Set type of progress output (\"auto\", \"plain\", \"tty\", \"rawjson\", \"quiet\") (default \"auto\")",
    ),
    Flag::bool("pull", "Always attempt to pull all referenced images"),
    Flag::bool("push", "Shorthand for \"--output=type=registry\""),
    Flag::bool("quiet", "Suppress the build output and print image ID on success").short('q'),
    Flag::bool("rm", "Remove intermediate containers after a successful build (default true)"),
    Flag::many("secret", "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")")
        .named("stringArray"),
    Flag::many("tag", "Name and optionally a tag (format: \"name:tag\")").short('t').named("stringArray"),
    Flag::text("target", "Set the target build stage to build"),
];

/// How commands run.
const STEPS: &[Flag] = &[
    Flag::many("add-host", "Add a custom host-to-IP mapping (format: \"host:ip\")")
        .checked(hosts::check_extra_host),
    Flag::text("cgroup-parent", "Set the parent cgroup for the \"RUN\" instructions during build"),
    Flag::int("cpu-period", "Limit the CPU CFS (Completely Fair Scheduler) period"),
    Flag::int("cpu-quota", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::text("isolation", "Container isolation technology"),
    Flag::bytes("memory", "Memory limit").short('m'),
    Flag::bytes("memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    Flag::text(
        "network",
        "Set the networking mode for the \"RUN\" instructions during build (default \"default\")",
    ),
    Flag::strings("security-opt", "Security options"),
    Flag::bytes("shm-size", "Shared memory size for build containers"),
    Flag::many("ulimit", "Ulimit options (default [])").named("ulimit").checked(ulimit::check),
];

/// Known to others and not built yet: [`request::refuse`] says so.
const REFUSED: &[Flag] = &[
    Flag::strings("allow", "Allow extra privileged entitlement").hidden(),
    Flag::many("annotation", "Add annotation to the image").hidden(),
    Flag::many("attest", "Attestation parameters").hidden(),
    Flag::text("builder", "Override the configured builder instance").hidden(),
    Flag::bool("compress", "Compress the build context using gzip").hidden(),
    Flag::text("provenance", "Shorthand for \"--attest=type=provenance\"").hidden(),
    Flag::text("sbom", "Shorthand for \"--attest=type=sbom\"").hidden(),
    Flag::bool("squash", "Squash newly built layers into a single new layer").hidden(),
    Flag::many("ssh", "SSH agent socket or keys to expose to the build").hidden(),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    request::refuse(&m)?;
    if check::is_asked_for(&m)? {
        return check::run(&cli, &m).await;
    }
    let outputs = output::parse(&m)?;
    let tags = output::tags(&m, &outputs)?;
    let style = style(&m)?;
    let context = Context::find(m.arg(0), m.text("file"))?;
    let (cache_to, cache_from) = (cache::to(&m)?, cache::from(&m)?);
    let cache_from = cache::images(&cli, cache_from).await?;
    let call = request::call(&cli, &m, &context, &tags, &cache_from)?;
    if output::wants_files(&outputs) {
        request::require_wharf(&cli, "--output type=local and type=tar").await?;
    }
    let linter = Linter::new(&cli, &m, &context)?;
    if let (Some(linter), Some(_)) = (&linter, style) {
        linter.stop(&cli).await?;
    }
    let file = (context.dockerfile_name(), context.dockerfile_text());
    let request = Prepared::new(&m, call, context)?;
    if m.given("no-cache-filter") || m.is("explain") {
        request::require_wharf(&cli, "--no-cache-filter and --explain").await?;
    }
    let built = match style {
        Some(style) => drawn(&cli, request, file, style, &tags).await,
        None => as_it_comes(&cli, request).await,
    };
    if let (Some(linter), Some(Style::Terminal | Style::Plain)) = (&linter, style) {
        eprint!("{}", linter.warnings(&cli).await);
    }
    let image = built?;
    for directory in &cache_to {
        cache::write(&cli, directory, &image).await?;
    }
    output::bring(&cli, &outputs, &tags, &image).await?;
    if !m.text("iidfile").is_empty() {
        std::fs::write(m.text("iidfile"), &image).map_err(Error::io("failed to write image ID"))?;
    }
    if !m.text("metadata-file").is_empty() {
        write_metadata(m.text("metadata-file"), &image, &tags)?;
    }
    if m.is("quiet") {
        say(&image);
    }
    Ok(())
}

/// How the build is shown; `None` is the classic builder's own lines.
fn style(m: &Matches) -> Result<Option<Style>> {
    if m.is("quiet") {
        return Ok(Some(Style::Quiet));
    }
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if !m.given("progress") && matches!(variable("DOCKER_BUILDKIT").as_str(), "0" | "false") {
        return Ok(None);
    }
    let asked = if m.given("progress") { m.string("progress") } else { variable("BUILDKIT_PROGRESS") };
    Ok(Some(match asked.as_str() {
        "" | "auto" if terminal::stderr_is_terminal() => Style::Terminal,
        "" | "auto" | "plain" => Style::Plain,
        "tty" => Style::Terminal,
        "rawjson" => Style::Json,
        "quiet" | "none" => Style::Quiet,
        other => return Err(Error::text(format!("invalid progress mode {other}"))),
    }))
}

/// Shows the classic builder's lines; gives the image.
async fn as_it_comes(cli: &Cli, request: Prepared) -> Result<String> {
    let response = request.send(cli, &Counter::default()).await?;
    let aux = progress::show(JsonLines::of(response), Place::Stdout).await?;
    let image = aux.iter().rev().find_map(|text| classic::image_of(&serde_json::from_str(text).ok()?));
    image.ok_or_else(|| Error::text("the daemon did not say which image it built"))
}

/// Draws the build as BuildKit does; gives the image.
async fn drawn(
    cli: &Cli,
    request: Prepared,
    (file, text): (String, Option<String>),
    style: Style,
    tags: &[ImageRef],
) -> Result<String> {
    let mut board = Board::new(style, format!("docker:{}", cli.context()));
    let mut build = classic::Build::new(&mut board);
    match build.run(cli, request).await {
        Ok(image) => {
            board.export(&image, &tags.iter().map(ToString::to_string).collect::<Vec<_>>());
            board.finish();
            Ok(image)
        }
        Err(error) => {
            let (message, (stage, step)) = (words(&error), build.step());
            build.fail(&message);
            let excerpt =
                text.map(|text| excerpt::of(&text, &file, &message, (&stage, step))).unwrap_or_default();
            let text =
                format!("{}{excerpt}ERROR: failed to build: failed to solve: {message}", board.failed());
            Err(Error::Status { code: 1, text })
        }
    }
}

/// The daemon's words alone.
fn words(error: &Error) -> String {
    match error {
        Error::Daemon { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// What tools read of a build (source: buildx `util/metadata`, the docker driver's keys).
fn write_metadata(path: &str, image: &str, tags: &[ImageRef]) -> Result<()> {
    let mut metadata = json!({ "containerimage.config.digest": image, "containerimage.digest": image });
    if !tags.is_empty() {
        let names: Vec<String> = tags.iter().map(ToString::to_string).collect();
        metadata["image.name"] = json!(names.join(","));
    }
    let text = serde_json::to_string_pretty(&metadata).map_err(|e| Error::text(e.to_string()))?;
    std::fs::write(path, text).map_err(Error::io("failed to write metadata"))
}
