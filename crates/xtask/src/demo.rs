//! `cargo xtask demo`: a container's life, shown. Needs no network and no package beyond the Rust toolchain.

use crate::{
    build::{self, Profile},
    sh,
};
use anyhow::Result;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use wharf_testkit::{Daemon, until};

const IMAGE: &str = "hello-web:latest";
const EXAMPLE: &str = "examples/hello-web/Dockerfile";

/// Builds Wharf, runs a web server in a container with a published port, fetches its page, cleans up.
///
/// The daemon has its own data-root, socket and network namespace: nothing of the machine's Docker, if
/// there is one, is touched.
///
/// # Errors
/// When a step fails; what the demo started is cleaned up all the same.
pub(crate) fn run() -> Result<()> {
    build::all(Profile::Dev)?;
    build::static_binary(Profile::Dev, "hello-web", "hello-web")?;
    let bin = Profile::Dev.dir();
    let daemon = Daemon::builder().bin_dir(&bin).start()?;
    say(&format!("wharfd runs, on a data-root of its own: {}", daemon.data_root().display()));
    let context = context(&daemon, &bin)?;
    say(&format!("A small static web server becomes an image, by {EXAMPLE}:"));
    show(&daemon, &["build", "--progress=plain", "-t", IMAGE, &context.to_string_lossy()])?;
    show(&daemon, &["images"])?;
    show(&daemon, &["run", "-d", "--name", "web", "-p", "8080:80", IMAGE])?;
    say("The page, fetched through the published port:");
    print!("{}", until("the page", || Ok(daemon.net().within(fetch).ok()))?);
    show(&daemon, &["ps"])?;
    show(&daemon, &["exec", "web", "/hello-web", "--greet", "a second process in the container"])?;
    show(&daemon, &["logs", "web"])?;
    show(&daemon, &["stop", "-t", "1", "web"])?;
    show(&daemon, &["rm", "web"])?;
    daemon.stop()?;
    say("Container, daemon, mounts, network and cgroups are gone again: looked for, nothing found.");
    farewell(&bin);
    Ok(())
}

/// A directory with the example's Dockerfile and the program.
fn context(daemon: &Daemon, bin: &Path) -> Result<PathBuf> {
    let context = daemon.dir().join("hello-web");
    std::fs::create_dir(&context)?;
    std::fs::copy(sh::workspace().join(EXAMPLE), context.join("Dockerfile"))?;
    std::fs::copy(bin.join("hello-web"), context.join("hello-web"))?;
    Ok(context)
}

fn say(text: &str) {
    println!("\n# {text}");
}

/// Runs `wharf` and shows what a user would see.
fn show(daemon: &Daemon, args: &[&str]) -> Result<()> {
    println!("\n$ wharf {}", args.join(" "));
    let out = daemon.wharf(args)?;
    print!("{}{}", out.stdout, out.stderr);
    out.ok().map(|_| ())
}

fn fetch() -> Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:8080")?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn farewell(bin: &Path) {
    let bin = bin.display();
    println!(
        "
To use it, as root:
  {bin}/wharfd --data-root /var/lib/wharf --exec-root /run/wharf --pidfile /run/wharf.pid -H unix:///run/wharf.sock &
  export DOCKER_HOST=unix:///run/wharf.sock
  docker load -i IMAGE.tar && docker run --rm -it IMAGE        # or {bin}/wharf load, run ..."
    );
}
