//! Flags and arguments as Docker's command line reads them, which is as spf13/pflag does.
//!
//! A table of [`Flag`]s is plain constant data: nothing is built at start, and the same table serves the
//! parser, the help text and later the shell completion. Why no parser library: Docker's scripts rely on
//! pflag's rules (`-it`, `-p80:80`, `--rm=false`, options end at the image name for `run`), on its error
//! texts and on its help layout, and on a start in about a millisecond.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// What a flag's value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// True or false; given alone it is true.
    Bool,
    /// Any text; the last one counts.
    Text,
    /// Any text; all of them count.
    Many,
    /// Comma separated texts; all of them count.
    Strings,
    /// `name=value`; all of them count.
    Filter,
    /// A whole number.
    Int,
    /// A whole number from 0 on.
    Uint,
    /// A number from 0 to 65535.
    Uint16,
    /// A size such as `64m`, or -1.
    Bytes,
    /// A duration such as `1m30s`.
    Duration,
    /// A number of CPUs such as `1.5`.
    Decimal,
}

/// A check of one value: the reason why it is refused.
pub(crate) type Check = fn(&str) -> std::result::Result<(), String>;

/// One flag of a command.
#[derive(Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) letter: Option<char>,
    pub(crate) kind: Kind,
    /// The value's name in the help text.
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
    pub(crate) hidden: bool,
    /// What is said when it is used, after "Flag --x has been deprecated, ".
    pub(crate) deprecated: &'static str,
    pub(crate) check: Option<Check>,
    /// The flag whose other name it is.
    pub(crate) same_as: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $kind:ident $value:literal;)*) => {
        $($(#[$doc])*
        pub(crate) const fn $name(long: &'static str, help: &'static str) -> Self {
            Self::new(long, Kind::$kind, $value, help)
        })*
    };
}

impl Flag {
    const fn new(long: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Self {
        Self {
            long,
            letter: None,
            kind,
            value,
            help,
            hidden: false,
            deprecated: "",
            check: None,
            same_as: "",
        }
    }

    kinds! {
        /// A switch.
        bool Bool "";
        /// A text.
        text Text "string";
        /// Texts.
        many Many "list";
        /// Comma separated texts.
        strings Strings "strings";
        /// Filters.
        filter Filter "filter";
        /// A whole number.
        int Int "int";
        /// A number from 0 on.
        uint Uint "uint";
        /// A number from 0 to 65535.
        uint16 Uint16 "uint16";
        /// A size.
        bytes Bytes "bytes";
        /// A duration.
        duration Duration "duration";
        /// A number of CPUs.
        decimal Decimal "decimal";
    }

    /// With a one-letter form.
    pub(crate) const fn short(mut self, letter: char) -> Self {
        self.letter = Some(letter);
        self
    }

    /// With another name for the value in the help text.
    pub(crate) const fn named(mut self, value: &'static str) -> Self {
        self.value = value;
        self
    }

    /// Left out of the help text.
    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Another name of a flag, left out of the help text.
    pub(crate) const fn for_flag(mut self, long: &'static str) -> Self {
        self.same_as = long;
        self.hidden()
    }

    /// Taken with a warning.
    pub(crate) const fn deprecated(mut self, words: &'static str) -> Self {
        self.deprecated = words;
        self.hidden()
    }

    /// With a check of each value.
    pub(crate) const fn checked(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    fn problem(&self, value: &str) -> Option<String> {
        let problem = match self.kind {
            Kind::Bool => parse_bool(value).map(drop),
            Kind::Int => go_int(value).map(drop),
            Kind::Uint => go_uint(value, u64::MAX).map(drop),
            Kind::Uint16 => go_uint(value, 65535).map(drop),
            Kind::Bytes if value == "-1" && self.long == "memory-swap" => Ok(()),
            Kind::Bytes => crate::opts::size::ram_in_bytes(value).map(drop),
            Kind::Duration => crate::opts::duration::parse(value).map(drop),
            Kind::Decimal => crate::opts::cpus::parse(value).map(drop),
            Kind::Filter => crate::opts::filter::check(value),
            Kind::Text | Kind::Many | Kind::Strings => Ok(()),
        };
        problem.err().or_else(|| self.check.and_then(|check| check(value).err()))
    }
}

fn parse_bool(text: &str) -> std::result::Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

fn go_int(text: &str) -> std::result::Result<i64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let reason = if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        "invalid syntax"
    } else {
        "value out of range"
    };
    text.parse().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: {reason}"))
}

fn go_uint(text: &str, max: u64) -> std::result::Result<u64, String> {
    let syntax = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let reason = if syntax { "value out of range" } else { "invalid syntax" };
    let parsed = if syntax { text.parse().ok() } else { None };
    parsed.filter(|n| *n <= max).ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: {reason}"))
}

/// What was given on a command line.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    values: BTreeMap<&'static str, Vec<String>>,
    /// The arguments that are no flags.
    pub(crate) args: Vec<String>,
    /// `--help` was given.
    pub(crate) help: bool,
    /// The words of which the command line consists up to the command: `docker container run`.
    pub(crate) path: String,
}

impl Matches {
    /// Whether the flag was given.
    pub(crate) fn given(&self, long: &str) -> bool {
        self.values.contains_key(long)
    }

    /// A switch.
    pub(crate) fn is(&self, long: &str) -> bool {
        self.switch(long).unwrap_or(false)
    }

    /// A switch, if it was given.
    pub(crate) fn switch(&self, long: &str) -> Option<bool> {
        self.values.get(long)?.last().and_then(|v| parse_bool(v).ok())
    }

    /// The last value, empty when there is none.
    pub(crate) fn text(&self, long: &str) -> &str {
        self.values.get(long).and_then(|v| v.last()).map_or("", String::as_str)
    }

    /// The last value as an owned text.
    pub(crate) fn string(&self, long: &str) -> String {
        self.text(long).to_owned()
    }

    /// All values.
    pub(crate) fn all(&self, long: &str) -> &[String] {
        self.values.get(long).map_or(&[], Vec::as_slice)
    }

    /// All values, `None` when there are none (Go's nil).
    pub(crate) fn some(&self, long: &str) -> Option<Vec<String>> {
        self.values.get(long).cloned()
    }

    /// All values of a comma separated list.
    pub(crate) fn split(&self, long: &str) -> Vec<String> {
        self.all(long).iter().flat_map(|v| crate::opts::csv::fields(v).unwrap_or_default()).collect()
    }

    /// A number, 0 when it was not given.
    pub(crate) fn int(&self, long: &str) -> i64 {
        self.text(long).parse().unwrap_or(0)
    }

    /// A number from 0 on.
    pub(crate) fn uint(&self, long: &str) -> u64 {
        self.text(long).parse().unwrap_or(0)
    }

    /// A size in bytes, 0 when it was not given, -1 for `-1`.
    pub(crate) fn bytes(&self, long: &str) -> i64 {
        match self.text(long) {
            "" => 0,
            "-1" => -1,
            text => crate::opts::size::ram_in_bytes(text).unwrap_or(0),
        }
    }

    /// A duration in nanoseconds.
    pub(crate) fn nanos(&self, long: &str) -> i64 {
        crate::opts::duration::parse(self.text(long)).unwrap_or(0)
    }

    /// The argument at this place; the command has checked that there is one.
    pub(crate) fn arg(&self, at: usize) -> &str {
        self.args.get(at).map_or("", String::as_str)
    }
}

/// Reads a command line.
pub(crate) struct Parser<'a> {
    pub(crate) flags: &'a [&'static [Flag]],
    /// Whether flags may follow arguments.
    pub(crate) interspersed: bool,
}

impl Parser<'_> {
    /// Splits a command line into flags and arguments. The second value is the rest after the first
    /// argument, when flags may not follow it.
    pub(crate) fn parse(&self, words: &[String]) -> Result<Matches> {
        let mut matches = Matches::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                matches.args.extend(words.cloned());
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                self.long(long, &mut words, &mut matches)?;
            } else if word.len() > 1 && word.starts_with('-') {
                self.shorts(word, &mut words, &mut matches)?;
            } else {
                matches.args.push(word.clone());
                if !self.interspersed {
                    matches.args.extend(words.cloned());
                    break;
                }
            }
            if matches.help {
                break;
            }
        }
        Ok(matches)
    }

    fn long(&self, word: &str, rest: &mut std::slice::Iter<'_, String>, matches: &mut Matches) -> Result<()> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(Error::flag(format!("bad flag syntax: --{word}")));
        }
        let Some(flag) = self.find(|f| f.long == name) else {
            if name == "help" {
                matches.help = true;
                return Ok(());
            }
            return Err(Error::flag(format!("unknown flag: --{name}")));
        };
        let value = match (value, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true",
            (None, _) => {
                rest.next().ok_or_else(|| Error::flag(format!("flag needs an argument: --{name}")))?.as_str()
            }
        };
        set(flag, value, matches)
    }

    fn shorts(
        &self,
        word: &str,
        rest: &mut std::slice::Iter<'_, String>,
        matches: &mut Matches,
    ) -> Result<()> {
        let mut letters = word[1..].chars();
        while let Some(letter) = letters.next() {
            let Some(flag) = self.find(|f| f.letter == Some(letter)) else {
                if letter == 'h' {
                    eprintln!("Flag shorthand -h has been deprecated, use --help");
                    matches.help = true;
                    return Ok(());
                }
                return Err(Error::flag(format!("unknown shorthand flag: {letter:?} in {word}")));
            };
            let attached = letters.as_str();
            let value = if let Some(value) = attached.strip_prefix('=') {
                value
            } else if flag.kind == Kind::Bool {
                set(flag, "true", matches)?;
                continue;
            } else if !attached.is_empty() {
                attached
            } else {
                let missing = || Error::flag(format!("flag needs an argument: {letter:?} in {word}"));
                rest.next().ok_or_else(missing)?.as_str()
            };
            return set(flag, value, matches);
        }
        Ok(())
    }

    fn find(&self, is: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
        self.flags.iter().flat_map(|table| table.iter()).find(|flag| is(flag))
    }
}

fn set(flag: &'static Flag, value: &str, matches: &mut Matches) -> Result<()> {
    if let Some(problem) = flag.problem(value) {
        let name = match flag.letter {
            Some(letter) => format!("-{letter}, --{}", flag.long),
            None => format!("--{}", flag.long),
        };
        return Err(Error::flag(format!("invalid argument {value:?} for \"{name}\" flag: {problem}")));
    }
    if !flag.deprecated.is_empty() && !matches.given(flag.long) {
        eprintln!("Flag --{} has been deprecated, {}", flag.long, flag.deprecated);
    }
    matches.help |= flag.long == "help";
    let name = if flag.same_as.is_empty() { flag.long } else { flag.same_as };
    matches.values.entry(name).or_default().push(value.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        Flag::bool("interactive", "").short('i'),
        Flag::bool("tty", "").short('t'),
        Flag::many("publish", "").short('p'),
        Flag::text("name", ""),
        Flag::bytes("memory", "").short('m'),
        Flag::bool("sig-proxy", ""),
        Flag::uint16("weight", ""),
        Flag::strings("subnet", ""),
    ];

    fn parse(line: &str, interspersed: bool) -> Result<Matches> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Parser { flags: &[TABLE], interspersed }.parse(&words)
    }

    #[test]
    fn flags_are_read_as_pflag_does() {
        let m =
            parse("-itp80:80 -p=81 --name=a --name b -p 82 --sig-proxy=false image -x --y", false).unwrap();
        assert!(m.is("interactive") && m.is("tty"));
        assert_eq!(m.all("publish"), ["80:80", "81", "82"]);
        assert_eq!((m.text("name"), m.switch("sig-proxy")), ("b", Some(false)));
        assert_eq!(m.args, ["image", "-x", "--y"]);
        let m = parse("a -i b -- -t", true).unwrap();
        assert_eq!((m.args, m.values.len()), (vec!["a".into(), "b".into(), "-t".into()], 1));
        let m = parse("--subnet 10.0.0.0/8,fd00::/8 --subnet x -", true).unwrap();
        assert_eq!(m.split("subnet"), ["10.0.0.0/8", "fd00::/8", "x"]);
        assert_eq!(m.args, ["-"]);
        assert!(parse("--help --bogus", true).unwrap().help);
    }

    #[test]
    fn errors_are_pflags() {
        for (line, text) in [
            ("--foo", "unknown flag: --foo"),
            ("-iZ", "unknown shorthand flag: 'Z' in -iZ"),
            ("--name", "flag needs an argument: --name"),
            ("-ip", "flag needs an argument: 'p' in -ip"),
            ("--=x", "bad flag syntax: --=x"),
            ("-m x", "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
            (
                "-i=x",
                "invalid argument \"x\" for \"-i, --interactive\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                "--weight 70000",
                "invalid argument \"70000\" for \"--weight\" flag: strconv.ParseUint: parsing \"70000\": value out of range",
            ),
        ] {
            assert_eq!(parse(line, true).unwrap_err().to_string(), text, "{line}");
        }
    }
}
