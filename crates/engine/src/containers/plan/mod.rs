//! From a container's settings to the flat plan its shim carries out. Everything is decided here: users are
//! numbers, capabilities masks, defaults filled in (source: moby `daemon/oci_linux.go`, createSpec, and
//! `daemon/pkg/oci/defaults.go`).

mod device_requests;
mod devices;
mod environment;
mod log;
mod log_attributes;
mod log_tag;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod runtime;
mod security;

pub(crate) use environment::{daemon_environment, replace_or_append, with_home};
pub(crate) use log::{bytes, check_log_options, is_readable, log_of, log_path, log_target};
use log_attributes::LogOwner;
pub(crate) use mounts::mount_options;
pub(crate) use namespaces::{Joined, Netns, Userns, open_namespace};
pub(crate) use process::{ExecInput, exec_process};
pub(crate) use resources::resources;
pub(crate) use runtime::{check_runtime, is_built_in};
pub(crate) use security::{
    SecurityOptions, check_kernel as check_security_options, parse_options as parse_security_options,
};

use crate::{
    Config, Error, Result, config::CgroupDriver, containers::mounts::check_propagation,
    containers::record::MountPoint,
};
use std::{collections::BTreeMap, os::fd::OwnedFd, path::Path};
use wharf_api::container as api;
use wharf_spec::{
    ContainerId,
    plan::{
        Cgroup, Fd, Hooks, Mount, MountAttrs, MountKind, Plan, Propagation, Resources, Root, Scope, Source,
        Stdio,
    },
    user::User,
};

/// The most sockets of published ports that a shim keeps; the daemon alone holds further ones.
const MOST_HELD: usize = 8192;

/// All that a plan is made of.
pub(crate) struct Input<'a> {
    pub(crate) engine: &'a Config,
    pub(crate) id: &'a ContainerId,
    pub(crate) config: &'a api::Config,
    pub(crate) host: &'a api::HostConfig,
    /// Program and arguments, merged from image and request.
    pub(crate) command: Vec<String>,
    /// The container's run directory, absolute.
    pub(crate) run_dir: &'a Path,
    /// The mounted root, detached.
    pub(crate) root: OwnedFd,
    /// Where it is mounted, for runtimes that take no descriptor.
    pub(crate) root_path: &'a Path,
    /// Who the main process runs as.
    pub(crate) user: User,
    pub(crate) netns: Netns,
    /// What the shim keeps open until the end: the sockets of published ports.
    pub(crate) held: Vec<OwnedFd>,
    /// Namespaces of other containers.
    pub(crate) joined: Joined,
    pub(crate) userns: Userns,
    /// Environment that links bring.
    pub(crate) link_environment: Vec<String>,
    /// `/etc/hosts` and its like: target and file, for those that the container's mounts do not replace.
    pub(crate) files: Vec<(&'static str, String)>,
    /// The host's tmpfs for `/dev/shm` of a shareable container.
    pub(crate) shm: Option<String>,
    pub(crate) mounts: &'a BTreeMap<String, MountPoint>,
    /// What mount points bring that no path says, by destination.
    pub(crate) trees: BTreeMap<String, OwnedFd>,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp_profile: &'a str,
    pub(crate) apparmor_profile: &'a str,
    pub(crate) writable_cgroups: Option<bool>,
    pub(crate) log: wharf_spec::plan::Log,
}

/// File descriptors that travel with a plan, by the index they got.
#[derive(Default)]
pub(crate) struct Fds(pub(crate) Vec<OwnedFd>);

impl Fds {
    fn add(&mut self, fd: OwnedFd) -> Fd {
        self.0.push(fd);
        Fd(u16::try_from(self.0.len() - 1).expect("a process has fewer descriptors"))
    }
}

/// A plan and what it names by descriptor, and what could not be given to the container.
pub(crate) struct Built {
    pub(crate) plan: Plan,
    pub(crate) fds: Fds,
    pub(crate) warnings: Vec<String>,
}

/// Builds the plan. Reads device numbers and `/proc` of containers whose namespaces are joined: call it on a
/// blocking thread.
///
/// # Errors
/// When a device, a namespace or a limit that was asked for does not exist.
pub(crate) fn build(input: Input<'_>) -> Result<Built> {
    let mut fds = Fds::default();
    let mut warnings = Vec::new();
    let runtime = runtime::runtime(input.engine, &input.host.runtime, input.run_dir)?;
    check_mounts(&input, runtime.is_some())?;
    let root = match runtime {
        None => Source::Fd(fds.add(input.root)),
        Some(_) => Source::Path(input.root_path.to_string_lossy().into_owned()),
    };
    let trees = input.trees.into_iter().map(|(destination, tree)| (destination, fds.add(tree))).collect();
    let propagation = mounts::root_propagation(input.mounts);
    let owners = mounts::Owners { user: (input.user.uid, input.user.gid), ids: input.userns.ids() };
    let set = mounts::MountInput {
        host: input.host,
        owners,
        files: &input.files,
        shm: input.shm.as_deref(),
        points: input.mounts,
        trees,
        writable_cgroups: input.writable_cgroups,
    };
    let mounts = mounts::mounts(&set)?;
    let process = process::main_process(
        &process::MainInput {
            engine: input.engine,
            config: input.config,
            host: input.host,
            command: &input.command,
            user: &input.user,
            link_environment: &input.link_environment,
            no_new_privileges: input.no_new_privileges,
            seccomp_profile: input.seccomp_profile,
            apparmor_profile: input.apparmor_profile,
        },
        &mut warnings,
    )?;
    let (devices, rules) = devices::devices(input.host)?;
    let mut limits = resources(input.host)?;
    limits.devices = rules;
    let sysctls = namespaces::sysctls(input.host, input.userns.ids().is_some());
    let in_own_pid_namespace = input.host.pid_mode.is_empty();
    let namespaces = namespaces::namespaces(input.host, input.netns, (input.joined, input.userns), &mut fds)?;
    let held = input.held.into_iter().take(MOST_HELD).map(|fd| fds.add(fd)).collect();
    let (hostname, domainname) = names(input.config, input.host);
    let mut plan = Plan {
        id: input.id.to_string(),
        bundle: input.run_dir.to_string_lossy().into_owned(),
        root: Root { source: root, readonly: input.host.readonly_rootfs, propagation },
        mounts,
        devices,
        namespaces,
        hostname,
        domainname,
        cgroup: cgroup(input.engine, input.host, input.id, limits)?,
        sysctls,
        masked_paths: paths(input.host, input.host.masked_paths.as_deref()),
        readonly_paths: paths(input.host, input.host.readonly_paths.as_deref()),
        process,
        init: in_own_pid_namespace && input.host.init.unwrap_or(input.engine.init),
        stdio: Stdio::Shim { stdin: input.config.open_stdin, stdin_once: input.config.stdin_once },
        log: input.log,
        hooks: Hooks::default(),
        annotations: input.host.annotations.clone().into_iter().collect(),
        tolerate_missing_privilege: true,
        held,
        runtime,
    };
    extend(&mut plan, input.engine, input.host, input.root_path)?;
    Ok(Built { plan, fds, warnings })
}

/// What a runtime or the host's own mounts speak against.
fn check_mounts(input: &Input<'_>, is_external: bool) -> Result<()> {
    if is_external && !input.trees.is_empty() {
        let what = "a mount of an image or of a part of a volume with another runtime";
        return Err(Error::NotImplemented(what));
    }
    let mut points = input.mounts.values();
    points.try_for_each(|point| check_propagation(point, &input.engine.data_root))
}

/// What changes a plan that is whole: an init of the host, and devices by request.
fn extend(plan: &mut Plan, engine: &Config, host: &api::HostConfig, root_path: &Path) -> Result<()> {
    if let Some(program) = engine.init_path.as_ref().filter(|_| plan.init) {
        under_init(plan, program)?;
    }
    device_requests::give(plan, engine, host)?;
    if plan.hooks != Hooks::default() {
        // Hooks look for the root by its path in `config.json`.
        plan.root.source = Source::Path(root_path.to_string_lossy().into_owned());
    }
    Ok(())
}

/// Runs the main process under the daemon's `--init-path` instead of the shim's own init (source: moby
/// `daemon/oci_linux.go`, withInit; `daemon/config/config_linux.go`, LookupInitPath).
fn under_init(plan: &mut Plan, program: &Path) -> Result<()> {
    const INSIDE: &str = "/sbin/docker-init";
    const LIBEXEC: &str = "/usr/local/libexec/docker:/usr/libexec/docker:/usr/local/lib/docker:/usr/lib/docker:\
        /usr/local/libexec:/usr/libexec:/usr/local/lib:/usr/lib";
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = runtime::find(program, LIBEXEC.as_ref()).or_else(|| runtime::find(program, &search));
    let Some(source) = found else {
        return Err(Error::Refused(format!(
            "exec: {:?}: executable file not found in $PATH",
            program.display().to_string()
        )));
    };
    plan.init = false;
    plan.process.args.splice(0..0, [INSIDE.to_owned(), "--".to_owned()]);
    plan.mounts.push(Mount {
        target: INSIDE.to_owned(),
        kind: MountKind::Bind {
            source: Source::Path(source.to_string_lossy().into_owned()),
            recursive: false,
        },
        attrs: MountAttrs::READONLY,
        recursive_attrs: false,
        propagation: None,
        idmap: None,
        idmap_single: false,
    });
    Ok(())
}

/// The cgroup of a container that starts (source: moby `daemon/oci_linux.go`, withCgroups).
fn cgroup(engine: &Config, host: &api::HostConfig, id: &ContainerId, resources: Resources) -> Result<Cgroup> {
    let scope = scope(engine, host, id);
    if let Some(scope) = scope.as_ref().filter(|scope| scope.cgroup_path().is_none()) {
        return Err(Error::Refused(format!("invalid slice name: {}", scope.slice)));
    }
    Ok(Cgroup { path: cgroup_path(engine, host, id), resources, scope })
}

fn cgroup_parent<'a>(engine: &'a Config, host: &'a api::HostConfig) -> &'a str {
    if host.cgroup_parent.is_empty() { &engine.cgroup_parent } else { &host.cgroup_parent }
}

/// The scope that systemd is to make, where it makes control groups.
fn scope(engine: &Config, host: &api::HostConfig, id: &ContainerId) -> Option<Scope> {
    (engine.cgroup_driver == CgroupDriver::Systemd).then(|| Scope {
        slice: cgroup_parent(engine, host).to_owned(),
        prefix: "docker".to_owned(),
        name: id.to_string(),
    })
}

/// The cgroup, relative to each hierarchy: `<parent>/<id>`, or the one of systemd's scope.
pub(crate) fn cgroup_path(engine: &Config, host: &api::HostConfig, id: &ContainerId) -> String {
    if let Some(path) = scope(engine, host, id).and_then(|scope| scope.cgroup_path()) {
        return path;
    }
    let parent = cgroup_parent(engine, host);
    // `..` in it would lead out of the hierarchy.
    let clean: Vec<_> = parent.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    let mut path = String::new();
    for part in clean.into_iter().chain([id.as_str()]) {
        path.push('/');
        path.push_str(part);
    }
    path
}

/// The cgroup of a container that has no record; `None` when the name is no container's id.
pub(crate) fn orphan_cgroup(engine: &Config, name: &str) -> Option<String> {
    let id: ContainerId = name.parse().ok()?;
    Some(cgroup_path(engine, &api::HostConfig::default(), &id))
}

fn names(config: &api::Config, host: &api::HostConfig) -> (Option<String>, Option<String>) {
    if host.uts_mode.is_host() {
        return (None, None);
    }
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    (text(&config.hostname), text(&config.domainname))
}

fn paths(host: &api::HostConfig, list: Option<&[String]>) -> Vec<String> {
    if host.privileged { Vec::new() } else { list.unwrap_or_default().to_vec() }
}

/// Docker's word for a propagation mode; anything else is none.
fn propagation_of(word: &str) -> Option<Propagation> {
    Some(match word {
        "rprivate" => Propagation::RPrivate,
        "private" => Propagation::Private,
        "rslave" => Propagation::RSlave,
        "slave" => Propagation::Slave,
        "rshared" => Propagation::RShared,
        "shared" => Propagation::Shared,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_stay_below_the_hierarchy() {
        let id = ContainerId::from_random([0xab; 32]);
        let engine = Config::default();
        let path = |parent: &str| {
            let host = api::HostConfig { cgroup_parent: parent.into(), ..Default::default() };
            cgroup_path(&engine, &host, &id)
        };
        assert_eq!(path(""), format!("/docker/{id}"));
        assert_eq!(path("/a/b"), format!("/a/b/{id}"));
        assert_eq!(path("../../x/./y"), format!("/x/y/{id}"));
    }

    #[test]
    fn scopes_are_below_their_slices() {
        let id = ContainerId::from_random([0xab; 32]);
        let engine = Config {
            cgroup_driver: CgroupDriver::Systemd,
            cgroup_parent: "system.slice".into(),
            ..Config::default()
        };
        let made = |parent: &str| {
            let host = api::HostConfig { cgroup_parent: parent.into(), ..Default::default() };
            cgroup(&engine, &host, &id, Resources::default())
        };
        let usual = made("").unwrap();
        assert_eq!(usual.path, format!("/system.slice/docker-{id}.scope"));
        assert_eq!(usual.scope.unwrap().oci_path(), format!("system.slice:docker:{id}"));
        assert_eq!(made("a-b.slice").unwrap().path, format!("/a.slice/a-b.slice/docker-{id}.scope"));
        assert_eq!(made("-.slice").unwrap().path, format!("/docker-{id}.scope"));
        for bad in ["a--b.slice", "-a.slice", "a/b.slice"] {
            assert_eq!(made(bad).unwrap_err().to_string(), format!("invalid slice name: {bad}"));
        }
    }
}
