//! OCI hooks: programs run around a container's life, with its state on standard input
//! (source: OCI runtime-spec, config.md "POSIX-platform Hooks", runtime.md "State").

use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;
use wharf_spec::plan::{Hook, Plan};

/// The version of the runtime specification that this runtime follows.
pub const OCI_VERSION: &str = "1.2.1";

/// Where in its life a container is, in the words of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of the specification")]
pub enum Status {
    Creating,
    Created,
    Running,
    Stopped,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, &'a str>,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

/// A container's state as JSON.
pub fn state_json(plan: &Plan, status: Status, pid: i32) -> Vec<u8> {
    let annotations = plan.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let state =
        State { oci_version: OCI_VERSION, id: &plan.id, status, pid, bundle: &plan.bundle, annotations };
    serde_json::to_vec(&state).expect("strings, numbers and a map with string keys are always JSON")
}

/// Runs hooks one after the other; the first that fails ends it.
///
/// # Errors
/// [`Error::Hook`] with what the hook printed to its standard error.
pub fn run(kind: &'static str, hooks: &[Hook], state: &[u8]) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state).map_err(|problem| Error::Hook { kind, index, problem })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    command.env_clear();
    command.envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("fork/exec {}: {error}", hook.path))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input.
        let _ = stdin.write_all(state);
    }
    let in_time = wait_in_time(&child, hook.timeout);
    if !in_time {
        // It may have ended just now.
        let _ = child.kill();
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !in_time {
        return Err(format!("hook ran past specified timeout of {}s", hook.timeout.unwrap_or(0)));
    }
    if output.status.success() {
        return Ok(());
    }
    let how = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    };
    Err(format!("{how}, stderr: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}

fn wait_in_time(child: &std::process::Child, timeout: Option<u32>) -> bool {
    let Some(seconds) = timeout else { return true };
    let Ok(pidfd) = wharf_sys::process::pidfd_open(child.id() as i32) else { return true };
    let timeout = Duration::from_secs(seconds.into());
    wharf_sys::event::wait_readable(&pidfd, Some(timeout)).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<u32>) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".into(), args, env: vec!["WORD=x".into()], timeout }
    }

    #[test]
    fn state_comes_on_standard_input_and_failures_are_told() {
        let state = br#"{"id":"abc"}"#;
        run("poststart", &[shell("read line; test \"$line$WORD\" = '{\"id\":\"abc\"}x'", None)], state)
            .unwrap();
        let error =
            run("poststop", &[shell("true", None), shell("echo bad >&2; exit 3", None)], state).unwrap_err();
        assert_eq!(error.to_string(), "error running poststop hook #1: exit status 3, stderr: bad");
        let error = run("prestart", &[shell("exec sleep 100", Some(0))], state).unwrap_err();
        assert!(error.to_string().contains("past specified timeout"), "{error}");
        let missing = Hook { path: "/nosuch".into(), args: vec![], env: vec![], timeout: None };
        assert!(run("prestart", &[missing], state).is_err());
    }
}
