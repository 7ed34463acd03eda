//! `docker start`.

use super::run::{attach, begin_wait, meanwhile, stay};
use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    streams::{Signals, Wiring},
    terminal,
};
use wharf_api::container::InspectResponse;

/// `docker container start`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    also: "container start, start",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
    Flag::text("checkpoint", "Restore from this checkpoint"),
    Flag::text("checkpoint-dir", "Use a custom checkpoint storage directory"),
    Flag::text("detach-keys", "Override the key sequence for detaching a container"),
    Flag::bool("interactive", "Attach container's STDIN").short('i'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let keys = if m.given("detach-keys") { m.text("detach-keys") } else { cli.config().text("detachKeys") };
    terminal::detach_keys(keys)?;
    if m.is("attach") || m.is("interactive") {
        return start_attached(&cli, &m, keys).await;
    }
    let client = cli.client().await?;
    let query = || {
        Query::new()
            .with_text("checkpoint", m.text("checkpoint"))
            .with_text("checkpoint-dir", m.text("checkpoint-dir"))
    };
    let mut failed = Vec::new();
    for name in &m.args {
        match client.post(&format!("/containers/{}/start", encode(name)), query()).await {
            Ok(()) => say(name),
            Err(error) => {
                eprintln!("{error}");
                failed.push(name.clone());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::text(format!("Error: failed to start containers: {}", failed.join(", "))))
}

async fn start_attached(cli: &Cli, m: &Matches, keys: &str) -> Result<()> {
    if m.args.len() > 1 {
        return Err(Error::text("you cannot start and attach multiple containers at once"));
    }
    let client = cli.client().await?;
    let path = format!("/containers/{}/json", encode(m.arg(0)));
    let container: InspectResponse = client.get(&path, Query::new()).await?;
    let (id, tty) = (container.id.as_str(), container.config.tty);
    let signals = (!tty).then(Signals::catch);
    let wiring = Wiring {
        tty,
        stdin: m.is("interactive") && container.config.open_stdin,
        stdout: true,
        stderr: true,
        detach_keys: keys.to_owned(),
    };
    let hijacked = attach(client, id, &wiring).await?;
    let waiting = begin_wait(client, id, container.host_config.auto_remove).await?;
    client.post(&format!("/containers/{}/start", encode(id)), Query::new()).await?;
    tokio::select! {
        result = stay(hijacked, waiting, &wiring) => result,
        () = meanwhile(client, id, &wiring, signals) => Ok(()),
    }
}
