//! What daemons ask for.

use super::client::{Client, Framing, Wants};
use super::control::Incoming;
use super::process::Process;
use super::{MAIN, Shim, at_input_end, setup};
use rustix::fd::OwnedFd;
use std::rc::Rc;
use wharf_spec::plan::{Fd, TerminalSize};
use wharf_spec::shim::{
    Answer, Call, ExecAttach, ExecPlan, Failure, FailureKind, Message, Reply, Request, State,
};
use wharf_sys::{fault, seqpacket};

/// How many requests of one daemon are answered before others get their turn.
const TURNS: usize = 32;

type Outcome = Result<Answer, Failure>;

impl Shim {
    /// A daemon has something to say, or room for answers.
    pub(super) fn converse(&mut self, number: u32) {
        for _ in 0..TURNS {
            let Some(control) = self.controls.get(&number) else { return };
            let (seq, result) = match control.receive() {
                Incoming::Request(request, fds) => {
                    let Request { seq, call } = *request;
                    if fault::point("shim.call").is_err() {
                        return self.drop_control(number);
                    }
                    let outcome = self.call(call, fds);
                    if fault::point("shim.reply").is_err() {
                        return self.drop_control(number);
                    }
                    (seq, outcome)
                }
                Incoming::Unknown { seq } => {
                    (seq, Err(setup("read the request", &"this shim does not know such a request")))
                }
                Incoming::Ignored => continue,
                Incoming::Nothing => break,
                Incoming::Closed => return self.drop_control(number),
            };
            let fds = matches!(result, Ok(Answer::Held(_))).then(|| Rc::clone(&self.held));
            self.tell_with(number, &Message::Reply(Reply { seq, result }), fds);
        }
        self.flush_control(number);
    }

    fn call(&mut self, call: Call, fds: Vec<OwnedFd>) -> Outcome {
        match call {
            Call::State => Ok(Answer::State(self.state())),
            Call::Signal { exec, signal, all } => self.signal(exec.as_deref(), signal, all),
            Call::Pause => self.pause(),
            Call::Resume => self.resume(),
            Call::Update(resources) => {
                self.running_main("update")?;
                self.container.update(&resources).map(|()| Answer::Done)
            }
            Call::Resize { exec, size } => self.resize(exec.as_deref(), size),
            Call::Attach { exec, stream, stdin, stdout, stderr, detach_keys } => {
                let attach = ExecAttach { stream, stdin, stdout, stderr, detach_keys };
                let number = self.running(exec.as_deref(), "attach")?;
                self.attach(number, &attach, &fds)
            }
            Call::Exec(plan) => self.exec(*plan, fds),
            Call::Forget { exec } => self.forget(&exec),
            Call::Release => self.release(),
            // There are no more than the plan could name.
            Call::Hold(_) => self.hold(fds),
            Call::Keep(_) => self.keep(fds),
            Call::Held => Ok(Answer::Held((0..self.held.len()).map(|index| Fd(index as u16)).collect())),
        }
    }

    /// Keeps more for the container, as what its plan names.
    fn hold(&mut self, mut fds: Vec<OwnedFd>) -> Outcome {
        self.running_main("hold descriptors")?;
        fds.iter_mut().for_each(super::set_one_aside);
        let kept = self.held.iter().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>();
        let kept = kept.map_err(|e| setup("hold descriptors", &e))?;
        self.held = kept.into_iter().chain(fds).collect();
        Ok(Answer::Done)
    }

    /// Keeps these for the container, and nothing of before.
    fn keep(&mut self, mut fds: Vec<OwnedFd>) -> Outcome {
        self.running_main("keep descriptors")?;
        fds.iter_mut().for_each(super::set_one_aside);
        self.held = fds.into();
        Ok(Answer::Done)
    }

    pub(super) fn state(&self) -> State {
        let pid = |p: &Process| if p.is_running() { p.pid } else { 0 };
        let main = self.processes.get(&MAIN);
        let execs = self.processes.values().filter_map(|p| Some((p.exec.clone()?, pid(p), p.exit)));
        State {
            pid: main.map_or(0, pid),
            paused: self.paused,
            exit: main.and_then(|p| p.exit),
            execs: execs.collect(),
        }
    }

    /// The number of the main process or an exec.
    fn find(&self, exec: Option<&str>) -> Result<u32, Failure> {
        match exec {
            None => Ok(MAIN),
            Some(id) => {
                let found = self.processes.iter().find(|(_, p)| p.exec.as_deref() == Some(id));
                found.map(|(number, _)| *number).ok_or_else(|| {
                    refusal(FailureKind::NotFound, "find the exec", format!("no such exec: {id}"))
                })
            }
        }
    }

    fn running(&self, exec: Option<&str>, step: &str) -> Result<u32, Failure> {
        let number = self.find(exec)?;
        match self.processes.get(&number) {
            Some(process) if process.is_running() => Ok(number),
            _ => Err(refusal(FailureKind::NotFound, step, "process already finished".into())),
        }
    }

    fn running_main(&self, step: &str) -> Result<u32, Failure> {
        self.running(None, step)
            .map_err(|_| refusal(FailureKind::Conflict, step, "container is not running".into()))
    }

    fn signal(&mut self, exec: Option<&str>, signal: i32, all: bool) -> Outcome {
        let number = self.running(exec, "signal")?;
        if all {
            return self.container.signal_all(signal).map(|()| Answer::Done);
        }
        if number == MAIN {
            return self.container.signal_main(signal).map(|()| Answer::Done);
        }
        let Some(process) = self.processes.get(&number) else { return Ok(Answer::Done) };
        wharf_runtime::signal(&process.pidfd, signal)?;
        Ok(Answer::Done)
    }

    fn pause(&mut self) -> Outcome {
        self.running_main("pause")?;
        self.container.pause()?;
        self.paused = true;
        Ok(Answer::Done)
    }

    fn resume(&mut self) -> Outcome {
        self.running_main("resume")?;
        self.container.resume()?;
        self.paused = false;
        Ok(Answer::Done)
    }

    fn resize(&mut self, exec: Option<&str>, size: TerminalSize) -> Outcome {
        let number = self.running(exec, "resize")?;
        if let Some(process) = self.processes.get(&number) {
            process.resize(size).map_err(|e| setup("resize", &e))?;
        }
        Ok(Answer::Done)
    }

    fn attach(&mut self, number: u32, attach: &ExecAttach, fds: &[OwnedFd]) -> Outcome {
        let stream = take(fds, attach.stream)?;
        let Some(process) = self.processes.get(&number) else { return Ok(Answer::Done) };
        let client = client(number, process, stream, attach)?;
        self.add_client(client, attach.detach_keys.clone());
        Ok(Answer::Done)
    }

    fn exec(&mut self, plan: ExecPlan, fds: Vec<OwnedFd>) -> Outcome {
        self.running_main("exec")?;
        if self.paused {
            return Err(refusal(FailureKind::Conflict, "exec", "cannot exec in a paused container".into()));
        }
        if self.find(Some(&plan.id)).is_ok() {
            return Err(refusal(FailureKind::Conflict, "exec", format!("exec {} exists already", plan.id)));
        }
        let stream = plan.attach.as_ref().map(|attach| take(&fds, attach.stream)).transpose()?;
        let started = self.container.exec(&plan, &fds)?;
        drop(fds);
        let pid = started.pid;
        let process = Process::new(Some(plan.id), started, at_input_end(&plan.stdio));
        let number = self.number();
        // Before the process's output is read for the first time.
        if let (Some(stream), Some(attach)) = (stream, plan.attach) {
            let client = client(number, &process, stream, &attach);
            self.processes.insert(number, process);
            // The process runs already; a client that cannot be served is one that is gone.
            if let Ok(client) = client {
                self.add_client(client, attach.detach_keys);
            }
        } else {
            self.processes.insert(number, process);
        }
        self.watch_process(number);
        Ok(Answer::Started { pid })
    }

    fn forget(&mut self, exec: &str) -> Outcome {
        let number = self.find(Some(exec))?;
        if self.processes.get(&number).is_some_and(|p| p.exit.is_none()) {
            return Err(refusal(FailureKind::Conflict, "forget", format!("exec {exec} is running")));
        }
        self.forget_process(number);
        Ok(Answer::Done)
    }

    fn release(&mut self) -> Outcome {
        if self.processes.get(&MAIN).is_some_and(|p| p.exit.is_none()) {
            return Err(refusal(FailureKind::Conflict, "release", "the container is running".into()));
        }
        self.released = true;
        Ok(Answer::Done)
    }
}

fn client(number: u32, process: &Process, stream: OwnedFd, attach: &ExecAttach) -> Result<Client, Failure> {
    seqpacket::set_nonblocking(&stream, true).map_err(|e| setup("attach", &e))?;
    // Where there is no input, what the client sends is not looked at (source: moby `daemon/attach.go`).
    let stdin = attach.stdin && process.input.is_open();
    let wants = Wants { stdin, stdout: attach.stdout, stderr: attach.stderr };
    let framing = if process.has_terminal() { Framing::Raw } else { Framing::Stdcopy };
    Ok(Client::new(number, stream, wants, framing))
}

fn take(fds: &[OwnedFd], which: Fd) -> Result<OwnedFd, Failure> {
    let step = "take the descriptors";
    let fd = fds
        .get(usize::from(which.0))
        .ok_or_else(|| refusal(FailureKind::Setup, step, format!("descriptor {} did not come", which.0)))?;
    fd.try_clone().map_err(|error| setup(step, &error))
}

fn refusal(kind: FailureKind, step: &str, message: String) -> Failure {
    Failure { kind, step: step.into(), errno: 0, message }
}
