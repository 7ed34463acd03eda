//! A plan as a `config.json`.

use super::{OCI_VERSION, OciError, OciResult, config, devices, mounts, process, resources};
use crate::seccomp;
use wharf_spec::plan::{Hook, Hooks, Namespace, Namespaces, Plan, Propagation, Seccomp, Source};

/// Writes a plan as a `config.json` that means the same, but for what OCI has no words for (log, stdio,
/// `--init`). `path_of` gives a path to what a source names, such as `/proc/<shim>/fd/7`.
///
/// # Errors
/// [`OciError::Invalid`] for a seccomp profile that cannot be read.
pub fn from_plan(plan: &Plan, path_of: &dyn Fn(&Source) -> String) -> OciResult<config::Config> {
    Ok(config::Config {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(process::document(&plan.process)),
        root: Some(config::Root { path: path_of(&plan.root.source), readonly: plan.root.readonly }),
        hostname: plan.hostname.clone().unwrap_or_default(),
        domainname: plan.domainname.clone().unwrap_or_default(),
        mounts: plan.mounts.iter().map(|mount| mounts::from_plan(mount, path_of)).collect(),
        hooks: Some(hooks(&plan.hooks)).filter(|hooks| *hooks != config::Hooks::default()),
        annotations: plan.annotations.iter().cloned().collect(),
        linux: Some(linux(plan, path_of)?),
    })
}

fn linux(plan: &Plan, path_of: &dyn Fn(&Source) -> String) -> OciResult<config::Linux> {
    let maps = plan.namespaces.id_maps.as_ref();
    Ok(config::Linux {
        uid_mappings: maps.map(|maps| mounts::id_mappings(&maps.uids)),
        gid_mappings: maps.map(|maps| mounts::id_mappings(&maps.gids)),
        sysctl: plan.sysctls.iter().cloned().collect(),
        resources: Some(resources::document(&plan.cgroup.resources)),
        cgroups_path: match &plan.cgroup.scope {
            Some(scope) => scope.oci_path(),
            None => plan.cgroup.path.clone(),
        },
        namespaces: namespaces(&plan.namespaces, path_of),
        devices: plan.devices.iter().map(devices::document_node).collect(),
        seccomp: filter(&plan.process)?,
        rootfs_propagation: match plan.root.propagation {
            Propagation::RPrivate => String::new(),
            other => mounts::propagation_word(other).to_owned(),
        },
        masked_paths: plan.masked_paths.clone(),
        readonly_paths: plan.readonly_paths.clone(),
        ..Default::default()
    })
}

fn filter(process: &wharf_spec::plan::Process) -> OciResult<Option<serde_json::Value>> {
    let wanted: &Seccomp = &process.seccomp;
    seccomp::docker_to_oci(wanted, process.capabilities.bounding)
        .map_err(|error| OciError::Invalid(error.to_string()))
}

fn namespaces(from: &Namespaces, path_of: &dyn Fn(&Source) -> String) -> Vec<config::Namespace> {
    let kinds = [
        ("pid", &from.pid),
        ("network", &from.network),
        ("ipc", &from.ipc),
        ("uts", &from.uts),
        ("mount", &Namespace::New),
        ("cgroup", &from.cgroup),
        ("user", &from.user),
    ];
    let entry = |kind: &str, path: String| Some(config::Namespace { kind: kind.to_owned(), path });
    let entries = kinds.into_iter().filter_map(|(kind, namespace)| match namespace {
        Namespace::Host => None,
        Namespace::New => entry(kind, String::new()),
        Namespace::Join(source) => entry(kind, path_of(source)),
    });
    entries.collect()
}

fn hooks(from: &Hooks) -> config::Hooks {
    let all = |list: &[Hook]| list.iter().map(hook).collect();
    config::Hooks {
        prestart: all(&from.prestart),
        create_runtime: all(&from.create_runtime),
        create_container: all(&from.create_container),
        start_container: all(&from.start_container),
        poststart: all(&from.poststart),
        poststop: all(&from.poststop),
    }
}

fn hook(from: &Hook) -> config::Hook {
    config::Hook {
        path: from.path.clone(),
        args: from.args.clone(),
        env: from.env.clone(),
        timeout: from.timeout.map(i64::from),
    }
}
