//! The process of a `config.json` (or of `exec --process`) and of a plan.

use super::{OciResult, config, invalid, tuning};
use wharf_spec::capability;
use wharf_spec::plan::{Capabilities, Process, Rlimit, Seccomp, TerminalSize};

/// Names of resource limits at their numbers (source: asm-generic/resource.h).
const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// Turns a process of a document into one of a plan. `linux` brings the filter. What a container's main
/// process gets besides (`make_cwd`) is the caller's to set.
///
/// # Errors
/// [`super::OciError::Invalid`] in runc's words.
pub fn process_to_plan(
    from: &config::Process,
    linux: Option<&config::Linux>,
    warnings: &mut Vec<String>,
) -> OciResult<Process> {
    check(from)?;
    Ok(Process {
        args: from.args.clone(),
        env: from.env.clone(),
        cwd: from.cwd.clone(),
        make_cwd: false,
        uid: from.user.uid,
        gid: from.user.gid,
        additional_gids: from.user.additional_gids.clone(),
        umask: from.user.umask,
        terminal: from.terminal.then(|| terminal_size(from.console_size)),
        capabilities: capabilities(from.capabilities.as_ref(), warnings),
        no_new_privileges: from.no_new_privileges,
        seccomp: match linux.and_then(|linux| linux.seccomp.as_ref()) {
            Some(profile) => Seccomp::Oci(profile.to_string().into_bytes()),
            None => Seccomp::Unconfined,
        },
        rlimits: from.rlimits.iter().map(rlimit).collect::<OciResult<_>>()?,
        oom_score_adj: from.oom_score_adj,
        apparmor_profile: Some(from.apparmor_profile.clone()).filter(|name| !name.is_empty()),
        selinux_label: Some(from.selinux_label.clone()).filter(|label| !label.is_empty()),
        tuning: tuning::tuning(from, linux)?,
    })
}

/// What runc refuses (source: runc `utils_linux.go`, `validateProcessSpec`), and texts that no system call
/// can carry.
fn check(process: &config::Process) -> OciResult<()> {
    if process.cwd.is_empty() {
        return invalid("Cwd property must not be empty");
    }
    if !process.cwd.starts_with('/') {
        return invalid("Cwd must be an absolute path");
    }
    if process.args.is_empty() {
        return invalid("args must not be empty");
    }
    let texts = process.args.iter().chain(&process.env).chain([&process.cwd]);
    match texts.into_iter().find(|text| text.contains('\0')) {
        Some(text) => invalid(format!("{text:?}: contains a null byte")),
        None => Ok(()),
    }
}

fn terminal_size(size: Option<config::ConsoleSize>) -> TerminalSize {
    let size = size.unwrap_or_default();
    let short = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    TerminalSize { rows: short(size.height), columns: short(size.width) }
}

/// Without a `capabilities` object a process has none at all, as under runc.
fn capabilities(from: Option<&config::Capabilities>, warnings: &mut Vec<String>) -> Capabilities {
    let Some(from) = from else { return Capabilities::default() };
    let mut unknown = Vec::new();
    let mut set = |names: &[String]| {
        let (set, others) = capability::set_of(names.iter().map(String::as_str));
        unknown.extend(others.into_iter().map(str::to_owned));
        set
    };
    let sets = Capabilities {
        bounding: set(&from.bounding),
        effective: set(&from.effective),
        permitted: set(&from.permitted),
        inheritable: set(&from.inheritable),
        ambient: set(&from.ambient),
    };
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        warnings.push(format!("ignoring unknown or unavailable capabilities: {unknown:?}"));
    }
    sets
}

fn rlimit(from: &config::Rlimit) -> OciResult<Rlimit> {
    match RLIMITS.iter().position(|name| *name == from.kind) {
        Some(resource) => Ok(Rlimit { resource: resource as u32, soft: from.soft, hard: from.hard }),
        None => invalid(format!("wrong rlimit value: {}", from.kind)),
    }
}

/// Writes a process of a plan as one of a document.
pub fn document(from: &Process) -> config::Process {
    let names = |set: u64| capability::names(set).into_iter().map(str::to_owned).collect();
    config::Process {
        terminal: from.terminal.is_some(),
        console_size: from
            .terminal
            .filter(|size| *size != TerminalSize::default())
            .map(|size| config::ConsoleSize { height: size.rows.into(), width: size.columns.into() }),
        user: config::User {
            uid: from.uid,
            gid: from.gid,
            umask: from.umask,
            additional_gids: from.additional_gids.clone(),
        },
        args: from.args.clone(),
        env: from.env.clone(),
        cwd: from.cwd.clone(),
        capabilities: Some(config::Capabilities {
            bounding: names(from.capabilities.bounding),
            effective: names(from.capabilities.effective),
            inheritable: names(from.capabilities.inheritable),
            permitted: names(from.capabilities.permitted),
            ambient: names(from.capabilities.ambient),
        }),
        rlimits: from.rlimits.iter().filter_map(document_rlimit).collect(),
        no_new_privileges: from.no_new_privileges,
        apparmor_profile: from.apparmor_profile.clone().unwrap_or_default(),
        oom_score_adj: from.oom_score_adj,
        selinux_label: from.selinux_label.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn document_rlimit(from: &Rlimit) -> Option<config::Rlimit> {
    let kind = (*RLIMITS.get(from.resource as usize)?).to_owned();
    Some(config::Rlimit { kind, hard: from.hard, soft: from.soft })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(json: &str) -> OciResult<(Process, Vec<String>)> {
        let mut warnings = Vec::new();
        let process = process_to_plan(&serde_json::from_str(json).unwrap(), None, &mut warnings)?;
        Ok((process, warnings))
    }

    #[test]
    fn what_runc_refuses_is_refused() {
        for (json, text) in [
            (r#"{"args":["x"]}"#, "Cwd property must not be empty"),
            (r#"{"cwd":"tmp","args":["x"]}"#, "Cwd must be an absolute path"),
            (r#"{"cwd":"/","args":[]}"#, "args must not be empty"),
            (
                r#"{"cwd":"/","args":["x"],"rlimits":[{"type":"RLIMIT_X","soft":1,"hard":1}]}"#,
                "wrong rlimit value: RLIMIT_X",
            ),
            (r#"{"cwd":"/","args":["a\u0000"]}"#, "\"a\\0\": contains a null byte"),
        ] {
            assert_eq!(convert(json).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn absent_capabilities_are_none_and_unknown_ones_are_told() {
        let (process, _) = convert(r#"{"cwd":"/","args":["x"]}"#).unwrap();
        assert_eq!(process.capabilities, Capabilities::default());
        let json = r#"{"cwd":"/","args":["x"],"capabilities":{"bounding":["CAP_KILL","CAP_NEW"]}}"#;
        let (process, warnings) = convert(json).unwrap();
        assert_eq!(process.capabilities.bounding, 1 << 5);
        assert_eq!(warnings, ["ignoring unknown or unavailable capabilities: [\"CAP_NEW\"]"]);
    }

    #[test]
    fn a_process_survives_the_way_through_a_document() {
        let json = r#"{"terminal":true,"consoleSize":{"height":24,"width":80},"user":{"uid":1,"gid":2,
            "umask":63,"additionalGids":[3,4]},"args":["sh","-c","x"],"env":["A=b"],"cwd":"/tmp",
            "capabilities":{"bounding":["CAP_CHOWN"],"effective":["CAP_KILL"],"permitted":["CAP_BPF"],
            "inheritable":["CAP_MKNOD"],"ambient":["CAP_MKNOD"]},"rlimits":[{"type":"RLIMIT_NOFILE",
            "hard":18446744073709551615,"soft":10}],"noNewPrivileges":true,"oomScoreAdj":-5,
            "apparmorProfile":"a","selinuxLabel":"s"}"#;
        let (process, warnings) = convert(json).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(process.terminal, Some(TerminalSize { rows: 24, columns: 80 }));
        let again = serde_json::to_string(&document(&process)).unwrap();
        assert_eq!(convert(&again).unwrap().0, process);
    }
}
