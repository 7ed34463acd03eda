//! `--chmod`: numbers and words (source: POSIX chmod; buildkit `solver/llbsolver/file`, which takes both).

use crate::{Result, error::refuse};

/// A change of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// These.
    Octal(u32),
    /// `u+rw,g-x`
    Words(Vec<Clause>),
}

/// `who op what`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Bits of those that it is about, `rwx` of each.
    who: u32,
    /// `+`, `-` or `=`.
    operator: u8,
    /// Bits of `rwx`, for everybody.
    bits: u32,
    /// `X`: execution, where it is a directory or somebody may already.
    conditional: bool,
    /// `s` and `t`.
    special: u32,
}

impl Mode {
    /// Reads it; `None` for no text.
    ///
    /// # Errors
    /// `invalid chmod parameter: ...`.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Some(Self::Octal(mode))),
                _ => invalid(text),
            };
        }
        let clauses: Option<Vec<Clause>> = text.split(',').map(clause).collect();
        clauses.map_or_else(|| invalid(text), |clauses| Ok(Some(Self::Words(clauses))))
    }

    /// What the permissions of a file become.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Words(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

impl Clause {
    fn apply(self, mode: u32, is_directory: bool) -> u32 {
        let execute = self.conditional && (is_directory || mode & 0o111 != 0);
        let bits = (self.bits | if execute { 0o111 } else { 0 }) & self.who | self.special;
        match self.operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            _ => mode & !self.who | bits,
        }
    }
}

fn invalid<T>(text: &str) -> Result<T> {
    refuse(format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"))
}

fn clause(text: &str) -> Option<Clause> {
    let at = text.find(['+', '-', '='])?;
    let (names, operator) = (&text[..at], text.as_bytes()[at]);
    let mut who = 0;
    for name in names.chars() {
        who |= match name {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    let who = if names.is_empty() { 0o777 } else { who };
    let mut clause = Clause { who, operator, bits: 0, conditional: false, special: 0 };
    for what in text[at + 1..].chars() {
        match what {
            'r' => clause.bits |= 0o444,
            'w' => clause.bits |= 0o222,
            'x' => clause.bits |= 0o111,
            'X' => clause.conditional = true,
            's' => clause.special |= (who & 0o100) << 5 | (who & 0o010) << 7,
            't' => clause.special |= 0o1000,
            _ => return None,
        }
    }
    Some(clause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_numbers_or_words() {
        let apply =
            |text: &str, mode, is_directory| Mode::parse(text).unwrap().unwrap().apply(mode, is_directory);
        assert_eq!(apply("755", 0o600, false), 0o755);
        assert_eq!(apply("u+x,go=r", 0o677, false), 0o744);
        assert_eq!(apply("a-w", 0o666, false), 0o444);
        assert_eq!(apply("+X", 0o644, false), 0o644);
        assert_eq!(apply("+X", 0o644, true), 0o755);
        assert_eq!(apply("u+s,g+s,+t", 0o755, false), 0o7755);
        assert_eq!(Mode::parse("").unwrap(), None);
        for bad in ["888", "u*x", "z+x", "77777", "u+q"] {
            assert!(Mode::parse(bad).is_err(), "{bad}");
        }
    }
}
