//! The user's configuration: `config.json`, contexts, the environment.

use crate::error::{Error, Result};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::PathBuf};
use wharf_registry::{AuthConfig, Credentials};

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// `~/.docker`, or where the user says it is.
pub(crate) struct Config {
    pub(crate) folder: PathBuf,
    credentials: Credentials,
}

impl Config {
    /// Reads `config.json`; a missing one is an empty one.
    pub(crate) fn load(folder: Option<PathBuf>) -> Result<Self> {
        let from_environment =
            || std::env::var_os("DOCKER_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from);
        let at_home = || std::env::home_dir().unwrap_or_default().join(".docker");
        let folder = folder.or_else(from_environment).unwrap_or_else(at_home);
        let credentials = Credentials::load(&folder).map_err(|error| Error::text(format!("{error}")))?;
        Ok(Self { folder, credentials })
    }

    /// A text of the file, empty when it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.credentials.field(name).and_then(|v| v.as_str()).unwrap_or_default()
    }

    /// The `HttpHeaders` of the file, which go with every request to the daemon.
    pub(crate) fn http_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let Some(headers) = self.credentials.field("HttpHeaders").and_then(|v| v.as_object()) else {
            return Ok(Vec::new());
        };
        let parse = |(name, value): (&String, &serde_json::Value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.as_str()?).ok()?))
        };
        let bad = |name: &str| Error::text(format!("invalid HTTP header in config.json: {name}"));
        headers.iter().map(|header| parse(header).ok_or_else(|| bad(header.0))).collect()
    }

    /// The `pruneFilters` of the file.
    pub(crate) fn prune_filters(&self) -> Vec<String> {
        let list = self.credentials.field("pruneFilters").and_then(|v| v.as_array());
        list.into_iter().flatten().filter_map(|v| v.as_str()).map(str::to_owned).collect()
    }

    /// The proxy variables that containers get, without those that are given anyway
    /// (docker/cli: `ParseProxyConfig`).
    pub(crate) fn proxy_variables(&self, host: &str, given: &[String]) -> Vec<String> {
        let Some(proxies) = self.credentials.field("proxies") else { return Vec::new() };
        let Some(proxy) = proxies.get(host).or_else(|| proxies.get("default")) else { return Vec::new() };
        let is_given = |name: &str| given.iter().any(|g| g.split('=').next() == Some(name));
        let mut variables = Vec::new();
        for (key, name) in [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ] {
            let Some(value) = proxy.get(key).and_then(|v| v.as_str()).filter(|v| !v.is_empty()) else {
                continue;
            };
            for name in [name.to_owned(), name.to_lowercase()] {
                if !is_given(&name) {
                    variables.push(format!("{name}={value}"));
                }
            }
        }
        variables
    }

    /// Every credential, by the name it has in the file.
    pub(crate) fn all_auths(&self) -> Result<BTreeMap<String, AuthConfig>> {
        self.credentials.all().map_err(|error| Error::text(error.to_string()))
    }

    /// The credential for a registry.
    pub(crate) fn auth(&self, domain: &str) -> Result<AuthConfig> {
        self.credentials.for_registry(domain).map_err(|error| Error::text(error.to_string()))
    }

    /// The credentials, to change them.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }

    /// Which context is meant (docker/cli: `resolveContextName`).
    pub(crate) fn context_name(&self, host: &str, context: &str) -> String {
        let environment = |name: &str| std::env::var(name).unwrap_or_default();
        if !context.is_empty() {
            return context.to_owned();
        }
        if !host.is_empty() || !environment("DOCKER_HOST").is_empty() {
            return "default".to_owned();
        }
        let named = environment("DOCKER_CONTEXT");
        let current = if named.is_empty() { self.text("currentContext").to_owned() } else { named };
        if current.is_empty() { "default".to_owned() } else { current }
    }

    /// The daemon's address.
    pub(crate) fn host(&self, host: &str, context: &str) -> Result<String> {
        if !host.is_empty() {
            return Ok(host.to_owned());
        }
        if context != "default" {
            return self.context_host(context);
        }
        Ok(std::env::var("DOCKER_HOST")
            .ok()
            .filter(|h| !h.is_empty())
            .unwrap_or_else(|| DEFAULT_HOST.to_owned()))
    }

    /// The address in a context's `meta.json`.
    fn context_host(&self, name: &str) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Meta {
            name: String,
            #[serde(default)]
            endpoints: std::collections::BTreeMap<String, Endpoint>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Endpoint {
            #[serde(default)]
            host: String,
        }
        let folder = self.folder.join("contexts/meta");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let text = fs::read(entry.path().join("meta.json")).unwrap_or_default();
            let Ok(meta) = serde_json::from_slice::<Meta>(&text) else { continue };
            if meta.name == name {
                let host = meta.endpoints.get("docker").map(|e| e.host.clone()).unwrap_or_default();
                return Ok(if host.is_empty() { DEFAULT_HOST.to_owned() } else { host });
            }
        }
        Err(Error::text(format!(
            "Failed to initialize: unable to resolve docker endpoint: context \"{name}\": context not found"
        )))
    }
}
