//! Tests of `process::clone`, which asks for a process with one thread: run without the test harness.

use rustix::fd::AsFd;
use wharf_sys::process::{self, CloneOptions, Exit, Fork, Namespaces, SingleThreaded};

fn main() {
    let proof = SingleThreaded::check().expect("this test binary has one thread");
    child_runs_in_new_namespaces(proof);
    sibling_is_a_child_of_the_parent(proof);
    child_is_born_in_its_cgroup(proof);
    descriptors_do_not_survive_execve(proof);
    println!("fork: 4 tests passed");
}

fn run(proof: SingleThreaded, options: &CloneOptions<'_>, body: impl FnOnce() -> i32) -> Exit {
    match process::clone(proof, options).expect("clone") {
        Fork::Child => process::exit(body()),
        Fork::Parent { pidfd, .. } => process::wait(&pidfd).expect("wait"),
    }
}

fn child_runs_in_new_namespaces(proof: SingleThreaded) {
    let options = CloneOptions { namespaces: Namespaces::PID | Namespaces::UTS, ..Default::default() };
    let exit = run(proof, &options, || {
        process::set_hostname("forked").expect("hostname");
        std::process::id() as i32 + 40
    });
    assert_eq!(exit, Exit::Code(41), "pid 1 in its namespace");
}

fn sibling_is_a_child_of_the_parent(proof: SingleThreaded) {
    let (read, write) = rustix::pipe::pipe().expect("pipe");
    let exit = run(proof, &CloneOptions::default(), || {
        let options = CloneOptions { as_sibling: true, ..Default::default() };
        match process::clone(proof, &options).expect("clone") {
            Fork::Child => process::exit(23),
            Fork::Parent { pid, .. } => {
                rustix::io::write(&write, &pid.to_ne_bytes()).expect("write");
                0
            }
        }
    });
    assert_eq!(exit, Exit::Code(0));
    let mut pid = [0u8; 4];
    rustix::io::read(&read, &mut pid).expect("read");
    let pidfd = process::pidfd_open(i32::from_ne_bytes(pid)).expect("pidfd");
    assert_eq!(process::wait(&pidfd).expect("wait for the sibling"), Exit::Code(23));
}

fn child_is_born_in_its_cgroup(proof: SingleThreaded) {
    let mounts = wharf_sys::mount::mountinfo().expect("mountinfo");
    let unified = mounts.iter().find(|mount| mount.fs_type == "cgroup2").expect("a cgroup2 mount");
    let name = format!("wharf-test-fork-{}", std::process::id());
    let path = unified.target.join(&name);
    std::fs::create_dir(&path).expect("mkdir");
    let dir = std::fs::File::open(&path).expect("open");
    let options = CloneOptions { into_cgroup: Some(dir.as_fd()), ..Default::default() };
    let exit = run(proof, &options, || {
        let text = std::fs::read_to_string("/proc/self/cgroup").expect("read");
        i32::from(!text.lines().any(|line| line == format!("0::/{name}")))
    });
    std::fs::remove_dir(&path).expect("rmdir");
    assert_eq!(exit, Exit::Code(0));
}

fn descriptors_do_not_survive_execve(proof: SingleThreaded) {
    let file = std::fs::File::open("/").expect("open");
    let inherited = rustix::io::fcntl_dupfd_cloexec(&file, 50).expect("dup");
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("fcntl");
    let exit = run(proof, &CloneOptions::default(), || {
        process::close_on_exec_from(3).expect("close_range");
        let args = [c"sh".to_owned(), c"-c".to_owned(), c"test ! -e /proc/self/fd/50".to_owned()];
        let errno = process::execve(c"/bin/sh", &args, &[]);
        eprintln!("{errno}");
        99
    });
    assert_eq!(exit, Exit::Code(0));
}
