//! Bytes: from processes to the log and their clients, from clients to processes.
//!
//! Back-pressure: while an attached client cannot take more, its process's output is not read, as in Docker;
//! a process's input takes no more from clients until the process has read. A client that is gone holds
//! nobody back, nor does one for long that was attached later and takes nothing: its connection is closed.

use super::client::{Client, Wants};
use super::detach::{DetachKeys, Outcome};
use super::input::Condition;
use super::poller::Token;
use super::process::{Read, read_now};
use super::{MAIN, READ_SIZE, Shim};
use std::os::fd::AsFd;
use std::time::Instant;
use wharf_logs::Stream;
use wharf_spec::shim::Event;
use wharf_sys::event::EventFlags;

/// How often one output or client is read before others get their turn.
const TURNS: usize = 16;

pub(super) const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// Whether clients that cannot keep up are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    Respect,
    Ignore,
}

/// Why reading an output stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// There was something.
    Some,
    /// Nothing there, or it may not be read.
    Nothing,
}

impl Shim {
    /// Output has come.
    pub(super) fn pump(&mut self, number: u32, stream: Stream) {
        for _ in 0..TURNS {
            if self.is_held_back(number, stream) {
                return self.hold_output(number, stream);
            }
            if self.pump_once(number, stream) == Pumped::Nothing {
                return;
            }
        }
    }

    /// Everything that is there of a process that has ended.
    pub(super) fn pump_rest(&mut self, number: u32, pressure: Pressure) {
        for stream in STREAMS {
            // Others may still write to it: then what is there may never end.
            let mut left = 4 * super::queue::FULL / READ_SIZE;
            while left > 0 && (pressure == Pressure::Ignore || !self.is_held_back(number, stream)) {
                if self.pump_once(number, stream) == Pumped::Nothing {
                    break;
                }
                left -= 1;
            }
        }
    }

    fn pump_once(&mut self, number: u32, stream: Stream) -> Pumped {
        let mut buffer = self.take_buffer();
        let read = match self.processes.get_mut(&number).and_then(|p| p.output(stream).as_ref()) {
            Some(output) => read_now(output.fd.as_fd(), &mut buffer),
            None => Read::Nothing,
        };
        let pumped = match read {
            Read::Bytes(count) => {
                self.deliver(number, stream, &buffer[..count]);
                Pumped::Some
            }
            Read::Nothing => Pumped::Nothing,
            Read::End => {
                self.close_output(number, stream);
                Pumped::Nothing
            }
        };
        self.buffer = buffer;
        pumped
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ_SIZE, 0);
        buffer
    }

    fn deliver(&mut self, number: u32, stream: Stream, data: &[u8]) {
        if number == MAIN
            && let Some(log) = &mut self.log
        {
            log.write(stream, data, wharf_logs::now());
            self.watch_log();
        }
        let mut waiting = Vec::new();
        let mut gone = Vec::new();
        for (id, client) in &mut self.clients {
            if client.process != number || !client.wants(stream) {
                continue;
            }
            match client.send(stream, data) {
                Ok(()) if client.is_flushed() => {}
                Ok(()) => waiting.push(*id),
                Err(_) => gone.push(*id),
            }
        }
        waiting.into_iter().for_each(|id| self.update_client(id));
        gone.into_iter().for_each(|id| self.lose_output(id));
    }

    fn is_held_back(&self, number: u32, stream: Stream) -> bool {
        self.clients.values().any(|c| c.process == number && c.wants(stream) && c.is_full())
    }

    fn hold_output(&mut self, number: u32, stream: Stream) {
        let Some(output) = self.processes.get_mut(&number).and_then(|p| p.output(stream).as_mut()) else {
            return;
        };
        // Out of the poller altogether: the end of an output is reported even when nothing is asked for.
        self.poller.remove(&output.fd);
        output.is_polled = false;
    }

    /// Outputs that nobody holds back are waited for.
    pub(super) fn resume_outputs(&mut self, number: u32) {
        for stream in STREAMS {
            if self.is_held_back(number, stream) {
                continue;
            }
            let Some(process) = self.processes.get_mut(&number) else { return };
            if let Some(output) = process.output(stream).as_mut().filter(|o| !o.is_polled) {
                output.is_polled =
                    self.poller.add(&output.fd, Token::Output(number, stream), EventFlags::IN).is_ok();
            }
        }
    }

    pub(super) fn close_output(&mut self, number: u32, stream: Stream) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        if let Some(output) = process.output(stream).take() {
            self.poller.remove(&output.fd);
        }
    }

    /// A new client. Every byte the process writes from now on reaches it.
    pub(super) fn add_client(&mut self, mut client: Client, keys: Vec<u8>) {
        client.keys = DetachKeys::new(keys);
        let number = self.number();
        self.clients.insert(number, client);
        self.update_client(number);
    }

    /// Something happened on a client's socket.
    pub(super) fn serve_client(&mut self, number: u32, flags: EventFlags) {
        let Some(client) = self.clients.get(&number) else { return };
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            return self.lose_output(number);
        }
        if client.wants.stdin && flags.contains(EventFlags::IN) {
            self.read_client(number);
        }
        if flags.contains(EventFlags::OUT) {
            self.flush_client(number);
        }
    }

    /// Takes a client's input while its process takes it.
    fn read_client(&mut self, number: u32) {
        let mut turns = 0;
        loop {
            let Some(client) = self.clients.get(&number).filter(|c| c.wants.stdin) else { return };
            let process = client.process;
            // The poller says nothing more about one that hung up: what is there is taken now.
            if turns == TURNS && !client.is_hung_up {
                break;
            }
            turns += 1;
            if !self.processes.get(&process).is_some_and(|p| p.input.has_room()) {
                break;
            }
            let mut buffer = self.take_buffer();
            let read = match self.clients.get(&number) {
                Some(client) => read_now(client.socket().as_fd(), &mut buffer),
                None => Read::Nothing,
            };
            match read {
                Read::Bytes(count) => self.feed(number, process, &buffer[..count]),
                Read::Nothing => {}
                Read::End => self.end_client_input(number),
            }
            self.buffer = buffer;
            if !matches!(read, Read::Bytes(_)) {
                break;
            }
        }
        self.update_client(number);
    }

    fn feed(&mut self, number: u32, process: u32, data: &[u8]) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let Some(input) = self.processes.get_mut(&process).map(|p| &mut p.input) else { return };
        let (condition, outcome) = match &mut client.keys {
            None => (input.write(data), Outcome::Attached),
            Some(keys) => {
                let mut passed = Vec::with_capacity(data.len());
                let outcome = keys.filter(data, &mut passed);
                (input.write(&passed), outcome)
            }
        };
        self.update_input(process, condition);
        if outcome == Outcome::Detached {
            let exec = self.processes.get(&process).and_then(|p| p.exec.clone());
            self.announce(&Event::Detached { exec });
            self.dismiss_client(number);
        }
    }

    /// A client sends no more. Docker closes the process's input where it was made for one client, and ends
    /// the attachment where it was not (source: moby `daemon/internal/stream/attach.go`, CopyStreams).
    fn end_client_input(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.wants.stdin = false;
        let process = client.process;
        if self.processes.get(&process).is_some_and(|p| p.ends_with_client()) {
            self.end_input(process);
        } else {
            self.dismiss_client(number);
        }
        if self.clients.get(&number).is_some_and(|c| c.is_hung_up) {
            self.lose_client(number);
        }
    }

    fn end_input(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let condition = process.input.end();
        self.update_input(number, condition);
    }

    /// A process has read some of its input.
    pub(super) fn flush_input(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let condition = process.input.flush();
        self.update_input(number, condition);
        let readers: Vec<(u32, bool)> = self
            .clients
            .iter()
            .filter(|(_, c)| c.process == number && c.wants.stdin)
            .map(|(id, c)| (*id, c.is_hung_up))
            .collect();
        for (id, is_hung_up) in readers {
            match is_hung_up {
                true => self.read_client(id),
                false => self.update_client(id),
            }
        }
    }

    fn update_input(&mut self, number: u32, condition: Condition) {
        if condition == Condition::Done {
            return self.close_input(number);
        }
        let Some(input) = self.processes.get_mut(&number).map(|p| &mut p.input) else { return };
        let is_waiting = input.is_waiting();
        let Some(fd) = input.fd().filter(|_| is_waiting != input.is_polled) else { return };
        if is_waiting {
            input.is_polled = self.poller.add(fd, Token::Input(number), EventFlags::OUT).is_ok();
        } else {
            self.poller.remove(fd);
            input.is_polled = false;
        }
    }

    pub(super) fn close_input(&mut self, number: u32) {
        let Some(input) = self.processes.get_mut(&number).map(|p| &mut p.input) else { return };
        // A terminal's input has copies: closing alone would leave it in the poller.
        if let Some(fd) = input.fd().filter(|_| input.is_polled) {
            self.poller.remove(fd);
        }
        input.is_polled = false;
        input.close();
    }

    /// Sends what a client waits for.
    fn flush_client(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if client.flush().is_err() {
            return self.lose_output(number);
        }
        let process = client.process;
        self.update_client(number);
        self.resume_outputs(process);
    }

    /// The connection broke or was closed. What the client sent before may still be there to read.
    fn lose_output(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let process = client.process;
        client.drop_output();
        if client.wants.stdin && !client.is_leaving {
            client.is_hung_up = true;
            self.read_client(number);
            self.update_client(number);
        } else {
            self.lose_client(number);
        }
        self.resume_outputs(process);
    }

    /// A client gets nothing new and goes when it has what is on its way.
    pub(super) fn dismiss_client(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.wants = Wants { stdin: false, stdout: false, stderr: false };
        client.is_leaving = true;
        let process = client.process;
        self.flush_client(number);
        self.resume_outputs(process);
    }

    pub(super) fn dismiss_clients_of(&mut self, process: u32) {
        let numbers: Vec<u32> =
            self.clients.iter().filter(|(_, c)| c.process == process).map(|(id, _)| *id).collect();
        for number in numbers {
            self.dismiss_client(number);
        }
    }

    /// Clients that have taken nothing for too long are gone.
    pub(super) fn lose_stuck_clients(&mut self, now: Instant) {
        let is_over = |client: &Client| client.patience_ends().is_some_and(|end| end <= now);
        let stuck: Vec<u32> = self.clients.iter().filter(|(_, c)| is_over(c)).map(|(id, _)| *id).collect();
        stuck.into_iter().for_each(|number| self.lose_client(number));
    }

    /// A client is gone. That ends its input, too.
    fn lose_client(&mut self, number: u32) {
        let Some(client) = self.clients.remove(&number) else { return };
        self.poller.remove(client.socket());
        let process = client.process;
        if client.wants.stdin && self.processes.get(&process).is_some_and(|p| p.ends_with_client()) {
            self.end_input(process);
        }
        self.resume_outputs(process);
    }

    /// Brings what the poller waits for in line with what the client is in for.
    fn update_client(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if client.is_leaving && client.is_flushed() {
            self.poller.remove(client.socket());
            self.clients.remove(&number);
            return;
        }
        let mut flags = EventFlags::empty();
        let has_room = self.processes.get(&client.process).is_some_and(|p| p.input.has_room());
        if client.wants.stdin && has_room {
            flags |= EventFlags::IN;
        }
        if !client.is_flushed() {
            flags |= EventFlags::OUT;
        }
        let wanted = (!client.is_hung_up).then_some(flags);
        if client.polled == wanted {
            return;
        }
        let token = Token::Client(number);
        let done = match (client.polled, wanted) {
            (None, Some(flags)) => self.poller.add(client.socket(), token, flags),
            (Some(_), Some(flags)) => self.poller.modify(client.socket(), token, flags),
            (_, None) => {
                self.poller.remove(client.socket());
                Ok(())
            }
        };
        client.polled = wanted;
        if done.is_err() {
            self.lose_client(number);
        }
    }
}
