//! Platforms: operating system, architecture, variant; their normal forms and which runs on which.
//!
//! Source: containerd/platforms `platforms.go`, `database.go`, `compare.go`.

use crate::ErrorKind;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What an image runs on (source: OCI image-spec, image-index.md, "platform").
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH: `amd64`, `arm64`, ...
    #[serde(default)]
    pub architecture: String,
    /// GOOS: `linux`.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system, on Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// What the operating system must offer.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Such as `v8`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is no platform, in containerd's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePlatformError {
    /// `*` is not supported.
    #[error("{0:?}: wildcards not yet supported: invalid argument")]
    Wildcard(String),
    /// Characters other than `[A-Za-z0-9_.-]`, or nothing, between the slashes.
    #[error(
        "{part:?} is an invalid component of {text:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component {
        /// The component.
        part: String,
        /// The whole text.
        text: String,
    },
    /// The first component is no operating system.
    #[error(
        "{part:?} is an invalid OS component of {text:?}: OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$\": invalid argument"
    )]
    Os {
        /// The component.
        part: String,
        /// The whole text.
        text: String,
    },
    /// One word that is neither a known system nor a known architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// More than three components.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    TooMany(String),
}

impl ParsePlatformError {
    /// What it means to a client: the request is wrong.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

const KNOWN_OS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const KNOWN_ARCH: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// A platform of these three words, normalised.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) = normal_arch(architecture, variant);
        Self { os: normal_os(os), architecture, variant, ..Self::default() }
    }

    /// What this program was built for. The variant is `v8` on arm64, `v7` on arm, else empty.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "powerpc64" => ("ppc64", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self {
            os: std::env::consts::OS.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Self::default()
        }
    }

    /// [`Self::host`] with the highest variant that this processor runs: `amd64/v3` (source: moby
    /// `maximumSpec`; the levels are those of the x86-64 psABI).
    pub fn host_maximum() -> Self {
        let mut host = Self::host();
        if host.architecture == "amd64" {
            host.variant = amd64_level().to_owned();
        }
        host
    }

    /// The normal form: lower case, GOOS and GOARCH names, default variants left out (`arm64/v8` is
    /// `arm64`) or filled in (`arm` is `arm/v7`).
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normal_arch(&self.architecture, &self.variant);
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        Self {
            os: normal_os(&self.os),
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features,
        }
    }

    /// What this platform runs, best first: itself, then lesser variants, then the 32-bit architectures
    /// (containerd: `platforms.Only`).
    pub fn runs(&self) -> Vec<Self> {
        let own = self.normalized();
        match own.architecture.as_str() {
            "amd64" => {
                let mut all = own.lesser_variants(1);
                all.push(own.with_arch("386", ""));
                all
            }
            "arm" => own.lesser_variants(5),
            "arm64" => own.arm64_runs(),
            _ => vec![own],
        }
    }

    /// How well an image for `image` suits this platform: 0 is best, `None` not at all.
    pub fn rank_of(&self, image: &Self) -> Option<usize> {
        self.runs().iter().position(|candidate| candidate.is_same_as(image))
    }

    /// Whether this platform runs an image for `image`.
    pub fn can_run(&self, image: &Self) -> bool {
        self.rank_of(image).is_some()
    }

    /// Whether the two are the same once normalised, and `image` asks for no feature that is not here
    /// (containerd: `NewMatcher`, `OnlyStrict`). Versions are not compared: they matter on Windows only.
    pub fn is_same_as(&self, image: &Self) -> bool {
        let (own, other) = (self.normalized(), image.normalized());
        own.os == other.os
            && own.architecture == other.architecture
            && own.variant == other.variant
            && other.os_features.iter().all(|feature| own.os_features.contains(feature))
    }

    fn with_arch(&self, architecture: &str, variant: &str) -> Self {
        Self { architecture: architecture.to_owned(), variant: variant.to_owned(), ..self.clone() }
    }

    /// Itself and the variants `v<n-1>` down to `v<lowest>`.
    fn lesser_variants(&self, lowest: u32) -> Vec<Self> {
        let mut all = vec![self.clone()];
        // More than 99 would be a list without end.
        let version = self.variant.trim_start_matches('v').parse().ok().filter(|v: &u32| *v <= 99);
        if let Some(version) = version {
            all.extend((lowest..version).rev().map(|n| self.with_arch(&self.architecture, &format!("v{n}"))));
        }
        all
    }

    /// arm64 v9.x runs v9.x and below and v8.(x+5) and below; all run 32-bit arm v8 and below.
    fn arm64_runs(&self) -> Vec<Self> {
        let variant = if self.variant.is_empty() { "v8" } else { &self.variant };
        let (major, minor) = variant.split_once('.').unwrap_or((variant, "0"));
        let minor = minor.parse::<u32>().ok().filter(|m| *m <= 9);
        let named = |major: u32, minor: u32| match minor {
            0 => self.with_arch("arm64", &format!("v{major}")),
            _ => self.with_arch("arm64", &format!("v{major}.{minor}")),
        };
        let eight = |highest: u32| (0..=highest).rev().map(move |minor| (8, minor));
        let versions: Vec<(u32, u32)> = match (major, minor) {
            ("v8", Some(minor)) => eight(minor).collect(),
            ("v9", Some(minor @ 0..=7)) => {
                (0..=minor).rev().map(|minor| (9, minor)).chain(eight((minor + 5).min(9))).collect()
            }
            _ => return Vec::new(),
        };
        let mut all: Vec<Self> = versions.into_iter().map(|(major, minor)| named(major, minor)).collect();
        all.extend(self.with_arch("arm", "v8").lesser_variants(5));
        all
    }
}

#[cfg(target_arch = "x86_64")]
fn amd64_level() -> &'static str {
    macro_rules! has {
        ($($feature:tt)*) => { true $(&& std::is_x86_feature_detected!($feature))* };
    }
    let v2 = has!("cmpxchg16b" "popcnt" "sse3" "sse4.1" "sse4.2" "ssse3");
    let v3 = v2 && has!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe");
    let v4 = v3 && has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl");
    match (v2, v3, v4) {
        (_, _, true) => "v4",
        (_, true, _) => "v3",
        (true, ..) => "v2",
        _ => "",
    }
}

#[cfg(not(target_arch = "x86_64"))]
const fn amd64_level() -> &'static str {
    ""
}

fn normal_os(os: &str) -> String {
    match os.to_lowercase().as_str() {
        "" => std::env::consts::OS.to_owned(),
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normal_arch(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// `os`, `architecture`, `os/architecture` or `os/architecture/variant`, normalised
    /// (containerd: `platforms.Parse`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('*') {
            return Err(ParsePlatformError::Wildcard(text.to_owned()));
        }
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let (os, os_version) = parse_os(parts[0], text)?;
        for part in &parts[1..] {
            check_component(part, text)?;
        }
        match parts.as_slice() {
            [word] => parse_word(word, text),
            [_, architecture] => {
                let platform = Self::new(&os, architecture, "");
                Ok(Self { os_version, ..platform.without_default_arm() })
            }
            [_, architecture, variant] => {
                let mut platform = Self::new(&os, architecture, variant);
                if platform.architecture == "arm64" && platform.variant.is_empty() {
                    platform.variant = "v8".to_owned();
                }
                Ok(Self { os_version, ..platform })
            }
            _ => Err(ParsePlatformError::TooMany(text.to_owned())),
        }
    }
}

impl Platform {
    fn without_default_arm(mut self) -> Self {
        if self.architecture == "arm" && self.variant == "v7" {
            self.variant.clear();
        }
        self
    }
}

/// `os` or `os(version)`.
fn parse_os(part: &str, text: &str) -> Result<(String, String), ParsePlatformError> {
    let error = || ParsePlatformError::Os { part: part.to_owned(), text: text.to_owned() };
    let (os, version) = match part.split_once('(') {
        Some((os, version)) => (os, version.strip_suffix(')').ok_or_else(error)?),
        None => (part, ""),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if os.is_empty() || !os.bytes().all(word) || !version.bytes().all(|b| word(b) || b == b'.') {
        return Err(error());
    }
    Ok((normal_os(os), version.to_owned()))
}

fn check_component(part: &str, text: &str) -> Result<(), ParsePlatformError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if part.is_empty() || !part.bytes().all(fits) {
        return Err(ParsePlatformError::Component { part: part.to_owned(), text: text.to_owned() });
    }
    Ok(())
}

/// One word alone: an operating system, else an architecture.
fn parse_word(word: &str, text: &str) -> Result<Platform, ParsePlatformError> {
    let host = Platform::host();
    let (os, os_version) = parse_os(word, text)?;
    if KNOWN_OS.contains(&os.as_str()) {
        let variant = if host.architecture == "arm64" { String::new() } else { host.variant };
        return Ok(Platform {
            os,
            os_version,
            architecture: host.architecture,
            variant,
            ..Platform::default()
        }
        .without_default_arm());
    }
    let platform = Platform::new(&host.os, word, "").without_default_arm();
    if KNOWN_ARCH.contains(&platform.architecture.as_str()) {
        return Ok(platform);
    }
    Err(ParsePlatformError::Unknown(text.to_owned()))
}

impl fmt::Display for Platform {
    /// `linux/arm64/v8`; `unknown` without an operating system (containerd: `platforms.Format`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        for part in [&self.architecture, &self.variant].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Platform {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn texts_are_normalised() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64/v8"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm", "linux/arm"),
            ("linux/armel", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("windows(10.0.17763)/amd64", "windows/amd64"),
        ] {
            assert_eq!(parse(text).to_string(), normal, "{text}");
        }
        assert_eq!(parse("windows(10.0.17763)/amd64").os_version, "10.0.17763");
        assert_eq!(parse("linux").architecture, Platform::host().architecture);
    }

    #[test]
    fn malformed_texts_are_refused() {
        for bad in [
            "",
            "linux/",
            "linux/amd64/v1/x",
            "linux/*",
            "nonsense",
            "linux/a b",
            "/amd64",
            "win(10/x",
            "a/b/c/d/e",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        assert_eq!(
            "nonsense".parse::<Platform>().unwrap_err().to_string(),
            "\"nonsense\": unknown operating system or architecture: invalid argument"
        );
    }

    #[test]
    fn what_runs_on_what() {
        let rank = |host: &str, image: &str| parse(host).rank_of(&parse(image));
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/386"), Some(1));
        assert_eq!(rank("linux/amd64", "linux/arm64"), None);
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert_eq!(rank("linux/amd64", "linux/amd64/v2"), None);
        assert_eq!(rank("linux/amd64/v3", "linux/amd64/v2"), Some(1));
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(rank("linux/arm64", "linux/arm/v7"), Some(2));
        assert_eq!(rank("linux/arm64/v9", "linux/arm64/v8.5"), Some(1));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert!(parse("linux/amd64/v4294967295").runs().len() <= 2);
        assert!(parse("linux/arm64/v77").runs().is_empty());
    }

    #[test]
    fn features_must_be_there() {
        let mut image = parse("linux/amd64");
        image.os_features = vec!["gpu".to_owned()];
        assert!(!parse("linux/amd64").can_run(&image));
        assert!(image.can_run(&image));
    }
}
