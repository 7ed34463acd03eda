//! A network namespace that lives as long as its handle.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::Duration;
use wharf_sys::netns;

/// A network namespace of one test, with its loopback up.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
}

impl NetNs {
    /// A new one.
    ///
    /// # Errors
    /// When we are not root.
    pub fn new() -> Result<Self> {
        let net = Self { fd: netns::create().context("a network namespace needs root")? };
        let status = net.spawn(Command::new("ip").args(["link", "set", "lo", "up"]))?.wait()?;
        ensure!(status.success(), "ip link set lo up: {status}");
        Ok(net)
    }

    /// Does something on a thread inside the namespace, which then ends: a thread that has changed its
    /// namespace must not be used for anything else.
    ///
    /// # Errors
    /// What `work` fails with.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        netns::in_netns(&self.fd, work)?
    }

    /// What a server answers to `GET /`, head and all, connected to from inside within `patience`.
    ///
    /// # Errors
    /// When it cannot be reached, or says nothing for two seconds.
    pub fn http_get(&self, at: SocketAddr, patience: Duration) -> Result<String> {
        self.within(|| {
            let mut stream = TcpStream::connect_timeout(&at, patience)?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// Starts a program inside.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.within(|| command.spawn().with_context(|| format!("cannot start {command:?}")))
    }

    /// The inode that tells processes of this namespace.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn inode(&self) -> Result<u64> {
        Ok(rustix::fs::fstat(&self.fd)?.st_ino)
    }

    /// Names of the links inside.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn links(&self) -> Result<Vec<String>> {
        self.within(|| {
            let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            Ok(table
                .lines()
                .skip(2)
                .filter_map(|l| l.split(':').next())
                .map(|n| n.trim().to_owned())
                .collect())
        })
    }
}
