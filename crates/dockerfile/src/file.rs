//! A whole file: stages and their instructions (source: buildkit `frontend/dockerfile/instructions/parse.go`).

use crate::{
    Arguments, Error, Instruction, Result, Statement, flags,
    instruction::Argument,
    lines::{Line, lines},
};

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// What escapes a character.
    pub escape: char,
    /// `ARG`s before the first stage: for `FROM` lines.
    pub arguments: Vec<Step<Vec<Argument>>>,
    /// Stages, in order.
    pub stages: Vec<Stage>,
    /// What is doubtful, in Docker's words.
    pub warnings: Vec<String>,
}

/// A stage: a `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// In lower case, of `AS name`.
    pub name: Option<String>,
    /// What it is made from, as written.
    pub base: String,
    /// `--platform`, as written, or empty.
    pub platform: String,
    /// The `FROM` line.
    pub text: String,
    /// Its number, from 1.
    pub line: usize,
    /// What is done in it.
    pub steps: Vec<Step<Instruction>>,
}

/// An instruction in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<I> {
    /// Its line, as it is shown.
    pub text: String,
    /// Number of the line, from 1.
    pub line: usize,
    /// What it says.
    pub instruction: I,
}

impl Dockerfile {
    /// Reads a file.
    ///
    /// # Errors
    /// In Docker's words, with the line where there is one.
    pub fn parse(source: &str) -> Result<Self> {
        let read = lines(source)?;
        let mut file =
            Self { escape: read.escape, arguments: Vec::new(), stages: Vec::new(), warnings: read.warnings };
        // All lines are taken apart before one is looked at more closely.
        let statement =
            |line: &Line| Statement::parse(&line.text, read.escape).map_err(|why| Error::at(line.start, why));
        let statements: Vec<Statement> = read.lines.iter().map(statement).collect::<Result<_>>()?;
        for (line, statement) in read.lines.iter().zip(&statements) {
            file.add(line, statement)?;
        }
        Ok(file)
    }

    fn add(&mut self, line: &Line, statement: &Statement) -> Result<()> {
        let at = |why| Error::at(line.start, why);
        let text = line.text.trim().to_owned();
        if statement.name.eq_ignore_ascii_case("from") {
            self.stages.push(stage(statement, text, line.start).map_err(at)?);
            return Ok(());
        }
        let instruction = Instruction::parse(statement, &line.heredocs).map_err(at)?;
        match (self.stages.last_mut(), instruction) {
            (Some(stage), instruction) => stage.steps.push(Step { text, line: line.start, instruction }),
            (None, Instruction::Arg(instruction)) => {
                self.arguments.push(Step { text, line: line.start, instruction });
            }
            (None, _) => return Err(Error::NoStage),
        }
        Ok(())
    }

    /// Where the stage of this name is; a number is no name (source: buildkit `dockerfile2llb/convert.go`,
    /// findStateByName).
    pub fn stage(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        // The last one of a name counts.
        self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&*name))
    }
}

/// A trigger of an image's `ONBUILD`.
///
/// # Errors
/// When it is no single instruction.
pub fn parse_trigger(text: &str) -> Result<Instruction> {
    let read = lines(text)?;
    let [line] = read.lines.as_slice() else { return Err(Error::OnbuildExpression) };
    Instruction::parse(&Statement::parse(&line.text, read.escape)?, &line.heredocs)
}

fn stage(statement: &Statement, text: String, line: usize) -> Result<Stage> {
    let words: Vec<&str> = match &statement.arguments {
        Arguments::Plain(words) => words.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, r#as, name] if r#as.eq_ignore_ascii_case("as") => (*base, Some(stage_name(name)?)),
        _ => return Err(Error::FromArguments),
    };
    let [platform] = flags::values(&statement.flags, ["platform"])?;
    Ok(Stage { name, base: base.to_owned(), platform, text, line, steps: Vec::new() })
}

fn stage_name(given: &str) -> Result<String> {
    let name = given.to_lowercase();
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let is_valid = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest);
    if is_valid { Ok(name) } else { Err(Error::StageName(given.to_owned())) }
}

impl Error {
    pub(crate) fn at(line: usize, why: Self) -> Self {
        Self::Line { line, why: Box::new(why) }
    }
}
