//! What a process in a container can see and do: identity, capabilities, filter, devices, hidden paths,
//! descriptors.

use crate::Test;
use crate::fixture::*;
use wharf_spec::plan::*;
use wharf_sys::process::Exit;

pub(crate) const TESTS: &[Test] = &[
    ("isolation::identity_and_capabilities", identity_and_capabilities),
    ("isolation::capabilities_nobody_has", capabilities_nobody_has),
    ("isolation::filter_is_installed", filter_is_installed),
    ("isolation::first_of_its_namespaces", first_of_its_namespaces),
    ("isolation::devices_and_links", devices_and_links),
    ("isolation::other_devices_are_denied", other_devices_are_denied),
    ("isolation::hidden_and_readonly_paths", hidden_and_readonly_paths),
    ("isolation::no_descriptor_is_left_open", no_descriptor_is_left_open),
    ("isolation::working_directory", working_directory),
    ("isolation::descriptors_are_no_working_directories", descriptors_are_no_working_directories),
    ("isolation::kernel_parameters", kernel_parameters),
];

fn status_of(plan: &Plan, fields: &[&str]) -> Vec<String> {
    let text = output(plan);
    let value = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
    };
    fields.iter().map(|field| value(field)).collect()
}

fn identity_and_capabilities() {
    let root = Rootfs::new();
    let fields =
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn"];
    let mut plan = root.plan(&["cat", "/proc/self/status"]);
    let (none, caps) = ("0000000000000000", format!("{DEFAULT_CAPS:016x}"));
    let expected = [none, &caps, &caps, &caps, none, "0", "0", none, none];
    assert_eq!(status_of(&plan, &fields), expected);
    plan.process.uid = 1000;
    plan.process.gid = 1001;
    plan.process.additional_gids = vec![5, 6];
    plan.process.no_new_privileges = true;
    plan.process.capabilities.effective = 0;
    plan.process.capabilities.permitted = 0;
    let expected = [none, none, none, &caps, none, "1", "0", none, none];
    assert_eq!(status_of(&plan, &fields), expected);
    let ids = status_of(&plan, &["Uid", "Gid", "Groups", "Umask"]);
    assert_eq!(ids, ["1000\t1000\t1000\t1000", "1001\t1001\t1001\t1001", "5 6", "0022"]);
    plan.process.capabilities =
        Capabilities { ambient: 1, effective: 1, permitted: 1, inheritable: 1, bounding: 1 };
    let one = "0000000000000001";
    assert_eq!(status_of(&plan, &fields[..5]), [one; 5]);
    plan.process.args =
        ["sh", "-c", "echo hi > /dev/stderr; cat /proc/self/environ"].map(str::to_owned).to_vec();
    let outcome = run(&plan);
    assert_eq!(outcome.err, "hi\n", "its pipes are the user's");
    assert!(outcome.out.contains("HOME=/home/user"), "{outcome:?}");
}

fn capabilities_nobody_has() {
    let root = Rootfs::new();
    let mut plan = root.plan(&["true"]);
    let all = wharf_sys::caps::all();
    let missing = all & !wharf_sys::caps::own().unwrap().permitted;
    plan.process.capabilities.bounding = all;
    plan.process.capabilities.permitted = all;
    plan.process.capabilities.effective = all;
    let outcome = run(&plan);
    assert_eq!(outcome.warnings.is_empty(), missing == 0, "{outcome:?}");
    plan.tolerate_missing_privilege = false;
    assert_eq!(try_run(&plan).is_ok(), missing == 0);
}

fn filter_is_installed() {
    let root = Rootfs::new();
    for no_new_privileges in [false, true] {
        let mut plan = root.script("cat /proc/self/status | grep Seccomp: ; unshare -r true");
        plan.process.seccomp = Seccomp::Default;
        plan.process.no_new_privileges = no_new_privileges;
        let outcome = run(&plan);
        assert_eq!(outcome.out, "Seccomp:\t2\n", "{outcome:?}");
        assert!(outcome.err.contains("Operation not permitted"), "{outcome:?}");
    }
}

fn first_of_its_namespaces() {
    let root = Rootfs::new();
    let mut plan = root.script(
        "echo $$; hostname; cat /proc/sys/kernel/domainname; ls -d /proc/[0-9]* | head -1; cat /proc/net/dev",
    );
    plan.domainname = Some("domain".into());
    let text = output(&plan);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["1", "box", "domain", "/proc/1"]);
    assert_eq!(lines.len(), 4 + 3, "only a loopback: {text}");
    let session = output(&root.script("cat /proc/self/stat"));
    let fields: Vec<&str> = session.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    assert_eq!(fields[3], "1", "session: {session}");
}

fn devices_and_links() {
    let root = Rootfs::new();
    let mut plan = root.script(
        "cd /dev; \
         stat -c '%n %F %a %u:%g %t:%T' null zero full random urandom tty extra pipe; \
         for l in fd stdin stdout stderr ptmx; do readlink $l; done",
    );
    let device = |path: &str, kind, minor, mode| Device {
        path: path.into(),
        kind,
        major: if minor == 0 { 0 } else { 1 },
        minor,
        mode,
        uid: 7,
        gid: 8,
    };
    plan.devices = vec![
        device("/dev/extra", DeviceKind::Char, 7, 0o640),
        device("/dev/pipe", DeviceKind::Fifo, 0, 0o600),
        device("/dev/sub/dir/node", DeviceKind::Char, 7, 0o640),
    ];
    let text = output(&plan);
    let expected = "null character special file 666 0:0 1:3
zero character special file 666 0:0 1:5
full character special file 666 0:0 1:7
random character special file 666 0:0 1:8
urandom character special file 666 0:0 1:9
tty character special file 666 0:0 5:0
extra character special file 640 7:8 1:7
pipe fifo 600 7:8 0:0
/proc/self/fd
/proc/self/fd/0
/proc/self/fd/1
/proc/self/fd/2
pts/ptmx
";
    assert_eq!(text, expected);
}

fn other_devices_are_denied() {
    let root = Rootfs::new();
    let script =
        "head -c1 /dev/zero | ls -l /proc/self/fd > /dev/null; mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg";
    let outcome = run(&root.script(script));
    assert!(outcome.err.contains("can't open '/tmp/kmsg': Operation not permitted"), "{outcome:?}");
    assert_eq!(outcome.exit, Exit::Code(1));
}

fn hidden_and_readonly_paths() {
    let root = Rootfs::new();
    let mut plan = root.script(
        "cat /proc/timer_list; ls /sys/firmware; stat -c %F /proc/timer_list; cat /tmp/file; \
         ls -A /tmp/dir; echo x > /tmp/file; touch /tmp/dir/x; echo 1 > \
         /proc/sys/kernel/panic; touch /sys/x; touch /etc/ro/x",
    );
    std::fs::write(root.path("tmp/file"), "secret").unwrap();
    std::fs::create_dir_all(root.path("tmp/dir/sub")).unwrap();
    std::fs::create_dir_all(root.path("etc/ro")).unwrap();
    plan.masked_paths.extend(["/tmp/file".to_owned(), "/tmp/dir".to_owned(), "/nonexistent/x".to_owned()]);
    plan.readonly_paths.extend(["/etc/ro".to_owned(), "/nonexistent".to_owned()]);
    let outcome = run(&plan);
    assert_eq!(outcome.out, "character special file\n");
    let err: Vec<&str> = outcome.err.lines().collect();
    assert_eq!(err.len(), 4, "{outcome:?}");
    assert!(err.iter().all(|line| line.contains("Read-only file system")), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(root.path("tmp/file")).unwrap(), "secret");
}

fn no_descriptor_is_left_open() {
    let root = Rootfs::new();
    // One that is not close-on-exec, as a careless caller has it.
    let file = std::fs::File::open("/").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&file, 40).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let text = output(&root.plan(&["ls", "/proc/self/fd"]));
    assert_eq!(text.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "3 is what ls reads");
}

fn working_directory() {
    let root = Rootfs::new();
    let mut plan = root.plan(&["pwd"]);
    plan.process.cwd = "/made/for/it".into();
    assert_eq!(output(&plan), "/made/for/it\n");
    // Only the user may enter: root without CAP_DAC_OVERRIDE over it does not count here, root has it.
    plan.process.uid = 1000;
    assert_eq!(output(&plan), "/made/for/it\n");
    plan.process.cwd = "/missing".into();
    plan.process.make_cwd = false;
    let failure = failure(&plan);
    assert_eq!(failure.kind, wharf_spec::shim::FailureKind::WorkingDirectory);
    let text = "chdir to cwd (\"/missing\") set in config.json failed: no such file or directory";
    assert_eq!(failure.message, format!("unable to start container process: {text}"));
}

fn descriptors_are_no_working_directories() {
    let root = Rootfs::new();
    let _host = std::fs::File::open("/").unwrap();
    for make_cwd in [false, true] {
        for number in 0..64 {
            for dir in ["self", "1", "thread-self"] {
                let mut plan = root.plan(&["pwd"]);
                plan.process.make_cwd = make_cwd;
                plan.process.cwd = format!("/proc/{dir}/fd/{number}");
                let failure = failure(&plan);
                assert!(failure.errno != 0, "{failure:?}");
            }
        }
    }
}

fn kernel_parameters() {
    let root = Rootfs::new();
    let mut plan = root.script("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax");
    plan.sysctls = vec![
        ("net.ipv4.ip_unprivileged_port_start".into(), "0".into()),
        ("kernel.msgmax".into(), "4096".into()),
    ];
    assert_eq!(output(&plan), "0\n4096\n");
    plan.namespaces.network = Namespace::Host;
    assert!(failure(&plan).message.contains("not allowed in host network namespace"));
    plan.sysctls = vec![("kernel.panic".into(), "1".into())];
    assert!(failure(&plan).message.contains("is not in a separate kernel namespace"));
    plan.namespaces.network = Namespace::New;
    plan.sysctls = vec![("net.nosuch.thing".into(), "1".into())];
    let failure = failure(&plan);
    assert!(failure.message.contains("failed to write sysctl net.nosuch.thing"), "{failure:?}");
}
