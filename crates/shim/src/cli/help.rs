//! What `--help` prints, for the runtime and for each of its commands.

/// A command: name, what it does, its arguments, its options.
struct Page {
    name: &'static str,
    purpose: &'static str,
    arguments: &'static str,
    options: &'static [(&'static str, &'static str)],
}

const BUNDLE: (&str, &str) =
    ("--bundle DIR, -b DIR", "directory of config.json (default: the working directory)");
const CONSOLE: (&str, &str) = ("--console-socket PATH", "unix socket that takes the terminal's other end");
const PIDFD: (&str, &str) = ("--pidfd-socket PATH", "unix socket that takes a pidfd of the process");
const PID_FILE: (&str, &str) = ("--pid-file FILE", "write the process's pid here");
const NO_PIVOT: (&str, &str) = ("--no-pivot", "enter the root with chroot, for hosts on a ramfs");
const KEYRING: (&str, &str) = ("--no-new-keyring", "accepted; a container always gets a keyring of its own");
const PRESERVE: (&str, &str) = ("--preserve-fds N", "pass N descriptors from 3 on to the process");

const PAGES: &[Page] = &[
    Page {
        name: "create",
        purpose: "create a container",
        arguments: "<container-id>",
        options: &[BUNDLE, CONSOLE, PIDFD, PID_FILE, NO_PIVOT, KEYRING, PRESERVE],
    },
    Page {
        name: "delete",
        purpose: "delete any resources held by the container",
        arguments: "<container-id>",
        options: &[("--force, -f", "kill it first if it runs")],
    },
    Page {
        name: "events",
        purpose: "display container events and resource usage",
        arguments: "<container-id>",
        options: &[
            ("--interval TIME", "between two reports (default: 5s)"),
            ("--stats", "one report and no more"),
        ],
    },
    Page {
        name: "exec",
        purpose: "execute a new process inside the container",
        arguments: "<container-id> <command> [argument...]",
        options: &[
            ("--process FILE, -p FILE", "take the whole process from this file"),
            ("--detach, -d", "do not wait for its end"),
            ("--tty, -t", "give it a terminal"),
            ("--cwd DIR", "working directory"),
            ("--env NAME=VALUE, -e NAME=VALUE", "add to the environment"),
            ("--user UID[:GID], -u UID[:GID]", "who it runs as"),
            ("--additional-gids GID, -g GID", "add a group"),
            ("--cap NAME, -c NAME", "add a capability"),
            ("--no-new-privs", "no gain of privileges"),
            ("--apparmor PROFILE", "AppArmor profile"),
            ("--process-label LABEL", "SELinux label"),
            ("--cgroup [CONTROLLER,...:]PATH", "a group below the container's"),
            ("--ignore-paused", "also in a paused container"),
            CONSOLE,
            PIDFD,
            PID_FILE,
            PRESERVE,
        ],
    },
    Page { name: "features", purpose: "show what this runtime can do", arguments: "", options: &[] },
    Page {
        name: "kill",
        purpose: "send a signal to the container's init process",
        arguments: "<container-id> [signal]",
        options: &[("--all, -a", "to every process of the container")],
    },
    Page {
        name: "list",
        purpose: "list containers started with the given root",
        arguments: "",
        options: &[("--format FORMAT, -f FORMAT", "table (default) or json"), ("--quiet, -q", "ids only")],
    },
    Page {
        name: "pause",
        purpose: "suspend all processes inside the container",
        arguments: "<container-id>",
        options: &[],
    },
    Page {
        name: "ps",
        purpose: "display the processes running inside a container",
        arguments: "<container-id> [ps options]",
        options: &[("--format FORMAT, -f FORMAT", "table (default) or json")],
    },
    Page {
        name: "resume",
        purpose: "resume all processes that have been paused",
        arguments: "<container-id>",
        options: &[],
    },
    Page {
        name: "run",
        purpose: "create and run a container",
        arguments: "<container-id>",
        options: &[
            ("--detach, -d", "do not wait for its end"),
            ("--keep", "do not delete it at its end"),
            ("--no-subreaper", "accepted; orphans go to whoever reaps them on this host"),
            BUNDLE,
            CONSOLE,
            PIDFD,
            PID_FILE,
            NO_PIVOT,
            KEYRING,
            PRESERVE,
        ],
    },
    Page {
        name: "spec",
        purpose: "write an example config.json",
        arguments: "",
        options: &[BUNDLE, ("--rootless", "for a user without privileges")],
    },
    Page {
        name: "start",
        purpose: "start the user's process in a created container",
        arguments: "<container-id>",
        options: &[],
    },
    Page {
        name: "state",
        purpose: "output the state of a container",
        arguments: "<container-id>",
        options: &[],
    },
    Page {
        name: "update",
        purpose: "change resource limits",
        arguments: "<container-id>",
        options: &[
            ("--resources FILE, -r FILE", "take them from this file, - is standard input"),
            ("--blkio-weight N", "10 to 1000"),
            ("--cpu-period N, --cpu-quota N, --cpu-burst N", "microseconds"),
            ("--cpu-share N", "relative weight"),
            ("--cpu-rt-period N, --cpu-rt-runtime N", "microseconds, cgroup v1"),
            ("--cpu-idle N", "1: only what nobody else wants"),
            ("--cpuset-cpus LIST, --cpuset-mems LIST", "CPUs and memory nodes"),
            ("--memory SIZE, --memory-reservation SIZE, --memory-swap SIZE", "bytes, -1 is unlimited"),
            ("--pids-limit N", "number of processes, -1 is unlimited"),
        ],
    },
];

const GLOBAL: &str = "Global options:
  --debug             more log lines
  --log FILE          write log lines here instead of standard error
  --log-format FORMAT text (default) or json
  --root DIR          where container state is kept (default: /run/wharf-runtime)
  --rootless VALUE    accepted for compatibility
  --version, -v       print the version
  --help, -h          print this
";

/// The page of the runtime itself.
pub(super) fn usage() -> String {
    let mut text = "NAME:\n   wharf-runtime - an OCI runtime with the command line of runc\n\nUSAGE:\n   \
        wharf-runtime [global options] command [command options] [arguments...]\n\nCommands:\n"
        .to_owned();
    for page in PAGES {
        text.push_str(&format!("  {:<9} {}\n", page.name, page.purpose));
    }
    text.push('\n');
    text + GLOBAL
}

/// The page of a command, when that is what its first argument asks for.
pub(super) fn asked_for(command: &str, parser: &mut lexopt::Parser) -> Option<String> {
    let page = PAGES.iter().find(|page| page.name == command)?;
    let args = parser.try_raw_args()?;
    let first = args.as_slice().first()?;
    if first != "-h" && first != "--help" {
        return None;
    }
    let mut text = format!(
        "NAME:\n   wharf-runtime {command} - {}\n\nUSAGE:\n   wharf-runtime {command} [command options] {}\n",
        page.purpose, page.arguments
    );
    if !page.options.is_empty() {
        text.push_str("\nOPTIONS:\n");
        for (option, meaning) in page.options {
            text.push_str(&format!("   {option}\n      {meaning}\n"));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_pages() {
        let page = |args: &[&str]| asked_for("exec", &mut lexopt::Parser::from_args(args));
        let text = page(&["--help"]).unwrap();
        assert!(text.starts_with("NAME:\n   wharf-runtime exec - execute"), "{text}");
        assert!(text.contains("--preserve-fds N"), "{text}");
        assert_eq!(page(&["c1", "ls", "-h"]), None);
        assert_eq!(page(&[]), None);
        assert_eq!(asked_for("nosuch", &mut lexopt::Parser::from_args(["-h"])), None);
        assert!(usage().contains("  update    change resource limits\n"));
    }
}
