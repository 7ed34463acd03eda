//! `docker attach`.

use super::run::{attach, meanwhile, stay};
use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    streams::{self, Signals, Sized, Wiring},
    terminal,
};
use http::Method;
use wharf_api::container::InspectResponse;

/// `docker container attach`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Attach local standard input, output, and error streams to a running container",
    also: "container attach, attach",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("detach-keys", "Override the key sequence for detaching a container"),
    Flag::bool("no-stdin", "Do not attach STDIN"),
    Flag::bool("sig-proxy", "Proxy all received signals to the process (default true)"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let keys = if m.given("detach-keys") { m.text("detach-keys") } else { cli.config().text("detachKeys") };
    terminal::detach_keys(keys)?;
    let client = cli.client().await?;
    let path = format!("/containers/{}", encode(m.arg(0)));
    let container: InspectResponse = client.get(&format!("{path}/json"), Query::new()).await?;
    check_state(&container)?;
    let tty = container.config.tty;
    terminal::check_input(!m.is("no-stdin"), tty)?;
    let wiring = Wiring {
        tty,
        stdin: !m.is("no-stdin") && container.config.open_stdin,
        stdout: true,
        stderr: true,
        detach_keys: keys.to_owned(),
    };
    let signals = (m.switch("sig-proxy").unwrap_or(true) && !tty).then(Signals::catch);
    let waiting = client.send(Call::new(Method::POST, &format!("{path}/wait"), Query::new())).await?;
    let hijacked = attach(client, &container.id, &wiring).await?;
    if tty && terminal::stdout_is_terminal() {
        // A program in the container redraws when the size changes, so that the user sees where he is.
        let _ = streams::resize(client, Sized::Container(&container.id), 1).await;
    }
    tokio::select! {
        result = stay(hijacked, waiting, &wiring) => result,
        () = meanwhile(client, &container.id, &wiring, signals) => Ok(()),
    }
}

fn check_state(container: &InspectResponse) -> Result<()> {
    let state = &container.state;
    if !state.running {
        return Err(Error::text("cannot attach to a stopped container, start it first"));
    }
    if state.paused {
        return Err(Error::text("cannot attach to a paused container, unpause it first"));
    }
    if state.restarting {
        return Err(Error::text("cannot attach to a restarting container, wait until it is running"));
    }
    Ok(())
}
