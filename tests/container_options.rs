//! Options of `run` and `create`, each seen from inside the container: one daemon, a table of cases. Limits are in
//! `container_limits`, what a container must not do in `security`.

use anyhow::{Context, Result};
use serde_json::json;
use std::{fs, os::unix::fs::symlink, path::Path};
use wharf_testkit::{Daemon, until};

/// Flags, a shell line in busybox, and what it prints.
type Case<'a> = (&'a [&'a str], &'a str, &'a str);

fn run(daemon: &Daemon, flags: &[&str], line: &str) -> Result<wharf_testkit::Output> {
    let mut args = vec!["run", "--rm"];
    if !flags.iter().any(|flag| flag.starts_with("--network")) {
        args.extend(["--network", "none"]);
    }
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", line]);
    daemon.docker(&args)
}

fn check(daemon: &Daemon, cases: &[Case<'_>]) -> Result<()> {
    for (flags, line, wanted) in cases {
        let out = run(daemon, flags, line)?;
        assert_eq!(out.stdout.trim_end(), *wanted, "{flags:?} {line:?}: {}", out.stderr);
    }
    Ok(())
}

/// A bit of the bounding set.
const BIT: &str = "caps=$((0x$(grep CapBnd /proc/self/status | cut -f2)));";

#[test]
fn privileges() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let profile = daemon.dir().join("profile.json");
    let denies = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    fs::write(&profile, denies.to_string())?;
    let by_file = format!("seccomp={}", profile.display());
    let bit = |n: u32| format!("{BIT} echo $((caps >> {n} & 1))");
    let (chown, net_admin, sys_admin) = (bit(0), bit(12), bit(21));
    let seccomp = "grep Seccomp: /proc/self/status | cut -f2";
    let no_gain = "grep NoNewPrivs /proc/self/status | cut -f2";
    let masks = "grep -cE ' /proc/(kcore|sys|keys) ' /proc/self/mounts";
    let cgroups = "grep ' /sys/fs/cgroup' /proc/self/mounts | grep -vc ' rw[, ]'";
    check(
        &daemon,
        &[
            (&["--cap-add", "net_admin"], &net_admin, "1"),
            (&["--cap-add", "CAP_NET_ADMIN"], &net_admin, "1"),
            (&["--cap-add", "all", "--cap-drop", "sys_admin"], &sys_admin, "0"),
            (&["--cap-add", "ALL", "--cap-drop", "CAP_SYS_ADMIN"], &net_admin, "1"),
            (&["--cap-drop", "Chown"], &chown, "0"),
            (&["--cap-drop", "all", "--cap-add", "chown"], &chown, "1"),
            (&["--privileged", "--cap-drop", "chown"], &sys_admin, "1"),
            (&["--security-opt", &by_file], "mkdir /x 2>/dev/null || echo denied", "denied"),
            (&["--security-opt", &by_file], "touch /x && echo fine", "fine"),
            (&["--security-opt", "seccomp=unconfined"], seccomp, "0"),
            (&["--security-opt", "seccomp=builtin"], seccomp, "2"),
            (&["--privileged"], seccomp, "0"),
            (&["--security-opt", "no-new-privileges"], no_gain, "1"),
            (&["--security-opt", "no-new-privileges:true"], no_gain, "1"),
            (&["--security-opt", "no-new-privileges=false"], no_gain, "0"),
            (&["--security-opt", "systempaths=unconfined"], masks, "0"),
            (&["--privileged"], masks, "0"),
            (&["--security-opt", "writable-cgroups=true"], cgroups, "0"),
            (&["--security-opt", "label=disable", "--security-opt", "apparmor=unconfined"], "echo ok", "ok"),
            (&["--read-only", "--tmpfs", "/t"], "touch /x 2>/dev/null || touch /t/x && echo ok", "ok"),
            (&["--read-only"], "touch /dev/shm/x && echo ok", "ok"),
        ],
    )?;
    let default = run(&daemon, &[], &format!("{masks}; {cgroups}"))?.ok()?;
    let counts: Vec<u32> = default.lines().map(|n| n.parse().unwrap_or(0)).collect();
    assert!(counts[0] >= 2 && counts[1] >= 1, "masked and read-only without options: {default}");
    for (flags, wanted) in [
        (&["--cap-add", "nosuch"][..], "invalid CapAdd: unknown capability: \"CAP_NOSUCH\""),
        (&["--cap-drop", "CAP_"], "invalid CapDrop: unknown capability: \"CAP_\""),
        (&["--security-opt", "nosuch=1"], "invalid --security-opt 2: \"nosuch=1\""),
        (&["--security-opt", "seccomp=/nosuch"], "opening seccomp profile (/nosuch) failed"),
    ] {
        let out = run(&daemon, flags, "true")?;
        assert!(out.code >= 125 && out.stderr.contains(wanted), "{flags:?}: {}", out.stderr);
    }
    confinement_that_is_not_there(&daemon)?;
    daemon.stop()
}

/// What the kernel of this host has not is not taken in silence.
fn confinement_that_is_not_there(daemon: &Daemon) -> Result<()> {
    let has_apparmor =
        fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y"));
    if !has_apparmor {
        let out = run(daemon, &["--security-opt", "apparmor=mine"], "true")?;
        assert!(out.stderr.contains("AppArmor is not enabled on this host"), "{}", out.stderr);
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        let out = run(daemon, &["--security-opt", "label=type:x_t"], "echo ran")?;
        assert!(out.stdout == "ran\n" && out.stderr.contains("SELinux is not enabled"), "{}", out.stderr);
    }
    Ok(())
}

#[test]
fn paths_users_and_devices() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let devices = daemon.dir().join("devices");
    fs::create_dir_all(devices.join("sub"))?;
    for (name, minor) in [("one", 3), ("sub/two", 5)] {
        let device = rustix::fs::makedev(1, minor);
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(rustix::fs::CWD, devices.join(name), kind, mode, device)?;
    }
    let folder = format!("{}:/dev/mine", devices.display());
    let groups = "id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '";
    check(
        &daemon,
        &[
            (&["-u", "user", "--group-add", "www-data", "--group-add", "7"], groups, "1 7 33 44 1000"),
            (&["-u", "user:44"], "id -u; id -g", "1000\n44"),
            (&["-u", "0:extra"], "id -u; id -g", "0\n44"),
            (&["-u", "4000:4001"], "id -u; id -g; id -G", "4000\n4001\n4001"),
            (&["--device", &folder], "cd /dev/mine; stat -c %t:%T one sub/two", "1:3\n1:5"),
            // The kernel's log can be read by the rules of no other device.
            (
                &["--device", "/dev/fuse:/dev/x:m"],
                "cat /dev/x 2>&1",
                "cat: can't open '/dev/x': Operation not permitted",
            ),
            (&["--device", "/dev/fuse:/dev/x:r"], "true < /dev/x && echo opened", "opened"),
            (&["--device", "/dev/fuse:/dev/x:r"], "true 2>/dev/null > /dev/x || echo denied", "denied"),
            (&["--device", "/dev/fuse"], "true <> /dev/fuse && echo opened", "opened"),
            (
                &["--device-cgroup-rule", "c 10:229 rw"],
                "mknod /f c 10 229; true <> /f && echo opened",
                "opened",
            ),
            (&["--privileged"], "true <> /dev/fuse && ls /dev/loop-control", "/dev/loop-control"),
        ],
    )?;
    for (flags, wanted) in [
        (&["--group-add", "nosuch"][..], "unable to find group nosuch: no matching entries in group file"),
        (&["-u", "0:nosuch"], "unable to find group nosuch: no matching entries in group file"),
        (
            &["--device", "/dev/nosuch"],
            "error gathering device information while adding custom device \"/dev/nosuch\"",
        ),
        (&["--gpus", "all"], "could not select device driver \"\" with capabilities: [[gpu]]"),
        (
            &["--device", "vendor.com/class=name"],
            "CDI device injection failed: unresolvable CDI devices vendor.com/class=name",
        ),
        (&["--runtime", "nosuch"], "unknown or invalid runtime name: nosuch"),
        (&["--platform", "linux/arm64", "--pull", "never"], "does not match the specified platform"),
    ] {
        let out = run(&daemon, flags, "true")?;
        assert!(out.code >= 125 && out.stderr.contains(wanted), "{flags:?}: {}", out.stderr);
    }
    let host = json!({"Image": "busybox", "Cmd": ["sh", "-c", "cat /etc/group | wc -c; touch /etc/x 2>&1"],
        "HostConfig": {"NetworkMode": "none", "MaskedPaths": ["/etc/group"], "ReadonlyPaths": ["/etc"]}});
    let made = daemon.api().json("POST", "/containers/create?name=paths", &host)?;
    assert_eq!(made.status, 201, "{}", made.message());
    let out = daemon.docker(&["start", "-a", "paths"])?;
    assert!(out.stdout.starts_with("0\n") && out.stdout.contains("Read-only file system"), "{}", out.stdout);
    daemon.stop()
}

/// A namespace of this process, which is the daemon's but for the network.
fn own_namespace(kind: &str) -> Result<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?.to_string_lossy().into_owned())
}

#[test]
fn namespaces_are_new_the_hosts_or_anothers() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let sleep = ["busybox", "sleep", "1000"];
    daemon
        .docker(
            &[&["run", "-d", "--name", "aa", "--network", "none", "--ipc", "shareable"], &sleep[..]].concat(),
        )?
        .ok()?;
    daemon.docker(&[&["run", "-d", "--name", "bb", "--network", "none"], &sleep[..]].concat())?.ok()?;
    let of = |name: &str, kind: &str| -> Result<String> {
        let out = daemon.docker(&["exec", name, "readlink", &format!("/proc/1/ns/{kind}")])?.ok()?;
        Ok(out.trim().to_owned())
    };
    let link = |kind: &str| format!("readlink /proc/self/ns/{kind}");
    let hosts = |kind: &str| own_namespace(kind);
    check(
        &daemon,
        &[
            (&["--pid", "host"], &link("pid"), &hosts("pid")?),
            (&["--ipc", "host"], &link("ipc"), &hosts("ipc")?),
            (&["--uts", "host"], &link("uts"), &hosts("uts")?),
            (&["--cgroupns", "host"], &link("cgroup"), &hosts("cgroup")?),
            (&["--pid", "container:aa"], &link("pid"), &of("aa", "pid")?),
            (&["--ipc", "container:aa"], &link("ipc"), &of("aa", "ipc")?),
            (&["--network", "container:aa"], &link("net"), &of("aa", "net")?),
            (&["--ipc", "none"], "ls -d /dev/shm 2>/dev/null || echo none", "none"),
            (&["--pid", "container:aa"], "cat /proc/1/comm", "sleep"),
            (
                &["--hostname", "h", "--domainname", "d.e"],
                "hostname; cat /proc/sys/kernel/domainname",
                "h\nd.e",
            ),
        ],
    )?;
    new_namespaces_and_contradictions(&daemon)?;
    daemon.stop()
}

fn new_namespaces_and_contradictions(daemon: &Daemon) -> Result<()> {
    let link = |kind: &str| format!("readlink /proc/self/ns/{kind}");
    let hosts = |kind: &str| own_namespace(kind);
    for kind in ["pid", "ipc", "uts", "net", "mnt"] {
        let new = run(daemon, &[], &link(kind))?.ok()?;
        assert_ne!(new.trim(), hosts(kind)?, "{kind}");
    }
    let private = run(daemon, &["--cgroupns", "private"], &link("cgroup"))?.ok()?;
    assert_ne!(private.trim(), hosts("cgroup")?);
    for (flags, wanted) in [
        (
            &["--ipc", "container:bb"][..],
            "non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
        ),
        (&["--pid", "container:nosuch"], "No such container: nosuch"),
        (&["--network", "container:nosuch"], "No such container: nosuch"),
        (
            &["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"],
            "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace",
        ),
        (
            &["--ipc", "host", "--sysctl", "kernel.shmmax=1000"],
            "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace",
        ),
        (
            &["--network", "container:aa", "--hostname", "x"],
            "conflicting options: hostname and the network mode",
        ),
        (&["--network", "container:aa", "--dns", "1.1.1.1"], "conflicting options: dns and the network mode"),
        (&["--uts", "host", "--hostname", "x"], "conflicting options: hostname and the UTS mode"),
        (
            &["--network", "container:aa", "-p", "80:80"],
            "conflicting options: port publishing and the container type network mode",
        ),
    ] {
        let out = run(daemon, flags, "true")?;
        assert!(out.code != 0 && out.stderr.contains(wanted), "{flags:?}: {}", out.stderr);
    }
    check(daemon, &[(&["--sysctl", "kernel.shmmax=1000"], "cat /proc/sys/kernel/shmmax", "1000")])?;
    Ok(())
}

#[test]
fn streams_files_and_names() -> Result<()> {
    let daemon =
        Daemon::builder().flag("--host-gateway-ip=10.9.8.7").flag("--host-gateway-ip=fd00::7").start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = daemon.dir().join(name);
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let env_file = file("env", "# a comment\nONE=1\nTWO=two words\n")?;
    let label_file = file("labels", "from.file=yes\n")?;
    let both = "echo o; echo e >&2";
    check(
        &daemon,
        &[
            (&["--env-file", &env_file, "-e", "ONE=over"], "echo $ONE $TWO", "over two words"),
            (&["--add-host", "gw:host-gateway"], "grep gw /etc/hosts", "10.9.8.7\tgw\nfd00::7\tgw"),
            (
                &["--add-host", "x=1.2.3.4", "--add-host", "y:[::5]"],
                "grep -E '\t[xy]$' /etc/hosts",
                "1.2.3.4\tx\n::5\ty",
            ),
            (
                &[
                    "--network",
                    "bridge",
                    "--dns",
                    "9.9.9.9",
                    "--dns-search",
                    "a.b",
                    "--dns-option",
                    "ndots:3",
                ],
                "grep -E '^[a-z]' /etc/resolv.conf | sort",
                "nameserver 9.9.9.9\noptions ndots:3\nsearch a.b",
            ),
            (&["-a", "stdout"], both, "o"),
            (&["-a", "stderr"], both, ""),
            (
                &["--tmpfs", "/t:size=1m,mode=700,exec"],
                "stat -c %a /t; grep -c ' /t .*noexec' /proc/self/mounts",
                "700\n0",
            ),
            (&["--no-healthcheck"], "echo ok", "ok"),
            (&["-w", "/made/for/it"], "pwd", "/made/for/it"),
            (&["--entrypoint", "echo"], "x", "sh -c x"),
        ],
    )?;
    let stderr = run(&daemon, &["-a", "stderr"], both)?.stderr;
    assert_eq!(stderr, "e\n");
    settings_and_volumes(&daemon, &label_file)?;
    log_tags(&daemon)?;
    links_can_be_removed(&daemon)?;
    daemon.docker(&["rm", "-v", "source"])?.ok()?;
    daemon.stop()
}

fn settings_and_volumes(daemon: &Daemon, label_file: &str) -> Result<()> {
    daemon
        .docker(&[
            "create",
            "--name",
            "labelled",
            "--label-file",
            label_file,
            "-l",
            "b=2",
            "--annotation",
            "an=no",
            "--no-healthcheck",
            "--stop-timeout",
            "7",
            "--stop-signal",
            "USR1",
            "busybox",
        ])?
        .ok()?;
    let format = "{{json .Config.Labels}} {{json .HostConfig.Annotations}} {{.Config.Healthcheck.Test}} {{.Config.StopTimeout}} {{.Config.StopSignal}}";
    assert_eq!(
        daemon.docker(&["inspect", "-f", format, "labelled"])?.ok()?,
        "{\"b\":\"2\",\"from.file\":\"yes\"} {\"an\":\"no\"} [NONE] 7 USR1\n"
    );
    daemon
        .docker(&[
            "run",
            "--name",
            "source",
            "--network",
            "none",
            "-v",
            "/data",
            "busybox",
            "sh",
            "-c",
            "echo kept > /data/f",
        ])?
        .ok()?;
    check(
        daemon,
        &[
            (&["--volumes-from", "source"], "cat /data/f; echo more >> /data/f; wc -l < /data/f", "kept\n2"),
            (&["--volumes-from", "source:ro"], "touch /data/x 2>/dev/null || echo denied", "denied"),
        ],
    )?;
    Ok(())
}

fn log_tags(daemon: &Daemon) -> Result<()> {
    let tag = "tag={{.Name | upper}}/{{truncate .FullID 2}}{{range split .ImageName \"y\"}}[{{.}}]{{end}}";
    daemon
        .docker(&["run", "--name", "tagged", "--network", "none", "--log-opt", tag, "busybox", "echo", "x"])?
        .ok()?;
    let id = daemon.docker(&["inspect", "-f", "{{.Id}}", "tagged"])?.ok()?;
    let details = daemon.docker(&["logs", "--details", "tagged"])?.ok()?;
    let value = format!("TAGGED/{}[bus][box]", &id[..2]);
    let encoded = value.replace('/', "%2F").replace('[', "%5B").replace(']', "%5D");
    assert_eq!(details, format!("tag={encoded} x\n"));
    let wrong = daemon.docker(&["create", "--log-opt", "tag={{.Nope}}", "busybox"])?;
    assert!(wrong.stderr.contains("log opt tag"), "{}", wrong.stderr);
    Ok(())
}

fn links_can_be_removed(daemon: &Daemon) -> Result<()> {
    daemon.docker(&["run", "-d", "--name", "db", "busybox", "sleep", "1000"])?.ok()?;
    daemon.docker(&["run", "-d", "--name", "web", "--link", "db:store", "busybox", "sleep", "1000"])?.ok()?;
    let hosts = || daemon.docker(&["exec", "web", "cat", "/etc/hosts"])?.ok();
    assert!(hosts()?.contains("\tstore"));
    let wrong = daemon.docker(&["rm", "--link", "web/nosuch"])?;
    assert!(wrong.stderr.contains("No such container: web/nosuch"), "{}", wrong.stderr);
    let default = daemon.docker(&["rm", "--link", "web"])?;
    assert!(
        default.stderr.contains("Conflict, cannot remove the default link name of the container"),
        "{}",
        default.stderr
    );
    assert_eq!(daemon.docker(&["rm", "--link", "/web/store"])?.ok()?, "/web/store\n");
    assert!(!hosts()?.contains("store"));
    assert_eq!(daemon.docker(&["inspect", "-f", "{{json .HostConfig.Links}}", "web"])?.ok()?, "null\n");
    assert_eq!(daemon.docker(&["ps", "-q"])?.ok()?.lines().count(), 2, "both run on");
    Ok(())
}

/// `--cdi-spec-dir`: what a specification asks for is in the container; `--gpus` by way of NVIDIA's toolkit.
#[test]
fn devices_by_cdi() -> Result<()> {
    let tools = tempfile::tempdir()?;
    let specs = tools.path().join("cdi");
    fs::create_dir(&specs)?;
    symlink("/bin/true", tools.path().join("nvidia-cdi-hook"))?;
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH")?);
    let daemon = Daemon::builder()
        .flag(format!("--cdi-spec-dir={}/low", specs.display()))
        .flag(format!("--cdi-spec-dir={}", specs.display()))
        .env("PATH", path)
        .start()?;
    daemon.load(&wharf_testkit::busybox()?)?;
    let seen = daemon.dir().join("seen");
    fs::write(specs.join("vendor.yaml"), yaml_spec(daemon.dir(), &seen)?)?;
    let gpu = |name: &str| json!({"name": name, "containerEdits": {"env": [format!("GPU={name}")]}});
    let gpus = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [gpu("0"), gpu("all")]});
    fs::write(specs.join("nvidia.json"), gpus.to_string())?;
    fs::write(
        specs.join("broken.json"),
        "{\"cdiVersion\":\"0.5.0\",\"kind\":\"broken.com/kind\",\"devices\":[]}",
    )?;
    check(
        &daemon,
        &[
            (&["--device", "vendor.com/toy=one"], "echo $ALL $ONE", "all one"),
            (
                &["--device", "vendor.com/toy=one"],
                "cat /mnt/toy/hello; touch /mnt/toy/x 2>/dev/null || echo ro",
                "hi\nro",
            ),
            (
                &["--device", "vendor.com/toy=one"],
                "stat -c %t:%T:%a:%u /dev/toy; true < /dev/toy && echo opened",
                "a:e5:640:33\nopened",
            ),
            (&["--device", "vendor.com/toy=one", "-u", "user"], "id -G | tr ' ' '\\n' | grep -c 555", "1"),
            (
                &["--device", "vendor.com/toy=one", "--device", "vendor.com/toy=two"],
                "echo $ONE $TWO",
                "one two",
            ),
            (&["--gpus", "all"], "echo $GPU", "all"),
            (&["--gpus", "device=0"], "echo $GPU", "0"),
            (&["--gpus", "1"], "echo $GPU", "0"),
        ],
    )?;
    what_cdi_refuses_and_shows(&daemon, &seen)?;
    daemon.stop()
}

fn what_cdi_refuses_and_shows(daemon: &Daemon, seen: &Path) -> Result<()> {
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(seen).context("the hook ran")?)?;
    assert_eq!(state["status"], "creating", "{state}");
    for (flags, wanted) in [
        (
            &["--device", "vendor.com/toy=three"][..],
            "CDI device injection failed: unresolvable CDI devices vendor.com/toy=three",
        ),
        (&["--device", "broken.com/kind=z"], "unresolvable CDI devices broken.com/kind=z"),
        (
            &["--device", "vendor.com/toy=gone"],
            "failed to inject devices: failed to stat CDI host device \"/dev/no-such-toy\": no such file or directory",
        ),
        (&["--gpus", "device=7"], "unresolvable CDI devices nvidia.com/gpu=7"),
        (
            &["--gpus", "driver=other,count=1"],
            "could not select device driver \"other\" with capabilities: [[gpu]]",
        ),
    ] {
        let out = run(daemon, flags, "true")?;
        assert!(out.code >= 125 && out.stderr.contains(wanted), "{flags:?}: {}", out.stderr);
    }
    let info = daemon.api().at("v1.55").call("GET", "/info")?.json();
    assert_eq!(info["CDISpecDirs"].as_array().map(Vec::len), Some(2));
    assert_eq!(info["DiscoveredDevices"].as_array().map(Vec::len), Some(5), "{}", info["DiscoveredDevices"]);
    assert!(
        info["Warnings"]
            .to_string()
            .contains("broken.json: failed to load CDI Spec invalid CDI Spec: invalid spec, no devices"),
        "{}",
        info["Warnings"]
    );
    Ok(())
}

fn yaml_spec(dir: &Path, seen: &Path) -> Result<String> {
    let shared = dir.join("toy");
    fs::create_dir(&shared)?;
    fs::write(shared.join("hello"), "hi\n")?;
    // The root of the container is found by `config.json` in the bundle, as vendors' hooks do.
    let script = format!(
        "cat > {0}; b=$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/' {0}); test -f $b/config.json",
        seen.display()
    );
    Ok(format!(
        r#"---
cdiVersion: "0.7.0"
kind: vendor.com/toy
containerEdits:
  env: ["ALL=all"]
devices:
- name: one
  containerEdits:
    env:
    - ONE=one
    additionalGids: [555]
    deviceNodes:
    - path: /dev/toy
      hostPath: /dev/fuse
      permissions: rw
      fileMode: 0640
      uid: 33
    mounts:
    - hostPath: {shared}
      containerPath: /mnt/toy
      options: [ro, nosuid, nodev, bind]
    hooks:
    - hookName: createRuntime
      path: /bin/sh
      args: [sh, -c, '{script}']
      env: ["PATH=/usr/bin:/bin"]
- name: two
  containerEdits:
    env: [TWO=two]
- name: gone
  containerEdits:
    deviceNodes:
    - path: /dev/no-such-toy
"#,
        shared = shared.display(),
        script = script.replace('\'', "''"),
    ))
}

/// `mode=non-blocking`: a log that takes nothing holds no container back, and what is too much is dropped in lines.
#[test]
fn a_log_that_stands_still_holds_nobody_back() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    for driver in ["json-file", "local"] {
        let options =
            ["--log-driver", driver, "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k"];
        let whole =
            [&["run", "--name", driver, "--network", "none"], &options[..], &["busybox", "seq", "1000"]]
                .concat();
        daemon.docker(&whole)?.ok()?;
        assert_eq!(daemon.docker(&["logs", driver])?.ok()?.lines().count(), 1000, "{driver}");

        let name = format!("{driver}-slow");
        let script = "until test -e /go; do sleep 0.1; done; seq 200000; touch /done; exec sleep 1000";
        let run = ["run", "-d", "--name", &name, "--network", "none"];
        daemon.docker(&[&run[..], &options, &["busybox", "sh", "-c", script]].concat())?.ok()?;
        let pid: i32 = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", &name])?.ok()?.trim().parse()?;
        // It gets its name when it has opened the log.
        let writer = until("the writer of the log", || log_writer_of(pid))?;
        let signal = |signal| rustix::process::kill_process(writer, signal);
        signal(rustix::process::Signal::STOP)?;
        daemon.docker(&["exec", &name, "touch", "/go"])?.ok()?;
        let written = until("the container has written all", || {
            Ok((daemon.docker(&["exec", &name, "test", "-e", "/done"])?.code == 0).then_some(()))
        });
        signal(rustix::process::Signal::CONT)?;
        written?;
        daemon.docker(&["stop", "-t", "0", &name])?.ok()?;
        let logs = daemon.docker(&["logs", &name])?.ok()?;
        let count = logs.lines().count();
        assert!((1000..200_000).contains(&count), "{driver}: {count} lines");
        for (line, number) in logs.lines().zip(1..) {
            assert_eq!(line, number.to_string(), "{driver}: whole lines from the beginning on");
        }
    }
    assert_eq!(daemon.log().matches("output missing from the log").count(), 2, "{}", daemon.log());
    daemon.stop()
}

/// The process that writes the log of the container with this main process.
fn log_writer_of(main: i32) -> Result<Option<rustix::process::Pid>> {
    let parent = |pid: &str| -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned())
    };
    let shim = parent(&main.to_string()).context("the container runs")?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim() == "wharf-log" && parent(&name).as_deref() == Some(&*shim) {
            return Ok(rustix::process::Pid::from_raw(name.parse()?));
        }
    }
    Ok(None)
}
