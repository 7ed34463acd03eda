//! From a copy of the zygote to the shim of one container.

use crate::serve::{self, Birth};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::path::Path;
use wharf_spec::plan::{Fd, IdMaps, Plan};
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

/// Does what a request asks: makes namespaces, or runs a container to its end. `init_program` is the file of
/// `docker-init`.
pub(crate) fn run(packet: Packet, init_program: Option<&Path>) {
    // Without a control socket nobody can be told: closing the descriptors is the answer.
    match serve::body(&packet.bytes).and_then(|body| postcard::from_bytes(body).ok()) {
        Some(ZygoteRequest::Spawn { control, run_dir, plan }) => {
            if let Some(order) = order(packet, control, run_dir, *plan) {
                run_container(order, init_program);
            }
        }
        Some(ZygoteRequest::Namespaces { reply, user, maps }) => {
            make_namespaces(&packet.fds, reply, user, &maps);
        }
        None => {}
    }
}

fn make_namespaces(fds: &[OwnedFd], reply: Fd, user: Option<Fd>, maps: &IdMaps) {
    let given = |fd: Fd| fds.get(usize::from(fd.0));
    let (Some(reply), user) = (given(reply), user.and_then(given)) else { return };
    // A daemon that is gone needs no answer.
    let _ = match wharf_runtime::network_in_user_namespace(maps, user.map(AsFd::as_fd)) {
        Ok(pair) => seqpacket::send(reply, b"+", &[pair.user.as_fd(), pair.network.as_fd()]),
        Err(error) => seqpacket::send(reply, error.to_string().as_bytes(), &[]),
    };
}

fn run_container(order: Order, init_program: Option<&Path>) {
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
    let request = serve::body(&packet.bytes).and_then(|body| postcard::from_bytes(body).ok());
    match request {
        Some(ZygoteRequest::Spawn { control, .. }) => {
            if let Some(control) = packet.fds.get(usize::from(control.0)) {
                fail(control, error);
            }
        }
        // Closed descriptors are the answer.
        Some(ZygoteRequest::Namespaces { .. }) | None => {}
    }
}

fn fail(control: &OwnedFd, error: &wharf_sys::Error) {
    let message = format!("start the shim: {error}");
    let errno = error.errno().map_or(0, |e| e.raw_os_error());
    let failure = Failure { kind: FailureKind::Setup, step: "start the shim".into(), errno, message };
    // A daemon that is gone needs no answer.
    let _ = seqpacket::send(control, &serve::encode(&Message::Event(Event::Failed(failure))), &[]);
}

fn order(packet: Packet, control: Fd, run_dir: Fd, plan: Plan) -> Option<Order> {
    // The plan counts its descriptors as the message does: those two keep their places.
    let copy = |fd: Fd| packet.fds.get(usize::from(fd.0))?.try_clone().ok();
    let (control, run_dir) = (copy(control)?, copy(run_dir)?);
    Some(Order { control, run_dir, plan, fds: packet.fds })
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
