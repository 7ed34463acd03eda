//! Why a step was not found among earlier builds.

use crate::stage::{EPOCH_LABEL, MOUNTS_LABEL};
use std::collections::BTreeSet;
use wharf_spec::RunConfig;

/// The difference to the most similar step that was done on the same image.
pub(crate) fn reason(step: &RunConfig, earlier: &[RunConfig]) -> String {
    let (command, arguments) = split(step);
    let same_command = |other: &&RunConfig| split(other).0 == command;
    if let Some(other) = earlier.iter().find(|other| same_command(other) && split(other).1 == arguments) {
        return differing_config(step, other);
    }
    if let Some(other) = earlier.iter().find(same_command) {
        let other: BTreeSet<String> = split(other).1.into_iter().collect();
        let mine: BTreeSet<String> = arguments.into_iter().collect();
        let names: BTreeSet<&str> =
            other.symmetric_difference(&mine).filter_map(|pair| pair.split('=').next()).collect();
        return format!("build arguments changed: {}", names.into_iter().collect::<Vec<_>>().join(", "));
    }
    if earlier.iter().any(|other| without_digests(&split(other).0) == without_digests(&command)) {
        return "files changed".into();
    }
    let instruction = |command: &[String]| instruction(command).to_owned();
    if earlier.iter().any(|other| instruction(&split(other).0) == instruction(&command)) {
        return format!("{} changed", instruction(&command));
    }
    "no earlier build did this here".into()
}

fn differing_config(step: &RunConfig, other: &RunConfig) -> String {
    let label = |config: &RunConfig, name: &str| {
        config.labels.as_ref().and_then(|labels| labels.get(name)).cloned().unwrap_or_default()
    };
    for (name, what) in [(MOUNTS_LABEL, "mounts"), (EPOCH_LABEL, "SOURCE_DATE_EPOCH")] {
        if label(step, name) != label(other, name) {
            return format!("{what} changed");
        }
    }
    "the image's configuration changed".into()
}

/// The command without the arguments that stand before it (`|1 A=b /bin/sh ...`), and those.
fn split(config: &RunConfig) -> (Vec<String>, Vec<String>) {
    let command = config.cmd.clone().unwrap_or_default();
    let count = command.first().and_then(|first| first.strip_prefix('|')?.parse::<usize>().ok());
    match count.filter(|count| *count < command.len()) {
        Some(count) => (command[count + 1..].to_vec(), command[1..=count].to_vec()),
        None => (command, Vec::new()),
    }
}

/// `COPY file:0123... in /` without what stands for the files.
fn without_digests(command: &[String]) -> Vec<String> {
    let word = |word: &str| match word.split_once(':') {
        Some((kind @ ("file" | "dir" | "multi"), _)) => kind.to_owned(),
        _ => word.to_owned(),
    };
    command.iter().map(|part| part.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect()
}

/// The instruction of a step, which only those that run nothing name.
fn instruction(command: &[String]) -> &str {
    let at = command.iter().position(|part| part.starts_with("#(nop) "));
    // Some write the comment as a word of its own.
    let comment = at.map(|at| match command[at].trim_start_matches("#(nop) ") {
        "" => command.get(at + 1).map_or("", String::as_str),
        comment => comment,
    });
    comment.map_or("RUN", |comment| comment.trim_start().split(' ').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(command: &[&str]) -> RunConfig {
        RunConfig { cmd: Some(command.iter().map(|part| part.to_string()).collect()), ..RunConfig::default() }
    }

    #[test]
    fn reasons_are_the_smallest_difference() {
        let shell = |text: &str| step(&["/bin/sh", "-c", text]);
        let copy = |digest: &str| shell(&format!("#(nop) COPY file:{digest} in / "));
        let labelled = |value: &str| RunConfig {
            labels: Some([(MOUNTS_LABEL.to_owned(), value.to_owned())].into()),
            ..shell("make")
        };
        for (new, old, expected) in [
            (copy("1"), vec![shell("make"), copy("2")], "files changed"),
            (copy("1"), vec![shell("#(nop) COPY file:1 in /other ")], "COPY changed"),
            (shell("make"), vec![], "no earlier build did this here"),
            (shell("make"), vec![copy("1")], "no earlier build did this here"),
            (shell("make"), vec![shell("make all")], "RUN changed"),
            (labelled("1"), vec![labelled("2")], "mounts changed"),
            (
                RunConfig { user: "u".into(), ..shell("make") },
                vec![shell("make")],
                "the image's configuration changed",
            ),
            (
                step(&["|2", "A=1", "B=2", "/bin/sh", "-c", "make"]),
                vec![step(&["|1", "A=2", "/bin/sh", "-c", "make"])],
                "build arguments changed: A, B",
            ),
            (
                step(&["/bin/sh", "-c", "#(nop) ", "ENV A=1"]),
                vec![step(&["/bin/sh", "-c", "#(nop) ", "ENV A=2"])],
                "ENV changed",
            ),
        ] {
            assert_eq!(reason(&new, &old), expected);
        }
    }
}
