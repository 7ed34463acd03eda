//! Programs that cannot be run, in runc's words, and plans that make no sense.

use crate::Test;
use crate::fixture::*;
use std::os::unix::fs::PermissionsExt;
use wharf_spec::plan::*;
use wharf_spec::shim::FailureKind;
use wharf_sys::process::Exit;

pub(crate) const TESTS: &[Test] = &[
    ("errors::programs_that_are_none", programs_that_are_none),
    ("errors::the_kernel_refuses_late", the_kernel_refuses_late),
    ("errors::plans_that_make_no_sense", plans_that_make_no_sense),
    ("errors::filters_that_cannot_be_installed", filters_that_cannot_be_installed),
    ("errors::groups_in_use", groups_in_use),
];

fn programs_that_are_none() {
    let root = Rootfs::new();
    let cases = [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH", FailureKind::ProgramNotFound),
        (
            "/nosuch",
            "exec: \"/nosuch\": stat /nosuch: no such file or directory",
            FailureKind::ProgramNotFound,
        ),
        ("/etc", "exec: \"/etc\": is a directory", FailureKind::ProgramNotRunnable),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied", FailureKind::ProgramNotRunnable),
    ];
    for (name, words, kind) in cases {
        let failure = failure(&root.plan(&[name]));
        assert_eq!(failure.message, format!("unable to start container process: {words}"));
        assert_eq!(failure.kind, kind);
    }
}

fn the_kernel_refuses_late() {
    let root = Rootfs::new();
    let cases = [
        ("garbage", "nonsense", "exec format error"),
        ("lost", "#!/no/interpreter\n", "no such file or directory"),
    ];
    for (name, content, words) in cases {
        let path = root.path("bin").join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let outcome = run(&root.plan(&[name]));
        assert_eq!(outcome.exit, Exit::Code(255));
        assert_eq!(outcome.err, format!("exec /bin/{name}: {words}\n"));
    }
}

fn plans_that_make_no_sense() {
    let root = Rootfs::new();
    let mut plan = root.plan(&["true"]);
    plan.process.cwd = "relative".into();
    assert!(failure(&plan).message.contains("Cwd must be an absolute path"));
    let plan = root.plan(&[]);
    assert!(failure(&plan).message.contains("no arguments"));
    let plan = root.plan(&["a\0b"]);
    assert!(failure(&plan).message.contains("nul byte"));
    let mut plan = root.plan(&["true"]);
    plan.process.env.push("novalue".into());
    assert!(failure(&plan).message.contains("invalid environment variable: missing '='"));
    let mut plan = root.plan(&["true"]);
    plan.root.source = Source::Path("/nonexistent/root".into());
    assert!(failure(&plan).message.starts_with("error preparing rootfs: "));
    plan.root.source = Source::Fd(Fd(3));
    assert!(failure(&plan).message.contains("descriptor 3 did not come"));
    let mut plan = root.plan(&["true"]);
    plan.cgroup.path = "/../escape".into();
    assert!(try_run_unchecked(&plan).contains("is empty or not plain"));
}

/// Without looking whether the group is gone: its path is refused there too.
fn try_run_unchecked(plan: &Plan) -> String {
    let pipes = Pipes::new();
    wharf_runtime::create(plan, &[], &options(pipes.io())).unwrap_err().to_string()
}

fn filters_that_cannot_be_installed() {
    let root = Rootfs::new();
    let plan = root.plan(&["true"]);
    for no_new_privileges in [false, true] {
        let mut plan = plan.clone();
        plan.process.no_new_privileges = no_new_privileges;
        let pipes = Pipes::new();
        let bad = wharf_sys::seccomp::SockFilter { code: 0xffff, jt: 0, jf: 0, k: 0 };
        let filter = wharf_runtime::seccomp::Program { filter: vec![bad], flags: 0, listener: None };
        let options = wharf_runtime::CreateOptions { seccomp: Some(&filter), ..options(pipes.io()) };
        let error = wharf_runtime::create(&plan, &[], &options).unwrap_err();
        assert!(error.to_string().contains("unable to init seccomp: seccomp"), "{error}");
    }
}

fn groups_in_use() {
    let root = Rootfs::new();
    let first = Running::start(root.script("sleep 1000"));
    let mut plan = root.plan(&["true"]);
    plan.cgroup.path = first.plan.cgroup.path.clone();
    let error = try_run_unchecked(&plan);
    assert!(error.contains("file exists"), "{error}");
    assert_eq!(first.container.cgroup.as_ref().unwrap().processes().unwrap(), [first.container.pid]);
}
