//! A daemon that sees another `/etc` than the machine's: users and their ranges of ids are made there.

use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A mount namespace in which `/etc` is a copy that is written on.
#[derive(Debug)]
pub struct Etc {
    holder: Child,
}

const SCRIPT: &str = "mount -t overlay overlay -o \"lowerdir=/etc,upperdir=$1/upper,workdir=$1/work\" /etc && \
    echo && exec sleep infinity";

impl Etc {
    /// Makes one that keeps its changes below a folder.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let dir = dir.join("etc");
        for sub in ["upper", "work"] {
            std::fs::create_dir_all(dir.join(sub))?;
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c", SCRIPT, "sh"]).arg(&dir);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut ready = [0; 1];
        let read = holder.stdout.take().context("a pipe")?.read(&mut ready)?;
        let etc = Self { holder };
        ensure!(read == 1, "/etc is not mounted");
        Ok(etc)
    }

    /// A file of it, reached from outside.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/etc/{name}", self.holder.id()))
    }

    /// Adds lines to a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&self, name: &str, lines: &str) -> Result<()> {
        let path = self.path(name);
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, old + lines).with_context(|| path.display().to_string())
    }

    /// A command that becomes the program behind it, inside.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg("--").arg(program);
        command
    }

    /// Mounts inside, below a folder.
    pub(crate) fn mounts_below(&self, dir: &Path) -> Vec<String> {
        let table =
            std::fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id())).unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points
            .filter(|point| Path::new(point).starts_with(dir))
            .map(|point| format!("mount {point}"))
            .collect()
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
