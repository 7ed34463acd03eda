//! `docker-init`: the first process of a container run with `--init`. It starts one program, passes signals on
//! to it, reaps what others leave behind, and ends as the program ends.
//!
//! Options, environment, terminal handling and exit codes are those of tini 0.19 (source:
//! github.com/krallin/tini `src/tini.c`), which Docker ships under this name.

use lexopt::prelude::*;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use wharf_spec::signal;
use wharf_sys::process::{CloneOptions, Exit, Fork, SingleThreaded};
use wharf_sys::{event, process};

const USAGE: &str = "Usage: docker-init [OPTIONS] PROGRAM -- [ARGS] | --version

Execute a program under the supervision of a valid init process

Command line options:

  --version: Show version and exit.
  -h: Show this help message and exit.
  -s: Register as a process subreaper.
  -p SIGNAL: Trigger SIGNAL when parent dies, e.g. \"-p SIGKILL\".
  -v: Generate more verbose output. Repeat up to 3 times.
  -w: Print a warning when processes are getting reaped.
  -g: Send signals to the child's process group.
  -e EXIT_CODE: Remap EXIT_CODE (from 0 to 255) to 0 (can be repeated).
  -l: Show license and exit.

Environment variables:

  TINI_SUBREAPER: Register as a process subreaper.
  TINI_VERBOSITY: Set the verbosity level (default: 1).
  TINI_KILL_PROCESS_GROUP: Send signals to the child's process group.
";

/// Signals that mean something to this process itself: faults of its own, and the two a terminal sends.
const NOT_FORWARDED: [i32; 9] = [4, 5, 6, 7, 8, 11, 21, 22, 31];
const SIGCHLD: i32 = 17;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
const LAST_SIGNAL: i32 = 64;

/// Runs as `docker-init`; `args` are those after the program's name.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(args) {
        Ok(Request::Run(mut options)) => {
            options.take_environment();
            supervise(&options)
        }
        Ok(Request::Print(text)) => {
            // A closed standard output is no reason to fail.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Run(Options),
    Print(String),
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    subreaper: bool,
    /// 0 is fatal errors only, 1 warnings, 2 information, 3 and more details.
    verbosity: i32,
    warn_on_reap: bool,
    signal_group: bool,
    parent_death_signal: Option<i32>,
    /// Exit codes that count as 0.
    expected: Vec<u8>,
    /// Never empty.
    command: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            subreaper: false,
            verbosity: 1,
            warn_on_reap: false,
            signal_group: false,
            parent_death_signal: None,
            expected: Vec::new(),
            command: Vec::new(),
        }
    }
}

impl Options {
    fn take_environment(&mut self) {
        self.subreaper |= std::env::var_os("TINI_SUBREAPER").is_some();
        self.signal_group |= std::env::var_os("TINI_KILL_PROCESS_GROUP").is_some();
        if let Some(level) = std::env::var_os("TINI_VERBOSITY") {
            // atoi(3): what is no number is 0.
            self.verbosity = level.to_str().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        }
    }

    fn say(&self, level: Level, text: impl FnOnce() -> String) {
        if self.verbosity >= level as i32 {
            let pid = std::process::id();
            // Nobody may be listening.
            let _ = writeln!(std::io::stderr(), "[{} docker-init ({pid})] {}", level.label(), text());
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Level {
    Fatal = 0,
    Warning = 1,
    Info = 2,
    Debug = 3,
}

impl Level {
    fn label(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Warning => "WARN ",
            Self::Info => "INFO ",
            Self::Debug => "DEBUG",
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(args);
    let wrong = |error: lexopt::Error| format!("{error}\n\n{USAGE}");
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Short('h') => return Ok(Request::Print(USAGE.to_owned())),
            Short('l') => return Ok(Request::Print("Apache License, Version 2.0\n".to_owned())),
            Long("version") => return Ok(Request::Print(version())),
            Short('s') => options.subreaper = true,
            Short('v') => options.verbosity += 1,
            Short('w') => options.warn_on_reap = true,
            Short('g') => options.signal_group = true,
            Short('p') => options.parent_death_signal = Some(signal_option(parser.value().map_err(wrong)?)?),
            Short('e') => options.expected.push(exit_code_option(parser.value().map_err(wrong)?)?),
            Value(program) => {
                options.command.push(program);
                // What follows belongs to the program, options included.
                options.command.extend(parser.raw_args().map_err(wrong)?);
            }
            other => return Err(wrong(other.unexpected())),
        }
    }
    if options.command.is_empty() { Err(USAGE.to_owned()) } else { Ok(Request::Run(options)) }
}

fn version() -> String {
    format!("docker-init version {} (wharf)\n", env!("CARGO_PKG_VERSION"))
}

fn signal_option(value: OsString) -> Result<i32, String> {
    let number = value.to_str().and_then(|text| signal::parse(text).ok()).filter(|n| signal::is_valid(*n));
    number.ok_or_else(|| format!("Not a valid option for -p: {}", value.display()))
}

fn exit_code_option(value: OsString) -> Result<u8, String> {
    let code = value.to_str().and_then(|text| text.parse().ok());
    code.ok_or_else(|| format!("Not a valid option for -e: {}", value.display()))
}

/// Why this process cannot go on.
type Fatal = wharf_sys::Error;

fn supervise(options: &Options) -> ExitCode {
    match start(options).and_then(|child| watch(options, child)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            options.say(Level::Fatal, || error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The program's pid, and what delivers this process's signals.
struct Child {
    pid: i32,
    signals: rustix::fd::OwnedFd,
}

fn start(options: &Options) -> Result<Child, Fatal> {
    let collected: Vec<i32> = (1..=LAST_SIGNAL).filter(|n| !NOT_FORWARDED.contains(n)).collect();
    process::block_signals(&collected)?;
    let signals = event::signalfd(&collected)?;
    // The child takes the terminal: what is said here afterwards must not stop this process.
    process::ignore_signal(SIGTTIN)?;
    process::ignore_signal(SIGTTOU)?;
    if let Some(signal) = options.parent_death_signal {
        process::set_parent_death_signal(signal)?;
    }
    if options.subreaper {
        process::become_subreaper()?;
    }
    warn_unless_reaper(options);
    match process::clone(SingleThreaded::check()?, &CloneOptions::default())? {
        Fork::Parent { pid, .. } => {
            options.say(Level::Info, || {
                format!("Spawned child process {:?} with pid '{pid}'", options.command[0])
            });
            Ok(Child { pid, signals })
        }
        Fork::Child => process::exit(become_program(options)),
    }
}

fn warn_unless_reaper(options: &Options) {
    if std::process::id() != 1 && !options.subreaper {
        options.say(Level::Warning, || {
            "not running as PID 1 and isn't registered as a child subreaper.\n\
             Zombie processes will not be re-parented to docker-init, so zombie reaping won't work.\n\
             To fix the problem, use the -s option or set the environment variable TINI_SUBREAPER to register \
             it as a child subreaper, or run it as PID 1."
                .to_owned()
        });
    }
}

/// In the child: a process group of its own, in the foreground of the terminal if there is one, signals as a
/// new program expects them, then the program. Returns only the exit code of a failure.
fn become_program(options: &Options) -> i32 {
    if let Err(error) = take_terminal() {
        options.say(Level::Fatal, || format!("tcsetpgrp failed: {error}"));
        return 1;
    }
    if let Err(error) = process::reset_signals() {
        options.say(Level::Fatal, || error.to_string());
        return 1;
    }
    let error = Command::new(&options.command[0]).args(&options.command[1..]).exec();
    options.say(Level::Fatal, || {
        let errno = Errno::from_io_error(&error).map_or_else(|| error.to_string(), wharf_sys::errno_text);
        format!("exec {} failed: {errno}", options.command[0].display())
    });
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => 127,
        Some(Errno::ACCESS) => 126,
        _ => 1,
    }
}

fn take_terminal() -> Result<(), Errno> {
    rustix::process::setpgid(None, None)?;
    match rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp()) {
        // No terminal, or not ours.
        Err(Errno::NOTTY | Errno::NXIO) => Ok(()),
        other => other,
    }
}

/// Passes signals on and reaps until the program has ended; its exit code.
fn watch(options: &Options, child: Child) -> Result<u8, Fatal> {
    loop {
        event::wait_readable(&child.signals, None)?;
        while let Some(signal) = event::signalfd_next(&child.signals)? {
            if signal.number != SIGCHLD {
                forward(options, child.pid, signal.number)?;
            }
        }
        if let Some(exit) = reap(options, child.pid)? {
            return Ok(exit_code(options, exit));
        }
    }
}

fn forward(options: &Options, child: i32, signal: i32) -> Result<(), Fatal> {
    options.say(Level::Debug, || format!("Passing signal: {}", signal::name(signal).unwrap_or_default()));
    let target = if options.signal_group { -child } else { child };
    match process::kill(target, signal) {
        Err(error) if error.is(Errno::SRCH) => {
            options.say(Level::Warning, || "Child was dead when forwarding signal".to_owned());
            Ok(())
        }
        other => other,
    }
}

/// Reaps everything that has ended; how the program ended, if it has.
fn reap(options: &Options, child: i32) -> Result<Option<Exit>, Fatal> {
    let mut ended = None;
    while let Some((pid, exit)) = process::reap_any()? {
        if pid == child {
            options.say(Level::Info, || format!("Main child ended: {exit:?}"));
            ended = Some(exit);
        } else if options.warn_on_reap {
            options.say(Level::Warning, || format!("Reaped zombie process with pid={pid}"));
        }
    }
    Ok(ended)
}

fn exit_code(options: &Options, exit: Exit) -> u8 {
    // Both forms stay below 256: a status has 8 bits, a signal 7.
    let code = (exit.code() % 256) as u8;
    if options.expected.contains(&code) { 0 } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Request, String> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn options_end_where_the_program_begins() {
        let want = Options {
            subreaper: true,
            verbosity: 3,
            warn_on_reap: true,
            signal_group: true,
            parent_death_signal: Some(9),
            expected: vec![143, 0],
            command: ["ls", "-v", "--", "x"].map(OsString::from).into(),
        };
        let args = ["-svvwg", "-p", "SIGKILL", "-e143", "-e", "0", "--", "ls", "-v", "--", "x"];
        assert_eq!(parsed(&args), Ok(Request::Run(want)));
        let Ok(Request::Run(plain)) = parsed(&["ls", "-s"]) else { panic!() };
        assert!(!plain.subreaper);
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [&[][..], &["--"], &["-x", "ls"], &["-e", "256", "ls"], &["-p", "SIGNO", "ls"], &["-e"]] {
            assert!(parsed(args).is_err(), "{args:?}");
        }
        assert_eq!(parsed(&["--version"]), Ok(Request::Print(version())));
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let options = Options { expected: vec![143], ..Options::default() };
        assert_eq!(exit_code(&options, Exit::Code(7)), 7);
        assert_eq!(exit_code(&options, Exit::Signal(9)), 137);
        assert_eq!(exit_code(&options, Exit::Signal(15)), 0, "expected");
    }
}
