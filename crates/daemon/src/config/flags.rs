//! The command line, in pflag's manner: `--flag value`, `--flag=value`, `--bool`, `--bool=false`, `-D`.

use super::options::{self, Kind, Opt};
use lexopt::{Arg, Parser, ValueExt};
use serde_json::{Map, Value, json};
use std::{ffi::OsString, path::PathBuf};

/// What the command line says.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// `--config-file`.
    pub(crate) config_file: Option<PathBuf>,
    /// `--check`.
    pub(crate) check: bool,
    /// `--deep`.
    pub(crate) deep: bool,
    /// `--repair`.
    pub(crate) repair: bool,
    /// `--stop-containers`.
    pub(crate) stop_containers: bool,
    /// `--validate`.
    pub(crate) validate: bool,
    /// `--version`.
    pub(crate) version: bool,
    /// `--help`.
    pub(crate) help: bool,
    /// The options given, under their keys in the file.
    pub(crate) values: Map<String, Value>,
}

/// Why a command line could not be read, in pflag's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseFlagsError {
    /// No such option.
    #[error("unknown flag: {0}")]
    Unknown(String),
    /// A value that the option does not take.
    #[error("invalid argument {value:?} for {flag:?} flag: {why}")]
    Value {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value is missing.
    #[error("flag needs an argument: --{0}")]
    Missing(String),
    /// A flag that says how to check, and nothing is to be checked.
    #[error("flag --{0} needs --check")]
    WithoutCheck(&'static str),
    /// An argument that is no flag.
    #[error("unexpected argument {0:?}: the daemon takes options only")]
    Argument(String),
}

impl Flags {
    /// Reads arguments, the program's name not among them.
    ///
    /// # Errors
    /// See [`ParseFlagsError`].
    pub(crate) fn parse<I>(args: I) -> Result<Self, ParseFlagsError>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut parser = Parser::from_args(args);
        let mut flags = Self::default();
        while let Some(arg) = parser.next().map_err(|e| ParseFlagsError::Argument(e.to_string()))? {
            let name = match arg {
                Arg::Long(name) => Name::Long(name.to_owned()),
                Arg::Short(c) => Name::Short(c),
                Arg::Value(value) => {
                    return Err(ParseFlagsError::Argument(value.to_string_lossy().into_owned()));
                }
            };
            flags.take(&name, &mut parser)?;
        }
        for (given, flag) in [(flags.deep, "deep"), (flags.repair, "repair")] {
            if given && !flags.check {
                return Err(ParseFlagsError::WithoutCheck(flag));
            }
        }
        Ok(flags)
    }

    fn take(&mut self, name: &Name, parser: &mut Parser) -> Result<(), ParseFlagsError> {
        match name {
            Name::Long(n) if n == "config-file" => self.config_file = Some(value(n, parser)?.into()),
            Name::Long(n) if n == "check" => self.check = boolean(n, parser)?,
            Name::Long(n) if n == "deep" => self.deep = boolean(n, parser)?,
            Name::Long(n) if n == "repair" => self.repair = boolean(n, parser)?,
            Name::Long(n) if n == "stop-containers" => self.stop_containers = boolean(n, parser)?,
            Name::Long(n) if n == "validate" => self.validate = boolean(n, parser)?,
            Name::Long(n) if n == "version" => self.version = boolean(n, parser)?,
            Name::Short('v') => self.version = true,
            Name::Long(n) if n == "help" => self.help = boolean(n, parser)?,
            Name::Short('h') => self.help = true,
            _ => {
                let opt = name.option().ok_or_else(|| ParseFlagsError::Unknown(name.to_string()))?;
                self.set(opt, parser)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, opt: &'static Opt, parser: &mut Parser) -> Result<(), ParseFlagsError> {
        let Some(flag) = opt.flag else { return Err(ParseFlagsError::Unknown(format!("--{}", opt.key))) };
        if opt.kind == Kind::Bool {
            let given = boolean(flag, parser)?;
            self.values.insert(opt.key.into(), json!(given));
            return Ok(());
        }
        let text = value(flag, parser)?;
        let fail =
            |why: String| ParseFlagsError::Value { flag: format!("--{flag}"), value: text.clone(), why };
        match opt.kind {
            Kind::Bool | Kind::Text => self.put(opt, json!(text)),
            Kind::Int => {
                let n: i64 = text
                    .parse()
                    .map_err(|_| fail(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
                self.put(opt, json!(n));
            }
            Kind::Bytes => {
                let n = options::parse_bytes(&text).ok_or_else(|| fail(format!("invalid size: '{text}'")))?;
                self.put(opt, json!(n));
            }
            Kind::List => self.push(opt, json!(text)),
            Kind::Pools => self.push(opt, options::parse_pool(&text).map_err(fail)?),
            Kind::Map => self.entry(opt, options::parse_pair(&text).map_err(fail)?),
            Kind::Nested => {
                let (group, key, value) = options::parse_nested(&text).map_err(fail)?;
                let whole = self.values.entry(opt.key).or_insert_with(|| json!({}));
                whole[group][key] = value;
            }
            Kind::Features => self.entry(opt, options::parse_feature(&text).map_err(fail)?),
            Kind::Runtimes => self.entry(opt, options::parse_runtime(&text).map_err(fail)?),
            Kind::Ulimits => self.entry(opt, options::parse_ulimit(&text).map_err(fail)?),
        }
        Ok(())
    }

    fn put(&mut self, opt: &Opt, value: Value) {
        self.values.insert(opt.key.into(), value);
    }

    fn push(&mut self, opt: &Opt, value: Value) {
        if let Value::Array(list) = self.values.entry(opt.key).or_insert_with(|| json!([])) {
            list.push(value);
        }
    }

    fn entry(&mut self, opt: &Opt, (key, value): (String, Value)) {
        if let Value::Object(map) = self.values.entry(opt.key).or_insert_with(|| json!({})) {
            map.insert(key, value);
        }
    }
}

enum Name {
    Long(String),
    Short(char),
}

impl Name {
    fn option(&self) -> Option<&'static Opt> {
        options::OPTIONS.iter().find(|o| match self {
            Self::Long(name) => o.flag == Some(name.as_str()),
            Self::Short(c) => o.short == Some(*c),
        })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Long(name) => write!(f, "--{name}"),
            Self::Short(c) => write!(f, "-{c}"),
        }
    }
}

fn value(flag: &str, parser: &mut Parser) -> Result<String, ParseFlagsError> {
    let value = parser.value().map_err(|_| ParseFlagsError::Missing(flag.to_owned()))?;
    value.string().map_err(|e| ParseFlagsError::Argument(e.to_string()))
}

/// `--flag` alone is true, `--flag=text` is what Go's `strconv.ParseBool` makes of the text.
fn boolean(flag: &str, parser: &mut Parser) -> Result<bool, ParseFlagsError> {
    let Some(text) = parser.optional_value() else { return Ok(true) };
    let text = text.to_string_lossy().into_owned();
    match text.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ParseFlagsError::Value {
            flag: format!("--{flag}"),
            why: format!("strconv.ParseBool: parsing {text:?}: invalid syntax"),
            value: text,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let flags = Flags::parse([
            "-D",
            "-lwarn",
            "--iptables=false",
            "--log-opt",
            "max-size=1m",
            "--log-opt=max-file=2",
            "--default-ulimit",
            "nofile=1:2",
        ])
        .unwrap();
        assert_eq!(
            Value::Object(flags.values),
            json!({"debug": true, "log-level": "warn", "iptables": false,
                   "log-opts": {"max-size": "1m", "max-file": "2"},
                   "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}})
        );
        let flags = Flags::parse(["--validate", "-v", "--help", "--stop-containers"]).unwrap();
        assert!(flags.validate && flags.version && flags.help && flags.stop_containers);
        let flags = Flags::parse(["--check", "--deep", "--repair=false"]).unwrap();
        assert!(flags.check && flags.deep && !flags.repair);
    }

    #[test]
    fn mistakes_have_pflags_words() {
        let message = |args: &[&str]| Flags::parse(args).unwrap_err().to_string();
        assert_eq!(message(&["--nosuch"]), "unknown flag: --nosuch");
        assert_eq!(message(&["-z"]), "unknown flag: -z");
        assert_eq!(message(&["--repair"]), "flag --repair needs --check");
        assert_eq!(message(&["--min-api-version=1"]), "unknown flag: --min-api-version");
        assert_eq!(message(&["--bip"]), "flag needs an argument: --bip");
        assert_eq!(
            message(&["--mtu=x"]),
            "invalid argument \"x\" for \"--mtu\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            message(&["--debug=perhaps"]),
            "invalid argument \"perhaps\" for \"--debug\" flag: strconv.ParseBool: parsing \"perhaps\": invalid syntax"
        );
        assert!(message(&["serve"]).starts_with("unexpected argument \"serve\""));
    }
}
