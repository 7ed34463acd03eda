//! Pseudo terminals.

use crate::path::{Root, filesystem_magic, stat};
use crate::{Context, Error, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};
use std::path::Path;
use wharf_spec::plan::TerminalSize;

/// Device number of `/dev/ptmx` and of devpts' own `ptmx` node.
const PTMX: (u32, u32) = (5, 2);

/// The two ends of a terminal.
#[derive(Debug)]
pub struct Pair {
    /// What a terminal emulator holds.
    pub master: OwnedFd,
    /// What the program sees as its terminal.
    pub terminal: OwnedFd,
}

/// Opens a terminal of the host's devpts.
pub fn open() -> Result<Pair> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    pair(rustix::pty::openpt(flags).on("open", || "/dev/ptmx")?)
}

/// Opens a terminal of the devpts mounted at `dir` inside `root` (usually `/dev/pts`). Both ends are had by
/// descriptor alone, and the node is checked to be devpts' own (CVE-2025-52565).
pub fn open_in(root: &Root, dir: &Path) -> Result<Pair> {
    let path = dir.join("ptmx");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master = root.open_file(&path, flags, Mode::empty())?;
    let device = stat(&master)?.st_rdev;
    let genuine = filesystem_magic(&master)? == libc::DEVPTS_SUPER_MAGIC as u64
        && (rustix::fs::major(device), rustix::fs::minor(device)) == PTMX;
    if !genuine {
        return Err(Error::malformed(path.display().to_string(), "not the multiplexer of a devpts"));
    }
    pair(master)
}

fn pair(master: OwnedFd) -> Result<Pair> {
    rustix::pty::unlockpt(&master).on("ioctl(TIOCSPTLCK)", || "terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags).on("ioctl(TIOCGPTPEER)", || "terminal")?;
    Ok(Pair { master, terminal })
}

/// Sets the size of a terminal, by either end.
pub fn set_size(terminal: impl AsFd, size: TerminalSize) -> Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).on("ioctl(TIOCSWINSZ)", || "terminal")
}

/// The size of a terminal.
pub fn size(terminal: impl AsFd) -> Result<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(terminal).on("ioctl(TIOCGWINSZ)", || "terminal")?;
    Ok(TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// Has line ends come out of a terminal as they were written, without a carriage return put before them: for
/// whoever writes them to a terminal of its own.
pub fn keep_line_ends(terminal: impl AsFd) -> Result<()> {
    use rustix::termios::OutputModes;
    let mut modes = rustix::termios::tcgetattr(terminal.as_fd()).on("ioctl(TCGETS)", || "terminal")?;
    modes.output_modes.remove(OutputModes::ONLCR);
    rustix::termios::tcsetattr(terminal.as_fd(), OptionalActions::Now, &modes)
        .on("ioctl(TCSETS)", || "terminal")
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// A terminal in raw mode; back to what it was when dropped.
#[derive(Debug)]
pub struct RawMode<F: AsFd> {
    terminal: F,
    before: Termios,
}

impl<F: AsFd> RawMode<F> {
    /// Puts a terminal into raw mode.
    pub fn enter(terminal: F) -> Result<RawMode<F>> {
        let before = rustix::termios::tcgetattr(&terminal).on("ioctl(TCGETS)", || "terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)
            .on("ioctl(TCSETS)", || "terminal")?;
        Ok(RawMode { terminal, before })
    }
}

impl<F: AsFd> Drop for RawMode<F> {
    fn drop(&mut self) {
        // The terminal may be gone: nothing to restore then.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{self, tests::in_private_mounts};
    use wharf_spec::plan::MountAttrs;

    #[test]
    fn a_terminal_has_size_and_modes() {
        let pair = open().unwrap();
        assert!(is_terminal(&pair.terminal));
        set_size(&pair.master, TerminalSize { rows: 7, columns: 9 }).unwrap();
        assert_eq!(size(&pair.terminal).unwrap(), TerminalSize { rows: 7, columns: 9 });
        let echo = |fd: &OwnedFd| {
            rustix::termios::tcgetattr(fd).unwrap().local_modes.contains(rustix::termios::LocalModes::ECHO)
        };
        let raw = RawMode::enter(&pair.terminal).unwrap();
        assert!(!echo(&pair.terminal));
        drop(raw);
        assert!(echo(&pair.terminal));
    }

    #[test]
    fn only_a_devpts_will_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pts")).unwrap();
        std::fs::write(dir.path().join("pts/ptmx"), "").unwrap();
        in_private_mounts(|| {
            let root = Root::open(dir.path()).unwrap();
            let error = open_in(&root, Path::new("/pts")).unwrap_err();
            assert!(error.to_string().contains("not the multiplexer"), "{error}");
            let devpts =
                mount::new_filesystem("devpts", &[("ptmxmode", "0666")], MountAttrs::empty()).unwrap();
            mount::attach(&devpts, root.resolve(Path::new("/pts")).unwrap()).unwrap();
            let pair = open_in(&root, Path::new("/pts")).unwrap();
            assert!(is_terminal(&pair.terminal));
            assert!(dir.path().join("pts/0").exists());
        });
    }
}
