//! Our own CLI: the same commands, the same output as docker's.

use anyhow::Result;
use wharf_testkit::Daemon;

#[test]
fn both_clis_print_the_same() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    daemon.wharf(&["run", "-d", "--name", "cc", "--network=none", "busybox", "sleep", "1000"])?.ok()?;
    daemon.wharf(&["create", "--name", "dd", "--network=none", "-e", "A=b", "busybox", "true"])?.ok()?;
    let mut compared = 0;
    for args in [
        &["ps"][..],
        &["ps", "-a"],
        &["ps", "-aq"],
        &["ps", "-a", "--no-trunc"],
        &["ps", "-a", "--format", "{{.Names}}\t{{.Status}}"],
        &["ps", "-a", "--format", "table {{.Names}}\t{{.Image}}"],
        &["images"],
        &["images", "-q"],
        &["images", "--no-trunc"],
        &["inspect", "cc"],
        &["inspect", "-f", "{{.Config.Env}}", "dd"],
        &["inspect", "-f", "{{json .HostConfig}}", "dd"],
        &["image", "inspect", "busybox"],
        &["history", "busybox"],
        &["top", "cc"],
        &["port", "cc"],
        &["logs", "cc"],
        &["volume", "ls"],
        &["network", "ls"],
        &["version", "--format", "{{.Server.Version}}"],
        &["info", "--format", "{{.Containers}}"],
        &["inspect", "nosuch"],
        &["rm", "nosuch"],
        &["start", "nosuch"],
        &["logs", "nosuch"],
        &["rmi", "nosuch"],
        &["exec", "cc", "false"],
        &["exec", "dd", "true"],
        &["rename", "cc", "dd"],
    ] {
        let (docker, wharf) = daemon.both_clis(args)?;
        assert_eq!(wharf, docker, "{args:?}");
        compared += 1;
    }
    println!("{compared} commands compared with docker's CLI");
    daemon.stop()
}

/// Flags that docker's later versions hide, and those that every version hides: taken, though not shown.
const HIDDEN: [(&str, &[&str]); 5] = [
    ("run", &["--kernel-memory=1m", "--net=none", "--net-alias=x", "--dns-opt=x"]),
    ("create", &["--kernel-memory=1m", "--net=none", "--net-alias=x", "--dns-opt=x"]),
    ("update", &["--kernel-memory=1m"]),
    ("stop", &["--time=1"]),
    ("restart", &["--time=1"]),
];

#[test]
fn commands_of_containers_have_dockers_flags() -> Result<()> {
    let daemon = Daemon::start()?;
    let words = "attach commit create diff exec export inspect kill logs ls pause port prune rename restart rm run start stats \
        stop top unpause update wait";
    let short = "attach create exec inspect kill ps rename restart rm run start stop top update wait";
    let commands = words.split_whitespace().map(|word| vec!["container", word]);
    for command in commands.chain(short.split_whitespace().map(|word| vec![word])) {
        let (docker, wharf) = daemon.both_clis(&[&command[..], &["--help"]].concat())?;
        let text = |out: &str, name: &str| -> Vec<String> {
            let mut entries: Vec<String> = Vec::new();
            for line in out.lines() {
                match entries.last_mut().filter(|_| line.starts_with("         ")) {
                    Some(entry) => *entry = format!("{entry}\n{line}"),
                    None => entries.push(line.replace(&format!("{name} "), "docker ")),
                }
            }
            // docker asks the daemon what it can do before it shows its help.
            let asks = ["--kernel-memory", "Windows", "--checkpoint"];
            let ours = ["--grep", "--publish-add", "--publish-rm"];
            entries.retain(|entry| !asks.iter().chain(&ours).any(|flag| entry.contains(flag)));
            // The width of a column depends on what is left out of it.
            entries.iter().map(|entry| entry.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(text(&wharf.stdout, "wharf"), text(&docker.stdout, "docker"), "{command:?}");
    }
    for (command, flags) in HIDDEN {
        let offline: &[&str] = if matches!(command, "run" | "create") { &["--pull=never"] } else { &[] };
        let out = daemon.wharf(&[&[command], flags, offline, &["nosuch"]].concat())?;
        assert!(!out.stderr.contains("unknown flag"), "{command}: {}", out.stderr);
        let help = daemon.wharf(&[command, "--help"])?.ok()?;
        for flag in flags {
            let name = flag.split('=').next().unwrap_or_default();
            assert!(!help.contains(&format!("{name} ")), "{command} shows {name}");
        }
    }
    daemon.stop()
}

/// `--detach-keys` on a terminal: the client goes, the container stays.

#[test]
fn run_in_all_its_ways() -> Result<()> {
    let daemon = Daemon::with_busybox()?;
    let run = |args: &[&str]| daemon.wharf(&[&["run", "--network=none"], args].concat());
    let out = run(&["--rm", "busybox", "sh", "-c", "echo o; echo e >&2; exit 3"])?;
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (3, "o\n", "e\n"));
    assert_eq!(run(&["--rm", "busybox", "nosuch"])?.code, 127);
    assert_eq!(run(&["--rm", "busybox", "/etc"])?.code, 126);
    assert_eq!(run(&["--rm", "--nosuchflag", "busybox"])?.code, 125);
    assert_eq!(run(&["--rm", "-t", "busybox", "tty"])?.ok()?, "/dev/pts/0\r\n");
    let cidfile = daemon.dir().join("cid");
    let id = run(&["-d", "--cidfile", &cidfile.to_string_lossy(), "busybox", "sleep", "1000"])?.ok()?;
    assert_eq!(std::fs::read_to_string(&cidfile)?, id.trim());
    daemon.stop()
}

#[test]
fn without_a_daemon_it_says_so() -> Result<()> {
    let mut daemon = Daemon::start()?;
    daemon.terminate()?;
    for args in [&["ps"][..], &["run", "busybox"], &["version"]] {
        let (docker, wharf) = (daemon.docker(args)?, daemon.wharf(args)?);
        assert_eq!(wharf.code, docker.code, "{args:?}: {}", wharf.stderr);
        let message = format!(
            "Cannot connect to the Docker daemon at unix://{}. Is the docker daemon running?",
            daemon.socket().display()
        );
        assert!(wharf.stderr.contains(&message), "{args:?}: {}", wharf.stderr);
    }
    daemon.assert_clean()
}
