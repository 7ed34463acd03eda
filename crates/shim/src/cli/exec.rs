//! `exec`: runs a further process in a container.

use super::error::{CliError, CliResult};
use super::launch::{self, Report};
use super::store::{Container, Status};
use super::{Context, bundle, flags, foreground, subgroup};
use rustix::fd::AsFd;
use std::path::Path;
use wharf_runtime::oci::{self, Capabilities, Config};
use wharf_runtime::{ExecOptions, Lifetime, seccomp};
use wharf_spec::plan::Process;
use wharf_sys::process;

/// What the command line says.
#[derive(Debug, Default)]
struct Options {
    report: Report,
    /// A file with a whole process; most other options are then not looked at.
    process_file: Option<String>,
    detach: bool,
    tty: bool,
    ignore_paused: bool,
    cwd: Option<String>,
    env: Vec<String>,
    user: Option<String>,
    additional_gids: Vec<u32>,
    capabilities: Vec<String>,
    no_new_privileges: Option<bool>,
    apparmor: Option<String>,
    label: Option<String>,
    preserved: u32,
    /// `[CONTROLLER,...:]PATH` below the container's control group.
    subgroups: Vec<String>,
    id: String,
    command: Vec<String>,
}

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let options = parse(parser)?;
    exec(context, &options).map_err(|source| CliError::Command {
        prefix: "exec failed",
        code: 255,
        source: Box::new(source),
    })
}

fn parse(parser: &mut lexopt::Parser) -> CliResult<Options> {
    let mut options = Options::default();
    while let Some(arg) = parser.next()? {
        let Some(name) = launch::option_name(&arg) else {
            let lexopt::Arg::Value(id) = arg else { return Err(arg.unexpected().into()) };
            options.id = flags::not_empty(id.string()?)?;
            // What follows the id belongs to the command, options included.
            options.command = rest(parser)?;
            return Ok(options);
        };
        take(&mut options, &name, parser)?;
    }
    Err(CliError::text("wharf-runtime: \"exec\" requires a minimum of 1 argument(s)"))
}

use lexopt::ValueExt;

fn rest(parser: &mut lexopt::Parser) -> CliResult<Vec<String>> {
    let mut all = parser.raw_args()?.map(|arg| Ok(arg.string()?)).collect::<CliResult<Vec<_>>>()?;
    if all.first().is_some_and(|first| first == "--") {
        all.remove(0);
    }
    Ok(all)
}

fn take(options: &mut Options, name: &str, parser: &mut lexopt::Parser) -> CliResult<()> {
    match name {
        "process" | "p" => options.process_file = Some(flags::text(parser)?),
        "detach" | "d" => options.detach = flags::switch(parser)?,
        "tty" | "t" => options.tty = flags::switch(parser)?,
        "ignore-paused" => options.ignore_paused = flags::switch(parser)?,
        "cwd" => options.cwd = Some(flags::text(parser)?),
        "env" | "e" => options.env.push(flags::text(parser)?),
        "user" | "u" => options.user = Some(flags::text(parser)?),
        "additional-gids" | "g" => options.additional_gids.push(flags::number(parser)?),
        "cap" | "c" => options.capabilities.push(flags::text(parser)?),
        "no-new-privs" => options.no_new_privileges = Some(flags::switch(parser)?),
        "apparmor" => options.apparmor = Some(flags::text(parser)?),
        "process-label" => options.label = Some(flags::text(parser)?),
        "preserve-fds" => options.preserved = flags::number(parser)?,
        "cgroup" => options.subgroups.push(flags::text(parser)?),
        _ if options.report.take(name, parser)? => {}
        _ => return Err(CliError::text(format!("Incorrect Usage: invalid option {name:?}"))),
    }
    Ok(())
}

fn exec(context: &Context, options: &Options) -> CliResult<u8> {
    let container = context.store.load(&options.id)?;
    match container.status()? {
        Status::Stopped => return Err(CliError::text("cannot exec in a stopped container")),
        Status::Paused if !options.ignore_paused => {
            return Err(CliError::text(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        _ => {}
    }
    let mut wanted = wanted(context, &container, options)?;
    options.report.check_terminal(wanted.terminal.is_some(), options.detach)?;
    let caller = options.report.connect()?;
    let started = start(&container, options, &mut wanted)?;
    started.warnings.iter().for_each(|warning| context.log.warn(warning));
    let terminal = caller.deliver(started.pid, &started.pidfd, started.terminal).inspect_err(|_| {
        // The error that led here is the one to tell.
        let _ = process::pidfd_send_signal(&started.pidfd, 9);
        let _ = process::wait(&started.pidfd);
    })?;
    if options.detach { Ok(0) } else { foreground::attend(&started.pidfd, terminal) }
}

fn start(
    container: &Container,
    options: &Options,
    wanted: &mut Process,
) -> CliResult<wharf_runtime::Process> {
    let preserved = launch::preserved(options.preserved, &mut wanted.env)?;
    let compiled = seccomp::compile(&wanted.seccomp, wanted.capabilities.bounding)
        .map_err(|error| CliError::text(error.to_string()))?;
    let init = process::pidfd_open(container.record.pid).map_err(|_| CliError::NotRunning)?;
    if !container.is_alive() {
        return Err(CliError::NotRunning);
    }
    let group = subgroup::below(container.cgroup()?, &options.subgroups)?;
    let exec = ExecOptions {
        container_id: &container.id,
        init: init.as_fd(),
        init_pid: container.record.pid,
        cgroup: Some(&group),
        io: launch::io_of(wanted, &options.report),
        seccomp: compiled.as_deref(),
        lifetime: Lifetime::Own,
        tolerate_missing_privilege: container.record.plan.tolerate_missing_privilege,
        preserved,
        plan: Some(&container.record.plan),
    };
    Ok(wharf_runtime::exec(wanted, &exec)?)
}

/// The process: from its own file, or the container's with what the command line changes.
fn wanted(context: &Context, container: &Container, options: &Options) -> CliResult<Process> {
    let config = bundle::config(Path::new(&container.record.plan.bundle))?;
    let process = match &options.process_file {
        Some(file) => from_file(Path::new(file))?,
        None => from_flags(&config, options)?,
    };
    let mut warnings = Vec::new();
    let process = oci::process_to_plan(&process, config.linux.as_ref(), &mut warnings)?;
    warnings.iter().for_each(|warning| context.log.warn(warning));
    Ok(process)
}

fn from_file(path: &Path) -> CliResult<oci::Process> {
    let bytes = bundle::read_document(path)?
        .ok_or_else(|| CliError::text(format!("{} is too large", path.display())))?;
    serde_json::from_slice(&bytes).map_err(|error| CliError::text(error.to_string()))
}

fn from_flags(config: &Config, options: &Options) -> CliResult<oci::Process> {
    let mut process =
        config.process.clone().ok_or_else(|| CliError::text("process property must not be empty"))?;
    if options.command.is_empty() {
        return Err(CliError::text("exec args cannot be empty"));
    }
    process.args.clone_from(&options.command);
    process.env.extend(options.env.iter().cloned());
    process.terminal = options.tty;
    if let Some(cwd) = options.cwd.as_ref().filter(|cwd| !cwd.is_empty()) {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = options.user.as_ref().filter(|user| !user.is_empty()) {
        set_user(&mut process, user)?;
    }
    process.user.additional_gids.extend(&options.additional_gids);
    add_capabilities(&mut process, &options.capabilities);
    process.no_new_privileges = options.no_new_privileges.unwrap_or(process.no_new_privileges);
    if let Some(profile) = &options.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    if let Some(label) = &options.label {
        process.selinux_label.clone_from(label);
    }
    Ok(process)
}

/// `<uid>[:<gid>]`, digits only: no sign, no blank, nothing that wraps around (CVE-2026-30892).
fn set_user(process: &mut oci::Process, written: &str) -> CliResult<()> {
    let number = |what: &str, text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|n| digits && *n != u32::MAX);
        number.ok_or_else(|| CliError::text(format!("bad {what}: {text:?}")))
    };
    let (uid, gid) = match written.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (written, None),
    };
    if let Some(gid) = gid {
        process.user.gid = number("gid", gid)?;
    }
    process.user.uid = number("uid", uid)?;
    Ok(())
}

/// Ambient only where the container has inheritable ones: without those the kernel refuses.
fn add_capabilities(process: &mut oci::Process, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let sets = process.capabilities.get_or_insert_with(Capabilities::default);
    let ambient = !sets.inheritable.is_empty();
    for list in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        list.extend(names.iter().cloned());
    }
    if ambient {
        sets.ambient.extend(names.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_the_containers_name() {
        let args = ["-t", "--user=1:2", "-e", "A=b", "--cap", "CAP_KILL", "-g5", "c1", "ls", "-la", "--tty"];
        let options = parse(&mut lexopt::Parser::from_args(args)).unwrap();
        assert!(options.tty && !options.detach);
        assert_eq!(
            (options.id.as_str(), options.command.as_slice()),
            ("c1", &["ls", "-la", "--tty"].map(String::from)[..])
        );
        assert_eq!(
            (options.additional_gids.as_slice(), options.env.as_slice()),
            (&[5][..], &["A=b".to_owned()][..])
        );
        assert!(parse(&mut lexopt::Parser::from_args(["-t"])).is_err());
        assert!(parse(&mut lexopt::Parser::from_args(["--what", "c1"])).is_err());
    }

    #[test]
    fn users_are_exact_or_refused() {
        let user = |written: &str| {
            let mut process = oci::Process::default();
            set_user(&mut process, written).map(|()| (process.user.uid, process.user.gid))
        };
        assert_eq!(user("1000").unwrap(), (1000, 0));
        assert_eq!(user("0:7").unwrap(), (0, 7));
        for bad in
            ["0:", ":0", "1000:", " 0", "+0", "-1", "4294967296", "4294967295", "root", "root\0", "1:x", "0 "]
        {
            assert!(user(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_containers_own_process_is_the_model() {
        let config = Config::parse(
            br#"{"process":{"terminal":true,"args":["sh"],"cwd":"/srv","env":["A=1"],"user":{"uid":3,"gid":4},
            "capabilities":{"bounding":["CAP_KILL"]}}}"#,
        )
        .unwrap();
        let args = ["--cap", "CAP_CHOWN", "-e", "B=2", "c1", "id"];
        let options = parse(&mut lexopt::Parser::from_args(args)).unwrap();
        let process = from_flags(&config, &options).unwrap();
        assert_eq!((process.cwd.as_str(), process.terminal), ("/srv", false));
        assert_eq!(process.env, ["A=1", "B=2"]);
        assert_eq!((process.user.uid, process.user.gid), (3, 4));
        let capabilities = process.capabilities.unwrap();
        assert_eq!(capabilities.bounding, ["CAP_KILL", "CAP_CHOWN"]);
        assert!(capabilities.ambient.is_empty());
    }
}
