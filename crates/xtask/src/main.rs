//! The project's own commands: `cargo xtask <command>`.
//!
//! One file per command. Everything a newcomer or CI runs goes through here, so that both run the same.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod demo;
mod fuzz;
mod packages;
mod sh;
mod test;
mod tidy;
mod vm_test;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask <command>

  build [--release]   build wharf, wharfd and (static) wharf-shim into target/<profile>
  demo                start a daemon of its own, run a web server in a container, fetch its page, clean up
  test [--oracle] [--full] [FILTER]
                      install what the tests need, then run every test; FILTER: only e2e tests so named;
                      --oracle: install Debian's docker.io too, without starting it, and compare with it;
                      --full: faults at every step and thousands of cycles, which takes hours
  tidy                crate edges, sizes, headers, licences, formatting, clippy
  vm-test [FILTER]    the end-to-end tests in a virtual machine: Debian's 6.1 kernel, cgroup v2
  fuzz [TARGET] [SECONDS]
                      one fuzz target, or all, for so long each (60)
  bench run           run latency and memory, beside docker.io and podman where they are installed
  bench build [--small]  builds of twelve steps, of many files, of many bytes, beside docker.io
  bench images        pull, push, save, load, export, import of a 600 MB image, beside docker.io
  bench logs [--small]  logs, attach, stdin, cp, stats of 100 containers, beside docker.io and podman
  bench volumes       volumes made, filled and written to, beside docker.io";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    std::env::set_current_dir(sh::workspace())?;
    match args.as_slice() {
        ["build"] => build::all(build::Profile::Dev),
        ["build", "--release"] => build::all(build::Profile::Release),
        ["demo"] => demo::run(),
        ["test", args @ ..] => test::run(args),
        ["tidy"] => tidy::run(),
        ["vm-test", filter @ ..] => vm_test::run(filter),
        ["fuzz", args @ ..] => fuzz::run(args),
        ["bench", "run"] => bench::run(),
        ["bench", "build"] => bench::builds::run(false),
        ["bench", "build", "--small"] => bench::builds::run(true),
        ["bench", "images"] => bench::images::run(),
        ["bench", "volumes"] => bench::volumes::run(),
        ["bench", "logs"] => bench::logs::run(false),
        ["bench", "logs", "--small"] => bench::logs::run(true),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
