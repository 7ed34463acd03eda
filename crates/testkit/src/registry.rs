//! Debian's `docker-registry` on loopback, in a test's network namespace.

use crate::{Archive, NetNs, until};
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
        Self::serve(net, dir, "")
    }

    /// Starts one that only these users may use: the text of an htpasswd file with bcrypt.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_users(net: &NetNs, dir: &Path, htpasswd: &str) -> Result<Self> {
        let users = dir.join("htpasswd");
        std::fs::write(&users, htpasswd)?;
        Self::serve(net, dir, &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display()))
    }

    /// `settings` are lines added to its configuration.
    fn serve(net: &NetNs, dir: &Path, settings: &str) -> Result<Self> {
        let dir = dir.join("registry");
        std::fs::create_dir_all(&dir)?;
        let config = dir.join("config.yml");
        let root = dir.display();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: {}}}\n{settings}",
            Self::ADDRESS
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = net.spawn(&mut command).context("the package docker-registry is needed")?;
        let registry = Self { child, dir };
        until("the registry's port", || {
            Ok(net.within(|| Ok(std::net::TcpStream::connect(Self::ADDRESS)?)).ok())
        })?;
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
