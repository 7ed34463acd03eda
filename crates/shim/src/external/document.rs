//! The documents a runtime is given: a plan as `config.json`, with what Wharf's own runtime does besides, and
//! without what this machine does not let the shim set.

use super::refused;
use rustix::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use wharf_runtime::oci::{self, Config, DeviceRule};
use wharf_spec::plan::{self, Mount, MountAttrs, MountKind, Plan, Propagation, Source};
use wharf_spec::shim::Failure;
use wharf_sys::{caps, process};

/// The oldest version of the specification that has what every container needs: crun before 1.9 (Debian 12)
/// takes nothing later, and later fields are understood, or not, whatever the version.
const VERSION: &str = "1.0.2";
/// Where Docker puts the `--init` program.
const INIT: &str = "/sbin/docker-init";
/// Source: capabilities(7), `linux/capability.h`.
const CAP_SYS_RESOURCE: u32 = 24;

/// What a plan's descriptors and words stand for.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// They came with the plan.
    pub(super) fds: &'a [OwnedFd],
    /// The file of `docker-init`.
    pub(super) init_program: Option<&'a Path>,
}

/// A `config.json`.
pub(super) fn config(plan: &Plan, place: &Place<'_>, warnings: &mut Vec<String>) -> Result<Config, Failure> {
    let with_init;
    let plan = match plan.init {
        false => plan,
        true => {
            with_init = under_init(plan, place)?;
            &with_init
        }
    };
    let path_of = |source: &Source| match source {
        Source::Path(path) => path.clone(),
        // An index without a descriptor makes a path without a file, which the runtime refuses by name.
        Source::Fd(fd) => {
            let number = place.fds.get(usize::from(fd.0)).map_or(-1, AsRawFd::as_raw_fd);
            format!("/proc/{}/fd/{number}", std::process::id())
        }
    };
    let mut config = oci::from_plan(plan, &path_of).map_err(|error| refused("write config.json", &error))?;
    config.oci_version = VERSION.to_owned();
    config.process = Some(self::process(&plan.process, warnings));
    let resources = config.linux.as_mut().and_then(|linux| linux.resources.as_mut());
    if let Some(resources) = resources.filter(|resources| resources.devices.is_empty()) {
        // A plan without rules has no fence; a document without rules has the runtime's own.
        let all = DeviceRule { allow: true, access: "rwm".to_owned(), ..DeviceRule::default() };
        resources.devices.push(all);
    }
    Ok(config)
}

/// A process, with those limits only that the shim may set.
pub(super) fn process(wanted: &plan::Process, warnings: &mut Vec<String>) -> oci::Process {
    let mut allowed = wanted.clone();
    // Without a wish it is 0, whatever the shim protects itself with.
    allowed.oom_score_adj = Some(wanted.oom_score_adj.unwrap_or(0));
    if !caps::has(CAP_SYS_RESOURCE) {
        allowed.rlimits.retain(|limit| {
            let is_within = process::limit(limit.resource).is_ok_and(|own| limit.hard <= own.hard);
            if !is_within {
                let why = "it is above the daemon's own, and there is no CAP_SYS_RESOURCE";
                warnings.push(format!("resource limit {} is not set: {why}", limit.resource));
            }
            is_within
        });
        let lowest = own_oom_score();
        if allowed.oom_score_adj < Some(lowest) {
            allowed.oom_score_adj = None;
            if let Some(score) = wanted.oom_score_adj {
                warnings.push(format!("OOM score {score} is not set: there is no CAP_SYS_RESOURCE"));
            }
        }
    }
    oci::process_document(&allowed)
}

fn own_oom_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The plan with `docker-init` in front (source: moby `daemon/oci_linux.go`, withInit).
fn under_init(plan: &Plan, place: &Place<'_>) -> Result<Plan, Failure> {
    let Some(program) = place.init_program else {
        return Err(refused("docker-init", &"there is no init program"));
    };
    let mut plan = plan.clone();
    plan.process.args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    let source = Source::Path(program.to_string_lossy().into_owned());
    plan.mounts.push(Mount {
        target: INIT.to_owned(),
        kind: MountKind::Bind { source, recursive: false },
        attrs: MountAttrs::READONLY,
        recursive_attrs: false,
        propagation: Some(Propagation::Private),
        idmap: None,
        idmap_single: false,
    });
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::plan::{Fd, Namespace, Rlimit};

    fn plan() -> Plan {
        let json = br#"{"ociVersion":"1.2.0","root":{"path":"/root"},"process":{"cwd":"/","args":["sh"]},
            "linux":{"namespaces":[{"type":"mount"},{"type":"pid"}],"resources":{}}}"#;
        let origin = oci::Origin { id: "cc", bundle: Path::new("/bundle") };
        oci::to_plan(&Config::parse(json).unwrap(), origin).unwrap().plan
    }

    fn written(plan: &Plan, fds: &[OwnedFd]) -> Config {
        let place = Place { fds, init_program: Some(Path::new("/host/init")) };
        config(plan, &place, &mut Vec::new()).unwrap()
    }

    #[test]
    fn a_plan_becomes_a_document_of_the_first_version() {
        let mut plan = plan();
        plan.cgroup.resources.devices.clear();
        plan.namespaces.network = Namespace::Join(Source::Fd(Fd(0)));
        let fds = [OwnedFd::from(std::fs::File::open("/dev/null").unwrap())];
        let config = written(&plan, &fds);
        assert!(config.oci_version.starts_with("1.0"));
        let linux = config.linux.unwrap();
        let network = linux.namespaces.iter().find(|namespace| namespace.kind == "network").unwrap();
        assert_eq!(std::fs::read_link(&network.path).unwrap(), Path::new("/dev/null"));
        let rules = linux.resources.unwrap().devices;
        assert!(rules.len() == 1 && rules[0].allow && rules[0].access == "rwm", "no fence: {rules:?}");
    }

    #[test]
    fn init_comes_first() {
        let mut plan = plan();
        plan.init = true;
        let config = written(&plan, &[]);
        assert_eq!(config.process.unwrap().args, [INIT, "--", "sh"]);
        let mount = config.mounts.last().unwrap();
        assert_eq!((mount.source.as_str(), mount.destination.as_str()), ("/host/init", INIT));
        assert!(mount.options.contains(&"ro".to_owned()));
        let nowhere = Place { fds: &[], init_program: None };
        assert!(super::config(&plan, &nowhere, &mut Vec::new()).is_err());
    }

    #[test]
    fn limits_that_cannot_be_set_are_left_out_and_told() {
        let mut wanted = plan().process;
        let own = process::limit(7).unwrap();
        let limit = |hard| Rlimit { resource: 7, soft: 1, hard };
        wanted.rlimits = vec![limit(own.hard), limit(own.hard + 1)];
        wanted.oom_score_adj = Some(own_oom_score() - 1);
        let mut warnings = Vec::new();
        let document = super::process(&wanted, &mut warnings);
        let (limits, told) = if caps::has(CAP_SYS_RESOURCE) { (2, 0) } else { (1, 2) };
        assert_eq!((document.rlimits.len(), warnings.len()), (limits, told), "{warnings:?}");
        assert_eq!(document.oom_score_adj.is_some(), told == 0);
    }
}
