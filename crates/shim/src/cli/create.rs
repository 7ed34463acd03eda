//! `create`: makes a container whose process waits to be started.

use super::error::{CliError, CliResult};
use super::launch::{self, Begin, CreateFlags};
use super::{Context, flags};

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let mut options = CreateFlags::default();
    let mut arguments = flags::Arguments::default();
    while let Some(arg) = parser.next()? {
        match launch::option_name(&arg) {
            None => arguments.take(arg)?,
            Some(name) => {
                if !options.take(&name, parser)? {
                    return Err(CliError::text(format!("Incorrect Usage: invalid option {name:?}")));
                }
            }
        }
    }
    let id = arguments.only_id("create")?;
    create(context, &id, &options).map(|()| 0).map_err(|source| CliError::Command {
        prefix: "wharf-runtime create failed",
        code: 1,
        source: Box::new(source),
    })
}

fn create(context: &Context, id: &str, options: &CreateFlags) -> CliResult<()> {
    let plan = launch::plan(context, id, options)?;
    options.report.check_terminal(plan.process.terminal.is_some(), true)?;
    let caller = options.report.connect()?;
    let mut nascent = context.store.reserve(id)?;
    let (mut container, _) = launch::create(context, &mut nascent, (plan, options), Begin::AtGate)?;
    let terminal = container.terminal.take();
    caller.deliver(container.pid, &container.pidfd, terminal).map(drop).inspect_err(|_| {
        launch::undo(&container);
        nascent.abandon();
    })
}
