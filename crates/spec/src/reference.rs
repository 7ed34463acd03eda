//! Image references: `[domain/]path[:tag][@digest]`, normalised as Docker does.
//!
//! Source: distribution/reference `reference.go`, `normalize.go`, `regexp.go` (grammar and order of
//! checks). The grammar is matched by hand, in one pass over the text: every separator (`@`, the last `/`,
//! the `:` behind it) can stand at one place only, so nothing is ever tried twice.

use crate::{Digest, ErrorKind, ParseDigestError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// The domain meant by a name that has none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag meant by a reference that has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const PATH_MAX: usize = 255;
const TAG_MAX: usize = 128;
const DIGEST_HEX_MIN: usize = 32;

/// Why a text is no image reference, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// The text does not fit the grammar.
    #[error("invalid reference format")]
    Format,
    /// 64 hex characters are an image id, never a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The path holds upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// What looked like a domain is none, and as a path it would have to be lower case.
    #[error("repository name must be lowercase")]
    NameUppercase,
    /// The path is longer than 255 bytes.
    #[error("repository name must not be more than {PATH_MAX} characters")]
    TooLong,
    /// A tag alone was given and is not `[\w][\w.-]{0,127}`.
    #[error("invalid tag format")]
    Tag,
    /// The digest part is not a SHA-256 digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
}

impl ParseReferenceError {
    /// What it means to a client: the request is wrong.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// A normalised image reference. It names a repository (`domain/path`) and may have a tag, a digest or
/// both. Parsing `busybox` gives `docker.io/library/busybox`; the "familiar" forms lead back.
///
/// `Display` and serde use the full form, `docker.io/library/busybox:latest`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// The registry, with its port: `docker.io`, `localhost:5000`, `[::1]:5000`. Empty for names such as
    /// `foo_bar.com/x`, which Docker takes for local names since `foo_bar.com` can be no host: they can be
    /// tagged, but neither pulled nor pushed.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The tag, or `latest`.
    pub fn tag_or_latest(&self) -> &str {
        self.tag().unwrap_or(DEFAULT_TAG)
    }

    /// Whether there is neither tag nor digest.
    pub const fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// `domain/path`: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        join_domain(&self.domain, &self.path)
    }

    /// The name as Docker shows it, without default domain and `library/`: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The familiar name with tag and digest as they were given: `busybox:1.36`.
    pub fn familiar_string(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same reference, with tag `latest` if it had neither tag nor digest (Go: `TagNameOnly`).
    pub fn or_latest(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The repository alone (Go: `TrimNamed`).
    pub fn repository(&self) -> Self {
        Self { domain: self.domain.clone(), path: self.path.clone(), tag: None, digest: None }
    }

    /// The same repository and digest with this tag.
    ///
    /// # Errors
    /// [`ParseReferenceError::Tag`] when it is no tag.
    pub fn with_tag(mut self, tag: &str) -> Result<Self, ParseReferenceError> {
        if !is_valid_tag(tag) {
            return Err(ParseReferenceError::Tag);
        }
        self.tag = Some(tag.to_owned());
        Ok(self)
    }

    /// The same repository and tag with this digest.
    pub const fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The same repository and digest without a tag.
    pub fn without_tag(mut self) -> Self {
        self.tag = None;
        self
    }

    /// The same repository and tag without a digest.
    pub fn without_digest(mut self) -> Self {
        self.digest = None;
        self
    }

    /// Whether a shell pattern (Go's `path.Match`) fits the familiar string or the familiar name, as the
    /// filter `reference=` asks (Go: `FamiliarMatch`).
    ///
    /// # Errors
    /// [`BadPattern`] when the pattern is malformed.
    pub fn familiar_match(&self, pattern: &str) -> Result<bool, BadPattern> {
        Ok(path_match(pattern, &self.familiar_string())?
            || path_match(pattern, &self.familiar_name()).unwrap_or(false))
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

fn join_domain(domain: &str, path: &str) -> String {
    if domain.is_empty() { path.to_owned() } else { format!("{domain}/{path}") }
}

impl FromStr for ImageRef {
    type Err = ParseReferenceError;

    /// Go: `ParseNormalizedNamed`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_full_id(text) {
            return Err(ParseReferenceError::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_docker_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.chars().any(|c| !c.to_lowercase().eq([c])) {
            return Err(ParseReferenceError::Uppercase(remote.to_owned()));
        }
        parse_canonical(&format!("{domain}/{remainder}"))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a client may give where an image is expected (Go: `ParseAnyReference`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyRef {
    /// A full image id, with or without `sha256:`.
    Id(Digest),
    /// A name.
    Named(ImageRef),
}

impl FromStr for AnyRef {
    type Err = ParseReferenceError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Digest::from_hex(text).or_else(|_| text.parse()) {
            Ok(digest) => Ok(Self::Id(digest)),
            Err(_) => text.parse().map(Self::Named),
        }
    }
}

/// Whether the text could be an image id or the beginning of one: 1 to 64 lower-case hex characters,
/// perhaps after `sha256:`. Such a text may be a name as well; names are looked up first.
pub fn is_id_like(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (1..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_full_id(text: &str) -> bool {
    text.len() == 64 && is_id_like(text)
}

/// Whether the text is a tag: `[\w][\w.-]{0,127}`.
pub fn is_valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Splits a familiar name into domain and remainder, filling in what is left out (Go: `splitDockerDomain`).
fn split_docker_domain(name: &str) -> (&str, String) {
    let Some((first, rest)) = name.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{name}"));
    };
    let (domain, remainder) = if first == LEGACY_DEFAULT_DOMAIN {
        (DEFAULT_DOMAIN, rest)
    } else if first == "localhost"
        || first.contains(['.', ':'])
        || first.chars().any(|c| !c.to_lowercase().eq([c]))
    {
        (first, rest)
    } else {
        (DEFAULT_DOMAIN, name)
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{remainder}"));
    }
    (domain, remainder.to_owned())
}

/// Go: `Parse`, for texts that are not empty.
fn parse_canonical(text: &str) -> Result<ImageRef, ParseReferenceError> {
    let Some(parts) = Parts::split(text) else {
        let lower = text.to_lowercase();
        let only_case_is_wrong = lower != text && Parts::split(&lower).is_some();
        return Err(if only_case_is_wrong {
            ParseReferenceError::NameUppercase
        } else {
            ParseReferenceError::Format
        });
    };
    if parts.path.len() > PATH_MAX {
        return Err(ParseReferenceError::TooLong);
    }
    Ok(ImageRef {
        domain: parts.domain.to_owned(),
        path: parts.path.to_owned(),
        tag: parts.tag.map(str::to_owned),
        digest: parts.digest.map(str::parse).transpose()?,
    })
}

/// The pieces of a text that fits the grammar.
struct Parts<'a> {
    domain: &'a str,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let last_segment = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last_segment..].find(':') {
            Some(colon) => (&rest[..last_segment + colon], Some(&rest[last_segment + colon + 1..])),
            None => (rest, None),
        };
        if !digest.is_none_or(is_digest_shaped) || !tag.is_none_or(is_valid_tag) {
            return None;
        }
        let (domain, path) = match name.split_once('/') {
            Some((domain, path)) if is_domain(domain) => (domain, path),
            _ => ("", name),
        };
        path.split('/').all(is_path_component).then_some(Self { domain, path, tag, digest })
    }
}

/// `alpha-numeric [separator alpha-numeric]*`, where a separator is one dot, one or two underscores, or
/// any number of dashes.
fn is_path_component(component: &str) -> bool {
    let mut separator: &[u8] = b"";
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    for (at, byte) in bytes.iter().enumerate() {
        if alphanumeric(byte) {
            separator = b"";
            continue;
        }
        separator = &bytes[at - separator.len()..=at];
        let fits = matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-');
        if !fits {
            return false;
        }
    }
    true
}

/// `host [':' port]`, where the host is a domain name, an IPv4 address or an IPv6 address in brackets.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let host_fits = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(is_domain_component),
    };
    port_fits && host_fits
}

fn is_domain_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// The grammar's digest, which is wider than what [`Digest`] takes: the difference decides the error.
fn is_digest_shaped(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let component = |c: &str| {
        c.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && c.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(component)
        && hex.len() >= DIGEST_HEX_MIN
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A malformed shell pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Go's `path.Match`: `*` and `?` do not match `/`; `[a-z]`, `[^a-z]`; `\` escapes.
///
/// # Errors
/// [`BadPattern`] when the pattern is malformed, whether or not that part of it was reached.
pub fn path_match(pattern: &str, text: &str) -> Result<bool, BadPattern> {
    let items = parse_pattern(pattern)?;
    let text: Vec<char> = text.chars().collect();
    let (mut item, mut at) = (0, 0);
    // Where to go on when a character does not fit: behind the last star, one character further.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match items.get(item) {
            Some(PatternItem::Star) => {
                star = Some((item, at));
                item += 1;
                continue;
            }
            None if at == text.len() => return Ok(true),
            Some(one) if text.get(at).is_some_and(|c| one.fits(*c)) => {
                (item, at) = (item + 1, at + 1);
                continue;
            }
            _ => {}
        }
        match star {
            Some((starred, from)) if text.get(from).is_some_and(|c| *c != '/') => {
                star = Some((starred, from + 1));
                (item, at) = (starred + 1, from + 1);
            }
            _ => return Ok(false),
        }
    }
}

enum PatternItem {
    Star,
    Any,
    One(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl PatternItem {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => c != '/',
            Self::One(one) => c == *one,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(lo, hi)| (*lo..=*hi).contains(&c)) != *negated
            }
        }
    }
}

fn parse_pattern(pattern: &str) -> Result<Vec<PatternItem>, BadPattern> {
    let mut chars = pattern.chars().peekable();
    let mut items = Vec::new();
    while let Some(c) = chars.next() {
        items.push(match c {
            '*' => PatternItem::Star,
            '?' => PatternItem::Any,
            '\\' => PatternItem::One(chars.next().ok_or(BadPattern)?),
            '[' => parse_class(&mut chars)?,
            other => PatternItem::One(other),
        });
    }
    Ok(items)
}

fn parse_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<PatternItem, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(PatternItem::Class { negated, ranges });
        }
        let low = parse_class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { parse_class_char(chars)? } else { low };
        ranges.push((low, high));
    }
}

fn parse_class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(c) => Ok(c),
    }
}

#[cfg(test)]
mod tests;
