//! Help texts in Docker's layout: cobra's template with pflag's columns and wrapping.
//!
//! Source: docker/cli `cli/cobra.go` (templates), spf13/pflag `flag.go` (`FlagUsagesWrapped`, `wrap`).

use crate::{
    command::{Action, Command, Entry},
    flags::Flag,
};

/// `docker run [OPTIONS] IMAGE [COMMAND] [ARG...]`
pub(crate) fn usage_line(command: &Command, path: &str) -> String {
    if command.usage.is_empty() { path.to_owned() } else { format!("{path} {}", command.usage) }
}

/// The help text of a command.
pub(crate) fn text(command: &Command, program: &str, path: &str, width: usize) -> String {
    let usage = usage_line(command, path).replace("\n\tdocker ", &format!("\n\t{program} "));
    let mut out = format!("Usage:  {usage}\n\n{}\n", command.about);
    if !command.also.is_empty() {
        let ways: Vec<String> = command.also.split(", ").map(|way| format!("{program} {way}")).collect();
        out.push_str(&format!("\nAliases:\n  {}\n", ways.join(", ")));
    }
    if command.flags.iter().any(|table| table.iter().any(|flag| !flag.hidden)) {
        out.push_str(&format!("\nOptions:\n{}", flag_usages(command.flags, width)));
    }
    if let Action::Group(entries) = command.action {
        out.push_str(&commands("Commands", entries));
        out.push_str(&format!("\nRun '{path} COMMAND --help' for more information on a command.\n"));
    }
    out
}

/// A list of commands under a heading, sorted.
pub(crate) fn commands(heading: &str, entries: &[Entry]) -> String {
    let mut lines: Vec<String> =
        entries.iter().map(|e| format!("  {:11} {}\n", e.word, first_line(e.command.about))).collect();
    lines.sort();
    format!("\n{heading}:\n{}", lines.concat())
}

/// As [`commands`], in the order given.
pub(crate) fn commands_in_order(heading: &str, entries: &[Entry]) -> String {
    let lines: Vec<String> =
        entries.iter().map(|e| format!("  {:11} {}\n", e.word, first_line(e.command.about))).collect();
    format!("\n{heading}:\n{}", lines.concat())
}

/// The first sentence of what a command does.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split(". ").next().unwrap_or(line).trim_end_matches('.')
}

/// The flags, sorted by name, in two columns. The last column of the terminal stays free.
pub(crate) fn flag_usages(tables: &[&[Flag]], width: usize) -> String {
    let width = width.saturating_sub(1);
    let mut flags: Vec<&Flag> = tables.iter().flat_map(|table| table.iter()).filter(|f| !f.hidden).collect();
    flags.sort_by_key(|flag| flag.long);
    let names: Vec<String> = flags.iter().map(|flag| left_column(flag)).collect();
    let longest = names.iter().map(String::len).max().unwrap_or(0);
    let mut out = String::new();
    for (name, flag) in names.iter().zip(flags) {
        out.push_str(&format!("{name:longest$}   {}\n", wrap(longest + 3, width, flag.help)));
    }
    out
}

fn left_column(flag: &Flag) -> String {
    let letter = flag.letter.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
    let value = if flag.value.is_empty() { String::new() } else { format!(" {}", flag.value) };
    format!("  {letter}--{}{value}", flag.long)
}

/// pflag's `wrap`: text that begins at column `indent` in lines of `width`.
fn wrap(indent: usize, width: usize, text: &str) -> String {
    const SLOP: usize = 5;
    let mut indent = indent;
    let mut out = String::new();
    if width.saturating_sub(indent) < 24 {
        indent = 16;
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    }
    let margin = format!("\n{}", " ".repeat(indent));
    if width.saturating_sub(indent) < 24 {
        return text.replace('\n', &margin);
    }
    let room = width - indent - SLOP;
    let (first, mut rest) = wrap_line(room, SLOP, text);
    out.push_str(&first.replace('\n', &margin));
    while !rest.is_empty() {
        let (line, next) = wrap_line(room, SLOP, rest);
        out.push_str(&margin);
        out.push_str(&line.replace('\n', &margin));
        rest = next;
    }
    out
}

fn wrap_line(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let head = &text[..text.floor_char_boundary(room)];
    let Some(space) = head.rfind([' ', '\t', '\n']).filter(|at| *at > 0) else { return (text, "") };
    match head.rfind('\n').filter(|at| *at > 0 && *at < space) {
        Some(line) => (&text[..line], &text[line + 1..]),
        None => (&text[..space], &text[space + 1..]),
    }
}
