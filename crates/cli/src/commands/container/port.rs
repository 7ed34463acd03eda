//! `docker port`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::Matches,
    format::text::natural_order,
};
use wharf_api::container::{InspectResponse, PortBinding};

/// `docker container port`.
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List port mappings or a specific mapping for the container",
    also: "container port, port",
    args: Args::Between(1, 2),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let path = format!("/containers/{}/json", encode(m.arg(0)));
    let container: InspectResponse = cli.client().await?.get(&path, Query::new()).await?;
    let ports = container.network_settings.ports;
    let mut lines = Vec::new();
    if m.args.len() > 1 {
        let (port, protocol) = m.arg(1).split_once('/').unwrap_or((m.arg(1), "tcp"));
        if port.parse::<u16>().is_err() {
            return Err(Error::text(format!("Error: invalid port ({port})")));
        }
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        let wanted = format!("{port}/{protocol}");
        let bindings = ports.iter().find(|(key, _)| key.as_str() == wanted).and_then(|(_, b)| b.as_ref());
        lines.extend(bindings.into_iter().flatten().map(address));
        if lines.is_empty() {
            let text = format!("Error: No public port '{}' published for {}", m.arg(1), m.arg(0));
            return Err(Error::text(text));
        }
    } else {
        for (port, bindings) in &ports {
            lines.extend(bindings.iter().flatten().map(|binding| format!("{port} -> {}", address(binding))));
        }
    }
    lines.sort_by(|a, b| natural_order(a, b));
    for line in lines {
        say(&line);
    }
    Ok(())
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn address(binding: &PortBinding) -> String {
    if binding.host_ip.contains(':') {
        format!("[{}]:{}", binding.host_ip, binding.host_port)
    } else {
        format!("{}:{}", binding.host_ip, binding.host_port)
    }
}
