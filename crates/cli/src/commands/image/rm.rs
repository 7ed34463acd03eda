//! `docker rmi`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode_path},
    command::{Args, Command, runs},
    commands::say,
    error::{Result, join},
    flags::{Flag, Matches},
    opts::platform,
};
use http::Method;
use wharf_api::image::DeleteItem;

/// `docker image rm`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove one or more images",
    also: "image rm, image remove, rmi",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("force", "Force removal of the image").short('f'),
    Flag::bool("no-prune", "Do not delete untagged parents"),
    Flag::strings(
        "platform",
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let platforms: Vec<String> =
        m.split("platform").iter().map(|text| platform::parameter(text)).collect::<Result<_>>()?;
    let client = cli.client().await?;
    let (mut errors, mut fatal) = (Vec::new(), false);
    for name in &m.args {
        let mut query =
            Query::new().with_switch("force", m.is("force")).with_switch("noprune", m.is("no-prune"));
        for platform in &platforms {
            query = query.with("platforms", platform);
        }
        let call = Call::new(Method::DELETE, &format!("/images/{}", encode_path(name)), query);
        match client.fetch::<Vec<DeleteItem>>(call).await {
            Ok(items) => items.iter().for_each(report),
            Err(error) => {
                fatal |= !error.is_not_found();
                errors.push(error);
            }
        }
    }
    match join(errors) {
        Err(error) if m.is("force") && !fatal => {
            eprintln!("{error}");
            Ok(())
        }
        result => result,
    }
}

fn report(item: &DeleteItem) {
    if item.deleted.is_empty() {
        say(&format!("Untagged: {}", item.untagged));
    } else {
        say(&format!("Deleted: {}", item.deleted));
    }
}
