//! The zygote: a small process that forks a shim for each container, so that neither a large daemon is forked
//! nor a program loaded when a container starts.
//!
//! Its daemon's socket is descriptor 3. It ends when the daemon does; its shims live on, as children of pid 1.

use crate::boot;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wharf_sys::fault;
use wharf_sys::process::{self, CloneOptions, Fork, SingleThreaded};
use wharf_sys::seqpacket;

/// Where the daemon leaves the socket.
const DAEMON_FD: i32 = 3;

/// Docker's fourteen default capabilities: the filter that nearly every container has
/// (source: moby `daemon/pkg/oci/caps/defaults.go`).
const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// Serves until the daemon is gone. The first of `args` is the file of this program on disk, which is mounted
/// into containers as `docker-init`: the running program itself may be a copy in memory.
pub(crate) fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let init_program = args.next().map(PathBuf::from).or_else(own_file);
    match prepare() {
        Ok((daemon, proof)) => serve(daemon, proof, init_program.as_deref()),
        Err(error) => {
            eprintln!("wharf-shim zygote: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The running program, if it is a file that still has a name.
fn own_file() -> Option<PathBuf> {
    std::fs::read_link("/proc/self/exe").ok().filter(|path| path.is_file())
}

fn prepare() -> Result<(OwnedFd, SingleThreaded), wharf_sys::Error> {
    let daemon = process::take_inherited(DAEMON_FD)?;
    // Nothing else is ours to pass on.
    process::close_on_exec_from(DAEMON_FD)?;
    process::reset_signals()?;
    for signal in boot::IGNORED_SIGNALS {
        process::ignore_signal(*signal)?;
    }
    // Ended shims then need no waiting for.
    process::ignore_signal(rustix::process::Signal::CHILD.as_raw())?;
    let _ = rustix::thread::set_name(c"wharf-zygote");
    wharf_runtime::seccomp::compile_default(DEFAULT_CAPABILITIES);
    Ok((daemon, SingleThreaded::check()?))
}

fn serve(daemon: OwnedFd, proof: SingleThreaded, init_program: Option<&Path>) -> ExitCode {
    let mut daemon = Some(daemon);
    while let Some(socket) = &daemon {
        let packet = match seqpacket::recv(socket) {
            Ok(Some(packet)) => packet,
            Ok(None) => return ExitCode::SUCCESS,
            // A packet of no known form is consumed; what came with it is closed, which its sender sees.
            Err(error) if error.errno().is_none() || error.is(Errno::INTR) => continue,
            Err(error) => {
                eprintln!("wharf-shim zygote: {error}");
                return ExitCode::FAILURE;
            }
        };
        fault::death("zygote.asked");
        match process::clone(proof, &CloneOptions::default()) {
            Ok(Fork::Parent { .. }) => fault::death("zygote.forked"),
            Ok(Fork::Child) => {
                daemon = None;
                boot::run(packet, init_program);
            }
            Err(error) => boot::refuse(packet, &error),
        }
    }
    ExitCode::SUCCESS
}
