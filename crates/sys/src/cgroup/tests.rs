//! Tests on the control groups of this machine, below `/wharf-test-<pid>`.

use super::*;
use wharf_spec::plan::{DeviceKind, DeviceRule};

/// A group that is removed with its parent, even when the test fails.
struct Fixture {
    group: Cgroup,
    parent: Cgroup,
    sleepers: Vec<std::process::Child>,
}

impl Fixture {
    fn new(hierarchies: &Hierarchies, name: &str) -> Fixture {
        let parent = format!("/wharf-test-{}-{name}", std::process::id());
        let (group, _) = hierarchies.create(&format!("{parent}/group")).unwrap();
        Fixture { group, parent: hierarchies.group(&parent).unwrap(), sleepers: Vec::new() }
    }

    fn sleeper(&mut self) -> i32 {
        let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as i32;
        self.sleepers.push(child);
        self.group.add(pid).unwrap();
        pid
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for child in &mut self.sleepers {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.group.remove().unwrap();
        self.parent.remove().unwrap();
        assert!(!self.group.exists() && !self.parent.exists());
    }
}

/// The v2 tree of this machine; in the hybrid layout it has no controllers, but groups, kill, freeze and
/// device programs work there.
fn unified() -> Hierarchies {
    let mounts = crate::mount::mountinfo().unwrap();
    let mount =
        mounts.iter().find(|mount| mount.fs_type == "cgroup2").expect("a cgroup2 mount on the test machine");
    Hierarchies::V2(mount.target.clone())
}

fn both() -> [(&'static str, Hierarchies); 2] {
    [("own", Hierarchies::detect().unwrap()), ("unified", unified())]
}

#[test]
fn processes_are_frozen_killed_and_forgotten() {
    for (name, hierarchies) in both() {
        let mut fixture = Fixture::new(&hierarchies, &format!("kill-{name}"));
        let pid = fixture.sleeper();
        assert_eq!(fixture.group.processes().unwrap(), [pid]);
        assert_eq!(hierarchies.of_process(pid).unwrap().path(), fixture.group.path());
        fixture.group.freeze().unwrap();
        fixture.group.thaw().unwrap();
        fixture.group.freeze().unwrap();
        fixture.group.kill_all().unwrap();
        let _ = fixture.group.thaw();
        let status = fixture.sleepers[0].wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
        assert!(fixture.group.processes().unwrap().is_empty());
        fixture.sleepers.clear();
    }
}

#[test]
fn removing_kills_what_is_left_also_below() {
    for (name, hierarchies) in both() {
        let fixture = Fixture::new(&hierarchies, &format!("remove-{name}"));
        let (below, _) = hierarchies.create(&format!("{}/below", fixture.group.path())).unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as i32;
        below.add(pid).unwrap();
        assert!(fixture.group.processes().unwrap().is_empty());
        assert_eq!(fixture.group.all_processes().unwrap(), [pid]);
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        fixture.group.remove().unwrap();
        reaper.join().unwrap();
        assert!(!below.exists());
    }
}

#[test]
fn limits_and_numbers_of_v1() {
    let hierarchies = Hierarchies::detect().unwrap();
    if let Hierarchies::V2(_) = hierarchies {
        return limits_of_v2(&hierarchies);
    }
    let mut fixture = Fixture::new(&hierarchies, "limits");
    let resources = Resources {
        memory: Some(64 << 20),
        memory_swap: Some(128 << 20),
        memory_reservation: Some(32 << 20),
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        cpuset_cpus: Some("0".into()),
        pids_limit: Some(77),
        hugepage_limits: vec![("3XB".into(), 1)],
        ..Resources::default()
    };
    let warnings = fixture.group.apply(&resources).unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("hugetlb")), "{warnings:?}");
    let value =
        |controller: &str, name: &str| file::read(fixture.group.dir(controller).unwrap(), name).unwrap();
    assert_eq!(value("memory", "memory.limit_in_bytes").trim(), (64 << 20).to_string());
    assert_eq!(value("cpu", "cpu.shares").trim(), "512");
    assert_eq!(value("cpu", "cpu.cfs_quota_us").trim(), "50000");
    assert_eq!(value("cpuset", "cpuset.cpus").trim(), "0");
    assert_eq!(value("pids", "pids.max").trim(), "77");
    // Upwards and downwards, memory and swap together.
    for megabytes in [256, 16] {
        let limit = Some(megabytes << 20);
        let resources = Resources { memory: limit, memory_swap: limit, ..Resources::default() };
        fixture.group.apply(&resources).unwrap();
        assert_eq!(value("memory", "memory.limit_in_bytes").trim(), (megabytes << 20).to_string());
    }
    fixture.sleeper();
    let stats = fixture.group.stats().unwrap();
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 77));
    assert_eq!(stats.memory.limit, 16 << 20);
    assert!(stats.memory.details.iter().any(|(key, _)| key == "cache"));
}

fn limits_of_v2(hierarchies: &Hierarchies) {
    let mut fixture = Fixture::new(hierarchies, "limits");
    let resources = Resources { memory: Some(64 << 20), pids_limit: Some(77), ..Resources::default() };
    fixture.group.apply(&resources).unwrap();
    fixture.sleeper();
    let stats = fixture.group.stats().unwrap();
    assert_eq!((stats.pids.limit, stats.memory.limit), (77, 64 << 20));
}

#[test]
fn devices_are_denied_by_both_versions() {
    let deny = DeviceRule {
        allow: false,
        kind: None,
        major: None,
        minor: None,
        read: true,
        write: true,
        mknod: true,
    };
    let null =
        DeviceRule { allow: true, kind: Some(DeviceKind::Char), major: Some(1), minor: Some(3), ..deny };
    let zero = DeviceRule { minor: Some(5), ..null };
    for (name, hierarchies) in both() {
        let fixture = Fixture::new(&hierarchies, &format!("devices-{name}"));
        let opens = |path: &str| {
            let script = format!("read line; exec 3<{path}");
            let mut child = std::process::Command::new("sh")
                .args(["-c", &script])
                .stdin(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            fixture.group.add(child.id() as i32).unwrap();
            drop(child.stdin.take());
            child.wait().unwrap().success()
        };
        assert!(opens("/dev/zero"), "{name}: no rules");
        fixture.group.apply(&Resources { devices: vec![deny, null], ..Resources::default() }).unwrap();
        assert!(opens("/dev/null"), "{name}: allowed");
        assert!(!opens("/dev/zero"), "{name}: denied");
        fixture.group.apply(&Resources { devices: vec![deny, zero], ..Resources::default() }).unwrap();
        assert!(opens("/dev/zero"), "{name}: replaced");
        assert!(!opens("/dev/null"), "{name}: replaced");
    }
}

#[test]
fn running_out_of_memory_is_noticed() {
    let hierarchies = Hierarchies::detect().unwrap();
    let fixture = Fixture::new(&hierarchies, "oom");
    let limit = Some(8 << 20);
    fixture.group.apply(&Resources { memory: limit, memory_swap: limit, ..Resources::default() }).unwrap();
    let watch = fixture.group.watch_oom().unwrap();
    let mut child = std::process::Command::new("sh")
        .args(["-c", "read line; head -c 100000000 /dev/zero | tail"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    fixture.group.add(child.id() as i32).unwrap();
    assert_eq!(fixture.group.oom_kills().unwrap(), 0);
    drop(child.stdin.take());
    assert!(crate::event::wait_readable(&watch, Some(Duration::from_secs(60))).unwrap());
    child.wait().unwrap();
    watch.drain().unwrap();
    assert!(fixture.group.oom_kills().unwrap() >= 1);
}

#[test]
fn a_group_in_use_is_not_taken_over() {
    for (name, hierarchies) in both() {
        let mut fixture = Fixture::new(&hierarchies, &format!("busy-{name}"));
        fixture.sleeper();
        let error = hierarchies.create(&fixture.group.path()).unwrap_err();
        assert!(error.is(Errno::EXIST), "{error}");
        assert!(fixture.group.exists());
    }
}
