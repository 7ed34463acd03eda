//! A way out of a test's network namespace, through slirp4netns: without a link, route or rule on the machine.

use crate::NetNs;
use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// Lives as long as its handle.
#[derive(Debug)]
pub struct Uplink {
    child: Child,
}

impl Uplink {
    /// Where names are resolved, as the machine resolves them.
    pub const RESOLVER: &str = "10.0.2.3";

    /// Gives a namespace a link to the machine's own network.
    ///
    /// # Errors
    /// When Debian's `slirp4netns` is not installed, or does not get ready.
    pub fn start(net: &NetNs) -> Result<Self> {
        let namespace = net.within(|| Ok(std::fs::File::open("/proc/thread-self/ns/net")?))?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&namespace));
        let mut command = Command::new("slirp4netns");
        command.args(["--configure", "--mtu=1500", "--ready-fd=1", "--netns-type=path", &path, "tap0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("the package slirp4netns is needed")?;
        let mut ready = [0];
        let read = child.stdout.as_mut().context("a pipe")?.read(&mut ready);
        let uplink = Self { child };
        ensure!(read? == 1, "slirp4netns does not get ready");
        Ok(uplink)
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
