//! `docker update`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::{cpus, port, restart},
};
use http::Method;
use wharf_api::container::{UpdateRequest, UpdateResponse};

/// `docker container update`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Update configuration of one or more containers",
    also: "container update, update",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::uint16(
        "blkio-weight",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    Flag::int("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag::int("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag::int("cpu-rt-period", "Limit the CPU real-time period in microseconds"),
    Flag::int("cpu-rt-runtime", "Limit the CPU real-time runtime in microseconds"),
    Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::decimal("cpus", "Number of CPUs"),
    Flag::text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::bytes("memory", "Memory limit").short('m'),
    Flag::bytes("memory-reservation", "Memory soft limit"),
    Flag::bytes("memory-swap", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    Flag::int("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    Flag::many("publish-add", "Publish a container's port(s) to the host besides (Wharf)"),
    Flag::many(
        "publish-rm",
        "Publish port(s) no more: [[ip:]host:]container, or container for all of it (Wharf)",
    ),
    Flag::text("restart", "Restart policy to apply when a container exits"),
    Flag::bytes("kernel-memory", "").deprecated("and no longer supported by the kernel"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    if !FLAGS.iter().any(|flag| m.given(flag.long)) {
        return Err(Error::text("you must provide one or more flags when using this command"));
    }
    let client = cli.client().await?;
    let request = request(&m).map_err(Error::text)?;
    let changes_ports = request.publish_add.is_some() || request.publish_remove.is_some();
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for name in &m.args {
        let path = format!("/containers/{}/update", encode(name));
        match client
            .fetch::<UpdateResponse>(Call::new(Method::POST, &path, Query::new()).json(&request)?)
            .await
        {
            Ok(response) if changes_ports && response.port_bindings.is_none() => {
                errors.push(Error::text(format!("{name}: this daemon cannot change published ports")));
            }
            Ok(response) => {
                say(name);
                warnings.extend(response.warnings.unwrap_or_default());
            }
            Err(error) => errors.push(error),
        }
    }
    if !warnings.is_empty() {
        say(&warnings.join("\n"));
    }
    crate::error::join(errors)
}

fn request(m: &Matches) -> std::result::Result<UpdateRequest, String> {
    let ports = |flag: &str| match m.all(flag) {
        [] => Ok(None),
        specs => port::bindings(specs).map(Some),
    };
    Ok(UpdateRequest {
        publish_add: ports("publish-add")?,
        publish_remove: ports("publish-rm")?,
        blkio_weight: u16::try_from(m.uint("blkio-weight")).unwrap_or(0),
        cpuset_cpus: m.string("cpuset-cpus"),
        cpuset_mems: m.string("cpuset-mems"),
        cpu_shares: m.int("cpu-shares"),
        memory: m.bytes("memory"),
        memory_reservation: m.bytes("memory-reservation"),
        memory_swap: m.bytes("memory-swap"),
        cpu_period: m.int("cpu-period"),
        cpu_quota: m.int("cpu-quota"),
        cpu_realtime_period: m.int("cpu-rt-period"),
        cpu_realtime_runtime: m.int("cpu-rt-runtime"),
        nano_cpus: cpus::parse(m.text("cpus")).unwrap_or(0),
        pids_limit: Some(m.int("pids-limit")).filter(|limit| *limit != 0),
        restart_policy: restart::parse(m.text("restart"))?,
        ..UpdateRequest::default()
    })
}
