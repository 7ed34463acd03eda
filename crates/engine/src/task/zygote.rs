//! The zygote: a small single-threaded process that forks a shim per container. It is started from a sealed
//! copy of the shim's executable, so that no container can overwrite the file that others run (CVE-2019-5736).

use super::connection::io_error;
use crate::{Config, Error, Result, blocking::blocking, polled};
use std::{
    fs::File,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Mutex,
};
use wharf_sys::{fault, seqpacket};

/// The number the zygote's socket has in its process.
const SOCKET_NUMBER: i32 = 3;
/// A zygote that lived so long is not broken.
const LONG_ENOUGH: Duration = Duration::from_secs(1);

/// The zygote, running or not.
pub(super) struct Zygote {
    configured: Option<PathBuf>,
    running: Mutex<Option<Running>>,
}

struct Running {
    socket: AsyncFd<OwnedFd>,
    child: Child,
}

impl Zygote {
    pub(super) fn new(config: &Config) -> Self {
        Self { configured: config.shim.clone(), running: Mutex::new(None) }
    }

    pub(super) async fn prepare(self: &Arc<Self>) -> Result<()> {
        let mut running = self.running.lock().await;
        self.ensure(&mut running).await.map(drop)
    }

    /// Sends a request; a zygote that has died meanwhile is replaced once.
    ///
    /// # Errors
    /// When there is no zygote to be had.
    pub(super) async fn send(self: &Arc<Self>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut running = self.running.lock().await;
        let zygote = self.ensure(&mut running).await?;
        match zygote.send(bytes, fds).await {
            Ok(()) => {
                if fault::point("zygote.sent").is_err() {
                    // The connection is lost behind the message.
                    *running = None;
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the zygote is gone: starting another one");
                *running = None;
                let zygote = self.ensure(&mut running).await?;
                let sent = zygote.send(bytes, fds).await;
                sent.map_err(|source| Error::Zygote { step: "ask the zygote for a shim", source })
            }
        }
    }

    async fn ensure<'a>(self: &Arc<Self>, running: &'a mut Option<Running>) -> Result<&'a Running> {
        let ended = running.as_mut().is_some_and(|zygote| !matches!(zygote.child.try_wait(), Ok(None)));
        if ended {
            *running = None;
        }
        if running.is_none() {
            let path = find_shim(self.configured.as_deref())?;
            let zygote = blocking(move || start(&path)).await?.watch()?;
            self.replace_when_dead(&zygote);
            *running = Some(zygote);
        }
        Ok(running.as_ref().expect("started above"))
    }
}

impl Zygote {
    /// Has another zygote ready when this one dies. One that dies at once is replaced only when it is needed,
    /// lest a broken one be started for ever.
    fn replace_when_dead(self: &Arc<Self>, running: &Running) {
        let Ok(socket) = running.socket.get_ref().try_clone() else { return };
        let Ok(socket) = polled::watch(socket, Interest::READABLE) else { return };
        let (zygote, born) = (Arc::downgrade(self), Instant::now());
        tokio::spawn(async move {
            // It never sends anything: readable means that it is gone.
            let gone = socket.readable().await.is_ok();
            if gone
                && born.elapsed() > LONG_ENOUGH
                && let Some(zygote) = zygote.upgrade()
                && let Err(error) = zygote.prepare().await
            {
                tracing::warn!(%error, "no zygote: the next start tries again");
            }
        });
    }
}

impl Running {
    async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        fault::point("zygote.send")?;
        self.socket
            .async_io(Interest::WRITABLE, |socket| seqpacket::send(socket, bytes, fds).map_err(io_error))
            .await
    }
}

/// A zygote that is not watched yet.
struct Started {
    socket: OwnedFd,
    child: Child,
}

impl Started {
    fn watch(self) -> Result<Running> {
        let watch = |source| Error::Zygote { step: "watch the zygote", source };
        seqpacket::set_nonblocking(&self.socket, true).map_err(|e| watch(std::io::Error::other(e)))?;
        let socket = polled::watch(self.socket, Interest::WRITABLE).map_err(watch)?;
        Ok(Running { socket, child: self.child })
    }
}

/// Where the shim is: as configured, beside our own executable, or in `../libexec/wharf`.
fn find_shim(configured: Option<&Path>) -> Result<PathBuf> {
    let missing = || Error::Zygote {
        step: "find wharf-shim",
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "not beside wharfd and not in libexec"),
    };
    if let Some(path) = configured {
        return Ok(path.to_owned());
    }
    let own = std::env::current_exe().map_err(|source| Error::Zygote { step: "find wharf-shim", source })?;
    let dir = own.parent().ok_or_else(missing)?;
    let beside =
        [dir.join("wharf-shim"), dir.join("../libexec/wharf/wharf-shim"), dir.join("../libexec/wharf-shim")];
    beside.into_iter().find(|path| path.is_file()).ok_or_else(missing)
}

fn start(path: &Path) -> Result<Started> {
    let io = |step| move |source| Error::Io { step, path: path.into(), source };
    let failed = |step| move |e: wharf_sys::Error| Error::Zygote { step, source: std::io::Error::other(e) };
    fault::point("zygote.start").map_err(io("open shim"))?;
    let mut file = File::open(path).map_err(io("open shim"))?;
    let copy = wharf_sys::fs::sealed_copy("wharf-shim", &mut file).map_err(failed("copy the shim"))?;
    let (ours, theirs) = seqpacket::pair().map_err(failed("make the zygote's socket"))?;
    let mut command = Command::new(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    // The path is for `--init`, which binds a file: a memfd cannot be bound.
    command.arg("zygote").arg(path).env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    command.envs(fault::environment());
    let child = wharf_sys::process::spawn_with_fd(&mut command, &theirs, SOCKET_NUMBER)
        .map_err(|source| Error::Zygote { step: "start the zygote", source })?;
    tracing::debug!(pid = child.id(), "zygote started");
    Ok(Started { socket: ours, child })
}
