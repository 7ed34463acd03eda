//! What can be wrong with a Dockerfile, in Docker's words.

use wharf_spec::ErrorKind;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Error {
    #[error("file with no instructions")]
    NoInstructions,
    #[error("dockerfile line greater than max allowed size of {max}", max = crate::lines::MAX_LINE - 1)]
    LineTooLong,
    #[error("only one {0} parser directive can be used")]
    DirectiveTwice(String),
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    NoEqualsSign(String),
    #[error("{0} requires at least one argument")]
    AtLeastOneArgument(&'static str),
    #[error("dockerfile parse error on line {line}: {why}")]
    Line { line: usize, why: Box<Error> },
    #[error("unknown instruction: {name}{hint}")]
    UnknownInstruction { name: String, hint: String },
    #[error("no build stage in current context")]
    NoStage,
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error("invalid name for build stage: {0:?}, name can't start with a number or contain symbols")]
    StageName(String),
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    #[error("expecting boolean value for flag --{name}, not: {value}")]
    FlagNotBoolean { name: String, value: String },
    #[error("{0}")]
    Mount(String),
    #[error("onbuild trigger should be a single expression")]
    OnbuildExpression,
    #[error("{0} requires exactly one argument")]
    ExactlyOneArgument(&'static str),
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error("{0} is not a valid change command")]
    NoChange(String),
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthcheckType(String),
    #[error("Interval {0:?} cannot be less than 1ms")]
    IntervalTooShort(&'static str),
    #[error("strconv.ParseInt: parsing {text:?}: {why}")]
    Number { text: String, why: &'static str },
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i64),
    #[error("{0}")]
    Duration(String),
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("cannot normalize nothing")]
    EmptyWorkdir,
    #[error("{0}")]
    Signal(#[from] wharf_spec::signal::ParseSignalError),
    #[error("arg should start with -- : {0}")]
    NoFlag(String),
    #[error("unknown flag: --{name}{hint}")]
    UnknownFlag { name: String, hint: String },
    #[error("duplicate flag specified: --{0}")]
    FlagTwice(String),
    #[error("missing a value on flag: --{0}")]
    FlagWithoutValue(String),
    #[error("{0}")]
    Port(String),
    #[error("{0}")]
    Check(String),
    #[error("failed to process {word:?}: {why}")]
    Word { word: String, why: String },
}

impl Error {
    /// What Docker's parser says, which ends before it knows instructions and tells no line; `None`: it is an
    /// instruction that is wrong.
    pub fn of_parser(&self) -> Option<&Self> {
        match self {
            Self::Line { why, .. } => why.of_parser(),
            Self::NoInstructions
            | Self::LineTooLong
            | Self::DirectiveTwice(_)
            | Self::EscapeToken(_)
            | Self::UnterminatedHeredoc
            | Self::NotStrings
            | Self::TwoArguments(_)
            | Self::NoEqualsSign(_) => Some(self),
            _ => None,
        }
    }

    /// The class of the error for a client.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}
