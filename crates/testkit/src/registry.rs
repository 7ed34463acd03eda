//! Debian's `docker-registry` on loopback, in a test's network namespace.

use crate::{
    Archive, NetNs,
    token_server::{CERTIFICATE, KEY, SERVICE, TokenServer},
    until,
};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running registry at `127.0.0.1:5000` of the namespace.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    dir: PathBuf,
}

impl Registry {
    /// Its address.
    pub const ADDRESS: &str = "127.0.0.1:5000";

    /// Starts one that keeps its data below `dir`.
    ///
    /// # Errors
    /// When Debian's `docker-registry` is not installed or does not come up.
    pub fn start(net: &NetNs, dir: &Path) -> Result<Self> {
        Self::serve(net, dir, Self::ADDRESS, "", "")
    }

    /// Starts one that only these users may use: the text of an htpasswd file with bcrypt.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_users(net: &NetNs, dir: &Path, htpasswd: &str) -> Result<Self> {
        let users = dir.join("htpasswd");
        std::fs::write(&users, htpasswd)?;
        let settings = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
        Self::serve(net, dir, Self::ADDRESS, "", &settings)
    }

    /// `http` are fields of its listener, `settings` lines added to its configuration.
    fn serve(net: &NetNs, dir: &Path, address: &str, http: &str, settings: &str) -> Result<Self> {
        let dir = dir.join("registry");
        std::fs::create_dir_all(&dir)?;
        let config = dir.join("config.yml");
        let root = dir.display();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}'{http}}}\n{settings}"
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = net.spawn(&mut command).context("the package docker-registry is needed")?;
        let registry = Self { child, dir };
        until("the registry's port", || Ok(net.within(|| Ok(std::net::TcpStream::connect(address)?)).ok()))?;
        Ok(registry)
    }

    /// The files of its blobs: manifests, configs, layers.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn blobs(&self) -> Result<Vec<PathBuf>> {
        let mut blobs = Vec::new();
        for prefix in std::fs::read_dir(self.dir.join("docker/registry/v2/blobs/sha256"))? {
            for blob in std::fs::read_dir(prefix?.path())? {
                blobs.push(blob?.path().join("data"));
            }
        }
        blobs.sort();
        Ok(blobs)
    }

    /// Pushes an image with skopeo, which converts it: `args` such as `--format oci`,
    /// `--dest-compress-format zstd`.
    ///
    /// # Errors
    /// When skopeo fails.
    pub fn push(&self, net: &NetNs, image: &Archive, as_name: &str, args: &[&str]) -> Result<()> {
        let archive = self.dir.join("push.tar");
        std::fs::write(&archive, &image.bytes)?;
        self.push_file(net, &archive, as_name, args)
    }

    /// As [`Self::push`], from an archive in a file.
    ///
    /// # Errors
    /// When skopeo fails.
    pub fn push_file(&self, net: &NetNs, archive: &Path, as_name: &str, args: &[&str]) -> Result<()> {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]).args(args);
        command.arg(format!("docker-archive:{}", archive.display()));
        command.arg(format!("docker://{}/{as_name}", Self::ADDRESS));
        command.env("TMPDIR", &self.dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = net.spawn(&mut command).context("the package skopeo is needed")?.wait_with_output()?;
        ensure!(out.status.success(), "skopeo: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registry at an address that is not loopback, so that its certificate counts, which takes the tokens of
/// a server of its own.
#[derive(Debug)]
pub struct SecureRegistry {
    _registry: Registry,
    tokens: TokenServer,
}

impl SecureRegistry {
    /// Its address.
    pub const ADDRESS: &str = "192.0.2.1:5443";
    const TOKENS: &str = "192.0.2.1:5444";

    /// Starts both for one user.
    ///
    /// # Errors
    /// When Debian's `docker-registry` is not installed or does not come up.
    pub fn start(net: &NetNs, dir: &Path, user: &str, password: &str) -> Result<Self> {
        let status =
            net.spawn(Command::new("ip").args(["addr", "add", "192.0.2.1/32", "dev", "lo"]))?.wait()?;
        ensure!(status.success(), "ip addr add: {status}");
        let (certificate, key) = (dir.join("registry.crt"), dir.join("registry.key"));
        std::fs::write(&certificate, CERTIFICATE)?;
        std::fs::write(&key, KEY)?;
        let tokens = TokenServer::start(net, Self::TOKENS, user, password)?;
        let tls = format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
        let auth = format!(
            "auth: {{token: {{realm: 'https://{}/token', service: {SERVICE}, issuer: testkit, rootcertbundle: {}}}}}\n",
            Self::TOKENS,
            certificate.display()
        );
        let registry = Registry::serve(net, dir, Self::ADDRESS, &tls, &auth)?;
        Ok(Self { _registry: registry, tokens })
    }

    /// What its clients need to trust it: the folder `certs.d/<address>` below `dir`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn trust(dir: &Path) -> Result<PathBuf> {
        let certs = dir.join("certs.d");
        let own = certs.join(Self::ADDRESS);
        std::fs::create_dir_all(&own)?;
        std::fs::write(own.join("ca.crt"), CERTIFICATE)?;
        Ok(certs)
    }

    /// What the token server was asked for, path and query.
    pub fn asked(&self) -> Vec<String> {
        self.tokens.seen()
    }
}
