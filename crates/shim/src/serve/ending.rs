//! How processes end: output is read to its end, then the end is made known.

use super::process::Ending;
use super::streams::{Pressure, STREAMS};
use super::{MAIN, Shim};
use std::rc::Rc;
use std::time::{Duration, Instant};
use wharf_spec::shim::{Event, ExitRecord};
use wharf_sys::{fault, process};

/// How long after a process's end its output is waited for when something else holds it open (source: moby
/// `daemon/monitor.go`, handleContainerExit).
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// How long a kill for memory is looked for.
const OOM_PATIENCE: Duration = Duration::from_millis(200);

/// Whether the kernel has killed for memory since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutOfMemory {
    Killed,
    NotKilled,
}

impl Shim {
    /// A process may have ended.
    pub(super) fn see_exit(&mut self, number: u32) {
        let Some(it) = self.processes.get_mut(&number).filter(|p| p.is_running()) else { return };
        let code = match process::try_wait(&it.pidfd) {
            Ok(Some(exit)) => exit.code(),
            Ok(None) => return,
            // Somebody else has reaped it: only its status is lost.
            Err(_) => 255,
        };
        self.poller.remove(&it.pidfd);
        let now = wharf_logs::now();
        it.ending = Some(Ending { code, at: now, deadline: Instant::now() + OUTPUT_GRACE });
        self.close_input(number);
        if number == MAIN {
            self.container.kill_rest();
        }
        self.pump_rest(number, Pressure::Respect);
    }

    /// Ended processes of others, which became ours because their parents ended.
    pub(super) fn reap_orphans(&mut self) {
        let _ = wharf_sys::event::drain(&self.signals);
        while let Ok(Some(pid)) = process::peek_ended_child() {
            let known = self.processes.iter().find(|(_, p)| p.pid == pid && p.is_running()).map(|(n, _)| *n);
            match known {
                Some(number) => self.see_exit(number),
                None if process::pidfd_open(pid).and_then(process::wait).is_ok() => {}
                None => return,
            }
        }
    }

    /// When the next ended process is done with, whatever its output does.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let pending = self.processes.values().filter(|p| p.exit.is_none());
        pending.filter_map(|p| p.ending.map(|e| e.deadline)).min()
    }

    /// Finishes what is ready to be finished; execs before the main process.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        self.lose_stuck_clients(now);
        if let Some(until) = self.oom_until {
            let is_over = self.note_out_of_memory() == OutOfMemory::Killed || now > until;
            self.oom_until = self.oom_until.filter(|_| !is_over);
        }
        let ended: Vec<(u32, Ending)> = self
            .processes
            .iter()
            .rev()
            .filter(|(_, p)| p.exit.is_none())
            .filter_map(|(n, p)| {
                Some((*n, p.ending.filter(|e| p.outputs_are_closed() || e.deadline <= now)?))
            })
            .collect();
        for (number, ending) in ended {
            if number == MAIN {
                self.end_execs();
            }
            self.finish(number, ending);
        }
    }

    /// The main process has ended and took the others with it; their ends come before its own.
    fn end_execs(&mut self) {
        let numbers: Vec<u32> = self.processes.keys().copied().filter(|n| *n != MAIN).rev().collect();
        for number in numbers {
            self.see_exit(number);
            if let Some((p, ending)) = self.processes.get(&number).and_then(|p| Some((p, p.ending?)))
                && p.exit.is_none()
            {
                self.finish(number, ending);
            }
        }
    }

    fn finish(&mut self, number: u32, ending: Ending) {
        // With the time up, what is in the pipe is read even if a client cannot keep up.
        self.pump_rest(number, Pressure::Ignore);
        for stream in STREAMS {
            self.close_output(number, stream);
        }
        match number {
            MAIN => self.finish_main(ending),
            _ => self.finish_exec(number, ending),
        }
        self.dismiss_clients_of(number);
    }

    fn finish_main(&mut self, ending: Ending) {
        let mut log_bytes_lost = 0;
        if let Some(mut log) = self.log.take() {
            if let Some(apart) = log.apart().filter(|apart| apart.is_polled) {
                self.poller.remove(apart.socket());
            }
            log_bytes_lost = log.finish(STREAMS, ending.at);
        }
        self.note_out_of_memory();
        fault::death("shim.ended");
        self.container.delete();
        fault::death("shim.deleted");
        let oom_killed = self.oom_killed;
        let record = ExitRecord { code: ending.code, at: ending.at, oom_killed, log_bytes_lost };
        // What is held is free before anybody can know of the end.
        self.held = Rc::default();
        // Without the file a later daemon takes the container for lost; the present one still learns the truth.
        let _ = self.records.write_exit(&record);
        self.record(MAIN, record);
        if fault::point("shim.exited").is_err() {
            self.drop_controls();
        }
        self.announce(&Event::Exited(record));
    }

    fn finish_exec(&mut self, number: u32, ending: Ending) {
        let record = ExitRecord { code: ending.code, at: ending.at, oom_killed: false, log_bytes_lost: 0 };
        self.record(number, record);
        if fault::point("shim.exec_exited").is_err() {
            self.drop_controls();
        }
        if let Some(exec) = self.processes.get(&number).and_then(|p| p.exec.clone()) {
            self.announce(&Event::ExecExited { exec, exit: record });
        }
    }

    fn record(&mut self, number: u32, record: ExitRecord) {
        if let Some(process) = self.processes.get_mut(&number) {
            process.exit = Some(record);
            process.close();
        }
    }

    /// The kernel says that memory ran out; the kill, if there is one, may be counted a moment later.
    pub(super) fn see_out_of_memory(&mut self) {
        if self.note_out_of_memory() == OutOfMemory::NotKilled {
            self.oom_until = Some(Instant::now() + OOM_PATIENCE);
        }
    }

    fn note_out_of_memory(&mut self) -> OutOfMemory {
        if !self.container.take_oom() {
            return OutOfMemory::NotKilled;
        }
        self.oom_killed = true;
        self.announce(&Event::OutOfMemory);
        // Telling has dropped the daemons that are gone.
        self.oom_untold |= self.controls.is_empty();
        OutOfMemory::Killed
    }

    /// Stops waiting for a process's end, for one that is forgotten.
    pub(super) fn forget_process(&mut self, number: u32) {
        if let Some(process) = self.processes.remove(&number) {
            self.poller.remove(&process.pidfd);
        }
    }
}
