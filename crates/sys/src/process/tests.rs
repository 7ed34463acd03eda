//! Tests of processes. The test binary has threads, so children are made with std and looked at from outside;
//! [`clone`] itself is tested by `tests/fork.rs`, which has one thread.

use super::*;

fn sleeper() -> (std::process::Child, OwnedFd) {
    let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pidfd = pidfd_open(child.id() as i32).unwrap();
    (child, pidfd)
}

#[test]
fn signals_and_waits_by_pidfd() {
    let (_child, pidfd) = sleeper();
    assert_eq!(try_wait(&pidfd).unwrap(), None);
    pidfd_send_signal(&pidfd, 0).unwrap();
    pidfd_send_signal(&pidfd, libc::SIGTERM).unwrap();
    let exit = wait(&pidfd).unwrap();
    assert_eq!(exit, Exit::Signal(libc::SIGTERM));
    assert_eq!(exit.code(), 143);
    assert!(pidfd_send_signal(&pidfd, 0).unwrap_err().is(Errno::SRCH));
}

#[test]
fn start_time_is_stable_and_survives_odd_names() {
    let (mut child, _pidfd) = sleeper();
    let pid = child.id() as i32;
    assert_eq!(start_time(pid).unwrap(), start_time(pid).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(start_time(pid).is_err());
    let line = "7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
    assert_eq!(parse_start_time(line), Some(4711));
    assert_eq!(parse_start_time("7 (a) S 1"), None);
}

#[test]
fn forking_with_threads_is_refused() {
    let error = SingleThreaded::check().unwrap_err();
    assert!(error.to_string().contains("threads"), "{error}");
}

#[test]
fn limits_of_a_child_are_set() {
    let (mut child, _pidfd) = sleeper();
    set_limit(child.id() as i32, libc::RLIMIT_NOFILE, LimitValue { soft: 64, hard: 128 }).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("64 ") && line.contains("128 "), "{line}");
}

#[test]
fn names_of_a_new_uts_namespace() {
    let thread = std::thread::spawn(|| {
        unshare(Namespaces::UTS).unwrap();
        set_hostname("wharf-test").unwrap();
        set_domainname("wharf.test").unwrap();
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    });
    assert_eq!(thread.join().unwrap(), "wharf-test");
    assert_ne!(rustix::system::uname().nodename().to_string_lossy(), "wharf-test");
}

#[test]
fn signal_mask_is_set_and_returned() {
    let thread = std::thread::spawn(|| {
        block_signals(&[libc::SIGTERM, libc::SIGUSR1]).unwrap();
        set_signal_mask(0).unwrap()
    });
    let mask = thread.join().unwrap();
    assert!(mask & 1 << (libc::SIGTERM - 1) != 0 && mask & 1 << (libc::SIGUSR1 - 1) != 0);
}
