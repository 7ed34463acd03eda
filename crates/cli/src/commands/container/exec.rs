//! `docker exec`.

use crate::{
    cli::Cli,
    client::{Call, Client, Query, encode},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::env,
    streams::{self, Ended, Sized, Wiring},
    terminal,
};
use http::Method;
use wharf_api::{
    IdResponse,
    container::{ExecCreateRequest, ExecInspect, ExecStartRequest},
};

/// `docker container exec`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    also: "container exec, exec",
    flags: &[FLAGS],
    args: Args::AtLeast(2),
    interspersed: false,
    action: runs!(run),
};

const FLAGS: &[Flag] = &[
    Flag::bool("detach", "Detached mode: run command in the background").short('d'),
    Flag::text("detach-keys", "Override the key sequence for detaching a container"),
    Flag::many("env", "Set environment variables").short('e').checked(env::check),
    Flag::many("env-file", "Read in a file of environment variables"),
    Flag::bool("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::bool("privileged", "Give extended privileges to the command"),
    Flag::bool("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::text("user", "Username or UID (format: \"<name|uid>[:<group|gid>]\")").short('u'),
    Flag::text("workdir", "Working directory inside the container").short('w'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let keys = if m.given("detach-keys") { m.text("detach-keys") } else { cli.config().text("detachKeys") };
    terminal::detach_keys(keys)?;
    let request = request(&m, keys)?;
    let client = cli.client().await?;
    let path = format!("/containers/{}", encode(m.arg(0)));
    // That there is no such container matters more than that there is no terminal.
    client.fetch_raw(Call::new(Method::GET, &format!("{path}/json"), Query::new())).await?;
    if !m.is("detach") {
        terminal::check_input(request.attach_stdin, request.tty)?;
    }
    let call = Call::new(Method::POST, &format!("{path}/exec"), Query::new()).json(&request)?;
    let created: IdResponse = client.fetch(call).await?;
    if created.id.is_empty() {
        return Err(Error::text("exec ID empty"));
    }
    let start =
        ExecStartRequest { detach: m.is("detach"), tty: request.tty, console_size: request.console_size };
    let call = Call::new(Method::POST, &format!("/exec/{}/start", encode(&created.id)), Query::new())
        .json(&start)?;
    if start.detach {
        return client.fetch_raw(call).await.map(drop);
    }
    interact(client, &created.id, call, &request).await
}

fn request(m: &Matches, keys: &str) -> Result<ExecCreateRequest> {
    let variables = env::variables(m.all("env-file"), m.all("env")).map_err(Error::text)?;
    let attached = !m.is("detach");
    let (rows, columns) = terminal::size();
    let tty = m.is("tty");
    Ok(ExecCreateRequest {
        user: m.string("user"),
        privileged: m.is("privileged"),
        tty,
        console_size: (tty && rows > 0).then(|| [u64::from(rows), u64::from(columns)]),
        attach_stdin: attached && m.is("interactive"),
        attach_stderr: attached,
        attach_stdout: attached,
        detach_keys: keys.to_owned(),
        env: (!variables.is_empty()).then_some(variables),
        working_dir: m.string("workdir"),
        cmd: Some(m.args[1..].to_vec()),
    })
}

async fn interact(client: &Client, id: &str, call: Call, request: &ExecCreateRequest) -> Result<()> {
    let hijacked = client.hijack(call).await?;
    let wiring = Wiring {
        tty: request.tty,
        stdin: request.attach_stdin,
        stdout: request.attach_stdout,
        stderr: request.attach_stderr,
        detach_keys: request.detach_keys.clone(),
    };
    let size = async {
        if request.tty && terminal::stdin_is_terminal() {
            streams::follow_size(client, Sized::Exec(id)).await;
        } else {
            std::future::pending().await
        }
    };
    let ended = tokio::select! {
        ended = streams::copy(hijacked, &wiring) => ended?,
        () = size => Ended::Output,
    };
    if ended == Ended::Detached {
        return Err(Error::Status { code: 1, text: "exec attach failed: read escape sequence".to_owned() });
    }
    let state: ExecInspect = client.get(&format!("/exec/{}/json", encode(id)), Query::new()).await?;
    match state.exit_code.unwrap_or(0) {
        0 => Ok(()),
        code => Err(Error::exit(i32::try_from(code).unwrap_or(1))),
    }
}
