//! Capabilities, seccomp, AppArmor; and what `--security-opt` says about them.

use crate::{Config, Error, Result};
use std::{fs, sync::OnceLock};
use wharf_api::container as api;
use wharf_spec::{capability, plan::Seccomp};

/// The capabilities a container gets. What was asked for by name but is not ours to give is a warning.
///
/// # Errors
/// For a name that is no capability.
pub(super) fn capabilities(host: &api::HostConfig, warnings: &mut Vec<String>) -> Result<u64> {
    let request = capability::Request {
        basics: capability::DOCKER_DEFAULT,
        add: host.cap_add.as_deref().unwrap_or_default(),
        drop: host.cap_drop.as_deref().unwrap_or_default(),
        privileged: host.privileged,
    };
    let granted = capability::grant(request, available()).map_err(|e| Error::Invalid(e.to_string()))?;
    if granted.unavailable != 0 {
        let names = capability::names(granted.unavailable).join(", ");
        warnings.push(format!("capabilities not available to the daemon and left out: {names}"));
    }
    Ok(granted.set)
}

/// Our own bounding set: nothing beyond it can be given to anybody.
pub(super) fn available() -> u64 {
    static BOUNDING: OnceLock<u64> = OnceLock::new();
    *BOUNDING.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(capability::ALL)
    })
}

/// The filter: none for privileged containers and where `unconfined` was asked for, a profile of the
/// container's own, the daemon's, or Docker's default (source: moby `daemon/seccomp_linux.go`).
///
/// # Errors
/// When the daemon's profile cannot be read.
pub(super) fn seccomp(engine: &Config, host: &api::HostConfig, profile: &str) -> Result<Seccomp> {
    match profile {
        _ if host.privileged => Ok(Seccomp::Unconfined),
        "unconfined" => Ok(Seccomp::Unconfined),
        "builtin" => Ok(Seccomp::Default),
        "" => match engine.seccomp_profile.as_str() {
            "" | "builtin" => Ok(Seccomp::Default),
            "unconfined" => Ok(Seccomp::Unconfined),
            path => match fs::read(path) {
                Ok(json) => Ok(Seccomp::Docker(json)),
                Err(source) => Err(Error::Io { step: "read seccomp profile", path: path.into(), source }),
            },
        },
        json => Ok(Seccomp::Docker(json.as_bytes().to_vec())),
    }
}

/// Docker's profile of AppArmor.
const DEFAULT_PROFILE: &str = "docker-default";

/// The AppArmor profile: the container's own, else Docker's default where it is loaded.
pub(super) fn apparmor(privileged: bool, profile: &str) -> Option<String> {
    static LOADED: OnceLock<Option<bool>> = OnceLock::new();
    let default_loaded = (*LOADED.get_or_init(|| {
        let enabled = fs::read("/sys/module/apparmor/parameters/enabled").ok()?;
        let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        let loaded = profiles.lines().any(|line| line.split(' ').next() == Some(DEFAULT_PROFILE));
        enabled.starts_with(b"Y").then_some(loaded)
    }))?;
    match profile {
        "" if privileged => Some("unconfined".into()),
        "" => default_loaded.then(|| DEFAULT_PROFILE.into()),
        own => Some(own.into()),
    }
}

/// What the security options of a request say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecurityOptions {
    pub(crate) apparmor_profile: String,
    /// Empty, `unconfined`, `builtin` or the JSON of a profile.
    pub(crate) seccomp_profile: String,
    pub(crate) no_new_privileges: bool,
    pub(crate) writable_cgroups: Option<bool>,
}

/// Whether this host can do what the options ask for; the warnings are for the client. Docker takes both kinds
/// in silence, which leaves a container less confined than its user believes: a profile of AppArmor that cannot be
/// applied is refused, and labels, which scripts for all hosts give, are warned about.
///
/// # Errors
/// As [`parse_options`]; for a profile where the kernel has no AppArmor.
pub(crate) fn check_kernel(options: &[String], apparmor: bool) -> Result<Vec<String>> {
    let profile = parse_options(options, false)?.apparmor_profile;
    let profile = profile.as_str();
    if !apparmor && !matches!(profile, "" | "unconfined" | DEFAULT_PROFILE) {
        return Err(Error::Invalid(format!(
            "AppArmor is not enabled on this host: the profile {profile:?} cannot be applied"
        )));
    }
    let label = |option: &String| option.strip_prefix("label").is_some_and(|o| !o.ends_with("disable"));
    let discarded = options.iter().any(label) && !std::path::Path::new("/sys/fs/selinux/enforce").exists();
    let warning = "SELinux is not enabled on this host. The security option \"label\" was discarded.";
    Ok(if discarded { vec![warning.to_owned()] } else { Vec::new() })
}

/// Reads `--security-opt` (source: moby `daemon/daemon_unix.go`, parseSecurityOpt). SELinux labels are
/// accepted and have no effect: there is no SELinux support.
///
/// # Errors
/// `invalid --security-opt ...`, which Docker answers with status 500.
pub(crate) fn parse_options(options: &[String], no_new_privileges: bool) -> Result<SecurityOptions> {
    let mut parsed = SecurityOptions { no_new_privileges, ..Default::default() };
    for option in options {
        match option.as_str() {
            "no-new-privileges" => parsed.no_new_privileges = true,
            "writable-cgroups" => parsed.writable_cgroups = Some(true),
            "disable" => {}
            _ => parse_option(option, &mut parsed)?,
        }
    }
    Ok(parsed)
}

fn parse_option(option: &str, parsed: &mut SecurityOptions) -> Result<()> {
    let refuse = |n| Err(Error::Refused(format!("invalid --security-opt {n}: {option:?}")));
    let separator = if option.contains('=') { '=' } else { ':' };
    let Some((key, value)) = option.split_once(separator) else { return refuse(1) };
    let boolean = match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    };
    match (key, boolean) {
        ("label", _) => {}
        ("apparmor", _) => parsed.apparmor_profile = value.into(),
        ("seccomp", _) => parsed.seccomp_profile = value.into(),
        ("no-new-privileges", Some(yes)) => parsed.no_new_privileges = yes,
        ("writable-cgroups", Some(yes)) => parsed.writable_cgroups = Some(yes),
        _ => return refuse(2),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Result<SecurityOptions> {
        parse_options(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), false)
    }

    #[test]
    fn options_are_dockers() {
        let got =
            options(&["no-new-privileges", "seccomp=unconfined", "apparmor:x", "label=disable"]).unwrap();
        assert!(got.no_new_privileges);
        assert_eq!((got.seccomp_profile.as_str(), got.apparmor_profile.as_str()), ("unconfined", "x"));
        assert!(!options(&["no-new-privileges=false"]).unwrap().no_new_privileges);
        let error = |list: &[&str]| options(list).unwrap_err().to_string();
        assert_eq!(error(&["nosuch=1"]), "invalid --security-opt 2: \"nosuch=1\"");
        assert_eq!(error(&["nosuch"]), "invalid --security-opt 1: \"nosuch\"");
        assert_eq!(error(&["no-new-privileges=x"]), "invalid --security-opt 2: \"no-new-privileges=x\"");
    }

    #[test]
    fn what_the_kernel_has_not_is_said() {
        let check = |list: &[&str], apparmor| {
            let all: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            check_kernel(&all, apparmor)
        };
        let error = check(&["apparmor=mine"], false).unwrap_err().to_string();
        assert_eq!(error, "AppArmor is not enabled on this host: the profile \"mine\" cannot be applied");
        assert!(check(&["apparmor=mine"], true).unwrap().is_empty());
        assert!(check(&["apparmor=unconfined", "label=disable"], false).unwrap().is_empty());
        let selinux = std::path::Path::new("/sys/fs/selinux/enforce").exists();
        assert_eq!(check(&["label=type:x"], false).unwrap().is_empty(), selinux);
    }

    #[test]
    fn filters_are_chosen() {
        let engine = Config::default();
        let host = api::HostConfig::default();
        let seccomp_of = |profile| seccomp(&engine, &host, profile).unwrap();
        assert_eq!(seccomp_of(""), Seccomp::Default);
        assert_eq!(seccomp_of("unconfined"), Seccomp::Unconfined);
        assert_eq!(seccomp_of("{}"), Seccomp::Docker(b"{}".to_vec()));
        let privileged = api::HostConfig { privileged: true, ..Default::default() };
        assert_eq!(seccomp(&engine, &privileged, "{}").unwrap(), Seccomp::Unconfined);
        let broken = Config { seccomp_profile: "/nosuch".into(), ..Default::default() };
        assert!(seccomp(&broken, &host, "").is_err());
    }

    #[test]
    fn capabilities_are_what_we_have() {
        let host = api::HostConfig { cap_drop: Some(vec!["ALL".into()]), ..Default::default() };
        assert_eq!(capabilities(&host, &mut Vec::new()).unwrap(), 0);
        let all = api::HostConfig { privileged: true, ..Default::default() };
        assert_eq!(capabilities(&all, &mut Vec::new()).unwrap(), available() & capability::ALL);
    }
}
