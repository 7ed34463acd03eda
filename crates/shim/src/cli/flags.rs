//! Reading options as runc's command line does: switches may have a value (`--force=true`), and options may
//! stand behind arguments.

use super::error::{CliError, CliResult};
use lexopt::Parser;
use lexopt::prelude::*;

/// An option's value as text.
pub(super) fn text(parser: &mut Parser) -> CliResult<String> {
    Ok(parser.value()?.string()?)
}

/// An option's value as a number.
pub(super) fn number<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    parser: &mut Parser,
) -> CliResult<T> {
    Ok(parser.value()?.parse()?)
}

/// A switch: alone it is on, with `=` it is what Go's `strconv.ParseBool` makes of the value.
pub(super) fn switch(parser: &mut Parser) -> CliResult<bool> {
    let Some(value) = parser.optional_value() else { return Ok(true) };
    match value.to_string_lossy().as_ref() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(CliError::text(format!("Incorrect Usage: invalid boolean value {other:?}"))),
    }
}

/// Arguments that are no options.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<String>);

impl Arguments {
    /// Takes what lexopt found: an argument is kept, an option that the command did not know is refused.
    pub(super) fn take(&mut self, arg: lexopt::Arg<'_>) -> CliResult<()> {
        match arg {
            Value(value) => {
                self.0.push(value.string()?);
                Ok(())
            }
            other => Err(other.unexpected().into()),
        }
    }

    /// The container's id, the only argument.
    pub(super) fn only_id(self, command: &str) -> CliResult<String> {
        match <[String; 1]>::try_from(self.0) {
            Ok([id]) => not_empty(id),
            Err(_) => Err(requires(command, "exactly 1")),
        }
    }

    /// The container's id, and an argument that may be left out.
    pub(super) fn id_and_optional(self, command: &str) -> CliResult<(String, Option<String>)> {
        let mut all = self.0.into_iter();
        let Some(id) = all.next() else { return Err(requires(command, "a minimum of 1")) };
        let second = all.next();
        match all.next() {
            None => Ok((not_empty(id)?, second)),
            Some(_) => Err(requires(command, "a maximum of 2")),
        }
    }

    /// For commands that take none.
    pub(super) fn none(self, command: &str) -> CliResult<()> {
        if self.0.is_empty() { Ok(()) } else { Err(requires(command, "exactly 0")) }
    }
}

fn requires(command: &str, how_many: &str) -> CliError {
    CliError::text(format!("wharf-runtime: {command:?} requires {how_many} argument(s)"))
}

/// An id that is there.
pub(super) fn not_empty(id: String) -> CliResult<String> {
    if id.is_empty() { Err(CliError::text("container id cannot be empty")) } else { Ok(id) }
}

/// For commands without options: the id alone.
pub(super) fn only_id(parser: &mut Parser, command: &str) -> CliResult<String> {
    let mut arguments = Arguments::default();
    while let Some(arg) = parser.next()? {
        arguments.take(arg)?;
    }
    arguments.only_id(command)
}

/// For commands without options and arguments.
pub(super) fn no_arguments(parser: &mut Parser, command: &str) -> CliResult<()> {
    let mut arguments = Arguments::default();
    while let Some(arg) = parser.next()? {
        arguments.take(arg)?;
    }
    arguments.none(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_counted_in_runcs_words() {
        let id = |args: &[&str]| only_id(&mut Parser::from_args(args), "start");
        assert_eq!(id(&["c1"]).unwrap(), "c1");
        let message = "wharf-runtime: \"start\" requires exactly 1 argument(s)";
        assert_eq!(id(&[]).unwrap_err().to_string(), message);
        assert_eq!(id(&["a", "b"]).unwrap_err().to_string(), message);
        assert_eq!(id(&[""]).unwrap_err().to_string(), "container id cannot be empty");
        assert!(id(&["--what", "a"]).unwrap_err().to_string().starts_with("Incorrect Usage: "));
    }

    #[test]
    fn switches_take_values() {
        let on = |args: &[&str]| {
            let mut parser = Parser::from_args(args);
            assert!(parser.next().unwrap().is_some());
            switch(&mut parser)
        };
        assert!(on(&["--force"]).unwrap() && on(&["--force=true"]).unwrap() && !on(&["--force=0"]).unwrap());
        assert!(on(&["--force=maybe"]).is_err());
    }
}
