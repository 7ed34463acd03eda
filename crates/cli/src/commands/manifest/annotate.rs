//! `docker manifest annotate` (source: docker/cli `cli/command/manifest/annotate.go`, `util.go`).

use super::{lists::Lists, reference};
use crate::{
    cli::Cli,
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
};
use wharf_spec::Platform;

/// `docker manifest annotate`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    about: "Add additional information to a local image manifest",
    flags: &[FLAGS],
    args: Args::Exactly(2),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("arch", "Set architecture"),
    Flag::text("os", "Set operating system"),
    Flag::strings("os-features", "Set operating system feature"),
    Flag::text("os-version", "Set operating system version"),
    Flag::text("variant", "Set architecture variant"),
];

/// What Go runs on, as far as docker's CLI knows.
const KNOWN: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let (name, image_name) = (m.arg(0), m.arg(1));
    let bad = |what: &str, name: &str, error: Error| {
        Error::text(format!("annotate: error parsing name for {what} {name}: {error}"))
    };
    let list = reference(name).map_err(|error| bad("manifest list", name, error))?;
    let image = reference(image_name).map_err(|error| bad("manifest", image_name, error))?;
    let lists = Lists::of(&cli);
    let none = || Error::text(format!("manifest for image {image_name} does not exist in {name}"));
    let mut entry = lists.entry(&list, &image)?.ok_or_else(none)?;
    let platform = entry.descriptor.platform.get_or_insert_default();
    annotate(platform, &m);
    if !is_known(platform) {
        return Err(Error::text(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            m.text("os"),
            m.text("arch")
        )));
    }
    lists.save(&list, &image, &entry)
}

fn annotate(platform: &mut Platform, m: &Matches) {
    let texts = [
        ("os", &mut platform.os),
        ("arch", &mut platform.architecture),
        ("variant", &mut platform.variant),
        ("os-version", &mut platform.os_version),
    ];
    for (flag, field) in texts {
        if !m.text(flag).is_empty() {
            *field = m.string(flag);
        }
    }
    for feature in m.split("os-features") {
        if !platform.os_features.contains(&feature) {
            platform.os_features.push(feature);
        }
    }
}

fn is_known(platform: &Platform) -> bool {
    let architectures = KNOWN.iter().find(|(os, _)| *os == platform.os).map(|(_, all)| *all);
    architectures.is_some_and(|all| all.contains(&platform.architecture.as_str()))
}
