//! `docker run`: create, attach, wait, start, and stay until it ends.

use super::{
    create::{self, with_help},
    create_flags,
};
use crate::{
    cli::Cli,
    client::{Call, Client, Hijacked, Query, encode},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    streams::{self, Ended, Signals, Sized, Wiring},
    terminal,
};
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use wharf_api::{
    container::{Config, WaitResponse},
    gojson,
};

/// `docker container run`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    also: "container run, run",
    flags: &[create_flags::FLAGS, create_flags::MAKING, FLAGS],
    args: Args::AtLeast(1),
    interspersed: false,
    action: runs!(run),
};

const FLAGS: &[Flag] = &[
    Flag::bool("detach", "Run container in background and print container ID").short('d'),
    Flag::text("detach-keys", "Override the key sequence for detaching a container"),
    Flag::text(
        "pull",
        "Pull image before running (\"always\", \"missing\", \"never\") (default \"missing\")",
    ),
    Flag::bool("sig-proxy", "Proxy received signals to the process (default true)"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let mut request = create::parse(&cli, &m, "run").await?;
    let config = &mut request.config;
    if m.is("detach") {
        if m.given("attach") {
            return Err(Error::text("conflicting options: cannot specify both --attach and --detach"));
        }
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        terminal::check_input(config.attach_stdin, config.tty)?;
    }
    let keys = if m.given("detach-keys") { m.text("detach-keys") } else { cli.config().text("detachKeys") };
    terminal::detach_keys(keys)?;
    let (wiring, auto_remove) = (wiring(config, keys), m.is("rm"));
    let id = create::create(&cli, &m, request).await.map_err(|error| to_status(&cli, &error))?;
    let client = cli.client().await?;
    let signals = m.switch("sig-proxy").unwrap_or(true).then(Signals::catch);
    let attached = wiring.stdin || wiring.stdout || wiring.stderr;
    if !attached {
        let path = format!("/containers/{}/start", encode(&id));
        client.post(&path, Query::new()).await.map_err(|error| to_status(&cli, &error))?;
        say(&id);
        return Ok(());
    }
    let hijacked = attach(client, &id, &wiring).await?;
    let waiting = begin_wait(client, &id, auto_remove).await?;
    let path = format!("/containers/{}/start", encode(&id));
    if let Err(error) = client.post(&path, Query::new()).await {
        drop(hijacked);
        if auto_remove {
            // The container is gone once this is answered, and its name is free.
            let _ = exit_code(waiting).await;
        }
        return Err(to_status(&cli, &error));
    }
    let stay = stay(hijacked, waiting, &wiring);
    tokio::select! {
        result = stay => result,
        () = meanwhile(client, &id, &wiring, signals) => Ok(()),
    }
}

fn wiring(config: &Config, keys: &str) -> Wiring {
    Wiring {
        tty: config.tty,
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        detach_keys: keys.to_owned(),
    }
}

/// Attaches to a container's streams.
pub(crate) async fn attach(client: &Client, id: &str, wiring: &Wiring) -> Result<Hijacked> {
    let query = Query::new()
        .with("stream", "1")
        .with_switch("stdin", wiring.stdin)
        .with_switch("stdout", wiring.stdout)
        .with_switch("stderr", wiring.stderr)
        .with_text("detachKeys", &wiring.detach_keys);
    client.hijack(Call::new(Method::POST, &format!("/containers/{}/attach", encode(id)), query)).await
}

/// Asks for the exit status; the daemon has begun to watch when this returns.
pub(crate) async fn begin_wait(client: &Client, id: &str, removed: bool) -> Result<Response<Incoming>> {
    let condition = if removed { "removed" } else { "next-exit" };
    let query = Query::new().with("condition", condition);
    client.send(Call::new(Method::POST, &format!("/containers/{}/wait", encode(id)), query)).await
}

/// The exit status, 125 when it cannot be had.
pub(crate) async fn exit_code(waiting: Response<Incoming>) -> i32 {
    let body = match waiting.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            eprintln!("error waiting for container: {error}");
            return 125;
        }
    };
    match gojson::from_slice::<WaitResponse>(&body) {
        Ok(WaitResponse { error: Some(error), .. }) => {
            eprintln!("Error waiting for container: {}", error.message);
            125
        }
        Ok(response) => i32::try_from(response.status_code).unwrap_or(125),
        Err(error) => {
            eprintln!("error waiting for container: {error}");
            125
        }
    }
}

/// Copies streams until the container has ended or the user detaches; its status is ours.
pub(crate) async fn stay(hijacked: Hijacked, waiting: Response<Incoming>, wiring: &Wiring) -> Result<()> {
    let mut streaming = Box::pin(streams::copy(hijacked, wiring));
    let mut status = Box::pin(exit_code(waiting));
    let code = tokio::select! {
        ended = &mut streaming => match ended? {
            Ended::Detached => return Ok(()),
            Ended::Output => status.await,
        },
        code = &mut status => {
            // What the container wrote last may still be on its way.
            if wiring.stdout || wiring.stderr {
                let _ = streaming.await;
            }
            code
        }
    };
    if code == 0 { Ok(()) } else { Err(Error::exit(code)) }
}

/// What is done besides: the terminal's size is followed, signals are passed on. Never ends.
pub(crate) async fn meanwhile(client: &Client, id: &str, wiring: &Wiring, signals: Option<Signals>) {
    let size = async {
        if wiring.tty && terminal::stdout_is_terminal() {
            streams::follow_size(client, Sized::Container(id)).await;
        } else {
            std::future::pending().await
        }
    };
    let passing = async {
        match signals {
            Some(signals) => signals.pass_on(client, id).await,
            None => std::future::pending().await,
        }
    };
    tokio::join!(size, passing);
}

/// 127 for a command that is not there, 126 for one that cannot be run, 125 for everything else
/// (docker/cli: `toStatusError`).
fn to_status(cli: &Cli, error: &Error) -> Error {
    let text = error.to_string();
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    let code = if has(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if has(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    };
    with_help(cli, &text, "run", code)
}
