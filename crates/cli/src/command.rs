//! Commands as data: the tree of words, what each takes, and what it does.

use crate::{
    cli::Cli,
    error::{Error, Result},
    flags::{Flag, Matches, Parser},
    help,
};
use std::{future::Future, pin::Pin};

/// A command under way.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Args {
    /// None.
    None,
    /// This many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// This many or fewer.
    AtMost(usize),
    /// From so many to so many.
    Between(usize, usize),
}

/// One command.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    /// What follows the words of the command in the usage line.
    pub(crate) usage: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// The ways to call it, without `docker`; empty when there is one only.
    pub(crate) also: &'static str,
    pub(crate) flags: &'static [&'static [Flag]],
    pub(crate) args: Args,
    /// Whether flags may follow arguments.
    pub(crate) interspersed: bool,
    pub(crate) action: Action,
}

/// What a command does.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    /// It has further words.
    Group(&'static [Entry]),
    /// It does something.
    Run(fn(Cli, Matches) -> Running),
}

/// A word and the command it stands for.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) word: &'static str,
    /// Other words for the same.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) command: &'static Command,
}

/// An entry with a single word.
pub(crate) const fn entry(word: &'static str, command: &'static Command) -> Entry {
    Entry { word, aliases: &[], command }
}

/// An entry with more words.
pub(crate) const fn entry_or(
    word: &'static str,
    aliases: &'static [&'static str],
    command: &'static Command,
) -> Entry {
    Entry { word, aliases, command }
}

impl Command {
    /// What most commands have in common.
    pub(crate) const LEAF: Self = Self {
        usage: "",
        about: "",
        also: "",
        flags: &[],
        args: Args::None,
        interspersed: true,
        action: Action::Group(&[]),
    };

    /// A group of commands.
    pub(crate) const fn group(about: &'static str, entries: &'static [Entry]) -> Self {
        Self { usage: "COMMAND", about, action: Action::Group(entries), ..Self::LEAF }
    }
}

/// Makes an [`Action`] of an `async fn(Cli, Matches) -> Result<()>`.
macro_rules! runs {
    ($function:path) => {
        $crate::command::Action::Run(|cli, matches| Box::pin($function(cli, matches)))
    };
}
pub(crate) use runs;

/// A command line that has been understood as far as its words go.
pub(crate) struct Found {
    pub(crate) command: &'static Command,
    /// `docker container run`
    pub(crate) path: String,
    /// What follows.
    pub(crate) rest: Vec<String>,
}

/// Walks down the tree with the words of a command line.
pub(crate) fn find(root: &'static Command, program: &str, words: &[String]) -> Result<Found> {
    let (mut command, mut path, mut words) = (root, program.to_owned(), words);
    while let Action::Group(entries) = command.action {
        let Some(word) = words.first().filter(|w| !w.starts_with('-')) else { break };
        let Some(entry) = entries.iter().find(|e| e.word == word || e.aliases.contains(&word.as_str()))
        else {
            return Err(unknown(command, program, &path, word));
        };
        (command, words) = (entry.command, &words[1..]);
        path = format!("{path} {}", entry.word);
    }
    Ok(Found { command, path, rest: words.to_vec() })
}

fn unknown(command: &Command, program: &str, path: &str, word: &str) -> Error {
    let usage = if path == program {
        String::new()
    } else {
        format!("\n\nUsage:  {}", help::usage_line(command, path))
    };
    let usage = usage.trim_end_matches(" COMMAND").to_owned();
    Error::text(format!(
        "{program}: unknown command: {path} {word}{usage}\n\nRun '{path} --help' for more information"
    ))
}

impl Found {
    /// Reads flags and arguments and checks their number.
    pub(crate) fn matches(&self, program: &str) -> Result<Matches> {
        let parser = Parser { flags: self.command.flags, interspersed: self.command.interspersed };
        let mut matches = parser.parse(&self.rest)?;
        matches.path.clone_from(&self.path);
        if !matches.help {
            self.check_count(program, matches.args.len())?;
        }
        Ok(matches)
    }

    fn check_count(&self, program: &str, count: usize) -> Result<()> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let (fits, verb, words) = match self.command.args {
            Args::None => (count == 0, "Run", "accepts no arguments".to_owned()),
            Args::Exactly(n) => (count == n, "Run", format!("requires {n} {}", plural(n))),
            Args::AtLeast(n) => (count >= n, "See", format!("requires at least {n} {}", plural(n))),
            Args::AtMost(n) => (count <= n, "Run", format!("requires at most {n} {}", plural(n))),
            Args::Between(low, high) => (
                (low..=high).contains(&count),
                "Run",
                format!("requires at least {low} and at most {high} {}", plural(high)),
            ),
        };
        if fits {
            return Ok(());
        }
        let (path, usage) = (&self.path, help::usage_line(self.command, &self.path));
        Err(Error::text(format!(
            "{program}: '{path}' {words}\n\nUsage:  {usage}\n\n{verb} '{path} --help' for more information"
        )))
    }
}
