//! What an instruction of a file says, typed (source: buildkit `frontend/dockerfile/instructions`).

use crate::{
    Change, CommandLine, Error, Heredoc, Lexer, Mount, Result, Statement,
    change::command_line,
    flags::{self, Takes},
    suggest::suggestion,
};

/// An instruction that is carried out in a stage. Words are as written: [`Instruction::expand`] resolves them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// One that changes the config and nothing else.
    Change(Change),
    /// `ADD` and `COPY`.
    Copy(Copy),
    /// `RUN`.
    Run(Run),
    /// `ARG`.
    Arg(Vec<Argument>),
    /// `MAINTAINER`.
    Maintainer(String),
}

/// `name` or `name=default`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub struct Argument {
    pub name: String,
    pub default: Option<String>,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run. In the shell form with documents, these are part of it.
    pub line: CommandLine,
    /// `--mount`, as written: [`Mount::parse`] reads them once variables are known.
    pub mounts: Vec<String>,
    /// `--network`: `default`, `none`, `host`, or empty.
    pub network: String,
    /// `--security`: `sandbox`, `insecure`, or empty.
    pub security: String,
    /// A document that is a script of its own (`#!`), and is run instead.
    pub script: Option<Heredoc>,
}

/// `ADD` or `COPY`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copy {
    /// `ADD`: archives are unpacked, addresses fetched.
    pub is_add: bool,
    /// What is copied.
    pub sources: Vec<Source>,
    /// Where to.
    pub destination: String,
    /// `--from`: a stage, an image, or empty for the context.
    pub from: String,
    /// `--chown`, or empty.
    pub chown: String,
    /// `--chmod`, or empty.
    pub chmod: String,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub excludes: Vec<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--checksum`, or empty.
    pub checksum: String,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern, or of `ADD` an address.
    Path(String),
    /// A document in the file.
    Document(Heredoc),
}

impl Copy {
    /// The instruction's name.
    pub fn name(&self) -> &'static str {
        if self.is_add { "ADD" } else { "COPY" }
    }
}

impl Instruction {
    /// What a statement says, with the documents that follow it.
    ///
    /// # Errors
    /// When there is no such instruction, or its flags or arguments are wrong.
    pub fn parse(statement: &Statement, documents: &[Heredoc]) -> Result<Self> {
        match statement.name.to_ascii_lowercase().as_str() {
            "add" => copy(statement, documents, true).map(Self::Copy),
            "copy" => copy(statement, documents, false).map(Self::Copy),
            "run" => run(statement, documents).map(Self::Run),
            "arg" => arg(statement).map(Self::Arg),
            "maintainer" => maintainer(statement).map(Self::Maintainer),
            "onbuild" => match Change::parse_any(statement)? {
                Some(Change::Onbuild(trigger)) => {
                    let documents: String =
                        documents.iter().map(|d| format!("\n{}{}", d.content, d.name)).collect();
                    Ok(Self::Change(Change::Onbuild(trigger + &documents)))
                }
                _ => Err(unknown(&statement.name)),
            },
            _ => Change::parse_any(statement)?.map(Self::Change).ok_or_else(|| unknown(&statement.name)),
        }
    }

    /// The instruction with its variables expanded, in those words that have any (source: the `Expand` methods of
    /// buildkit's instructions).
    ///
    /// # Errors
    /// When a word cannot be expanded.
    pub fn expand(self, lexer: &Lexer<'_>) -> Result<Self> {
        Ok(match self {
            Self::Change(change) => Self::Change(change.expand(lexer)?),
            Self::Copy(copy) => Self::Copy(copy.expand(lexer)?),
            Self::Arg(arguments) => {
                let one = |argument: Argument| {
                    let default = argument.default.map(|value| lexer.word(&value)).transpose()?;
                    Ok(Argument { name: lexer.word(&argument.name)?, default })
                };
                Self::Arg(arguments.into_iter().map(one).collect::<Result<_>>()?)
            }
            // A command is the shell's to expand.
            other @ (Self::Run(_) | Self::Maintainer(_)) => other,
        })
    }
}

impl Copy {
    fn expand(self, lexer: &Lexer<'_>) -> Result<Self> {
        let source = |source: Source| {
            Ok(match source {
                Source::Path(path) => Source::Path(lexer.word(&path)?),
                Source::Document(document) if document.expand => {
                    let content = lexer.document(&document.content)?;
                    Source::Document(Heredoc { content, ..document })
                }
                document => document,
            })
        };
        Ok(Self {
            sources: self.sources.into_iter().map(source).collect::<Result<_>>()?,
            destination: lexer.word(&self.destination)?,
            chown: lexer.word(&self.chown)?,
            chmod: lexer.word(&self.chmod)?,
            checksum: lexer.word(&self.checksum)?,
            excludes: self.excludes.iter().map(|pattern| lexer.word(pattern)).collect::<Result<_>>()?,
            ..self
        })
    }
}

fn copy(statement: &Statement, documents: &[Heredoc], is_add: bool) -> Result<Copy> {
    let name = if is_add { "ADD" } else { "COPY" };
    let [sources @ .., destination] = statement.arguments.words() else {
        return Err(Error::NoDestination(name));
    };
    if sources.is_empty() {
        return Err(Error::NoDestination(name));
    }
    let one = |values: Vec<String>| values.into_iter().next().unwrap_or_default();
    let switch = |values: Vec<String>| values.first().map(|value| value == "true");
    let common = [
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Switch),
        ("exclude", Takes::Values),
    ];
    let [c1, c2, c3, c4] = common;
    let mut made = Copy { is_add, destination: destination.clone(), ..Copy::default() };
    if is_add {
        let own = [("keep-git-dir", Takes::Switch), ("checksum", Takes::Value), ("unpack", Takes::Switch)];
        let [o1, o2, o3] = own;
        let [chown, chmod, link, excludes, keep, checksum, unpack] =
            flags::read(&statement.flags, [c1, c2, c3, c4, o1, o2, o3])?;
        made =
            Copy { chown: one(chown), chmod: one(chmod), link: switch(link) == Some(true), excludes, ..made };
        made.keep_git_dir = switch(keep) == Some(true);
        made.checksum = one(checksum);
        made.unpack = switch(unpack);
    } else {
        let own = [("from", Takes::Value), ("parents", Takes::Switch)];
        let [o1, o2] = own;
        let [chown, chmod, link, excludes, from, parents] =
            flags::read(&statement.flags, [c1, c2, c3, c4, o1, o2])?;
        made =
            Copy { chown: one(chown), chmod: one(chmod), link: switch(link) == Some(true), excludes, ..made };
        made.from = one(from);
        made.parents = switch(parents) == Some(true);
    }
    if Heredoc::parse(destination).is_some() {
        return Err(Error::HeredocDestination(name));
    }
    made.sources = sources.iter().map(|word| source(word, documents)).collect();
    Ok(made)
}

fn source(word: &str, documents: &[Heredoc]) -> Source {
    let document = Heredoc::parse(word).and_then(|named| documents.iter().find(|d| d.name == named.name));
    document.map_or_else(|| Source::Path(word.to_owned()), |document| Source::Document(document.clone()))
}

fn run(statement: &Statement, documents: &[Heredoc]) -> Result<Run> {
    let known = [("mount", Takes::Values), ("network", Takes::Value), ("security", Takes::Value)];
    let [mounts, network, security] = flags::read(&statement.flags, known)?;
    for mount in &mounts {
        Mount::check(mount)?;
    }
    let one = |values: Vec<String>| values.into_iter().next().unwrap_or_default();
    let (line, script) = with_documents(command_line(&statement.arguments), documents);
    Ok(Run { line, mounts, network: one(network), security: one(security), script })
}

/// `RUN <<EOF` runs the document, `RUN command <<EOF` gives it to the command by the shell (source: buildkit
/// `frontend/dockerfile/dockerfile2llb/convert_runmount.go`, dispatchRun).
fn with_documents(line: CommandLine, documents: &[Heredoc]) -> (CommandLine, Option<Heredoc>) {
    let CommandLine::Shell(words) = &line else { return (line, None) };
    let ([word], [first, ..]) = (words.as_slice(), documents) else { return (line, None) };
    if Heredoc::parse(word).is_none_or(|named| named.name != first.name) {
        let sources: String = documents.iter().map(Heredoc::source).collect();
        return (CommandLine::Shell(vec![format!("{word}\n{sources}")]), None);
    }
    if first.content.starts_with("#!") {
        let path = format!("/dev/pipes/{}", first.name);
        return (CommandLine::Exec(vec![path]), Some(first.clone()));
    }
    (CommandLine::Shell(vec![first.content.clone()]), None)
}

fn arg(statement: &Statement) -> Result<Vec<Argument>> {
    let words = statement.arguments.words();
    if words.is_empty() {
        return Err(Error::AtLeastOneArgument("ARG"));
    }
    let argument = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(Error::BlankName("ARG")),
        Some((name, value)) => Ok(Argument { name: name.into(), default: Some(value.into()) }),
        None => Ok(Argument { name: word.clone(), default: None }),
    };
    words.iter().map(argument).collect()
}

fn maintainer(statement: &Statement) -> Result<String> {
    let [name] = statement.arguments.words() else { return Err(Error::ExactlyOneArgument("MAINTAINER")) };
    flags::none(&statement.flags).map(|()| name.clone())
}

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

fn unknown(name: &str) -> Error {
    let near = suggestion(&name.to_uppercase(), &NAMES);
    let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
    Error::UnknownInstruction { name: name.to_owned(), hint }
}
