//! `docker volume create`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::keyvalue,
};
use http::Method;
use wharf_api::volume::{CreateRequest, Volume};

/// `docker volume create`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [VOLUME]",
    about: "Create a volume",
    flags: &[FLAGS],
    args: Args::AtMost(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text(
        "availability",
        "Cluster Volume availability (\"active\", \"pause\", \"drain\") (default \"active\")",
    ),
    Flag::text("driver", "Specify volume driver name (default \"local\")").short('d'),
    Flag::text("group", "Cluster Volume group (cluster volumes)"),
    Flag::many("label", "Set metadata for a volume").checked(keyvalue::check_label),
    Flag::bytes("limit-bytes", "Minimum size of the Cluster Volume in bytes"),
    Flag::many("opt", "Set driver specific options (default map[])").named("map").short('o'),
    Flag::bytes("required-bytes", "Maximum size of the Cluster Volume in bytes"),
    Flag::text("scope", "Cluster Volume access scope (\"single\", \"multi\") (default \"single\")"),
    Flag::many("secret", "Cluster Volume secrets (default map[])").named("map"),
    Flag::text(
        "sharing",
        "Cluster Volume access sharing (\"none\", \"readonly\", \"onewriter\", \"all\") (default \"none\")",
    ),
    Flag::many("topology-preferred", "A topology that the Cluster Volume would be preferred in"),
    Flag::many("topology-required", "A topology that the Cluster Volume must be accessible from"),
    Flag::text("type", "Cluster Volume access type (\"mount\", \"block\") (default \"block\")"),
    Flag::text("name", "Specify volume name").hidden(),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let name = match (m.arg(0), m.text("name")) {
        (name, "") | ("", name) => name,
        _ => {
            return Err(Error::text(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
    };
    let request = CreateRequest {
        name: name.to_owned(),
        driver: if m.given("driver") { m.string("driver") } else { "local".to_owned() },
        driver_opts: m.given("opt").then(|| keyvalue::map(m.all("opt"))),
        labels: m.given("label").then(|| keyvalue::map(m.all("label"))),
        cluster_volume_spec: None,
    };
    let call = Call::new(Method::POST, "/volumes/create", Query::new()).json(&request)?;
    let volume: Volume = cli.client().await?.fetch(call).await?;
    say(&volume.name);
    Ok(())
}
