//! Processes: a container's main one and execs.

use super::{daemon_environment, security, with_home};
use crate::{Config, Error, Result};
use wharf_api::container as api;
use wharf_spec::{
    plan::{Capabilities, Process, Rlimit, TerminalSize},
    user::User,
};

/// What the main process is made of.
pub(super) struct MainInput<'a> {
    pub(super) engine: &'a Config,
    pub(super) config: &'a api::Config,
    pub(super) host: &'a api::HostConfig,
    pub(super) command: &'a [String],
    pub(super) user: &'a User,
    pub(super) link_environment: &'a [String],
    pub(super) no_new_privileges: bool,
    pub(super) seccomp_profile: &'a str,
    pub(super) apparmor_profile: &'a str,
}

/// The main process.
///
/// # Errors
/// When a capability, limit or seccomp profile makes no sense.
pub(super) fn main_process(input: &MainInput<'_>, warnings: &mut Vec<String>) -> Result<Process> {
    let (config, host) = (input.config, input.host);
    let env = daemon_environment(config, config.tty, input.link_environment);
    let console = TerminalSize { rows: size(host.console_size[0]), columns: size(host.console_size[1]) };
    Ok(Process {
        args: input.command.to_vec(),
        env: with_home(env, &input.user.home),
        cwd: directory(&config.working_dir),
        make_cwd: true,
        uid: input.user.uid,
        gid: input.user.gid,
        additional_gids: groups(input.user),
        umask: None,
        terminal: config.tty.then_some(console),
        capabilities: sets(security::capabilities(host, warnings)?),
        no_new_privileges: input.no_new_privileges,
        seccomp: security::seccomp(input.engine, host, input.seccomp_profile)?,
        rlimits: rlimits(input.engine, host)?,
        oom_score_adj: oom_score_adj(host),
        apparmor_profile: security::apparmor(host.privileged, input.apparmor_profile),
        selinux_label: None,
        tuning: Default::default(),
    })
}

/// What an exec is made of.
pub(crate) struct ExecInput<'a> {
    pub(crate) engine: &'a Config,
    pub(crate) host: &'a api::HostConfig,
    pub(crate) command: &'a [String],
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: &'a str,
    pub(crate) user: &'a User,
    pub(crate) terminal: Option<TerminalSize>,
    pub(crate) privileged: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp_profile: &'a str,
    pub(crate) apparmor_profile: &'a str,
}

/// A process started in a running container: what the main one may, or everything when it is privileged
/// (source: moby `daemon/exec_linux.go`).
///
/// # Errors
/// As [`main_process`].
pub(crate) fn exec_process(input: ExecInput<'_>) -> Result<Process> {
    let capabilities = match input.privileged {
        true => security::available(),
        false => security::capabilities(input.host, &mut Vec::new())?,
    };
    Ok(Process {
        args: input.command.to_vec(),
        env: with_home(input.env, &input.user.home),
        cwd: directory(input.working_dir),
        make_cwd: false,
        uid: input.user.uid,
        gid: input.user.gid,
        additional_gids: groups(input.user),
        umask: None,
        terminal: input.terminal,
        capabilities: sets(capabilities),
        no_new_privileges: input.no_new_privileges,
        seccomp: security::seccomp(input.engine, input.host, input.seccomp_profile)?,
        rlimits: rlimits(input.engine, input.host)?,
        oom_score_adj: oom_score_adj(input.host),
        apparmor_profile: security::apparmor(
            input.host.privileged || input.privileged,
            input.apparmor_profile,
        ),
        selinux_label: None,
        tuning: Default::default(),
    })
}

fn size(n: u64) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

fn directory(text: &str) -> String {
    if text.is_empty() { "/".into() } else { text.into() }
}

/// The primary group is among the supplementary ones (source: moby `daemon/oci_linux.go`, getUser).
fn groups(user: &User) -> Vec<u32> {
    let mut groups = vec![user.gid];
    groups.extend_from_slice(&user.additional_gids);
    groups
}

/// Nothing is inheritable or ambient (CVE-2022-27650).
fn sets(set: u64) -> Capabilities {
    Capabilities { bounding: set, effective: set, permitted: set, inheritable: 0, ambient: 0 }
}

fn oom_score_adj(host: &api::HostConfig) -> Option<i32> {
    i32::try_from(host.oom_score_adj).ok().filter(|n| *n != 0)
}

/// Names of docker/go-units `ulimit.go` and the kernel's numbers (getrlimit(2)).
const RLIMITS: [(&str, u32); 15] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("locks", 9),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

/// RLIMIT_NOFILE.
const NOFILE: u32 = 7;

/// The container's limits, then the daemon's defaults that it does not set itself. The daemon's own raised limit
/// of descriptors is not passed on.
fn rlimits(engine: &Config, host: &api::HostConfig) -> Result<Vec<Rlimit>> {
    let own = host.ulimits.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for limit in own {
        all.push(rlimit(&limit.name, limit.soft, limit.hard)?);
    }
    for (name, (soft, hard)) in &engine.default_ulimits {
        if !own.iter().any(|l| l.name == *name) {
            all.push(rlimit(name, *soft, *hard)?);
        }
    }
    if let Some((soft, hard)) = engine.descriptors
        && !all.iter().any(|l| l.resource == NOFILE)
    {
        all.push(Rlimit { resource: NOFILE, soft, hard });
    }
    Ok(all)
}

fn rlimit(name: &str, soft: i64, hard: i64) -> Result<Rlimit> {
    let lower = name.to_ascii_lowercase();
    let number = RLIMITS.iter().find(|(known, _)| *known == lower.trim_start_matches("rlimit_"));
    let Some((_, resource)) = number else {
        return Err(Error::Refused(format!("invalid ulimit type: {name}")));
    };
    // -1 is RLIM_INFINITY, all bits set.
    let bits = |n: i64| u64::from_ne_bytes(n.to_ne_bytes());
    Ok(Rlimit { resource: *resource, soft: bits(soft), hard: bits(hard) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_container_hide_the_daemons() {
        let mut engine = Config::default();
        engine.default_ulimits.insert("nofile".into(), (10, 20));
        engine.default_ulimits.insert("core".into(), (0, -1));
        let host = api::HostConfig {
            ulimits: Some(vec![api::Ulimit { name: "nofile".into(), soft: 1, hard: 2 }]),
            ..Default::default()
        };
        let got = rlimits(&engine, &host).unwrap();
        assert_eq!(
            got,
            [Rlimit { resource: 7, soft: 1, hard: 2 }, Rlimit { resource: 4, soft: 0, hard: u64::MAX }]
        );
        engine.descriptors = Some((64, 128));
        assert_eq!(rlimits(&engine, &host).unwrap(), got);
        let inherited = rlimits(&engine, &api::HostConfig::default()).unwrap();
        assert!(inherited.contains(&Rlimit { resource: 7, soft: 10, hard: 20 }));
        engine.default_ulimits.remove("nofile");
        let inherited = rlimits(&engine, &api::HostConfig::default()).unwrap();
        assert!(inherited.contains(&Rlimit { resource: 7, soft: 64, hard: 128 }));
        assert_eq!(rlimit("nosuch", 1, 1).unwrap_err().to_string(), "invalid ulimit type: nosuch");
    }

    #[test]
    fn the_primary_group_comes_first() {
        let user = User { uid: 1, gid: 2, additional_gids: vec![3], home: "/".into() };
        assert_eq!(groups(&user), [2, 3]);
        assert_eq!(sets(5).inheritable, 0);
    }
}
