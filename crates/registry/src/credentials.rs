//! The credentials a user keeps for the command line: `config.json` and credential helpers.
//!
//! Files: `<config dir>/config.json` (read and rewritten whole, by rename, with mode 0600); programs
//! `docker-credential-<helper>` (source: docker/cli `cli/config`, docker-credential-helpers `client`).

use crate::{AuthConfig, DOCKER_HUB_AUTH_KEY};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use wharf_spec::ErrorKind;

/// What goes wrong with credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: invalid config file: {source}")]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A credential helper cannot be run, or failed.
    #[error("error {action} credentials - err: {reason}, out: `{output}`")]
    Helper {
        /// `getting`, `storing`, `erasing`.
        action: &'static str,
        /// Its exit status, or why it did not run.
        reason: String,
        /// What it said.
        output: String,
    },
    /// The answer of a credential helper is none.
    #[error("{0}")]
    Answer(serde_json::Error),
}

impl CredentialsError {
    /// What the error means to a client.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::System
    }
}

const HELPER_NOT_FOUND: &str = "credentials not found in native keychain";
/// The name under which helpers keep identity tokens.
const TOKEN_USER: &str = "<token>";

/// Where a credential is kept now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// By a credential helper, or it is no password, or it was there before.
    Safely,
    /// A password that anyone who reads the file can read.
    Plainly,
}

/// A user's `config.json`. Fields that are not ours are kept as they are.
#[derive(Debug, Clone)]
pub struct Credentials {
    path: PathBuf,
    config: Map<String, Value>,
}

/// What a helper is to keep, in the order in which docker-credential-helpers writes it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HelperEntry<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Credentials {
    /// Reads `config.json` in this folder; a missing file is an empty one.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn load(config_dir: &Path) -> Result<Self, CredentialsError> {
        let path = config_dir.join("config.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, config: Map::new() });
            }
            Err(source) => return Err(CredentialsError::File { path, source }),
        };
        match serde_json::from_slice(&text) {
            Ok(config) => Ok(Self { path, config }),
            Err(source) => Err(CredentialsError::Json { path, source }),
        }
    }

    /// A field of the file, such as `psFormat` or `detachKeys`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.config.get(name)
    }

    /// The credential for a registry (`docker.io`, `localhost:5000`); an empty one when there is none.
    ///
    /// # Errors
    /// When the credential helper fails.
    pub fn for_registry(&self, domain: &str) -> Result<AuthConfig, CredentialsError> {
        let key = auth_key(domain);
        let mut auth = match self.helper(&key) {
            Some(helper) => helper_get(&helper, &key)?,
            None => self.in_file(&key),
        };
        auth.fill_from_auth();
        if !auth.is_empty() {
            auth.serveraddress = key;
        }
        Ok(auth)
    }

    /// Every credential that the file names, by its key there: those it holds and those that helpers hold.
    ///
    /// # Errors
    /// When a credential helper fails.
    pub fn all(&self) -> Result<BTreeMap<String, AuthConfig>, CredentialsError> {
        let keys = ["auths", "credHelpers"].into_iter().filter_map(|name| self.config.get(name)?.as_object());
        let mut all = BTreeMap::new();
        for key in keys.flat_map(Map::keys) {
            let mut auth = match self.helper(key) {
                Some(helper) => helper_get(&helper, key)?,
                None => self.in_file(key),
            };
            auth.fill_from_auth();
            if !auth.is_empty() {
                all.insert(key.clone(), auth);
            }
        }
        Ok(all)
    }

    /// Keeps a credential, in the helper if one is configured, else in the file.
    ///
    /// # Errors
    /// When neither takes it.
    pub fn store(&mut self, domain: &str, auth: &AuthConfig) -> Result<Kept, CredentialsError> {
        let key = auth_key(domain);
        let mut entry = Map::new();
        let helper = self.helper(&key);
        if let Some(helper) = &helper {
            let (user, secret) = match auth.identitytoken.as_str() {
                "" => (auth.username.as_str(), auth.password.as_str()),
                token => (TOKEN_USER, token),
            };
            let entry = HelperEntry { server: &key, username: user, secret };
            let entry = serde_json::to_string(&entry).map_err(CredentialsError::Answer)?;
            run_helper(helper, Action::Store, &format!("{entry}\n"))?;
        } else {
            use base64::Engine as _;
            let pair = format!("{}:{}", auth.username, auth.password);
            entry.insert("auth".into(), base64::engine::general_purpose::STANDARD.encode(pair).into());
            if !auth.identitytoken.is_empty() {
                entry.insert("identitytoken".into(), auth.identitytoken.clone().into());
            }
        }
        let entry = Value::Object(entry);
        if self.auths().get(&key) == Some(&entry) {
            return Ok(Kept::Safely);
        }
        self.auths().insert(key, entry);
        self.save()?;
        Ok(if helper.is_none() && !auth.password.is_empty() { Kept::Plainly } else { Kept::Safely })
    }

    /// Forgets the credential under this key of the file, and of the helper.
    ///
    /// # Errors
    /// When the helper or the file cannot be changed.
    pub fn erase(&mut self, key: &str) -> Result<(), CredentialsError> {
        if let Some(helper) = self.helper(key) {
            run_helper(&helper, Action::Erase, key)?;
        }
        self.auths().remove(key);
        self.save()
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let auths = self.config.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        auths.as_object_mut().expect("made an object just above")
    }

    fn helper(&self, key: &str) -> Option<String> {
        let single = self.config.get("credHelpers").and_then(|helpers| helpers.get(key));
        let name = single.or_else(|| self.config.get("credsStore"))?.as_str()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// The entry of the file: by key, else by the host that a key such as `https://host/v1/` names.
    fn in_file(&self, key: &str) -> AuthConfig {
        let Some(auths) = self.config.get("auths").and_then(Value::as_object) else {
            return AuthConfig::default();
        };
        let by_host = || auths.iter().find(|(address, _)| host_of(address) == key).map(|(_, entry)| entry);
        let entry = auths.get(key).or_else(by_host);
        entry.and_then(|e| serde_json::from_value(e.clone()).ok()).unwrap_or_default()
    }

    fn save(&self) -> Result<(), CredentialsError> {
        let failed = |source| CredentialsError::File { path: self.path.clone(), source };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed)?;
        let text = indented(&self.config)
            .map_err(|source| CredentialsError::Json { path: self.path.clone(), source })?;
        let temporary = folder.join(format!("config.json{}", std::process::id()));
        let write = || {
            let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
            let mut file = options.open(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone()))
        };
        write().map_err(failed)
    }
}

/// As Go's `json.MarshalIndent` with tabs.
fn indented(config: &Map<String, Value>) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    config.serialize(&mut serde_json::Serializer::with_formatter(&mut text, form))?;
    Ok(text)
}

/// The key of a registry in `config.json`.
fn auth_key(domain: &str) -> String {
    match domain {
        "" | "docker.io" | "index.docker.io" => DOCKER_HUB_AUTH_KEY.to_owned(),
        other => other.to_owned(),
    }
}

/// The host, with its port, that an address means: `https://host:1/v1/` is `host:1` (docker/cli:
/// `ConvertToHostname`).
pub fn host_of(address: &str) -> &str {
    let host = address.split_once("://").map_or(address, |(_, host)| host);
    host.split('/').next().unwrap_or_default()
}

/// What a credential helper is asked to do.
#[derive(Clone, Copy)]
enum Action {
    Get,
    Store,
    Erase,
}

impl Action {
    /// Its argument, and how errors call it.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Get => ("get", "getting"),
            Self::Store => ("store", "storing"),
            Self::Erase => ("erase", "erasing"),
        }
    }
}

fn helper_get(helper: &str, key: &str) -> Result<AuthConfig, CredentialsError> {
    let output = match run_helper(helper, Action::Get, key) {
        Err(CredentialsError::Helper { output, .. }) if output == HELPER_NOT_FOUND => {
            return Ok(AuthConfig::default());
        }
        other => other?,
    };
    let answer: HelperAnswer = serde_json::from_slice(&output).map_err(CredentialsError::Answer)?;
    let mut auth = AuthConfig::default();
    if answer.username == TOKEN_USER {
        auth.identitytoken = answer.secret;
    } else {
        (auth.username, auth.password) = (answer.username, answer.secret);
    }
    Ok(auth)
}

fn run_helper(helper: &str, action: Action, input: &str) -> Result<Vec<u8>, CredentialsError> {
    let program = format!("docker-credential-{helper}");
    let (argument, action) = action.words();
    let failed = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
            _ => error.to_string(),
        };
        let reason = format!("exec: \"{program}\": {why}");
        CredentialsError::Helper { action, reason, output: String::new() }
    };
    let mut child = Command::new(&program)
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input has its reasons.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let reason = format!("exit status {}", output.status.code().unwrap_or(-1));
    Err(CredentialsError::Helper { action, reason, output: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> (tempfile::TempDir, Credentials) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), text).unwrap();
        let credentials = Credentials::load(folder.path()).unwrap();
        (folder, credentials)
    }

    #[test]
    fn entries_are_found_by_key_and_by_host() {
        let (_folder, credentials) = load(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},"https://r.example/v1/":{"auth":"dTpw"},
                "l:5000":{"auth":"dTpw","identitytoken":"t"}},"psFormat":"x"}"#,
        );
        let auth = |domain: &str| credentials.for_registry(domain).unwrap();
        assert_eq!((auth("docker.io").username.as_str(), auth("docker.io").password.as_str()), ("hub", "pw"));
        assert_eq!(auth("r.example").username, "u");
        assert_eq!(auth("l:5000").identitytoken, "t");
        assert!(auth("other").is_empty());
        assert_eq!(credentials.field("psFormat").and_then(Value::as_str), Some("x"));
    }

    #[test]
    fn storing_keeps_what_is_not_ours() {
        let (folder, mut credentials) = load(r#"{"HttpHeaders":{"a":"b"}}"#);
        let auth = AuthConfig { username: "u".into(), password: "p:q".into(), ..AuthConfig::default() };
        assert_eq!(credentials.store("l:5000", &auth).unwrap(), Kept::Plainly);
        assert_eq!(credentials.store("l:5000", &auth).unwrap(), Kept::Safely);
        let mut again = Credentials::load(folder.path()).unwrap();
        assert_eq!(again.for_registry("l:5000").unwrap().password, "p:q");
        assert_eq!(again.field("HttpHeaders").unwrap()["a"], "b");
        again.erase("l:5000").unwrap();
        again.erase("l:5000").unwrap();
        assert!(Credentials::load(folder.path()).unwrap().for_registry("l:5000").unwrap().is_empty());
    }

    #[test]
    fn hosts_of_addresses() {
        for (address, host) in [("https://r.example:1/v2/", "r.example:1"), ("r.example/v1", "r.example")] {
            assert_eq!(host_of(address), host);
        }
    }

    #[test]
    fn a_helper_that_is_missing_is_named() {
        let (_folder, credentials) = load(r#"{"credHelpers":{"l:5000":"no-such-helper"}}"#);
        assert_eq!(
            credentials.for_registry("l:5000").unwrap_err().to_string(),
            "error getting credentials - err: exec: \"docker-credential-no-such-helper\": executable file not found in $PATH, out: ``"
        );
        assert!(credentials.for_registry("other").unwrap().is_empty());
    }
}
