//! `wharf build`: that each flag reaches the build.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::fs;
use wharf_testkit::{Daemon, Output, Registry, lacks};

fn build(daemon: &Daemon, args: &[&str]) -> Result<Output> {
    let dir = daemon.dir().join("ctx");
    daemon.wharf(&[&["build", "--progress=plain"], args, &[&*dir.to_string_lossy()]].concat())
}

fn cat(daemon: &Daemon, image: &str, path: &str) -> Result<String> {
    daemon.wharf(&["run", "--rm", "--network=none", image, "cat", path])?.ok()
}

#[test]
fn commands_run_as_the_flags_say() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let show = "RUN ulimit -n > /n; df -k /dev/shm | tail -1 | awk '{print $2}' > /shm; grep myhost /etc/hosts > /hosts; \
        cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null > /memory; \
        cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null > /quota; \
        cat /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null > /shares; \
        cat /proc/self/status | grep Cpus_allowed_list > /cpus; ls /sys/class/net > /net; echo $FROM_HERE > /arg\n";
    daemon.build_context(&format!("FROM busybox\nARG FROM_HERE\n{show}"))?;
    let args = [
        "-t",
        "x",
        "--network=none",
        "--add-host",
        "myhost:10.1.2.3",
        "--ulimit",
        "nofile=123:456",
        "--shm-size",
        "8m",
        "--memory",
        "96m",
        "--memory-swap",
        "96m",
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "25000",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
        "--build-arg",
        "FROM_HERE=yes",
    ];
    let out = build(&daemon, &args)?;
    ensure!(out.code == 0, "{}", out.stderr);
    for (path, expected) in
        [("/n", "123"), ("/shm", "8192"), ("/memory", "100663296"), ("/net", "lo"), ("/arg", "yes")]
    {
        assert_eq!(cat(&daemon, "x", path)?.trim(), expected, "{path}");
    }
    ensure!(cat(&daemon, "x", "/hosts")?.starts_with("10.1.2.3\tmyhost"));
    ensure!(cat(&daemon, "x", "/quota")?.starts_with("25000"));
    ensure!(matches!(cat(&daemon, "x", "/shares")?.trim(), "512" | ""));
    ensure!(cat(&daemon, "x", "/cpus")?.trim().ends_with("\t0"));
    let refused = build(&daemon, &["--isolation", "hyperv"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("unsupported isolation: \"hyperv\""), "{refused:?}");
    daemon.stop()
}

#[test]
fn what_is_told_of_a_build_is_what_it_made() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let dir = daemon.build_context("FROM busybox AS first\nLABEL stage=first\nRUN --mount=type=secret,id=a cat /run/secrets/a | wc -c\nFROM busybox\nLABEL stage=last\n",
    )?;
    fs::write(dir.join("secret"), "hunter2")?;
    let at = |name: &str| daemon.dir().join(name).to_string_lossy().into_owned();
    let (iid, metadata) = (at("iid"), at("metadata"));
    let secret = format!("id=a,src={}", dir.join("secret").display());
    let args = [
        "build",
        "--network=none",
        "--progress=rawjson",
        "--target",
        "FIRST",
        "-t",
        "x:1",
        "--label",
        "a=b=c",
        "--secret",
        &secret,
        "--iidfile",
        &iid,
        "--metadata-file",
        &metadata,
        &dir.to_string_lossy(),
    ];
    let out = daemon.wharf(&args)?;
    ensure!(out.code == 0, "{}", out.stderr);
    let image = daemon.inspect_image("x:1")?;
    let labels = &image["Config"]["Labels"];
    assert_eq!((&labels["stage"], &labels["a"]), (&"first".into(), &"b=c".into()));
    assert_eq!(fs::read_to_string(&iid)?, image["Id"].as_str().unwrap_or_default());
    let told: Value = serde_json::from_slice(&fs::read(&metadata)?)?;
    assert_eq!(told["containerimage.config.digest"], image["Id"]);
    let lines: Vec<Value> = out.stderr.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let names: Vec<&str> = lines.iter().filter_map(|line| line["vertexes"][0]["name"].as_str()).collect();
    ensure!(names.iter().any(|name| name.starts_with("[3/4] RUN --mount=type=secret")), "{names:?}");
    let is_done = |line: &&Value| line["vertexes"][0]["completed"].is_string();
    ensure!(lines.iter().filter(is_done).count() >= 5, "{}", out.stderr);
    ensure!(
        lines.iter().any(|line| line["logs"][0]["data"] == "Nwo="),
        "the secret has 7 bytes: {}",
        out.stderr
    );
    ensure!(!build(&daemon, &["--target", "nosuch"])?.stderr.contains("DONE"), "nothing is built");
    // Where it fails nothing is told.
    fs::remove_file(&iid)?;
    daemon.build_context("FROM busybox\nRUN exit 1\n")?;
    ensure!(build(&daemon, &["--network=none", "--iidfile", &iid])?.code == 1 && fs::metadata(&iid).is_err());
    daemon.stop()
}

#[test]
fn images_are_pushed_and_bases_pulled_anew() -> Result<()> {
    if lacks(&["docker-registry", "skopeo"]) {
        return Ok(());
    }
    let daemon = Daemon::with_busybox()?;
    let registry = Registry::start(daemon.net(), daemon.dir())?;
    let base = format!("{}/base:latest", Registry::ADDRESS);
    daemon.build_context("FROM busybox\nENV BASE=one\n")?;
    let pushed = build(&daemon, &["-t", &base, "--push"])?;
    ensure!(pushed.code == 0, "{}", pushed.stderr);
    let told = daemon.api().call("GET", &format!("/distribution/{base}/json"))?;
    assert_eq!(told.status, 200, "it is there");
    // Another one of the same name is in the registry, and the first one here.
    let one = daemon.inspect_image(&base)?["Id"].as_str().unwrap_or_default().to_owned();
    daemon.build_context("FROM busybox\nENV BASE=two\n")?;
    let output = format!("type=image,name={base},push=true");
    ensure!(build(&daemon, &["-o", &output])?.code == 0);
    daemon.wharf(&["tag", &one, &base])?.ok()?;
    daemon.build_context(&format!("FROM {base}\nLABEL x=y\n"))?;
    for (args, expected) in [(&["-t", "d"][..], "BASE=one"), (&["-t", "d", "--pull"][..], "BASE=two")] {
        let out = build(&daemon, args)?;
        ensure!(out.code == 0, "{}", out.stderr);
        let environment = daemon.inspect_image("d")?["Config"]["Env"].to_string();
        ensure!(environment.contains(expected), "{args:?}: {environment}");
    }
    let unnamed = build(&daemon, &["--push"])?;
    ensure!(unnamed.stderr.contains("tag is needed when pushing to registry"), "{unnamed:?}");
    let both = build(&daemon, &["--push", "--load", "-t", &base])?;
    ensure!(both.stderr.contains("push and load may not be set together"), "{both:?}");
    drop(registry);
    daemon.stop()
}
