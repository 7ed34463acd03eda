//! What a directory held when it was looked at: names, and enough of each file to tell whether it has changed since.
//!
//! As text, one entry ends with a zero byte: six numbers with blanks between, a tab, the name.

use crate::{Error, Filter, Keep};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Deeper trees are refused, as packing refuses them.
const MAX_DEPTH: usize = 900;

/// Clocks of file systems stand still for so long at most: what was changed later than that before it was looked at may
/// be changed again without a trace.
const TICK: Duration = Duration::from_millis(100);

/// Enough of a file to tell whether it has changed. Whatever is done to a file sets the time of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Kind and permissions; 0 for what was not looked at.
    pub mode: u32,
    inode: u64,
    size: i64,
    /// In nanoseconds since 1970.
    modified: i128,
    changed: i128,
}

/// Names and stamps. A directory that is only there for what is below it has an empty stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest(BTreeMap<String, Stamp>);

/// What is to be done to a copy of an earlier state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// To be sent; the directories that something changes in are among it.
    pub sent: BTreeSet<String>,
    /// To be removed first.
    pub removed: Vec<String>,
}

impl Stamp {
    /// Of what `stat` says.
    pub fn of(stat: &Stat) -> Self {
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            mode: stat.st_mode,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: nanos(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: nanos(stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

    /// Whether a later change would be seen.
    fn is_settled(&self, looked: SystemTime) -> bool {
        let since = looked.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(TICK);
        self.changed.max(self.modified) < i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
    }

    /// A directory that is only there for what is below it.
    fn is_implied(&self) -> bool {
        self.mode == 0
    }

    fn kind(&self) -> u32 {
        let kind = if self.is_implied() { FileType::Directory } else { FileType::from_raw_mode(self.mode) };
        kind.as_raw_mode()
    }

    /// What is never the same.
    fn unlooked(&self) -> Self {
        Self { mode: self.kind(), ..Self::default() }
    }

    fn read(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let stamp = Self {
            mode: fields.next()?.parse().ok()?,
            inode: fields.next()?.parse().ok()?,
            size: fields.next()?.parse().ok()?,
            modified: fields.next()?.parse().ok()?,
            changed: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(stamp)
    }
}

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {} {}", self.mode, self.inode, self.size, self.modified, self.changed)
    }
}

impl std::str::FromStr for Stamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::read(text).ok_or(Error::Manifest)
    }
}

impl Manifest {
    /// Looks at what is in a directory and would be packed. What was changed just now gets an empty stamp, for it may
    /// change again unseen.
    ///
    /// # Errors
    /// When something cannot be looked at, and for names that are no text.
    pub fn scan(root: BorrowedFd<'_>, filter: Option<&Filter>) -> Result<Self, Error> {
        let mut manifest = Self::default();
        let looked = SystemTime::now();
        let own = fs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        manifest.below(own.map_err(Error::file("open", b"."))?, "", filter, 0)?;
        for stamp in manifest.0.values_mut().filter(|stamp| !stamp.is_settled(looked)) {
            *stamp = stamp.unlooked();
        }
        Ok(manifest)
    }

    fn below(
        &mut self,
        directory: OwnedFd,
        name: &str,
        filter: Option<&Filter>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooLong);
        }
        for entry in Dir::read_from(&directory).map_err(Error::file("read", name.as_bytes()))? {
            let entry = entry.map_err(Error::file("read", name.as_bytes()))?;
            let last = entry.file_name();
            if matches!(last.to_bytes(), b"." | b"..") {
                continue;
            }
            let last = last.to_str().map_err(|_| Error::Manifest)?;
            let whole = if name.is_empty() { last.to_owned() } else { format!("{name}/{last}") };
            let keep = filter.map_or(Keep::Yes, |filter| filter.ask(whole.as_bytes()));
            if keep == Keep::No {
                continue;
            }
            let stat = match fs::statat(&directory, last, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(Error::file("stat", whole.as_bytes()))?,
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if keep == Keep::Yes && kind != FileType::Socket {
                self.imply_parents(name);
                self.0.insert(whole.clone(), Stamp::of(&stat));
            }
            if kind.is_dir() {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match fs::openat(directory.as_fd(), last, flags, Mode::empty()) {
                    Ok(below) => self.below(below, &whole, filter, depth + 1)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(errno) => return Err(Error::file("open", whole.as_bytes())(errno)),
                }
            }
        }
        Ok(())
    }

    /// Directories that are left out themselves come into being for what is below them.
    fn imply_parents(&mut self, mut name: &str) {
        while !name.is_empty() && !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), Stamp::default());
            name = parent(name);
        }
    }

    /// What makes a copy of an earlier state one of this.
    pub fn since(&self, earlier: &Self) -> Changes {
        let now_implied = |(name, stamp): (&String, &Stamp)| {
            !stamp.is_implied() && self.0.get(name).is_some_and(Stamp::is_implied)
        };
        if earlier.0.iter().any(now_implied) {
            // Other files are meant now. A directory that came with them would keep their permissions.
            let all = earlier.0.keys().filter(|name| !name.contains('/')).cloned().collect();
            return Changes { removed: all, ..self.since(&Self::default()) };
        }
        let mut changes = Changes::default();
        for (name, stamp) in &earlier.0 {
            let is_gone = self.0.get(name).is_none_or(|new| new.kind() != stamp.kind());
            let is_below = changes.removed.last().is_some_and(|last| name.starts_with(&format!("{last}/")));
            if is_gone && !is_below {
                changes.removed.push(name.clone());
            }
        }
        for (name, stamp) in &self.0 {
            let is_same = *stamp != stamp.unlooked() && earlier.0.get(name) == Some(stamp);
            if !stamp.is_implied() && !is_same {
                changes.sent.insert(name.clone());
            }
        }
        let touched: Vec<String> = changes.sent.iter().chain(&changes.removed).cloned().collect();
        for name in &touched {
            let mut above = parent(name);
            while !above.is_empty() {
                if self.0.get(above).is_some_and(|stamp| !stamp.is_implied()) {
                    changes.sent.insert(above.to_owned());
                }
                above = parent(above);
            }
        }
        changes
    }

    /// Says of a name whether these changes need it, for packing.
    pub fn filter(&self, changes: &Changes) -> Filter {
        let mut needed: BTreeMap<Vec<u8>, Keep> = BTreeMap::new();
        for name in &changes.sent {
            let mut above = parent(name);
            while !above.is_empty() {
                needed.entry(above.as_bytes().to_vec()).or_insert(Keep::Below);
                above = parent(above);
            }
            needed.insert(name.as_bytes().to_vec(), Keep::Yes);
        }
        Filter::new(move |name| needed.get(name).copied().unwrap_or(Keep::No))
    }

    /// As text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, stamp) in &self.0 {
            text.extend_from_slice(format!("{stamp}\t{name}\0").as_bytes());
        }
        text
    }

    /// From what [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_bytes(text: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(text).map_err(|_| Error::Manifest)?;
        let mut manifest = Self::default();
        for entry in text.split_terminator('\0') {
            let (stamp, name) = entry.split_once('\t').ok_or(Error::Manifest)?;
            manifest.0.insert(name.to_owned(), stamp.parse()?);
        }
        Ok(manifest)
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, PackOptions, Packer, unpack};
    use std::{fs::File, path::Path};

    fn scan(path: &Path, filter: Option<&Filter>) -> Manifest {
        Manifest::scan(File::open(path).unwrap().as_fd(), filter).unwrap()
    }

    /// Waits until all of a tree is older than a tick.
    fn settled(path: &Path, filter: Option<&Filter>) -> Manifest {
        loop {
            let manifest = scan(path, filter);
            if manifest.0.values().all(|stamp| stamp.mode == 0 || stamp.inode != 0) {
                return manifest;
            }
            std::thread::sleep(TICK / 10);
        }
    }

    fn list(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = scan(path, None).0.into_keys().collect();
        names.sort();
        names
    }

    fn write(root: &Path, name: &str, text: &str) {
        std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        std::fs::write(root.join(name), text).unwrap();
    }

    #[test]
    fn changes_make_a_copy_the_same() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (from.path(), to.path());
        let filter = Filter::new(|name| match name {
            b"drop" => Keep::No,
            b"below" => Keep::Below,
            name if name.starts_with(b"below/") && name != b"below/kept" => Keep::No,
            _ => Keep::Yes,
        });
        let mut before = Manifest::default();
        let mut bring = |expected: &[&str], removed: &[&str]| {
            let now = settled(from, Some(&filter));
            let changes = now.since(&before);
            assert_eq!(changes.sent.iter().map(String::as_str).collect::<Vec<_>>(), expected);
            assert_eq!(changes.removed, removed);
            for name in &changes.removed {
                crate::remove_tree(File::open(to).unwrap().as_fd(), name.as_bytes()).ok();
                std::fs::remove_dir_all(to.join(name)).or_else(|_| std::fs::remove_file(to.join(name))).ok();
            }
            let options = PackOptions { filter: Some(now.filter(&changes)), ..PackOptions::default() };
            let mut packer = Packer::new(Vec::new(), options);
            packer.children(File::open(from).unwrap().as_fd(), b"").unwrap();
            let archive = packer.finish().unwrap();
            let owner = crate::Owner::Caller;
            unpack(&archive[..], File::open(to).unwrap().as_fd(), Options { owner, ..Options::default() })
                .unwrap();
            before = Manifest::from_bytes(&now.to_bytes()).unwrap();
            assert_eq!(before, now);
        };
        for name in ["a/one", "a/two", "b", "drop", "below/kept", "below/dropped"] {
            write(from, name, "1");
        }
        bring(&["a", "a/one", "a/two", "b", "below/kept"], &[]);
        assert_eq!(list(to), ["a", "a/one", "a/two", "b", "below", "below/kept"]);
        bring(&[], &[]);
        write(from, "a/one", "2");
        bring(&["a", "a/one"], &[]);
        assert_eq!(std::fs::read(to.join("a/one")).unwrap(), b"2");
        std::fs::remove_file(from.join("below/kept")).unwrap();
        std::fs::remove_dir_all(from.join("a")).unwrap();
        write(from, "a", "now a file");
        bring(&["a"], &["a", "below"]);
        assert_eq!(list(to), ["a", "b"]);
    }

    #[test]
    fn what_was_changed_just_now_counts_as_changed() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", "1");
        let first = scan(dir.path(), None);
        assert_eq!(first.since(&first).sent.len(), 1);
        let later = settled(dir.path(), None);
        assert_eq!(later.since(&first).sent.len(), 1);
        assert_eq!(later.since(&later), Changes::default());
        assert!(Manifest::from_bytes(b"1 2 3\tx\0").is_err());
    }
}
