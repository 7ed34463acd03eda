//! `RUN --mount` (source: buildkit `frontend/dockerfile/instructions/commands_runmount.go`).

use crate::{Error, Lexer, Result, suggest::suggestion};

/// What is mounted while a command runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// What kind.
    pub kind: MountKind,
    /// A stage or image that the source is in, or empty for the context.
    pub from: String,
    /// A path in it.
    pub source: String,
    /// Where it is seen.
    pub target: String,
    /// Nothing can be written.
    pub read_only: bool,
    /// Of a tmpfs, in bytes; 0 is no limit.
    pub size: u64,
    /// Of a cache, secret or agent.
    pub id: String,
    /// Of a cache.
    pub sharing: Sharing,
    /// A secret or agent has to be there.
    pub required: bool,
    /// The variable that a secret is put into; empty is named as the secret.
    pub env: Option<String>,
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// Kinds of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "named as in files")]
pub enum MountKind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// Who may use a cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One at a time, others get an empty one.
    Private,
    /// One at a time, others wait.
    Locked,
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl Mount {
    /// Checks what does not depend on variables.
    ///
    /// # Errors
    /// When `from` has one.
    pub fn check(text: &str) -> Result<()> {
        for field in fields(text)? {
            if let Some(("from", value)) = field.split_once('=')
                && value.find('$').is_some_and(|at| at != value.len() - 1)
            {
                let text = "'from' doesn't support variable expansion, define alias stage instead";
                return Err(Error::Mount(text.into()));
            }
        }
        Ok(())
    }

    /// Reads a mount, its variables expanded.
    ///
    /// # Errors
    /// For unknown keys and values, and those that its kind does not take.
    pub fn parse(text: &str, lexer: &Lexer<'_>) -> Result<Self> {
        let mut mount = Self::default();
        let mut read_only = None;
        for field in fields(text)? {
            match field.split_once('=') {
                None => mount.word(&field, &mut read_only)?,
                Some((key, value)) => {
                    let (key, value) = (key.to_lowercase(), lexer.word(value)?);
                    mount.pair(&key, &value, &field, &mut read_only)?;
                }
            }
        }
        let writable = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
        mount.read_only = read_only.unwrap_or(!writable);
        mount.consistent()
    }

    fn word(&mut self, word: &str, read_only: &mut Option<bool>) -> Result<()> {
        match word.to_lowercase().as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" if self.asks_client() => self.required = true,
            "required" => return Err(self.unexpected("required")),
            _ => return refuse(format!("invalid field '{word}' must be a key=value pair")),
        }
        Ok(())
    }

    fn pair(&mut self, key: &str, value: &str, field: &str, read_only: &mut Option<bool>) -> Result<()> {
        let wrong = || Error::Mount(format!("invalid value for {key}: {value}"));
        let boolean = || parse_bool(value).ok_or_else(wrong);
        let number = || value.parse().map(Some).map_err(|_| invalid(value, key));
        match key {
            "type" => self.kind = one_of(&KINDS, value, "unsupported mount type")?,
            "from" => self.from = value.to_owned(),
            "source" | "src" => self.source = value.to_owned(),
            "target" | "dst" | "destination" => self.target = value.to_owned(),
            "readonly" | "ro" => *read_only = Some(boolean()?),
            "readwrite" | "rw" => *read_only = Some(!boolean()?),
            "required" if self.asks_client() => self.required = boolean()?,
            "size" if self.kind == MountKind::Tmpfs => self.size = bytes(value).ok_or_else(wrong)?,
            "required" | "size" => return Err(self.unexpected(key)),
            "id" => self.id = value.to_owned(),
            "sharing" => {
                let known =
                    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];
                self.sharing = one_of(&known, value, "unsupported sharing value")?;
            }
            "mode" => self.mode = u32::from_str_radix(value, 8).map(Some).map_err(|_| invalid(value, key))?,
            "uid" => self.uid = number()?,
            "gid" => self.gid = number()?,
            "env" => self.env = Some(value.to_owned()),
            _ => {
                let hint = suggestion(key, &KEYS).map(|near| format!(" (did you mean {near}?)"));
                return refuse(format!("unexpected key '{key}' in '{field}'{}", hint.unwrap_or_default()));
            }
        }
        Ok(())
    }

    fn consistent(self) -> Result<Self> {
        let kind = self.kind_name();
        let has_owner = self.asks_client() || self.kind == MountKind::Cache;
        let owner = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
        if let Some((key, _)) = owner.into_iter().find(|(_, value)| value.is_some() && !has_owner) {
            return refuse(format!("{key} not allowed for {kind:?} type mounts"));
        }
        if self.kind == MountKind::Secret {
            if !self.from.is_empty() {
                return refuse("secret mount should not have a from");
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return refuse("invalid secret mount. one of source, target required");
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return refuse("both source and id can't be set");
            }
        }
        if self.sharing != Sharing::Shared && self.kind != MountKind::Cache {
            return refuse(format!("invalid cache sharing set for {kind} mount"));
        }
        Ok(self)
    }

    fn asks_client(&self) -> bool {
        matches!(self.kind, MountKind::Secret | MountKind::Ssh)
    }

    fn kind_name(&self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name)
    }

    fn unexpected(&self, key: &str) -> Error {
        Error::Mount(format!("unexpected key '{key}' for mount type '{}'", self.kind_name()))
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Mount(why.into()))
}

fn invalid(value: &str, key: &str) -> Error {
    Error::Mount(format!("invalid value {value} for {key}"))
}

fn one_of<T: Copy>(known: &[(&'static str, T)], value: &str, what: &str) -> Result<T> {
    let lower = value.to_lowercase();
    if let Some((_, kind)) = known.iter().find(|(name, _)| *name == lower) {
        return Ok(*kind);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let hint = suggestion(&lower, &names).map(|near| format!(" (did you mean {near}?)"));
    refuse(format!("{what} {value:?}{}", hint.unwrap_or_default()))
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size such as `64m` (source: docker/go-units `RAMInBytes`).
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match bare.chars().last()? {
        'k' => (&bare[..bare.len() - 1], 10),
        'm' => (&bare[..bare.len() - 1], 20),
        'g' => (&bare[..bare.len() - 1], 30),
        't' => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    number.trim().parse::<u64>().ok()?.checked_shl(shift)
}

/// The fields of a line of comma-separated values, quotes gone.
fn fields(text: &str) -> Result<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return refuse(
            "failed to parse csv mounts: parse error on line 1, column 1: extraneous or missing \" in quoted-field",
        );
    }
    fields.push(field);
    Ok(fields)
}
