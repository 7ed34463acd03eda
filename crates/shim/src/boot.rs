//! From a copy of the zygote to the shim of one container.

use crate::serve::{self, Birth};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::path::Path;
use wharf_spec::plan::{Fd, Plan};
use wharf_spec::shim::{Event, Failure, FailureKind, Message, ZygoteRequest};
use wharf_sys::seqpacket::{self, Packet};
use wharf_sys::{event, fault, process};

/// What a service manager or a terminal sends to whole groups, and broken pipes: no reason to abandon a
/// container.
pub(crate) const IGNORED_SIGNALS: &[i32] = &[
    Signal::HUP.as_raw(),
    Signal::INT.as_raw(),
    Signal::QUIT.as_raw(),
    Signal::TERM.as_raw(),
    Signal::PIPE.as_raw(),
    Signal::USR1.as_raw(),
    Signal::USR2.as_raw(),
    Signal::ALARM.as_raw(),
];

/// A request taken apart.
struct Order {
    control: OwnedFd,
    run_dir: OwnedFd,
    plan: Plan,
    fds: Vec<OwnedFd>,
}

/// Runs the container of a request to its end. `init_program` is the file of `docker-init`.
pub(crate) fn run(packet: Packet, init_program: Option<&Path>) {
    // Without a control socket nobody can be told: closing the descriptors is the answer.
    let Some(order) = read(packet) else { return };
    fault::death("shim.born");
    match settle_in() {
        Ok(signals) => {
            let Order { control, run_dir, plan, fds } = order;
            serve::run(Birth { control, run_dir, plan, fds, signals, init_program });
        }
        Err(error) => fail(&order.control, &error),
    }
}

/// Answers a request that no shim can be made for.
pub(crate) fn refuse(packet: Packet, error: &wharf_sys::Error) {
    if let Some(order) = read(packet) {
        fail(&order.control, error);
    }
}

fn fail(control: &OwnedFd, error: &wharf_sys::Error) {
    let message = format!("start the shim: {error}");
    let errno = error.errno().map_or(0, |e| e.raw_os_error());
    let failure = Failure { kind: FailureKind::Setup, step: "start the shim".into(), errno, message };
    // A daemon that is gone needs no answer.
    let _ = seqpacket::send(control, &serve::encode(&Message::Event(Event::Failed(failure))), &[]);
}

fn read(packet: Packet) -> Option<Order> {
    let body = serve::body(&packet.bytes)?;
    let ZygoteRequest::Spawn { control, run_dir, plan } = postcard::from_bytes(body).ok()?;
    // The plan counts its descriptors as the message does: those two keep their places.
    let copy = |fd: Fd| packet.fds.get(usize::from(fd.0))?.try_clone().ok();
    let (control, run_dir) = (copy(control)?, copy(run_dir)?);
    Some(Order { control, run_dir, plan: *plan, fds: packet.fds })
}

/// Leaves everything of the zygote's behind that a container's keeper should not have; returns what delivers
/// SIGCHLD.
fn settle_in() -> Result<OwnedFd, wharf_sys::Error> {
    use wharf_sys::Context;
    process::reset_signals()?;
    for signal in IGNORED_SIGNALS {
        process::ignore_signal(*signal)?;
    }
    let child = Signal::CHILD.as_raw();
    process::block_signals(&[child])?;
    let signals = event::signalfd(&[child])?;
    rustix::process::setsid().map(drop).on("setsid", || "shim")?;
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).on("prctl(PR_SET_CHILD_SUBREAPER)", || "shim")?;
    rustix::process::chdir("/").on("chdir", || "/")?;
    let _ = rustix::thread::set_name(c"wharf-shim");
    process::reset_nice();
    process::set_umask(0o022);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.on("open", || "/dev/null")?;
    process::become_stdio([null.as_fd(), null.as_fd(), null.as_fd()])?;
    Ok(signals)
}
