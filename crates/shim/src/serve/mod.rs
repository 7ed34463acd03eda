//! The shim's event loop: one container, its processes, their clients, and the daemons that ask for things.
//!
//! One thread, nothing that waits but the poller. `streams` moves bytes, `calls` answers daemons, `ending`
//! sees processes off.

mod calls;
mod client;
mod control;
mod detach;
mod ending;
mod input;
mod log;
mod poller;
mod process;
mod queue;
mod records;
mod streams;

use crate::container::Container;
use client::Client;
use control::Control;
use log::Log;
use poller::{Poller, Token, is_readable};
use process::Process;
use records::{Records, SOCKET};
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use wharf_logs::Upkeep;
use wharf_spec::plan::{Fd, Plan, Stdio};
use wharf_spec::shim::{Event, Failure, FailureKind, Message};
use wharf_sys::event::EventFlags;
use wharf_sys::{fault, seqpacket};

pub(crate) use control::{body, encode};
pub(crate) use process::{AtInputEnd, Ends, Started};

/// The main process's number among [`Shim::processes`].
const MAIN: u32 = 0;
/// After this long without any event, memory is given back.
const QUIET: Duration = Duration::from_secs(2);
/// How often a kill for memory is looked for after the kernel said that memory ran out.
const OOM_LOOK: Duration = Duration::from_millis(5);
/// Bytes asked of a process's output or a client at a time.
const READ_SIZE: usize = 64 * 1024;

/// Below this number there is room for all that making a container needs.
const HELD_FROM: i32 = 256;

/// What a shim is born with.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    /// The first daemon.
    pub(crate) control: OwnedFd,
    /// The run directory.
    pub(crate) run_dir: OwnedFd,
    /// The container.
    pub(crate) plan: Plan,
    /// What the plan's descriptors stand for.
    pub(crate) fds: Vec<OwnedFd>,
    /// Delivers SIGCHLD.
    pub(crate) signals: OwnedFd,
    /// The file of `docker-init`.
    pub(crate) init_program: Option<&'a Path>,
}

/// A running container's shim.
#[derive(Debug)]
struct Shim {
    poller: Poller,
    container: Container,
    records: Records,
    listener: Option<OwnedFd>,
    signals: OwnedFd,
    log: Option<Log>,
    processes: BTreeMap<u32, Process>,
    clients: BTreeMap<u32, Client>,
    controls: BTreeMap<u32, Control>,
    /// The plan's `held`: gone with the container. Replies under way have them too.
    held: Rc<[OwnedFd]>,
    next_number: u32,
    buffer: Vec<u8>,
    /// Nothing has happened for a while, and memory was given back.
    resting: bool,
    paused: bool,
    oom_killed: bool,
    /// A kill for memory that no daemon has heard of.
    oom_untold: bool,
    /// Memory ran out, but no kill is counted yet: looked at again until then.
    oom_until: Option<Instant>,
    /// The daemon needs us no more.
    released: bool,
}

/// Makes the container and serves it until it has ended and nobody needs the shim any more.
pub(crate) fn run(mut birth: Birth<'_>) {
    set_aside(&mut birth.fds, &birth.plan.held);
    let mut control = match Control::new(birth.control) {
        Ok(control) => control,
        Err(_) => return,
    };
    let mut records = Records::new(birth.run_dir);
    let made = prepare(&mut records, &birth.plan).and_then(|(listener, poller, log)| {
        let mut made = Container::create(&birth.plan, &birth.fds, birth.init_program)?;
        if !records.are_wanted() {
            made.0.abandon();
            return Err(setup("start", &"the container was given up meanwhile"));
        }
        Ok((listener, poller, log, made))
    });
    let (listener, poller, log, (container, started, warnings)) = match made {
        Ok(made) => made,
        Err(failure) => {
            // What it held is free when the daemon hears of it.
            drop(birth.fds);
            control.send(&Message::Event(Event::Failed(failure)));
            // Nothing else to tell: an unsent message means that nobody listens.
            control.flush();
            records.remove_socket();
            records.remove("shim.pid");
            return;
        }
    };
    fault::death("shim.created");
    let held = keep(birth.fds, &birth.plan.held);
    // For whoever looks later; the container runs without its files too.
    let _ = records.write_pid("init.pid", started.pid);
    let shim_pid = std::process::id() as i32;
    control.send(&Message::Event(Event::Started { pid: started.pid, shim_pid, warnings }));
    control.flush();
    fault::death("shim.started");
    let mut shim = Shim {
        poller,
        container,
        records,
        listener: Some(listener),
        signals: birth.signals,
        log,
        processes: BTreeMap::new(),
        clients: BTreeMap::new(),
        controls: BTreeMap::new(),
        held,
        next_number: MAIN + 1,
        buffer: Vec::new(),
        resting: false,
        paused: false,
        oom_killed: false,
        oom_untold: false,
        oom_until: None,
        released: false,
    };
    shim.begin(&birth.plan, started, control);
    // What is kept from here on is kept for days, by many.
    drop(birth.plan);
    shim.serve();
    shim.records.remove_socket();
}

/// Gives high numbers to the descriptors that are only held: the container's first process inherits them until it
/// runs its program, and its own limit of descriptors is one of numbers. What cannot be moved stays where it is.
fn set_aside(fds: &mut [OwnedFd], held: &[Fd]) {
    held.iter().for_each(|fd| fds.get_mut(usize::from(fd.0)).into_iter().for_each(set_one_aside));
}

fn set_one_aside(fd: &mut OwnedFd) {
    if let Ok(moved) = rustix::io::fcntl_dupfd_cloexec(&*fd, HELD_FROM) {
        *fd = moved;
    }
}

/// The descriptors that are held, in the plan's order; the others are closed.
fn keep(fds: Vec<OwnedFd>, held: &[Fd]) -> Rc<[OwnedFd]> {
    let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    held.iter().filter_map(|fd| fds.get_mut(usize::from(fd.0))?.take()).collect()
}

/// What can fail is done before there is a container.
fn prepare(records: &mut Records, plan: &Plan) -> Result<(OwnedFd, Poller, Option<Log>), Failure> {
    fault::point("shim.log").map_err(|e| setup("open the log", &e))?;
    let log = Log::open(&plan.log)?;
    let poller = Poller::new().map_err(|e| setup("epoll", &e))?;
    let listener = seqpacket::listen(records.dir(), SOCKET).map_err(|e| setup("listen on shim.sock", &e))?;
    records.own_socket();
    fault::point("shim.listens").map_err(|e| setup("listen on shim.sock", &e))?;
    seqpacket::set_nonblocking(&listener, true).map_err(|e| setup("listen on shim.sock", &e))?;
    records.write_pid("shim.pid", std::process::id() as i32).map_err(|e| setup("write shim.pid", &e))?;
    Ok((listener, poller, log))
}

/// A failure of the shim itself.
fn setup(step: &str, error: &dyn std::fmt::Display) -> Failure {
    let message = format!("{step}: {error}");
    Failure { kind: FailureKind::Setup, step: step.into(), errno: 0, message }
}

fn at_input_end(stdio: &Stdio) -> AtInputEnd {
    match stdio {
        Stdio::Shim { stdin_once: true, .. } => AtInputEnd::Close,
        Stdio::Shim { .. } | Stdio::Given(_) => AtInputEnd::Keep,
    }
}

impl Shim {
    fn begin(&mut self, plan: &Plan, started: Started, control: Control) {
        if let Ok(bytes) = postcard::to_allocvec(plan) {
            let _ = self.records.replace("plan", &bytes);
        }
        let _ = self.poller.add(&self.signals, Token::Signals, EventFlags::IN);
        if let Some(listener) = &self.listener {
            let _ = self.poller.add(listener, Token::Listener, EventFlags::IN);
        }
        if let Some(oom) = self.container.oom_watch() {
            let _ = self.poller.add(oom, Token::OutOfMemory, EventFlags::IN);
        }
        self.processes.insert(MAIN, Process::new(None, started, at_input_end(&plan.stdio)));
        // Clients that the daemon wants attached from the start are in the socket already: they come before the
        // first byte of output is read.
        if let Some(number) = self.add_control(control) {
            self.converse(number);
        }
        self.clients.values_mut().for_each(|client| client.is_first = true);
        self.watch_process(MAIN);
    }

    fn serve(&mut self) {
        while !self.is_done() {
            let timeout = self.timeout();
            let Ok(ready) = self.poller.wait(timeout) else { return };
            if ready.is_empty() && timeout == Some(QUIET) {
                self.rest();
            } else {
                self.resting = false;
            }
            for (token, flags) in ready {
                self.handle(token, flags);
            }
            self.settle();
        }
    }

    /// The container's end is on disk, nobody will ask for it here, and every client has what it is due.
    fn is_done(&self) -> bool {
        let has_exited = self.processes.get(&MAIN).is_none_or(|main| main.exit.is_some());
        let is_wanted = !self.released && !self.controls.is_empty();
        let is_flushed = self.controls.values().all(Control::is_flushed);
        has_exited && !is_wanted && is_flushed && self.clients.is_empty()
    }

    fn timeout(&mut self) -> Option<Duration> {
        if self.log.as_mut().is_some_and(|log| log.upkeep() == Upkeep::More) {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let patience = self.clients.values().filter_map(Client::patience_ends).min();
        let deadline = [self.next_deadline(), patience].into_iter().flatten().min();
        let deadline = deadline.map(|deadline| deadline.saturating_duration_since(now));
        let quiet = (!self.resting).then_some(QUIET);
        let look = self.oom_until.map(|_| OOM_LOOK);
        [deadline, quiet, look].into_iter().flatten().min()
    }

    fn rest(&mut self) {
        self.resting = true;
        self.buffer = Vec::new();
        if let Some(log) = &mut self.log {
            log.shrink();
        }
        wharf_sys::process::trim_heap();
    }

    fn handle(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Listener => self.accept(),
            Token::Signals => self.reap_orphans(),
            Token::OutOfMemory => self.see_out_of_memory(),
            Token::Log => self.flush_log(),
            Token::Control(number) => self.converse(number),
            Token::Exit(number) => self.see_exit(number),
            Token::Output(number, stream) if is_readable(flags) => self.pump(number, stream),
            Token::Output(..) => {}
            Token::Input(number) => self.flush_input(number),
            Token::Client(number) => self.serve_client(number, flags),
        }
    }

    /// The writer of the log takes more.
    fn flush_log(&mut self) {
        if let Some(apart) = self.log.as_mut().and_then(Log::apart) {
            apart.send_some();
        }
        self.watch_log();
    }

    /// While something waits for the log's writer, the poller tells when it takes more.
    fn watch_log(&mut self) {
        let Some(apart) = self.log.as_mut().and_then(Log::apart) else { return };
        let is_waiting = apart.is_waiting();
        if is_waiting == apart.is_polled {
            return;
        }
        if is_waiting {
            apart.is_polled = self.poller.add(apart.socket(), Token::Log, EventFlags::OUT).is_ok();
        } else {
            self.poller.remove(apart.socket());
            apart.is_polled = false;
        }
    }

    fn number(&mut self) -> u32 {
        let number = self.next_number;
        // Four thousand million attachments later, old numbers are long free.
        self.next_number = self.next_number.wrapping_add(1).max(MAIN + 1);
        number
    }

    fn watch_process(&mut self, number: u32) {
        let Some(process) = self.processes.get(&number) else { return };
        // Should it fail, SIGCHLD still tells.
        let _ = self.poller.add(&process.pidfd, Token::Exit(number), EventFlags::IN);
        self.resume_outputs(number);
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok(socket) = seqpacket::accept(listener) else { return };
        // The socket file is ours alone, but a descriptor of its directory may have wandered.
        let is_own =
            seqpacket::peer(&socket).is_ok_and(|peer| peer.uid == rustix::process::geteuid().as_raw());
        if !is_own {
            return;
        }
        let Ok(mut control) = Control::new(socket) else { return };
        control.send(&Message::Event(Event::Hello(self.state())));
        if std::mem::take(&mut self.oom_untold) {
            control.send(&Message::Event(Event::OutOfMemory));
        }
        self.add_control(control);
    }

    fn add_control(&mut self, mut control: Control) -> Option<u32> {
        let number = self.number();
        let added = control.flush()
            && self.poller.add(control.socket(), Token::Control(number), EventFlags::IN).is_ok();
        added.then(|| {
            self.controls.insert(number, control);
            number
        })
    }

    /// Tells every daemon that is connected.
    fn announce(&mut self, event: &Event) {
        let numbers: Vec<u32> = self.controls.keys().copied().collect();
        for number in numbers {
            self.tell(number, &Message::Event(event.clone()));
        }
    }

    fn tell(&mut self, number: u32, message: &Message) {
        self.tell_with(number, message, None);
    }

    fn tell_with(&mut self, number: u32, message: &Message, fds: Option<Rc<[OwnedFd]>>) {
        let Some(control) = self.controls.get_mut(&number) else { return };
        control.send_with(message, fds);
        self.flush_control(number);
    }

    fn flush_control(&mut self, number: u32) {
        let Some(control) = self.controls.get_mut(&number) else { return };
        let flags = match control.flush() {
            false => return self.drop_control(number),
            true if control.is_flushed() => EventFlags::IN,
            true => EventFlags::IN | EventFlags::OUT,
        };
        let _ = self.poller.modify(control.socket(), Token::Control(number), flags);
    }

    /// Every daemon has to connect anew.
    fn drop_controls(&mut self) {
        let numbers: Vec<u32> = self.controls.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.drop_control(number));
    }

    fn drop_control(&mut self, number: u32) {
        if let Some(control) = self.controls.remove(&number) {
            self.poller.remove(control.socket());
        }
    }
}
