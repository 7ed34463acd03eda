//! Starting a container: its run directory, its shim, the clients that were attached before.

use super::{Events, Shim, Tasks, connection::Pending, message::encode};
use crate::{Error, Result, blocking::blocking};
use std::{
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::DirBuilderExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_spec::{
    ContainerId,
    plan::{Fd, Plan},
    shim::{Call, Event, Failure, ZygoteRequest},
};
use wharf_sys::{fault, seqpacket};

/// A container to be started.
pub(crate) struct Spawn {
    pub(crate) id: ContainerId,
    pub(crate) run_dir: PathBuf,
    pub(crate) plan: Plan,
    /// What the plan names by index.
    pub(crate) fds: Vec<OwnedFd>,
    /// Clients to attach before the program runs.
    pub(crate) attach: Vec<AttachStream>,
}

/// The shim's end of a client's stream.
pub(crate) struct AttachStream {
    pub(crate) stream: UnixStream,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) detach_keys: Vec<u8>,
}

/// A container that runs.
pub(crate) struct Spawned {
    pub(crate) shim: Arc<Shim>,
    pub(crate) events: Events,
    pub(crate) pid: i32,
    pub(crate) warnings: Vec<String>,
}

/// Why a container does not run.
pub(crate) enum SpawnError {
    /// The shim could not do what the plan says.
    Refused(Failure),
    /// There is no shim.
    Engine(Error),
}

impl From<Error> for SpawnError {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Tasks {
    /// Starts a container: returns when its program runs. Attach requests are in the shim's socket before the
    /// shim is born, so that no byte of output is missed.
    ///
    /// # Errors
    /// [`SpawnError`]; nothing runs then and the run directory is gone.
    pub(crate) async fn spawn(&self, spawn: Spawn) -> Result<Spawned, SpawnError> {
        let run_dir = spawn.run_dir.clone();
        let spawned = self.try_spawn(spawn).await;
        if spawned.is_err() {
            let removed = blocking(move || remove_run_dir(&run_dir)).await;
            if let Err(error) = removed {
                tracing::warn!(%error, "run directory of a failed start stays");
            }
        }
        spawned
    }

    async fn try_spawn(&self, spawn: Spawn) -> Result<Spawned, SpawnError> {
        let Spawn { id, run_dir, plan, mut fds, attach } = spawn;
        let dir = blocking(move || make_run_dir(&run_dir)).await?;
        let (ours, theirs) =
            seqpacket::pair().map_err(|e| Error::Protocol(format!("make a shim's socket: {e}")))?;
        let (shim, mut events) = Shim::new(id.clone(), ours)?;
        let pending = attach_all(&shim, attach).await?;
        let next =
            |fds: &Vec<OwnedFd>| Fd(u16::try_from(fds.len()).expect("a process has fewer descriptors"));
        let control = next(&fds);
        fds.push(theirs);
        let run_dir = next(&fds);
        fds.push(dir);
        let bytes = encode(&ZygoteRequest::Spawn { control, run_dir, plan: Box::new(plan) })?;
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.0.send(&bytes, &borrowed).await?;
        drop(fds);
        fault::point("spawn.sent").map_err(|source| Error::Os { step: "wait for the shim", source })?;
        let (pid, warnings) = match events.next().await {
            Some(Event::Started { pid, warnings, .. }) => (pid, warnings),
            Some(Event::Failed(failure)) => return Err(SpawnError::Refused(failure)),
            Some(other) => {
                return Err(Error::Protocol(format!("new shim of {id} says {other:?}")).into());
            }
            None => return Err(Error::ShimGone(id).into()),
        };
        for answer in pending {
            if let Err(error) = answer.receive().await {
                tracing::warn!(container = %id, %error, "a client could not be attached");
            }
        }
        Ok(Spawned { shim, events, pid, warnings })
    }
}

async fn attach_all(shim: &Shim, attach: Vec<AttachStream>) -> Result<Vec<Pending>> {
    let mut pending = Vec::new();
    for client in attach {
        let (call, stream) = client.into_call(None);
        pending.push(shim.send(call, &[stream.as_fd()]).await?);
    }
    Ok(pending)
}

impl AttachStream {
    /// The request to a shim, and the stream it names as its first descriptor.
    pub(crate) fn into_call(self, exec: Option<String>) -> (Call, UnixStream) {
        let Self { stream, stdin, stdout, stderr, detach_keys } = self;
        (Call::Attach { exec, stream: Fd(0), stdin, stdout, stderr, detach_keys }, stream)
    }
}

/// A fresh run directory, open. What an earlier run left there goes.
fn make_run_dir(path: &Path) -> Result<OwnedFd> {
    let io = |step| move |source| Error::Io { step, path: path.into(), source };
    remove_run_dir(path)?;
    fs::DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(io("make run directory"))?;
    fault::point("spawn.directory").map_err(io("open run directory"))?;
    fs::File::open(path).map(OwnedFd::from).map_err(io("open run directory"))
}

/// Removes a run directory. One that is not there is no error. Blocks.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn remove_run_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { step: "remove run directory", path: path.into(), source })
        }
        _ => Ok(()),
    }
}
