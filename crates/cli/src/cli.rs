//! What every command gets: the global options, and the client they lead to.

use crate::{
    client::{Address, Client, TlsOptions},
    config::Config,
    error::{Error, Result},
    flags::{Flag, Matches, Parser},
};
use std::{path::PathBuf, rc::Rc};
use tokio::sync::OnceCell;

/// The version of Docker whose command line this is.
pub(crate) const VERSION: &str = "28.2.2";
/// Shown as build.
pub(crate) const BUILD: &str = concat!("wharf-", env!("CARGO_PKG_VERSION"));

/// The options before the command.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::text("config", "Location of client config files"),
    Flag::text(
        "context",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")",
    )
    .short('c'),
    Flag::bool("debug", "Enable debug mode").short('D'),
    Flag::many("host", "Daemon socket to connect to").short('H'),
    Flag::text(
        "log-level",
        "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\") (default \"info\")",
    )
    .short('l'),
    Flag::bool("tls", "Use TLS; implied by --tlsverify"),
    Flag::text("tlscacert", "Trust certs signed only by this CA"),
    Flag::text("tlscert", "Path to TLS certificate file"),
    Flag::text("tlskey", "Path to TLS key file"),
    Flag::bool("tlsverify", "Use TLS and verify the remote"),
    Flag::bool("version", "Print version information and quit").short('v'),
];

/// The global options of a command line.
pub(crate) struct Global {
    matches: Matches,
    pub(crate) version: bool,
    /// The command and what follows.
    pub(crate) rest: Vec<String>,
}

impl Global {
    /// Reads what stands before the command.
    pub(crate) fn parse(program: &str, words: &[String]) -> Result<Self> {
        let parser = Parser { flags: &[FLAGS], interspersed: false };
        let mut matches = parser.parse(words).map_err(|error| match error {
            Error::Flag(text) => Error::Status {
                code: 125,
                text: format!(
                    "{text}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information"
                ),
            },
            other => other,
        })?;
        let rest = if matches.help { Vec::new() } else { std::mem::take(&mut matches.args) };
        Ok(Self { version: matches.is("version") && !matches.help, matches, rest })
    }
}

/// What a command works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cli {
    inner: Rc<Inner>,
}

struct Inner {
    program: &'static str,
    config: Config,
    address: Address,
    context: String,
    is_debug: bool,
    client: OnceCell<Client>,
}

impl Cli {
    /// Reads the configuration; connects to nothing.
    pub(crate) fn new(program: &'static str, global: Global) -> Result<Self> {
        let matches = &global.matches;
        let config = Config::load(match matches.text("config") {
            "" => None,
            folder => Some(PathBuf::from(folder)),
        })?;
        if matches.given("host") && matches.given("context") {
            return Err(Error::text("conflicting options: cannot specify both --host and --context"));
        }
        if matches.all("host").len() > 1 {
            return Err(Error::text("specify only one -H"));
        }
        let context = config.context_name(matches.text("host"), matches.text("context"));
        let host = config.host(matches.text("host"), &context)?;
        let tls = TlsOptions::new(
            &config.folder,
            matches.is("tls"),
            matches.switch("tlsverify"),
            [matches.text("tlscacert"), matches.text("tlscert"), matches.text("tlskey")],
        );
        let address = Address::parse(&host, tls)?;
        let is_debug = matches.is("debug");
        let inner = Inner { program, config, address, context, is_debug, client: OnceCell::new() };
        Ok(Self { inner: Rc::new(inner) })
    }

    /// `docker` or `wharf`.
    pub(crate) fn program(&self) -> &'static str {
        self.inner.program
    }

    /// The user's configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The name of the context in use.
    pub(crate) fn context(&self) -> &str {
        &self.inner.context
    }

    /// Whether more is to be told (`--debug`).
    pub(crate) fn is_debug(&self) -> bool {
        self.inner.is_debug
    }

    /// Where the daemon is.
    pub(crate) fn address(&self) -> &Address {
        &self.inner.address
    }

    /// The client, connected to a daemon whose API version is known.
    pub(crate) async fn client(&self) -> Result<&Client> {
        let connect = async || {
            let headers = self.inner.config.http_headers()?;
            Client::connect(self.inner.address.clone(), headers).await
        };
        self.inner.client.get_or_try_init(connect).await
    }
}
