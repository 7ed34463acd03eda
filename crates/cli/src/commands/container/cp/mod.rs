//! `docker cp` (source: docker/cli `cli/command/container/cp.go`).

mod outside;
pub(crate) mod progress;
mod rules;
pub(crate) mod stream;

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    commands::image::load,
    error::{Error, Result},
    flags::{Flag, Matches},
    terminal,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt;
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use progress::{Counter, Progress};
use rules::Place;
use std::io::Write;
use wharf_api::{container::PathStat, gojson};

/// `docker container cp`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tdocker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files/folders between a container and the local filesystem\n\n\
            Use '-' as the source to read a tar archive from stdin\n\
            and extract it to a directory destination in a container.\n\
            Use '-' as the destination to stream a tar archive of a\n\
            container source to stdout.",
    also: "container cp, cp",
    flags: &[FLAGS],
    args: Args::Exactly(2),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("archive", "Archive mode (copy all uid/gid information)").short('a'),
    Flag::bool("follow-link", "Always follow symbol link in SRC_PATH").short('L'),
    Flag::bool(
        "quiet",
        "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
    )
    .short('q'),
];

/// Bits of Go's `os.FileMode`.
const MODE_DIR: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;
const MODE_DEVICE: u32 = 1 << 26;

/// One copy.
struct Copy<'a> {
    cli: &'a Cli,
    container: &'a str,
    source: &'a str,
    target: &'a str,
    follow: bool,
    archive: bool,
    quiet: bool,
}

async fn run(cli: Cli, m: Matches) -> Result<()> {
    for (at, name) in ["source", "destination"].into_iter().enumerate() {
        if m.arg(at).is_empty() {
            return Err(Error::text(format!("{name} can not be empty")));
        }
    }
    let quiet = if m.given("quiet") { m.is("quiet") } else { !terminal::stdout_is_terminal() };
    let ((from, source), (to, target)) = (split_argument(m.arg(0)), split_argument(m.arg(1)));
    let container = if from.is_empty() { to } else { from };
    let (follow, archive) = (m.is("follow-link"), m.is("archive"));
    let copy = Copy { cli: &cli, container, source, target, follow, archive, quiet };
    match (from.is_empty(), to.is_empty()) {
        (false, true) => copy.get().await,
        (true, false) => copy.put().await,
        (false, false) => Err(Error::text("copying between containers is not supported")),
        (true, true) => Err(Error::text("must specify at least one container source")),
    }
}

/// Container, empty for a path of this machine, and path. What begins with a slash or a dot is a path here.
fn split_argument(argument: &str) -> (&str, &str) {
    match argument.split_once(':') {
        Some((container, path)) if !argument.starts_with('/') && !container.starts_with('.') => {
            (container, path)
        }
        _ => ("", argument),
    }
}

/// A destination that is a device is refused (docker/cli: `ValidateOutputPathFileMode`).
fn refuse_device(mode: u32, what: &str) -> Result<()> {
    if mode & MODE_DEVICE != 0 {
        return Err(Error::text(format!("{what} must be a directory or a regular file: got a device")));
    }
    Ok(())
}

impl Copy<'_> {
    async fn get(&self) -> Result<()> {
        let target = match self.target {
            "-" => "-".to_owned(),
            path => outside::absolute(path)?,
        };
        outside::check_output(&target)?;
        let (source, rebase) = self.followed_source().await;
        let call = Call::new(Method::GET, &self.path(), Query::new().with("path", &source));
        let response = self.cli.client().await?.send(call).await?;
        let stat = path_stat(&response)?;
        if target == "-" {
            return to_stdout(response).await;
        }
        let is_directory = stat.mode & MODE_DIR != 0;
        let source = Place { path: source, exists: true, is_directory, rebase };
        let counter = Counter::default();
        let progress = Progress::begin(self.quiet, "Copying from container - ", &counter);
        let (reader, fed) = stream::feed(response, counter.clone());
        let target_path = target.clone();
        let extracting = tokio::task::spawn_blocking(move || outside::extract(reader, &source, &target_path));
        let (extracted, ()) = tokio::join!(extracting, fed);
        let result = extracted.map_err(|e| Error::text(e.to_string())).and_then(|result| result);
        progress.end(&target);
        result
    }

    /// Where the source leads when links are to be followed, and the name that its copy keeps.
    async fn followed_source(&self) -> (String, Option<String>) {
        let unchanged = (self.source.to_owned(), None);
        if !self.follow {
            return unchanged;
        }
        // What is wrong with the path is told when it is copied.
        match self.stat(self.source).await {
            Ok(stat) if stat.mode & MODE_SYMLINK != 0 => {
                rules::rebase_name(self.source, &link_target(self.source, &stat))
            }
            _ => unchanged,
        }
    }

    async fn put(&self) -> Result<()> {
        let source = match self.source {
            "-" => "-".to_owned(),
            path => outside::absolute(path)?,
        };
        let target = self.inside_target().await?;
        let query = |path: &str| {
            let query = Query::new().with("path", path).with("noOverwriteDirNonDir", "true");
            if self.archive { query.with("copyUIDGID", "true") } else { query }
        };
        let counter = Counter::default();
        let (directory, body) = if source == "-" {
            if !target.is_directory {
                let (container, path) = (self.container, self.target);
                return Err(Error::text(format!("destination \"{container}:{path}\" must be a directory")));
            }
            (target.path.clone(), load::stream(Box::new(tokio::io::stdin())).boxed())
        } else {
            let source = outside::source(&source, self.follow)?;
            let plan = rules::prepare(&source, &target)?;
            (plan.directory.clone(), stream::pack(&source, plan.name(&source), counter.clone())?.boxed())
        };
        let call = Call::new(Method::PUT, &self.path(), query(&directory)).tar(body);
        let client = self.cli.client().await?;
        let progress = Progress::begin(self.quiet, "Copying to container - ", &counter);
        let result = client.fetch_raw(call).await.map(drop);
        progress.end(&format!("{}:{}", self.container, target.path));
        result
    }

    /// The destination, as far as it exists: links are followed once, then by the daemon.
    async fn inside_target(&self) -> Result<Place> {
        let mut place = Place { path: self.target.to_owned(), ..Place::default() };
        let Ok(mut stat) = self.stat(self.target).await else { return Ok(place) };
        if stat.mode & MODE_SYMLINK != 0 {
            place.path = link_target(self.target, &stat);
            // The copy may still go well, or fail with better words.
            match self.stat(&place.path).await {
                Ok(target) => stat = target,
                Err(_) => return Ok(place),
            }
        }
        refuse_device(stat.mode, &format!("destination \"{}:{}\"", self.container, self.target))?;
        (place.exists, place.is_directory) = (true, stat.mode & MODE_DIR != 0);
        Ok(place)
    }

    async fn stat(&self, path: &str) -> Result<PathStat> {
        let call = Call::new(Method::HEAD, &self.path(), Query::new().with("path", path));
        path_stat(&self.cli.client().await?.send(call).await?)
    }

    fn path(&self) -> String {
        format!("/containers/{}/archive", encode(self.container))
    }
}

/// Where a link of a container leads.
fn link_target(link: &str, stat: &PathStat) -> String {
    match stat.link_target.starts_with('/') {
        true => stat.link_target.clone(),
        false => rules::join(&rules::split(link).0, &stat.link_target),
    }
}

fn path_stat(response: &Response<Incoming>) -> Result<PathStat> {
    let bad = |why: String| Error::text(format!("unable to get resource stat from response: {why}"));
    let header = response.headers().get("X-Docker-Container-Path-Stat");
    let text = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let json = STANDARD.decode(text).map_err(|e| bad(e.to_string()))?;
    gojson::from_slice(&json).map_err(|e| bad(e.to_string()))
}

async fn to_stdout(response: Response<Incoming>) -> Result<()> {
    let mut body = response.into_body();
    let mut out = std::io::stdout().lock();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Error::Connect(e.to_string()))?;
        if let Ok(data) = frame.into_data() {
            out.write_all(&data)?;
        }
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::split_argument;

    #[test]
    fn a_container_stands_before_the_first_colon() {
        for (argument, container, path) in [
            ("box:/etc", "box", "/etc"),
            ("box:etc", "box", "etc"),
            ("box:", "box", ""),
            ("a:b:c", "a", "b:c"),
            ("/x:y", "", "/x:y"),
            ("./x:y", "", "./x:y"),
            ("../x:y", "", "../x:y"),
            ("file", "", "file"),
            (":x", "", "x"),
        ] {
            assert_eq!(split_argument(argument), (container, path), "{argument}");
        }
    }
}
