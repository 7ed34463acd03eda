//! Clients of a test's daemon: the stock CLI and ours.

use super::{Daemon, Output, output};
use crate::Archive;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Stdio};

impl Daemon {
    /// Loads an image.
    ///
    /// # Errors
    /// When the daemon refuses it.
    pub fn load(&self, image: &Archive) -> Result<()> {
        let answer = self.api().send("POST", "/images/load?quiet=1", "application/x-tar", &image.bytes)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == 200 && !text.contains("errorDetail"), "load: {} {text}", answer.status);
        Ok(())
    }

    /// Runs the stock `docker` CLI against it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn docker(&self, args: &[&str]) -> Result<Output> {
        self.cli("docker", args, b"")
    }

    /// Runs our own CLI against it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn wharf(&self, args: &[&str]) -> Result<Output> {
        self.cli(&self.program("wharf").to_string_lossy(), args, b"")
    }

    /// What the stock CLI and ours print and end with, ours under the other's name. What they print of ages may differ
    /// by the second between them: then they are asked again.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn both_clis(&self, args: &[&str]) -> Result<(Output, Output)> {
        let ask = || -> Result<_> {
            let mut ours = self.wharf(args)?;
            ours.stderr = ours.stderr.replace("wharf", "docker");
            Ok((self.docker(args)?, ours))
        };
        let mut answers = ask()?;
        for _ in 0..9 {
            if answers.0 == answers.1 || !answers.0.stdout.contains("second") {
                break;
            }
            answers = ask()?;
        }
        Ok(answers)
    }

    /// A container of this name, without network, in which a script ran.
    ///
    /// # Errors
    /// When the script fails.
    pub fn ran(&self, name: &str, image: &str, script: &str) -> Result<()> {
        let args = ["run", "--name", name, "--network=none", image, "sh", "-c", script];
        self.docker(&args)?.ok().map(drop)
    }

    /// A directory with this Dockerfile, to build from: always the same one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn build_context(&self, dockerfile: &str) -> Result<PathBuf> {
        let dir = self.dir().join("ctx");
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("Dockerfile"), dockerfile)?;
        Ok(dir)
    }

    /// What `docker image inspect` says of an image.
    ///
    /// # Errors
    /// When it is not there.
    pub fn inspect_image(&self, image: &str) -> Result<serde_json::Value> {
        let all: serde_json::Value = serde_json::from_str(&self.docker(&["image", "inspect", image])?.ok()?)?;
        Ok(all[0].clone())
    }

    /// Runs the stock CLI with this on its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn docker_stdin(&self, args: &[&str], stdin: &[u8]) -> Result<Output> {
        self.cli("docker", args, stdin)
    }

    /// Runs our own CLI with this on its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn wharf_stdin(&self, args: &[&str], stdin: &[u8]) -> Result<Output> {
        self.cli(&self.program("wharf").to_string_lossy(), args, stdin)
    }

    /// `docker` as it is on the path, `wharf` as it belongs to the daemon.
    pub fn program(&self, name: &str) -> PathBuf {
        if name == "wharf" { self.bin.join(name) } else { name.into() }
    }

    /// A command of a CLI, not yet started, with pipes for its stdio, in no namespace yet.
    pub fn cli_command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let home = self.dir.join("home");
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &home).env("DOCKER_CONFIG", home.join(".docker"));
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn cli(&self, program: &str, args: &[&str], stdin: &[u8]) -> Result<Output> {
        let mut child = self.net.spawn(&mut self.cli_command(program, args))?;
        let mut pipe = child.stdin.take().context("a pipe")?;
        let stdin = stdin.to_vec();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut pipe, &stdin));
        let out = output(child.wait_with_output()?);
        // A program that ends early breaks the pipe; its output says what happened.
        let _ = writer.join();
        Ok(out)
    }
}
