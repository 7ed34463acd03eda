//! `docker create`, and what `docker run` does first.

use super::{api_socket, create_config, create_flags};
use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Args, Command, runs},
    commands::{image::pull, say},
    error::{Error, Result},
    flags::{Flag, Matches},
    progress::Place,
    terminal,
};
use http::Method;
use std::{fs, io::Write};
use wharf_api::container::{CreateRequest, CreateResponse};
use wharf_spec::{AnyRef, Platform};

/// `docker container create`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    also: "container create, create",
    flags: &[create_flags::FLAGS, create_flags::MAKING, FLAGS],
    args: Args::AtLeast(1),
    interspersed: false,
    action: runs!(run),
};

const FLAGS: &[Flag] = &[Flag::text(
    "pull",
    "Pull image before creating (\"always\", \"|missing\", \"never\") (default \"missing\")",
)];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let request = parse(&cli, &m, "create").await?;
    let id = create(&cli, &m, request).await?;
    say(&id);
    Ok(())
}

/// An error of ours with a hint at the help (docker/cli: `withHelp`).
pub(crate) fn with_help(cli: &Cli, error: &str, command: &str, code: i32) -> Error {
    let program = cli.program();
    Error::Status {
        code,
        text: format!("docker: {error}\n\nRun '{program} {command} --help' for more information"),
    }
}

/// The request that the flags ask for. The daemon is asked for first, as Docker does.
pub(crate) async fn parse(cli: &Cli, m: &Matches, command: &str) -> Result<CreateRequest> {
    let wrong = |why: &str| with_help(cli, why, command, 125);
    let pull = m.text("pull");
    if !["", "always", "missing", "never"].contains(&pull) {
        let choices = "must be one of \"always\", \"missing\" or \"never\"";
        return Err(wrong(&format!("invalid pull option: '{pull}': {choices}")));
    }
    let proxies = cli.config().proxy_variables(cli.address().as_str(), m.all("env"));
    cli.client().await.map_err(|error| wrong(&error.to_string()))?;
    create_config::request(m, proxies).map_err(|why| wrong(&why))
}

/// Makes the container, after pulling its image if that is missing; its id.
pub(crate) async fn create(cli: &Cli, m: &Matches, mut request: CreateRequest) -> Result<String> {
    let platform = platform(m)?;
    let id_file = IdFile::open(m.text("cidfile"))?;
    let socket = if m.is("use-api-socket") { api_socket::mount(cli, &mut request)? } else { None };
    let image: AnyRef = request.config.image.parse().map_err(|e| Error::text(format!("{e}")))?;
    if m.text("pull") == "always" {
        pull_image(cli, m).await?;
    }
    let (rows, columns) = terminal::size();
    if let Some(host) = &mut request.host_config {
        host.console_size = [u64::from(rows), u64::from(columns)];
    }
    let response = match (post(cli, m, &platform, &request).await, image) {
        (Err(error), AnyRef::Named(image)) if error.is_not_found() && may_pull(m) => {
            if !m.is("quiet") {
                let shown = image.or_latest().familiar_string();
                let _ = writeln!(std::io::stderr(), "Unable to find image '{shown}' locally");
            }
            pull_image(cli, m).await?;
            post(cli, m, &platform, &request).await?
        }
        (result, _) => result?,
    };
    let mut response = response;
    if let Some(config) = socket
        && let Err(error) = api_socket::put_config(cli, &response.id, config).await
    {
        let text = format!("injecting docker config.json into container failed: {error}");
        response.warnings.push(text);
    }
    for warning in &response.warnings {
        let _ = writeln!(std::io::stderr(), "WARNING: {warning}");
    }
    id_file.write(&response.id)?;
    Ok(response.id)
}

fn may_pull(m: &Matches) -> bool {
    matches!(m.text("pull"), "" | "missing")
}

fn platform(m: &Matches) -> Result<String> {
    let asked = match m.text("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        text => text.to_owned(),
    };
    if asked.is_empty() {
        return Ok(asked);
    }
    let platform: Platform = asked.parse().map_err(|e| Error::text(format!("{e}")))?;
    Ok(platform.to_string())
}

async fn post(cli: &Cli, m: &Matches, platform: &str, request: &CreateRequest) -> Result<CreateResponse> {
    let query = Query::new().with_text("name", m.text("name")).with_text("platform", platform);
    cli.client().await?.fetch(Call::new(Method::POST, "/containers/create", query).json(request)?).await
}

async fn pull_image(cli: &Cli, m: &Matches) -> Result<()> {
    let place = if m.is("quiet") { Place::Nowhere } else { Place::Stderr };
    pull::pull(cli, m.arg(0), &platform(m)?, place).await
}

/// The file for the id: it must not be there, and is not left behind empty.
struct IdFile {
    path: String,
}

impl IdFile {
    fn open(path: &str) -> Result<Self> {
        if !path.is_empty() {
            if fs::exists(path).unwrap_or(false) {
                return Err(Error::text(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                )));
            }
            fs::write(path, "").map_err(Error::io("failed to create the container ID file"))?;
        }
        Ok(Self { path: path.to_owned() })
    }

    fn write(mut self, id: &str) -> Result<()> {
        if !self.path.is_empty() {
            let what = format!("failed to write the container ID ({id}) to file");
            fs::write(&self.path, id).map_err(Error::io(what))?;
            self.path.clear();
        }
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.path.is_empty() {
            // Nothing depends on it: it is empty.
            let _ = fs::remove_file(&self.path);
        }
    }
}
