//! mountinfo of procfs, parsed (source: proc_pid_mountinfo(5)).

use crate::{Context, Result};
use std::path::PathBuf;

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Mount id.
    pub id: u64,
    /// Id of the mount it is attached to.
    pub parent: u64,
    /// `major:minor` of the file system.
    pub device: String,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    /// Where, seen from this process's root.
    pub target: PathBuf,
    /// Per-mount options, such as `rw,relatime`.
    pub options: String,
    /// Propagation tags, such as `shared:1`.
    pub tags: Vec<String>,
    /// File system type.
    pub fs_type: String,
    /// Device or name.
    pub source: String,
    /// Per-file-system options.
    pub super_options: String,
}

/// The mounts the calling thread sees.
pub fn mountinfo() -> Result<Vec<MountInfo>> {
    let path = "/proc/thread-self/mountinfo";
    let bytes = std::fs::read(path).on("read", || path)?;
    Ok(parse_mountinfo(&String::from_utf8_lossy(&bytes)))
}

/// Parses mountinfo; lines that do not have its form are left out.
pub fn parse_mountinfo(text: &str) -> Vec<MountInfo> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<MountInfo> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let id = left.next()?.parse().ok()?;
    let parent = left.next()?.parse().ok()?;
    let device = left.next()?.to_owned();
    let root = unescape(left.next()?);
    let target = unescape(left.next()?);
    let options = left.next()?.to_owned();
    let tags = left.map(str::to_owned).collect();
    let mut right = right.split(' ');
    let fs_type = right.next()?.to_owned();
    let source = unescape(right.next()?);
    let super_options = right.next().unwrap_or_default().to_owned();
    let (root, target) = (PathBuf::from(root), PathBuf::from(target));
    Some(MountInfo { id, parent, device, root, target, options, tags, fs_type, source, super_options })
}

/// Undoes the kernel's octal escapes (space, tab, newline, backslash, `#`).
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail.get(..3).and_then(octal)) {
            (b'\\', Some(value)) => {
                bytes.push(value);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_tags_and_escapes() {
        let line =
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let text = &format!("{line}\nnonsense\n");
        let all = parse_mountinfo(text);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].target, PathBuf::from("/mnt 2"));
        assert_eq!(all[0].tags, ["master:1", "shared:2"]);
        assert_eq!(all[0].fs_type, "ext3");
        assert_eq!(all[0].super_options, "rw,errors=continue");
    }

    #[test]
    fn sees_its_own_proc() {
        assert!(mountinfo().unwrap().iter().any(|mount| mount.fs_type == "proc"));
    }
}
