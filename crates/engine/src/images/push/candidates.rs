//! Where a layer may already be: which blobs to ask for, and from which repositories to mount.
//!
//! Source: moby `daemon/internal/distribution/push_v2.go` (`getMaxMountAndExistenceCheckAttempts`,
//! `sortV2MetadataByLikenessAndAge`), `metadata/v2_metadata_service.go`.

use ring::hmac;
use serde::Serialize;
use std::cmp::Reverse;
use wharf_registry::AuthConfig;
use wharf_spec::ImageRef;
use wharf_store::{V2Metadata, sha256};

/// Signs what was found with some credentials, so that it can be told later whether it was with the same.
#[derive(Clone)]
pub(super) struct Key(hmac::Key);

/// The fields of the credentials that count, as Docker's key has them.
#[derive(Serialize)]
struct Credentials<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    password: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    auth: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    identitytoken: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    registrytoken: &'a str,
}

impl Key {
    pub(super) fn of(auth: &AuthConfig) -> Self {
        let fields = Credentials {
            username: &auth.username,
            password: &auth.password,
            auth: &auth.auth,
            identitytoken: &auth.identitytoken,
            registrytoken: &auth.registrytoken,
        };
        let text = sha256(&wharf_spec::to_go_json(&fields)).to_string();
        Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    /// The entry with its signature.
    pub(super) fn sign(&self, mut entry: V2Metadata) -> V2Metadata {
        let tag = hmac::sign(&self.0, &message(&entry));
        entry.hmac = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        entry
    }

    pub(super) fn signed(&self, entry: &V2Metadata) -> bool {
        let digits = entry.hmac.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok())
            .collect();
        bytes.is_some_and(|tag| hmac::verify(&self.0, &message(entry), &tag).is_ok())
    }
}

fn message(entry: &V2Metadata) -> Vec<u8> {
    format!("{}{}", entry.digest, entry.source_repository).into_bytes()
}

/// How hard to look before sending: the smaller the layer, the less it pays.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) mounts: usize,
    pub(super) checks: usize,
    /// Also for blobs that were seen in other repositories only.
    pub(super) other_repositories: bool,
}

impl Limits {
    pub(super) fn of(layer_size: u64) -> Self {
        const SMALL: u64 = 100 << 10;
        const MIDDLE: u64 = 10 << 20;
        let (mounts, checks, other_repositories) = match layer_size {
            size if size <= SMALL => (1, 1, false),
            size if size <= MIDDLE => (3, 1, false),
            _ => (4, 3, true),
        };
        Self { mounts, checks, other_repositories }
    }
}

/// The entries, best first: those found with the same credentials, then those of repositories whose names
/// begin alike, then the newest.
pub(super) fn sorted(mut entries: Vec<V2Metadata>, target: &ImageRef, key: &Key) -> Vec<V2Metadata> {
    entries.reverse();
    let target = target.name();
    entries.sort_by_cached_key(|entry| {
        let alike =
            entry.source_repository.split('/').zip(target.split('/')).take_while(|(a, b)| a == b).count();
        Reverse((key.signed(entry), alike))
    });
    entries
}

/// Other repositories of the same registry that may have the blob, best first.
pub(super) fn to_mount(known: &[V2Metadata], target: &ImageRef, key: &Key) -> Vec<(ImageRef, V2Metadata)> {
    let other = |entry: V2Metadata| {
        let source: ImageRef = entry.source_repository.parse().ok()?;
        let is_other = source.domain() == target.domain() && source.path() != target.path();
        (is_other && source.name() == entry.source_repository).then_some((source, entry))
    };
    sorted(known.to_vec(), target, key).into_iter().filter_map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::Digest;

    fn auth(name: &str) -> AuthConfig {
        AuthConfig { username: name.into(), password: "p".into(), ..AuthConfig::default() }
    }

    fn entry(byte: u8, repository: &str) -> V2Metadata {
        let digest = Digest::from_bytes([byte; 32]);
        V2Metadata { digest, source_repository: repository.into(), hmac: String::new() }
    }

    #[test]
    fn signatures_are_dockers() {
        // HMAC-SHA256 with the key "sha256:<digest of {"username":"u","password":"p"}>".
        let key = Key::of(&auth("u"));
        let signed = key.sign(entry(1, "docker.io/library/x"));
        assert_eq!(signed.hmac, SIGNED);
        assert!(key.signed(&signed) && !Key::of(&auth("v")).signed(&signed));
        assert!(!key.signed(&V2Metadata { hmac: "0".into(), ..signed.clone() }));
        assert!(!key.signed(&entry(1, "docker.io/library/x")));
    }

    const SIGNED: &str = "c9eaa0807ae0974d7516530885aefd7fd3d93e2c70ae89b88eb5922a9b1b2369";

    #[test]
    fn the_best_candidates_come_first() {
        let target: ImageRef = "r.example/team/app".parse().unwrap();
        let key = Key::of(&auth("u"));
        let known = [
            entry(1, "r.example/team/old"),
            key.sign(entry(2, "r.example/else")),
            entry(3, "r.example/team/new"),
            entry(4, "r.example/team/app"),
            entry(5, "other.example/team/app"),
            entry(6, ""),
        ];
        let order: Vec<u8> =
            sorted(known.to_vec(), &target, &key).iter().map(|e| e.digest.as_bytes()[0]).collect();
        assert_eq!(order, [2, 4, 3, 1, 6, 5]);
        let mounts: Vec<String> = to_mount(&known, &target, &key).iter().map(|(r, _)| r.name()).collect();
        assert_eq!(mounts, ["r.example/else", "r.example/team/new", "r.example/team/old"]);
    }

    #[test]
    fn small_layers_are_sent_rather_than_looked_for() {
        let limits = |mounts, checks, other_repositories| Limits { mounts, checks, other_repositories };
        assert_eq!(Limits::of(0), limits(1, 1, false));
        assert_eq!(Limits::of(100 << 10), limits(1, 1, false));
        assert_eq!(Limits::of(10 << 20), limits(3, 1, false));
        assert_eq!(Limits::of((10 << 20) + 1), limits(4, 3, true));
    }
}
