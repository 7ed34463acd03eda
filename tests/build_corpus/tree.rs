//! The context that all cases share: files of every sort, all of one time.

use anyhow::{Result, ensure};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

/// When all of it was changed: 2020-01-01.
pub(super) const TIME: i64 = 1_577_836_800;

const FILES: [(&str, u32); 22] = [
    ("a.txt", 0o644),
    ("b.txt", 0o644),
    ("c.md", 0o640),
    ("exec.sh", 0o755),
    ("secret", 0o600),
    ("suid", 0o4755),
    ("owned", 0o664),
    ("with space.txt", 0o644),
    ("br[1].txt", 0o644),
    (".hidden", 0o644),
    ("attr", 0o644),
    ("dir/one", 0o644),
    ("dir/two", 0o600),
    ("dir/.dot", 0o644),
    ("dir/sub/three", 0o755),
    ("sticky/file", 0o644),
    ("hard/1", 0o644),
    ("deep/x/y/z/f", 0o644),
    ("arch/not.tar.gz", 0o644),
    ("pack/p/file", 0o640),
    ("pack/p/one", 0o755),
    ("pack/t", 0o644),
];

const LINKS: [(&str, &str); 6] = [
    ("links/file", "../a.txt"),
    ("links/dir", "../dir"),
    ("links/broken", "nowhere"),
    ("links/abs", "/a.txt"),
    ("links/up", "../../../../../../../etc/passwd"),
    ("links/tar", "../arch/p.tar"),
];

/// Archives in `arch`, made of `pack` (and that is then removed).
const ARCHIVES: &str = "\
    set -e; make() { tar --owner=1000 --group=44 --numeric-owner --sort=name --mtime=@1577836800 \"$@\"; }; \
    ln -s file pack/p/link; ln pack/p/file pack/p/hard; chmod 711 pack/p; \
    make -C pack -cf arch/p.tar p t; for with in gz:-z bz2:-j xz:-J; do \
    make -C pack ${with#*:} -cf arch/p.tar.${with%:*} p t; done; \
    make -C pack -P --transform 's,^t$,../../escaped,' -cf arch/evil.tar t; \
    ln -s /etc pack/out; make -C pack -cf arch/link.tar out; \
    make -C pack --transform 's,^t$,out/through,' -rf arch/link.tar t; \
    make -cf arch/empty.tar -T /dev/null; rm -r pack; mkfifo special/fifo";

/// Makes it.
pub(super) fn make(dir: &Path) -> Result<()> {
    for (name, mode) in FILES {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(&path, format!("{name}\n"))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    for name in ["empty", "links", "special"] {
        fs::create_dir(dir.join(name))?;
    }
    for (name, target) in LINKS {
        symlink(target, dir.join(name))?;
    }
    fs::hard_link(dir.join("hard/1"), dir.join("hard/2"))?;
    chown(dir.join("owned"), Some(1000), Some(44))?;
    fs::set_permissions(dir.join("owned"), Permissions::from_mode(0o664))?;
    fs::set_permissions(dir.join("sticky"), Permissions::from_mode(0o1777))?;
    rustix::fs::setxattr(dir.join("attr"), "user.corpus", b"x", XattrFlags::empty())?;
    let status = Command::new("sh").current_dir(dir).env_remove("TAPE").args(["-c", ARCHIVES]).status()?;
    ensure!(status.success(), "archives of the corpus: {status}");
    set_times(dir)
}

/// Sets the time of all files below a directory.
fn set_times(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            set_times(&entry.path())?;
        }
        set_time(&entry.path())?;
    }
    Ok(())
}

/// Sets the time of a file.
pub(super) fn set_time(path: &Path) -> Result<()> {
    let time = Timespec { tv_sec: TIME, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Letter of a file's type, as `find -printf %y` has it.
pub(super) fn letter(mode: u32) -> char {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => 'f',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        _ => '?',
    }
}

/// Permissions of a file's mode.
pub(super) fn permissions(mode: u32) -> u32 {
    Mode::from_raw_mode(mode).bits()
}
