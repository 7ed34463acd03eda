//! Profiles as JSON: Docker's form with its conditions, and the form of an OCI `config.json`.
//!
//! Source of the behaviour: github.com/moby/profiles `seccomp/seccomp_linux.go` (which rules apply) and runc
//! `libcontainer/specconv` and `libcontainer/seccomp` (what the words mean, what is refused).

use super::rules::{Action, Condition, FLAGS, Operator, Rule, RuleSet};
use super::{Arch, Listener, SeccompError, rules};
use serde::{Deserialize, Serialize};
use wharf_spec::capability;

/// What conditions of Docker's profiles are decided by, besides capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// The daemon's architecture.
    pub arch: Arch,
    /// Kernel version: 6.18 is (6, 18).
    pub kernel: (u32, u32),
}

impl Host {
    /// This machine. A release that does not begin with two numbers counts as 0.0, so that rules for newer
    /// kernels are left out.
    pub fn this() -> Self {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy().into_owned();
        Self { arch: Arch::NATIVE, kernel: release_numbers(&release).unwrap_or((0, 0)) }
    }
}

fn release_numbers(release: &str) -> Option<(u32, u32)> {
    let (kernel, rest) = release.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    Some((kernel.parse().ok()?, digits.parse().ok()?))
}

/// Both forms of a profile: OCI's has no `archMap`, no conditions and no `name`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMapEntry>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMapEntry {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    names: Option<Vec<String>>,
    name: Option<String>,
    #[serde(default)]
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Arg>>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    #[serde(default)]
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile in Docker's form for a process whose bounding set is `caps`.
pub(super) fn docker(json: &[u8], host: &Host, caps: u64) -> Result<Option<RuleSet>, SeccompError> {
    docker_applicable(json, host, caps)?.map(rule_set).transpose()
}

/// Reads `linux.seccomp` of an OCI `config.json`.
pub(super) fn oci(json: &[u8]) -> Result<Option<RuleSet>, SeccompError> {
    let profile: Profile = serde_json::from_slice(json).map_err(SeccompError::Decode)?;
    if profile.is_empty() { Ok(None) } else { rule_set(profile).map(Some) }
}

/// Turns a profile in Docker's form into the JSON of an OCI `linux.seccomp`.
pub(super) fn docker_to_oci(
    json: &[u8],
    host: &Host,
    caps: u64,
) -> Result<Option<serde_json::Value>, SeccompError> {
    Ok(docker_applicable(json, host, caps)?.map(|profile| profile.to_oci()))
}

/// The profile with `archMap` and all conditions decided and gone.
fn docker_applicable(json: &[u8], host: &Host, caps: u64) -> Result<Option<Profile>, SeccompError> {
    let mut profile: Profile = serde_json::from_slice(json).map_err(SeccompError::Decode)?;
    if profile.is_empty() {
        return Ok(None);
    }
    profile.choose_architectures(host)?;
    let mut kept = Vec::new();
    for mut call in profile.syscalls.take().unwrap_or_default() {
        call.one_name_form()?;
        if call.applies(host, caps)? {
            kept.push(call);
        }
    }
    profile.syscalls = Some(kept);
    Ok(Some(profile))
}

impl Profile {
    /// An empty object means no filter, in Docker and in runc.
    fn is_empty(&self) -> bool {
        self.default_action.as_deref().unwrap_or("").is_empty()
            && self.syscalls.as_ref().is_none_or(Vec::is_empty)
    }

    fn choose_architectures(&mut self, host: &Host) -> Result<(), SeccompError> {
        let map = self.arch_map.take().unwrap_or_default();
        if map.is_empty() {
            return Ok(());
        }
        if self.architectures.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(profile_error(
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either \
                 'architectures' or 'archMap'",
            ));
        }
        if let Some(entry) = map.into_iter().find(|entry| entry.architecture == host.arch.scmp()) {
            let mut list = vec![entry.architecture];
            list.extend(entry.sub_architectures.unwrap_or_default());
            self.architectures = Some(list);
        }
        Ok(())
    }

    fn to_oci(&self) -> serde_json::Value {
        let calls: Vec<_> = self.syscalls.iter().flatten().map(Syscall::to_oci).collect();
        let mut object = serde_json::json!({ "defaultAction": self.default_action, "syscalls": calls });
        let mut put = |key: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                object[key] = value;
            }
        };
        put("defaultErrnoRet", self.default_errno_ret.map(Into::into));
        put("architectures", self.architectures.clone().map(Into::into));
        put("flags", self.flags.clone().map(Into::into));
        put("listenerPath", self.listener_path.clone().map(Into::into));
        put("listenerMetadata", self.listener_metadata.clone().map(Into::into));
        object
    }
}

impl Syscall {
    /// Old profiles have `name` instead of `names`.
    fn one_name_form(&mut self) -> Result<(), SeccompError> {
        let Some(name) = self.name.take().filter(|name| !name.is_empty()) else { return Ok(()) };
        if self.names.as_ref().is_some_and(|names| !names.is_empty()) {
            return Err(profile_error(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
            ));
        }
        self.names = Some(vec![name]);
        Ok(())
    }

    fn applies(&self, host: &Host, caps: u64) -> Result<bool, SeccompError> {
        let excluded = match &self.excludes {
            Some(conditions) => conditions.exclude(host, caps)?,
            None => false,
        };
        let included = match &self.includes {
            Some(conditions) => conditions.include(host, caps)?,
            None => true,
        };
        Ok(included && !excluded)
    }

    fn to_oci(&self) -> serde_json::Value {
        let mut object = serde_json::json!({ "names": self.names, "action": self.action });
        if let Some(errno) = self.errno_ret {
            object["errnoRet"] = errno.into();
        }
        if let Some(args) = self.args.as_ref().filter(|args| !args.is_empty()) {
            object["args"] = serde_json::json!(args);
        }
        object
    }
}

impl Conditions {
    /// Any one of the three is enough to exclude.
    fn exclude(&self, host: &Host, caps: u64) -> Result<bool, SeccompError> {
        let by_arch = self.arches.iter().flatten().any(|arch| arch == host.arch.docker());
        let by_cap = self.caps.iter().flatten().any(|name| has(caps, name));
        let by_kernel = self.kernel()?.is_some_and(|version| host.kernel >= version);
        Ok(by_arch || by_cap || by_kernel)
    }

    /// All three have to hold; of the capabilities, all.
    fn include(&self, host: &Host, caps: u64) -> Result<bool, SeccompError> {
        let arches = self.arches.as_deref().unwrap_or_default();
        let by_arch = arches.is_empty() || arches.iter().any(|arch| arch == host.arch.docker());
        let by_caps = self.caps.iter().flatten().all(|name| has(caps, name));
        let by_kernel = self.kernel()?.is_none_or(|version| host.kernel >= version);
        Ok(by_arch && by_caps && by_kernel)
    }

    /// `"4.8"`; the empty text is a version that every kernel has.
    fn kernel(&self) -> Result<Option<(u32, u32)>, SeccompError> {
        let Some(text) = self.min_kernel.as_deref() else { return Ok(None) };
        if text.is_empty() {
            return Ok(Some((0, 0)));
        }
        let number = |part: &str| part.parse::<u8>().ok().filter(|_| !part.starts_with('+')).map(u32::from);
        let version = text.split_once('.').and_then(|(a, b)| Some((number(a)?, number(b)?)));
        match version {
            Some(version) if version != (0, 0) => Ok(Some(version)),
            _ => Err(SeccompError::Profile(format!(
                "invalid kernel version: \"{text}\", expected \"<kernel>.<major>\""
            ))),
        }
    }
}

fn has(caps: u64, name: &str) -> bool {
    capability::number(name).is_some_and(|bit| caps >> bit & 1 == 1)
}

fn profile_error(text: &str) -> SeccompError {
    SeccompError::Profile(text.to_owned())
}

/// Words to values, with runc's refusals.
fn rule_set(profile: Profile) -> Result<RuleSet, SeccompError> {
    let default = action(profile.default_action.as_deref().unwrap_or(""), profile.default_errno_ret)?;
    if default.is_notify() {
        return Err(profile_error("SCMP_ACT_NOTIFY cannot be used as default action"));
    }
    let mut rules = Vec::new();
    for call in profile.syscalls.unwrap_or_default() {
        push_rules(&mut rules, call)?;
    }
    let notifies = rules.iter().any(|rule| rule.action.is_notify());
    let path = profile.listener_path.filter(|path| notifies && !path.is_empty());
    let listener =
        path.map(|path| Listener { path, metadata: profile.listener_metadata.unwrap_or_default() });
    Ok(RuleSet {
        listener,
        default,
        architectures: architectures(profile.architectures.as_deref().unwrap_or_default())?,
        flags: flags(profile.flags.as_deref())?,
        rules,
    })
}

/// One entry of `syscalls` gives one rule per name; where two conditions are about the same argument, one
/// rule per condition (either is enough), which is what runc makes of old profiles.
fn push_rules(rules: &mut Vec<Rule>, call: Syscall) -> Result<(), SeccompError> {
    let action = action(&call.action, call.errno_ret)?;
    let conditions = call.args.iter().flatten().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice =
        conditions.iter().enumerate().any(|(n, a)| conditions[..n].iter().any(|b| a.index == b.index));
    for name in call.names.unwrap_or_default() {
        if name.is_empty() {
            return Err(profile_error("empty string is not a valid syscall"));
        }
        if action.is_notify() && name == "write" {
            // The runtime itself has to write between the filter and execve.
            return Err(profile_error("SCMP_ACT_NOTIFY cannot be used for the write syscall"));
        }
        if twice {
            let each = conditions.iter().map(|one| vec![*one]);
            rules.extend(each.map(|conditions| Rule { name: name.clone(), action, conditions }));
        } else {
            rules.push(Rule { name, action, conditions: conditions.clone() });
        }
    }
    Ok(())
}

fn action(word: &str, errno: Option<u32>) -> Result<Action, SeccompError> {
    Action::from_words(word, errno)
        .ok_or_else(|| SeccompError::Profile(format!("string {word} is not a valid action for seccomp")))
}

fn condition(arg: &Arg) -> Result<Condition, SeccompError> {
    let operator = Operator::from_word(&arg.op).ok_or_else(|| {
        SeccompError::Profile(format!("string {} is not a valid operator for seccomp", arg.op))
    })?;
    let index = u8::try_from(arg.index).ok().filter(|index| *index < 6).ok_or_else(|| {
        SeccompError::Profile(format!("syscalls only have up to 6 arguments: {} is none", arg.index))
    })?;
    Ok(Condition { index, operator, value: arg.value, value_two: arg.value_two })
}

fn architectures(words: &[String]) -> Result<Vec<Arch>, SeccompError> {
    if let Some(word) = words.iter().find(|word| !rules::ARCHITECTURES.contains(&word.as_str())) {
        return Err(SeccompError::Profile(format!("string {word} is not a valid arch for seccomp")));
    }
    Ok(words.iter().filter_map(|word| Arch::from_scmp(word)).collect())
}

/// runc sets SPEC_ALLOW when a profile says nothing about flags.
fn flags(words: Option<&[String]>) -> Result<u32, SeccompError> {
    let Some(words) = words else { return flag("SECCOMP_FILTER_FLAG_SPEC_ALLOW") };
    words.iter().try_fold(0, |bits, word| Ok(bits | flag(word)?))
}

fn flag(word: &str) -> Result<u32, SeccompError> {
    let known = FLAGS.iter().find(|(name, _)| *name == word).map(|(_, bit)| *bit);
    known.ok_or_else(|| SeccompError::Profile(format!("seccomp flag {word} is not known to runc")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_docker_reads_them() {
        for (release, want) in [
            ("6.18.44-fc-v669", Some((6, 18))),
            ("3.12-1-amd64", Some((3, 12))),
            ("3.12-rc5", Some((3, 12))),
            ("5.10", Some((5, 10))),
            ("x.y", None),
            ("6", None),
        ] {
            assert_eq!(release_numbers(release), want, "{release}");
        }
    }

    #[test]
    fn what_runc_and_docker_refuse_is_refused() {
        let host = Host { arch: Arch::X86_64, kernel: (6, 1) };
        for (json, text) in [
            (
                r#"{"defaultAction":"SCMP_ACT_NONE"}"#,
                "string SCMP_ACT_NONE is not a valid action for seccomp",
            ),
            (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY cannot be used as default action"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]}"#,
                "string SCMP_ARCH_VAX is not a valid arch for seccomp",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
                   "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":[]}]}"#,
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either \
                 'architectures' or 'archMap'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"x"}]}"#,
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG",
                   "args":[{"index":0,"value":1,"op":"LIKE"}]}]}"#,
                "string LIKE is not a valid operator for seccomp",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG",
                   "includes":{"minKernel":"4.8.1"}}]}"#,
                "invalid kernel version: \"4.8.1\", expected \"<kernel>.<major>\"",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["write"],
                   "action":"SCMP_ACT_NOTIFY"}]}"#,
                "SCMP_ACT_NOTIFY cannot be used for the write syscall",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_X"]}"#,
                "seccomp flag SECCOMP_FILTER_FLAG_X is not known to runc",
            ),
        ] {
            let error = docker(json.as_bytes(), &host, 0).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        for broken in ["", "[]", "{", r#"{"syscalls":{}}"#, r#"{"defaultErrnoRet":-1}"#] {
            let error = docker(broken.as_bytes(), &host, 0).unwrap_err();
            assert!(matches!(error, SeccompError::Decode(_)), "{broken}");
        }
    }

    #[test]
    fn an_empty_profile_is_no_filter() {
        let host = Host { arch: Arch::X86_64, kernel: (6, 1) };
        assert_eq!(docker(b"{}", &host, 0).unwrap(), None);
        assert_eq!(oci(br#"{"defaultAction":"","syscalls":null}"#).unwrap(), None);
    }

    #[test]
    fn flags_default_to_spec_allow_and_null_lists_are_empty() {
        let plain = oci(br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":null,"syscalls":null}"#);
        assert_eq!(plain.unwrap().unwrap().flags, 4);
        let none = oci(br#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#).unwrap().unwrap();
        assert_eq!(none.flags, 0);
    }

    #[test]
    fn a_docker_profile_survives_the_way_through_oci() {
        let host = Host { arch: Arch::X86_64, kernel: (6, 1) };
        let json = super::super::DEFAULT_PROFILE;
        let direct = docker(json, &host, capability::DOCKER_DEFAULT).unwrap();
        let value = docker_to_oci(json, &host, capability::DOCKER_DEFAULT).unwrap().unwrap();
        assert_eq!(oci(value.to_string().as_bytes()).unwrap(), direct);
    }
}
