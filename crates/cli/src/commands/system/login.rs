//! `docker login`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Args, Command, runs},
    commands::{print, say},
    error::{Error, Result},
    flags::{Flag, Matches},
    terminal,
};
use http::Method;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{BufRead, Read, Write};
use wharf_api::auth::{AuthConfig as Request, AuthResponse};
use wharf_registry::{AuthConfig, DOCKER_HUB_AUTH_KEY};

/// `docker login`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [SERVER]",
    about: "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    flags: &[FLAGS],
    args: Args::AtMost(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("password", "Password or Personal Access Token (PAT)").short('p'),
    Flag::bool("password-stdin", "Take the Password or Personal Access Token (PAT) from stdin"),
    Flag::text("username", "Username").short('u'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let server = server(m.arg(0));
    let known = cli.config().auth(&server)?;
    let asked = m.given("username") || m.given("password") || m.is("password-stdin");
    let auth = if !asked && !known.is_empty() {
        say("Authenticating with existing credentials...");
        known
    } else {
        credentials(&m, &known)?
    };
    let address = if server == "docker.io" { DOCKER_HUB_AUTH_KEY.to_owned() } else { server.clone() };
    let request = Request {
        username: auth.username.clone(),
        password: auth.password.clone(),
        identitytoken: auth.identitytoken.clone(),
        serveraddress: address.clone(),
        ..Request::default()
    };
    let call = Call::new(Method::POST, "/auth", Query::new()).json(&request)?;
    let response: AuthResponse = cli.client().await?.fetch(call).await?;
    let stored = AuthConfig {
        username: auth.username,
        password: if response.identity_token.is_empty() { auth.password } else { String::new() },
        identitytoken: response.identity_token,
        serveraddress: address,
        ..AuthConfig::default()
    };
    let mut credentials = cli.config().credentials();
    if credentials.field("credsStore").is_none() {
        eprintln!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            cli.config().folder.join("config.json").display()
        );
    }
    credentials
        .store(&server, &stored)
        .map_err(|error| Error::text(format!("Error saving credentials: {error}")))?;
    if !response.status.is_empty() {
        say(&response.status);
    }
    Ok(())
}

/// The registry that an argument means.
pub(crate) fn server(argument: &str) -> String {
    match argument {
        "" | DOCKER_HUB_AUTH_KEY => "docker.io".to_owned(),
        other => {
            let host =
                other.strip_prefix("https://").or_else(|| other.strip_prefix("http://")).unwrap_or(other);
            host.split('/').next().unwrap_or_default().to_owned()
        }
    }
}

fn credentials(m: &Matches, known: &AuthConfig) -> Result<AuthConfig> {
    if m.given("password") && m.is("password-stdin") {
        return Err(Error::text("conflicting options: cannot specify both --password and --password-stdin"));
    }
    if m.is("password-stdin") && m.text("username").is_empty() {
        return Err(Error::text("the --password-stdin option requires --username to be set"));
    }
    if m.given("password") {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let needs_terminal =
        !m.is("password-stdin") && (m.text("username").is_empty() || m.text("password").is_empty());
    if needs_terminal && !terminal::stdin_is_terminal() {
        return Err(Error::text("Error: Cannot perform an interactive login from a non TTY device"));
    }
    let username = match m.text("username") {
        "" => ask_name(&known.username)?,
        name => name.to_owned(),
    };
    let password = match m.text("password") {
        _ if m.is("password-stdin") => read_password()?,
        "" => ask_password()?,
        password => password.to_owned(),
    };
    if password.is_empty() {
        return Err(Error::text("Error: Password Required"));
    }
    Ok(AuthConfig { username, password, ..AuthConfig::default() })
}

fn ask_name(default: &str) -> Result<String> {
    print(&if default.is_empty() { "Username: ".to_owned() } else { format!("Username ({default}): ") });
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    match line.trim() {
        "" if default.is_empty() => Err(Error::text("Error: Non-null Username Required")),
        "" => Ok(default.to_owned()),
        name => Ok(name.to_owned()),
    }
}

fn read_password() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads a line that is not shown.
fn ask_password() -> Result<String> {
    print("Password: ");
    let _ = std::io::stdout().flush();
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(|e| Error::text(e.to_string()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &silent).map_err(|e| Error::text(e.to_string()))?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    // The terminal must show what is typed again, whatever was read.
    let _ = tcsetattr(&stdin, OptionalActions::Now, &before);
    say("");
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
