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
use std::io::{BufRead, IsTerminal, Read, Write};
use wharf_api::auth::{AuthConfig as Request, AuthResponse};
use wharf_registry::{AuthConfig, Config, DOCKER_HUB_AUTH_KEY, Kept, Registry, host_of};

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

const REGISTER: &str = "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a Docker ID, head over to https://hub.docker.com/ to create one.";
const TOKEN_HINT: &str = "You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better security and is required for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/\n";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    check_flags(&m)?;
    let given = given(&m)?;
    let server = server(m.arg(0));
    let known = match given.username.is_empty() && given.password.is_empty() {
        true => stored(&cli, &server),
        false => Ok(AuthConfig::default()),
    };
    let (known, unreadable) = match known {
        Ok(known) => (known, false),
        Err(_) => (AuthConfig::default(), true),
    };
    if !unreadable && !known.username.is_empty() && !known.password.is_empty() {
        match with_stored(&cli, &server, &known).await {
            Ok(status) => {
                tell(&status);
                return Ok(());
            }
            // Docker says so, and asks.
            Err(Error::Daemon { status: 401, .. }) => eprintln!("Stored credentials invalid or expired"),
            Err(error) => eprintln!("Login did not succeed, error: {error}"),
        }
    }
    let auth = ask(&given, &known.username, &server)?;
    let status = log_in(&cli, &server, auth).await?;
    tell(&status);
    Ok(())
}

fn tell(status: &str) {
    if !status.is_empty() {
        say(status);
    }
}

/// The address under which credentials are kept (docker/cli: `GetDefaultAuthConfig`).
fn server(argument: &str) -> String {
    match argument {
        "" | "docker.io" | DOCKER_HUB_AUTH_KEY => DOCKER_HUB_AUTH_KEY.to_owned(),
        other => host_of(other).to_owned(),
    }
}

fn stored(cli: &Cli, server: &str) -> Result<AuthConfig> {
    let known = cli.config().auth(server)?;
    Ok(AuthConfig { identitytoken: String::new(), ..known })
}

/// (docker/cli: `verifyLoginFlags`)
fn check_flags(m: &Matches) -> Result<()> {
    let refuse = |text: &str| Err(Error::text(text));
    if m.given("password-stdin") {
        if m.given("password") {
            return refuse("conflicting options: cannot specify both --password and --password-stdin");
        }
        if !m.given("username") {
            return refuse("the --password-stdin option requires --username to be set");
        }
    }
    if m.given("username") && m.text("username").is_empty() {
        return refuse("username is empty");
    }
    if m.given("password") && m.text("password").is_empty() {
        return refuse("password is empty");
    }
    Ok(())
}

/// What the command line and standard input say.
fn given(m: &Matches) -> Result<AuthConfig> {
    if m.given("password") {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let mut password = m.string("password");
    if m.is("password-stdin") {
        std::io::stdin().lock().read_to_string(&mut password)?;
        let line = password.strip_suffix('\n').unwrap_or(&password);
        password = line.strip_suffix('\r').unwrap_or(line).to_owned();
    }
    Ok(AuthConfig { username: m.string("username"), password, ..AuthConfig::default() })
}

async fn with_stored(cli: &Cli, server: &str, known: &AuthConfig) -> Result<String> {
    eprintln!("Authenticating with existing credentials... [Username: {}]", known.username);
    let (italic, plain) = if std::io::stderr().is_terminal() { ("\x1b[3m", "\x1b[0m") } else { ("", "") };
    eprintln!(
        "\n Info -> {italic}To login with a different account, run 'docker logout' followed by 'docker login'{plain}\n\n"
    );
    log_in(cli, server, known.clone()).await
}

/// Asks the registry, by the daemon if there is one, and keeps what it accepts.
async fn log_in(cli: &Cli, server: &str, auth: AuthConfig) -> Result<String> {
    let request = Request {
        username: auth.username.clone(),
        password: auth.password.clone(),
        serveraddress: server.to_owned(),
        ..Request::default()
    };
    let call = Call::new(Method::POST, "/auth", Query::new()).json(&request)?;
    let answer = match cli.client().await {
        Ok(client) => client.fetch::<AuthResponse>(call).await?,
        Err(Error::NoDaemon(_)) => by_ourselves(server, &auth).await?,
        Err(error) => return Err(error),
    };
    let mut kept = AuthConfig { serveraddress: server.to_owned(), ..auth };
    if !answer.identity_token.is_empty() {
        kept.password.clear();
        kept.identitytoken = answer.identity_token;
    }
    keep(cli, server, &kept)?;
    Ok(answer.status)
}

/// Without a daemon (docker/cli: `loginClientSide`).
async fn by_ourselves(server: &str, auth: &AuthConfig) -> Result<AuthResponse> {
    let registry = Registry::new(&Config::default()).map_err(|error| Error::text(error.to_string()))?;
    let auth = AuthConfig { serveraddress: server.to_owned(), ..auth.clone() };
    let token = registry.login(&auth).await.map_err(|error| Error::text(error.to_string()))?;
    Ok(AuthResponse { identity_token: token, status: "Login Succeeded".to_owned() })
}

fn keep(cli: &Cli, server: &str, auth: &AuthConfig) -> Result<()> {
    let mut credentials = cli.config().credentials();
    let kept = credentials.store(server, auth);
    let kept = kept.map_err(|error| Error::text(format!("Error saving credentials: {error}")))?;
    if kept == Kept::Plainly {
        eprintln!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            cli.config().folder.join("config.json").display()
        );
    }
    Ok(())
}

/// Asks for what is missing (docker/cli: `PromptUserForCredentials`).
fn ask(given: &AuthConfig, default: &str, server: &str) -> Result<AuthConfig> {
    let is_missing = given.username.is_empty() || given.password.is_empty();
    if is_missing && !terminal::stdin_is_terminal() {
        return Err(Error::text("Error: Cannot perform an interactive login from a non TTY device"));
    }
    let is_hub = server == DOCKER_HUB_AUTH_KEY;
    let username = match given.username.trim() {
        "" => ask_name(default.trim(), is_hub)?,
        name => name.to_owned(),
    };
    let password = match given.password.trim() {
        "" => ask_password()?,
        password => password.to_owned(),
    };
    Ok(AuthConfig { username, password, ..AuthConfig::default() })
}

fn ask_name(default: &str, is_hub: bool) -> Result<String> {
    if is_hub {
        say(REGISTER);
        if hints() {
            say(TOKEN_HINT);
        }
    }
    print(&if default.is_empty() { "Username: ".to_owned() } else { format!("Username ({default}): ") });
    match read_line()?.as_str() {
        "" if default.is_empty() => Err(Error::text("Error: Non-null Username Required")),
        "" => Ok(default.to_owned()),
        name => Ok(name.to_owned()),
    }
}

/// Whether the user wants to be told what else there is.
fn hints() -> bool {
    !matches!(std::env::var("DOCKER_CLI_HINTS").as_deref(), Ok("0" | "f" | "F" | "false" | "False" | "FALSE"))
}

fn read_line() -> Result<String> {
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Reads a line that is not shown.
fn ask_password() -> Result<String> {
    print("Password: ");
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(|e| Error::text(e.to_string()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &silent).map_err(|e| Error::text(e.to_string()))?;
    let read = read_line();
    // The terminal must show what is typed again, whatever was read.
    let _ = tcsetattr(&stdin, OptionalActions::Now, &before);
    say("");
    match read? {
        password if password.is_empty() => Err(Error::text("Error: Password Required")),
        password => Ok(password),
    }
}
