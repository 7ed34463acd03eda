//! A whole `config.json` as a plan.

use super::{OciError, OciResult, config, devices, invalid, mounts, process, resources, validate};
use std::path::Path;
use wharf_spec::plan::{
    Cgroup, Hook, Hooks, IdMaps, Log, Namespace, Namespaces, Plan, Propagation, Resources, Root, Source,
    Stdio, TimeOffset,
};

/// Where a document comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Absolute path of the bundle: relative paths in the document start there.
    pub bundle: &'a Path,
}

/// A plan, and what in the document was not heeded.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// The plan. Its `stdio` reads and writes nothing: the caller knows better.
    pub plan: Plan,
    /// For the log.
    pub warnings: Vec<String>,
}

/// Decides what a `config.json` means.
///
/// # Errors
/// [`OciError::Invalid`] in runc's words, [`OciError::Unsupported`] by the field's name, [`OciError::Look`].
pub fn to_plan(from: &config::Config, origin: Origin<'_>) -> OciResult<Converted> {
    let mut warnings = Vec::new();
    let no_linux = config::Linux::default();
    let linux = from.linux.as_ref().unwrap_or(&no_linux);
    let Some(from_process) = &from.process else { return invalid("process property must not be empty") };
    let Some(from_root) = &from.root else { return invalid("root must be specified") };
    let mut process = process::process_to_plan(from_process, Some(linux), &mut warnings)?;
    process.make_cwd = true;
    let namespaces = namespaces(linux)?;
    let plan = Plan {
        id: origin.id.to_owned(),
        bundle: origin.bundle.to_string_lossy().into_owned(),
        root: root(from_root, linux, origin.bundle)?,
        mounts: mounts(from, origin.bundle, namespaces.id_maps.as_ref())?,
        devices: devices::nodes(linux)?,
        namespaces,
        hostname: Some(from.hostname.clone()).filter(|name| !name.is_empty()),
        domainname: Some(from.domainname.clone()).filter(|name| !name.is_empty()),
        cgroup: cgroup(linux, origin.id, &mut warnings)?,
        sysctls: linux.sysctl.iter().map(|(name, value)| (validate::dotted(name), value.clone())).collect(),
        masked_paths: linux.masked_paths.clone(),
        readonly_paths: linux.readonly_paths.clone(),
        process,
        init: false,
        stdio: Stdio::Shim { stdin: false, stdin_once: false },
        log: Log::None,
        hooks: from.hooks.as_ref().map_or(Ok(Hooks::default()), hooks)?,
        annotations: from.annotations.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        tolerate_missing_privilege: false,
        runtime: None,
        held: Vec::new(),
    };
    validate::config(from, linux)?;
    if !linux.mount_label.is_empty() {
        warnings.push("linux.mountLabel is ignored: there is no SELinux here".to_owned());
    }
    Ok(Converted { plan, warnings })
}

fn root(from: &config::Root, linux: &config::Linux, bundle: &Path) -> OciResult<Root> {
    let propagation = match linux.rootfs_propagation.as_str() {
        "" => Propagation::RPrivate,
        word => mounts::propagation(word)?,
    };
    let path = validate::validate_rootfs(&bundle.join(&from.path))?;
    let source = Source::Path(path.to_string_lossy().into_owned());
    Ok(Root { source, readonly: from.readonly, propagation })
}

fn mounts(
    from: &config::Config,
    bundle: &Path,
    userns: Option<&IdMaps>,
) -> OciResult<Vec<wharf_spec::plan::Mount>> {
    from.mounts.iter().map(|mount| mounts::to_plan(mount, bundle, userns)).collect()
}

const KINDS: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

fn namespaces(linux: &config::Linux) -> OciResult<Namespaces> {
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        if !KINDS.contains(&namespace.kind.as_str()) {
            return invalid(format!("namespace {:?} does not exist", namespace.kind));
        }
        if linux.namespaces[..index].iter().any(|earlier| earlier.kind == namespace.kind) {
            return invalid(format!("malformed spec file: duplicated ns {:?}", namespace.kind));
        }
    }
    match validate::namespace(linux, "mount") {
        Some(mount) if !mount.path.is_empty() => {
            return Err(OciError::Unsupported("joining a mount namespace".to_owned()));
        }
        Some(_) => {}
        None => return Err(OciError::Unsupported("a container without its own mount namespace".to_owned())),
    }
    let of = |kind: &str| match validate::namespace(linux, kind) {
        None => Namespace::Host,
        Some(namespace) if namespace.path.is_empty() => Namespace::New,
        Some(namespace) => Namespace::Join(Source::Path(namespace.path.clone())),
    };
    let user = of("user");
    let maps =
        IdMaps { uids: mounts::id_maps(&linux.uid_mappings), gids: mounts::id_maps(&linux.gid_mappings) };
    Ok(Namespaces {
        pid: of("pid"),
        network: of("network"),
        ipc: of("ipc"),
        uts: of("uts"),
        cgroup: of("cgroup"),
        id_maps: (user == Namespace::New).then_some(maps),
        user,
        time: of("time"),
        time_offsets: linux.time_offsets.iter().flatten().map(time_offset).collect(),
    })
}

fn time_offset((clock, offset): (&String, &config::TimeOffset)) -> TimeOffset {
    TimeOffset { clock: clock.clone(), seconds: offset.secs, nanoseconds: offset.nanosecs }
}

/// A path without a leading slash counts from the root too; no path is the container's id.
fn cgroup(linux: &config::Linux, id: &str, warnings: &mut Vec<String>) -> OciResult<Cgroup> {
    let named = Some(linux.cgroups_path.as_str()).filter(|path| !path.is_empty()).unwrap_or(id);
    let parts: Vec<_> = named.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") || named.contains('\0') {
        return invalid(format!("invalid cgroupsPath {named:?}"));
    }
    let mut limits = match &linux.resources {
        Some(from) => resources::resources_to_plan(from, warnings)?,
        None => Resources::default(),
    };
    limits.devices = devices::container_rules(linux)?;
    Ok(Cgroup { path: format!("/{}", parts.join("/")), resources: limits, scope: None })
}

fn hooks(from: &config::Hooks) -> OciResult<Hooks> {
    let all = |list: &[config::Hook]| list.iter().map(hook).collect::<OciResult<Vec<_>>>();
    Ok(Hooks {
        prestart: all(&from.prestart)?,
        create_runtime: all(&from.create_runtime)?,
        create_container: all(&from.create_container)?,
        start_container: all(&from.start_container)?,
        poststart: all(&from.poststart)?,
        poststop: all(&from.poststop)?,
    })
}

fn hook(from: &config::Hook) -> OciResult<Hook> {
    if !from.path.starts_with('/') {
        return invalid(format!("hook path {:?} is not absolute", from.path));
    }
    let timeout = match from.timeout.map(u32::try_from) {
        None => None,
        Some(Ok(seconds)) if seconds > 0 => Some(seconds),
        Some(_) => return invalid(format!("hook {}: the timeout must be greater than zero", from.path)),
    };
    Ok(Hook { path: from.path.clone(), args: from.args.clone(), env: from.env.clone(), timeout })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, from_plan};
    use super::*;

    /// What `runc spec` writes, with a root that is there.
    fn example() -> Config {
        Config::parse(include_bytes!("testdata/runc-spec.json")).unwrap()
    }

    fn convert(config: &Config) -> OciResult<Converted> {
        to_plan(config, Origin { id: "c1", bundle: Path::new("/") })
    }

    #[test]
    fn the_example_of_runc_becomes_a_plan() {
        let Converted { plan, warnings } = convert(&example()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(plan.root.source, Source::Path("/usr".into()));
        assert_eq!(plan.hostname.as_deref(), Some("runc"));
        assert_eq!(plan.cgroup.path, "/c1");
        assert_eq!(plan.mounts.len(), 7);
        assert_eq!(plan.namespaces.pid, Namespace::New);
        assert_eq!(plan.namespaces.user, Namespace::Host);
        assert_eq!(plan.namespaces.id_maps, None);
        assert!(plan.process.make_cwd && plan.process.terminal.is_some());
        assert_eq!(plan.cgroup.resources.devices.len(), 2);
    }

    #[test]
    fn a_plan_survives_the_way_through_a_document() {
        let mut config = example();
        config.annotations.insert("a".into(), "b".into());
        config.hooks = Some(
            serde_json::from_str(r#"{"poststop":[{"path":"/bin/x","args":["x","y"],"timeout":3}]}"#).unwrap(),
        );
        let linux = config.linux.as_mut().unwrap();
        linux.sysctl.insert("net.core.somaxconn".into(), "9".into());
        linux.cgroups_path = "/a/b".into();
        linux.seccomp = Some(serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}));
        linux.namespaces.push(config::Namespace { kind: "user".into(), path: String::new() });
        linux.uid_mappings = Some(vec![config::IdMapping { container_id: 0, host_id: 100_000, size: 65536 }]);
        linux.gid_mappings = linux.uid_mappings.clone();
        let plan = convert(&config).unwrap().plan;
        let again = from_plan(&plan, &|source| match source {
            Source::Path(path) => path.clone(),
            Source::Fd(fd) => panic!("{fd:?} in a plan from a document"),
        })
        .unwrap();
        let json = serde_json::to_vec(&again).unwrap();
        assert_eq!(convert(&Config::parse(&json).unwrap()).unwrap().plan, plan);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refuse = |change: &dyn Fn(&mut Config)| {
            let mut config = example();
            change(&mut config);
            convert(&config).unwrap_err().to_string()
        };
        let namespace = |kind: &str, path: &str| config::Namespace { kind: kind.into(), path: path.into() };
        for (got, want) in [
            (refuse(&|c| c.process = None), "process property must not be empty"),
            (refuse(&|c| c.root = None), "root must be specified"),
            (
                refuse(&|c| c.linux.as_mut().unwrap().namespaces.push(namespace("pid", ""))),
                "malformed spec file: duplicated ns \"pid\"",
            ),
            (
                refuse(&|c| c.linux.as_mut().unwrap().namespaces.push(namespace("moon", ""))),
                "namespace \"moon\" does not exist",
            ),
            (
                refuse(&|c| c.linux.as_mut().unwrap().rootfs_propagation = "up".into()),
                "rootfsPropagation=up is not supported",
            ),
            (
                refuse(&|c| c.linux.as_mut().unwrap().cgroups_path = "/a/../../b".into()),
                "invalid cgroupsPath \"/a/../../b\"",
            ),
            (
                refuse(&|c| c.linux.as_mut().unwrap().namespaces.retain(|n| n.kind != "mount")),
                "a container without its own mount namespace is not supported",
            ),
        ] {
            assert_eq!(got, want);
        }
    }
}
