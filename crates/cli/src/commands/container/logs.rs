//! `docker logs`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::timestamp,
    streams::Splitter,
};
use http::Method;
use http_body_util::BodyExt;
use wharf_api::container::InspectResponse;

/// `docker container logs`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Fetch the logs of a container",
    also: "container logs, logs",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("details", "Show extra details provided to logs"),
    Flag::bool("follow", "Follow log output").short('f'),
    Flag::text(
        "since",
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    Flag::text("tail", "Number of lines to show from the end of the logs (default \"all\")").short('n'),
    Flag::bool("timestamps", "Show timestamps").short('t'),
    Flag::text(
        "until",
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let path = format!("/containers/{}", encode(m.arg(0)));
    let container: InspectResponse = client.get(&format!("{path}/json"), Query::new()).await?;
    let path = format!("/containers/{}", encode(&container.id));
    let since = timestamp::parse(m.text("since"))
        .map_err(|why| Error::text(format!("invalid value for \"since\": {why}")))?;
    let until = timestamp::parse(m.text("until"))
        .map_err(|why| Error::text(format!("invalid value for \"until\": {why}")))?;
    let tail = if m.given("tail") { m.text("tail") } else { "all" };
    let query = Query::new()
        .with("stdout", "1")
        .with("stderr", "1")
        .with_text("since", &since)
        .with_text("until", &until)
        .with_switch("timestamps", m.is("timestamps"))
        .with_switch("details", m.is("details"))
        .with_switch("follow", m.is("follow"))
        .with("tail", tail);
    let response = client.send(Call::new(Method::GET, &format!("{path}/logs"), query)).await?;
    let tty = container.config.tty;
    let mut splitter = Splitter::new(!tty, true, true);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Error::Connect(e.to_string()))?;
        if let Ok(data) = frame.into_data() {
            splitter.write(&data)?;
        }
    }
    Ok(())
}
