//! `wharf-shim`: the keeper of one container, and under other names the OCI runtime and the container's init.
//!
//! | started as | or as | is |
//! |---|---|---|
//! | `wharf-shim zygote [FILE]` | | the process that forks shims ([`zygote`]); FILE is its own program on disk |
//! | its forked child | | the shim of one container ([`boot`], then [`serve`]) |
//! | `wharf-runtime ...` | `wharf-shim runtime ...` | the OCI runtime's command line ([`cli`]) |
//! | `wharf-shim log LOG` | | the writer of a log that holds no container back ([`log_writer`]) |
//! | `docker-init ...` | `wharf-shim init ...` | the first process of a container run with `--init` ([`docker_init`]) |
//!
//! Files on disk: a container's run directory (see `wharf_spec::shim`) and its log.
//!
//! Invariants: one thread, no async runtime. No panic: a shim that dies takes its container with it. A daemon
//! that vanishes, sends nonsense or does not read harms no container.
#![forbid(unsafe_code)]

mod boot;
mod cli;
mod container;
mod docker_init;
mod external;
mod log_writer;
mod serve;
mod zygote;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    match std::path::Path::new(&program).file_name().and_then(|name| name.to_str()) {
        Some("docker-init") => return docker_init::main(args),
        Some("wharf-runtime") => return cli::main(args),
        _ => {}
    }
    match args.next().as_deref().and_then(|word| word.to_str()) {
        Some("zygote") => zygote::main(args),
        Some("runtime") => cli::main(args),
        Some("init") => docker_init::main(args),
        Some("log") => log_writer::main(args),
        _ => {
            eprintln!("usage: wharf-shim zygote [FILE] | runtime ... | init ... | log LOG");
            ExitCode::from(2)
        }
    }
}
