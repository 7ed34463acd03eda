//! `docker-init` as it runs in containers: the built program under its other name.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// A directory with the shim linked as `docker-init`.
struct Named {
    _dir: tempfile::TempDir,
    program: PathBuf,
}

impl Named {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker-init");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wharf-shim"), &program).unwrap();
        Self { _dir: dir, program }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env_remove("TINI_SUBREAPER").env("TINI_VERBOSITY", "0");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts a shell script that says `ready` once it is.
    fn spawn_ready(&self, options: &[&str], script: &str) -> Child {
        let mut args = options.to_vec();
        args.extend(["--", "/bin/busybox", "sh", "-c", script]);
        let mut command = self.command(&args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::with_capacity(1, child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child.stdout = Some(output.into_inner());
        child
    }
}

fn signal(pid: u32, signal: i32) {
    wharf_sys::process::kill(pid as i32, signal).unwrap();
}

#[test]
fn ends_as_the_program_ends() {
    let init = Named::new();
    assert_eq!(init.run(&["-s", "--", "/bin/busybox", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(init.run(&["-s", "--", "/bin/busybox", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    assert_eq!(
        init.run(&["-s", "-e", "7", "--", "/bin/busybox", "sh", "-c", "exit 7"]).status.code(),
        Some(0)
    );
    let missing = init.run(&["-s", "--", "/no/such/program"]);
    assert_eq!(missing.status.code(), Some(127));
    let text = String::from_utf8(missing.stderr).unwrap();
    assert!(text.ends_with("exec /no/such/program failed: no such file or directory\n"), "{text}");
    assert_eq!(init.run(&["-s", "--", "/etc/passwd"]).status.code(), Some(126));
    assert_eq!(init.run(&[]).status.code(), Some(1));
}

#[test]
fn signals_reach_the_program_and_it_decides() {
    let init = Named::new();
    let script = "trap 'echo got; exit 3' TERM; echo ready; while :; do busybox sleep 0.05; done";
    let mut child = init.spawn_ready(&["-s"], script);
    signal(child.id(), 15);
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got\n", Some(3)));
    // Without a trap the program dies of it, and that is told as a shell does.
    let mut child = init.spawn_ready(&["-s"], "echo ready; exec busybox sleep 100");
    signal(child.id(), 1);
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(129), None));
}

#[test]
fn with_g_the_whole_group_is_signalled() {
    let init = Named::new();
    // The shell waits for a child of its group and goes on only when that one is signalled too.
    let script = "trap '' USR1; (trap - USR1; echo ready; exec busybox sleep 100) 2>/dev/null & wait $!; exit $(( $? & 127 ))";
    let mut child = init.spawn_ready(&["-s", "-g"], script);
    signal(child.id(), 10);
    assert_eq!(child.wait().unwrap().code(), Some(138 & 127));
}

#[test]
fn orphans_are_reaped() {
    let init = Named::new();
    let script = "(busybox true & ) ; echo ready; read x; exit 0";
    let mut args = vec!["-s", "-w", "--", "/bin/busybox", "sh", "-c", script];
    let mut command = init.command(&std::mem::take(&mut args));
    command.env("TINI_VERBOSITY", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut warning = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut warning).unwrap();
    assert!(warning.contains("Reaped zombie process with pid="), "{warning}");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The program starts with nothing blocked and nothing ignored, though this program's own runtime ignores
/// SIGPIPE and it blocks nearly everything itself.
#[test]
fn the_program_starts_with_clean_signals() {
    let init = Named::new();
    let output = init.run(&["-s", "--", "/bin/busybox", "grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]);
    // 32 and 33 belong to the C library, which sets them for nobody: they may come ignored from outside.
    const OF_LIBC: u64 = 0b11 << 31;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (_, mask) = line.split_once(":\t").unwrap();
        assert_eq!(u64::from_str_radix(mask, 16).unwrap() & !OF_LIBC, 0, "{line}");
    }
}
