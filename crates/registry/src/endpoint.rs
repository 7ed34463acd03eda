//! Where an image may come from: the registry itself, its mirrors, with and without encryption.
//!
//! Source: moby `daemon/pkg/registry/config.go`, `service_v2.go`.

use crate::url::{Url, split_port};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};
use wharf_spec::{DEFAULT_DOMAIN, ErrorKind};

/// Under which key of `config.json`, and with which `serveraddress`, Docker Hub's credentials are kept.
pub const DOCKER_HUB_AUTH_KEY: &str = "https://index.docker.io/v1/";
const HUB_HOST: &str = "registry-1.docker.io";
const HUB_INDEX: &str = "index.docker.io";

/// How the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// With TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// What the daemon's configuration says about registries.
#[derive(Debug, Clone)]
pub struct Config {
    /// `registry-mirrors`: URLs of mirrors of Docker Hub, tried in this order before it.
    pub mirrors: Vec<String>,
    /// `host=url`: mirrors of other registries, tried in this order before the registry itself.
    pub mirrors_of: Vec<String>,
    /// `insecure-registries`: `host[:port]` or networks such as `10.0.0.0/8`. 127.0.0.0/8 and ::1/128 always
    /// are.
    pub insecure_registries: Vec<String>,
    /// A folder for each host with `*.crt` (roots), `*.cert` and `*.key` (client certificates).
    pub certs_dir: PathBuf,
    /// `User-Agent`.
    pub user_agent: String,
    /// How often the download of a blob is tried before it fails, at least 1.
    pub max_download_attempts: u32,
    /// A connection that brings next to nothing of a blob for so long is broken.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            mirrors_of: Vec::new(),
            insecure_registries: Vec::new(),
            certs_dir: PathBuf::from("/etc/docker/certs.d"),
            user_agent: format!("wharf/{}", env!("CARGO_PKG_VERSION")),
            max_download_attempts: 5,
            patience: Duration::from_secs(60),
        }
    }
}

/// What is wrong with a [`Config`], in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A mirror without `http://` or `https://`.
    #[error("invalid mirror: no scheme specified for {0:?}: must use either 'https://' or 'http://'")]
    MirrorScheme(String),
    /// A mirror that is no URL.
    #[error("invalid mirror: {0:?} is not a valid URI")]
    MirrorUrl(String),
    /// A mirror with `?` or `#`.
    #[error("invalid mirror: query or fragment at end of the URI {0:?}")]
    MirrorQuery(String),
    /// A mirror with name and password.
    #[error("invalid mirror: username/password not allowed in URI")]
    MirrorUser,
    /// A mirror of another registry that does not say of which.
    #[error("invalid mirror: {0:?} must be 'host=url'")]
    MirrorOf(String),
    /// An insecure registry that begins or ends with a hyphen.
    #[error("invalid index name ({0}). Cannot begin or end with a hyphen")]
    Hyphen(String),
    /// An insecure registry that is no host.
    #[error("insecure registry {0} is not valid: invalid host {0:?}")]
    InsecureHost(String),
}

impl ConfigError {
    /// What it means to a client: the request is wrong.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// One place an image may come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) base: Url,
    mirror: bool,
    insecure: bool,
}

impl Endpoint {
    /// Whether it is a mirror, whose failures are no verdict.
    pub const fn is_mirror(&self) -> bool {
        self.mirror
    }

    /// Whether certificates are not checked and plain connections are allowed.
    pub const fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// Whether the connection is encrypted.
    pub fn scheme(&self) -> Scheme {
        self.base.scheme
    }

    /// `host[:port]`.
    pub fn authority(&self) -> &str {
        &self.base.authority
    }

    /// Whether it is Docker Hub's index.
    pub(crate) fn is_hub_index(&self) -> bool {
        self.base.authority == HUB_INDEX
    }

    /// The same place without encryption.
    pub(crate) fn plain(&self) -> Self {
        Self { base: Url { scheme: Scheme::Http, ..self.base.clone() }, ..self.clone() }
    }

    /// An URL below `/v1/`.
    pub(crate) fn v1_url(&self, path: &str) -> Url {
        Url { target: format!("/v1/{path}"), ..self.base.clone() }
    }

    /// An URL below `/v2/`.
    pub(crate) fn url(&self, path: &str) -> Url {
        let target = format!("{}/v2/{path}", self.base.target.trim_end_matches('/'));
        Url { target, ..self.base.clone() }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.base, f)
    }
}

/// A network of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
        (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// A checked [`Config`].
#[derive(Debug)]
pub(crate) struct Places {
    /// Of Docker Hub and of other registries, by host.
    mirrors: Vec<(String, Url)>,
    insecure_hosts: Vec<String>,
    insecure_networks: Vec<Network>,
}

impl Places {
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let mut mirrors: Vec<(String, Url)> = Vec::new();
        let of_hub = config.mirrors.iter().map(|url| Ok((DEFAULT_DOMAIN, url.as_str())));
        for mirror in of_hub.chain(config.mirrors_of.iter().map(|text| mirror_of(text))) {
            let (host, url) = mirror?;
            let mirror = (host.to_owned(), check_mirror(url)?);
            if !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
        let mut places = Self {
            mirrors,
            insecure_hosts: Vec::new(),
            insecure_networks: vec![
                Network { address: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix: 8 },
                Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
            ],
        };
        for registry in &config.insecure_registries {
            places.add_insecure(registry)?;
        }
        Ok(places)
    }

    fn add_insecure(&mut self, registry: &str) -> Result<(), ConfigError> {
        if registry.starts_with('-') || registry.ends_with('-') {
            return Err(ConfigError::Hyphen(registry.to_owned()));
        }
        let host = registry
            .strip_prefix("http://")
            .or_else(|| registry.strip_prefix("https://"))
            .unwrap_or(registry);
        if let Some(network) = Network::parse(host) {
            self.insecure_networks.push(network);
            return Ok(());
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
        if host.is_empty() || !host.bytes().all(fits) {
            return Err(ConfigError::InsecureHost(host.to_owned()));
        }
        self.insecure_hosts.push(host.to_owned());
        Ok(())
    }

    /// Where to pull from and in which order; for a push the mirrors are left out.
    pub(crate) async fn endpoints(&self, domain: &str, with_mirrors: bool) -> Vec<Endpoint> {
        let is_hub = domain == DEFAULT_DOMAIN || domain == HUB_INDEX;
        let host = if is_hub { DEFAULT_DOMAIN } else { domain };
        let mut endpoints = Vec::new();
        for (_, url) in self.mirrors.iter().filter(|(of, _)| with_mirrors && of == host) {
            let insecure = self.is_insecure(&url.authority).await;
            endpoints.push(Endpoint { base: url.clone(), mirror: true, insecure });
        }
        if is_hub {
            let base = base_url(Scheme::Https, HUB_HOST);
            endpoints.push(Endpoint { base, mirror: false, insecure: false });
        } else {
            endpoints.extend(self.registry_endpoints(domain).await);
        }
        endpoints
    }

    /// Where to search: the index of Docker Hub, or a registry of its own.
    pub(crate) async fn index(&self, host: &str) -> Endpoint {
        let is_hub = host == DEFAULT_DOMAIN || host == HUB_INDEX;
        let (host, insecure) = if is_hub { (HUB_INDEX, false) } else { (host, self.is_insecure(host).await) };
        Endpoint { base: base_url(Scheme::Https, host), mirror: false, insecure }
    }

    async fn registry_endpoints(&self, authority: &str) -> Vec<Endpoint> {
        let insecure = self.is_insecure(authority).await;
        let endpoint = |scheme| Endpoint { base: base_url(scheme, authority), mirror: false, insecure };
        match insecure {
            true => vec![endpoint(Scheme::Https), endpoint(Scheme::Http)],
            false => vec![endpoint(Scheme::Https)],
        }
    }

    /// Whether the host is configured as insecure, by name or since one of its addresses is. A name that
    /// cannot be resolved is secure.
    async fn is_insecure(&self, authority: &str) -> bool {
        if self.insecure_hosts.iter().any(|host| host == authority) {
            return true;
        }
        let host = split_port(authority).0;
        let contains = |ip: IpAddr| self.insecure_networks.iter().any(|n| n.contains(ip.to_canonical()));
        if let Ok(ip) = host.parse::<IpAddr>() {
            return contains(ip);
        }
        match tokio::net::lookup_host((host, 0)).await {
            Ok(mut addresses) => addresses.any(|address| contains(address.ip())),
            Err(_) => false,
        }
    }
}

fn base_url(scheme: Scheme, authority: &str) -> Url {
    Url { scheme, authority: authority.to_owned(), target: "/".to_owned() }
}

fn mirror_of(text: &str) -> Result<(&str, &str), ConfigError> {
    let pair = text.split_once('=').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    pair.ok_or_else(|| ConfigError::MirrorOf(text.to_owned()))
}

fn check_mirror(text: &str) -> Result<Url, ConfigError> {
    let named = || text.to_owned();
    if text.split_once("://").is_none_or(|(scheme, _)| scheme.is_empty()) {
        return Err(ConfigError::MirrorScheme(named()));
    }
    if text.contains(['?', '#']) {
        return Err(ConfigError::MirrorQuery(named()));
    }
    if text.contains('@') {
        return Err(ConfigError::MirrorUser);
    }
    let url: Url = text.parse().map_err(|_| ConfigError::MirrorUrl(named()))?;
    Ok(Url { target: format!("{}/", url.target.trim_end_matches('/')), ..url })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mirrors: &[&str], insecure: &[&str]) -> Result<Places, ConfigError> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Places::new(&Config {
            mirrors: own(mirrors),
            insecure_registries: own(insecure),
            ..Config::default()
        })
    }

    async fn urls(places: &Places, domain: &str) -> Vec<String> {
        places.endpoints(domain, true).await.iter().map(|e| e.url("").to_string()).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn plain_http_only_where_it_is_allowed() {
        let places = places(&[], &["10.1.0.0/16", "reg.example:5000", "fd00::/8"]).unwrap();
        for insecure in
            ["127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "10.1.2.3", "reg.example:5000", "[fd12::1]"]
        {
            let both = [format!("https://{insecure}/v2/"), format!("http://{insecure}/v2/")];
            assert_eq!(urls(&places, insecure).await, both);
        }
        for secure in ["10.2.0.1", "192.0.2.1:5000", "[2001:db8::1]", "reg.invalid:5000"] {
            assert_eq!(urls(&places, secure).await, [format!("https://{secure}/v2/")]);
        }
        assert_eq!(urls(&places, "docker.io").await, ["https://registry-1.docker.io/v2/"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn mirrors_stand_before_the_hub_on_pull() {
        let places =
            places(&["http://127.0.0.1:5001", "https://m.invalid/sub/", "http://127.0.0.1:5001/"], &[])
                .unwrap();
        let all =
            ["http://127.0.0.1:5001/v2/", "https://m.invalid/sub/v2/", "https://registry-1.docker.io/v2/"];
        assert_eq!(urls(&places, "docker.io").await, all);
        assert_eq!(places.endpoints("docker.io", false).await.len(), 1);
        assert_eq!(urls(&places, "127.0.0.1").await.len(), 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn mirrors_of_other_registries() {
        let mirrors_of = ["r.invalid=https://m.invalid", "127.0.0.1:5000=http://127.0.0.1:5001/sub"]
            .map(str::to_owned)
            .into();
        let places = Places::new(&Config { mirrors_of, ..Config::default() }).unwrap();
        assert_eq!(urls(&places, "r.invalid").await, ["https://m.invalid/v2/", "https://r.invalid/v2/"]);
        assert_eq!(urls(&places, "127.0.0.1:5000").await[0], "http://127.0.0.1:5001/sub/v2/");
        assert_eq!(places.endpoints("r.invalid", false).await.len(), 1);
        assert_eq!(urls(&places, "docker.io").await.len(), 1);
        for bad in ["https://m.invalid", "=https://m", "h=m"] {
            let config = Config { mirrors_of: vec![bad.to_owned()], ..Config::default() };
            assert!(Places::new(&config).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_configuration_is_refused() {
        for (mirror, error) in [
            (
                "m.example",
                "invalid mirror: no scheme specified for \"m.example\": must use either 'https://' or 'http://'",
            ),
            (
                "https://m.example?x",
                "invalid mirror: query or fragment at end of the URI \"https://m.example?x\"",
            ),
            ("https://u:p@m.example", "invalid mirror: username/password not allowed in URI"),
            ("ftp://m.example", "invalid mirror: \"ftp://m.example\" is not a valid URI"),
        ] {
            assert_eq!(places(&[mirror], &[]).unwrap_err().to_string(), error);
        }
        assert!(
            places(&[], &["-bad"]).is_err()
                && places(&[], &["a b"]).is_err()
                && places(&[], &["10.0.0.0/33"]).is_err()
        );
    }
}
