//! Putting entries into a directory.

use crate::{
    Error, Header, Kind, Reader, Time,
    directories::Directories,
    error::lossy,
    metadata::{self, Inode, Owners},
    path::{self, clean, entry_name, is_local},
    whiteout::{self, Meaning, OPAQUE_XATTR, Whiteouts},
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat, XattrFlags},
    io::Errno,
};
use std::{
    fs::File,
    io::{self, BufRead, Read, Seek, SeekFrom, Write},
    sync::Arc,
};
use wharf_spec::plan::IdMaps;

/// What happens where something of another kind exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// It is replaced; directories are merged with directories.
    #[default]
    Replace,
    /// A directory is not replaced by another kind, nor the reverse (`noOverwriteDirNonDir` of the API).
    KeepKind,
}

/// Who owns the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owner {
    /// As in the archive.
    #[default]
    Archive,
    /// These.
    Fixed {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Whoever extracts.
    Caller,
}

/// Where symbolic links may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Links {
    /// Anywhere: they are followed by nobody here.
    #[default]
    Anywhere,
    /// Relative ones to what is extracted only; absolute ones are taken as if they were relative
    /// (moby `go-archive`, `createTarFile`).
    Inside,
}

/// How an archive is extracted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Deletions.
    pub whiteouts: Whiteouts,
    /// Existing files.
    pub overwrite: Overwrite,
    /// Owners.
    pub owner: Owner,
    /// Symbolic links.
    pub links: Links,
    /// Owners are those of a container, files get the host's ids for them.
    pub ids: Option<Arc<IdMaps>>,
}

impl Options {
    fn owners(&self) -> Owners<'_> {
        Owners { owner: self.owner, ids: self.ids.as_deref() }
    }
}

/// What was extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extracted {
    /// Bytes of files and links, each inode counted once. Exact only when nothing was replaced.
    pub bytes: u64,
    /// Something existed and was replaced.
    pub replaced: bool,
}

/// Extracts entry by entry. Directories get their times at [`Extractor::finish`].
pub struct Extractor {
    directories: Directories,
    options: Options,
    times: Vec<(Vec<u8>, DirectoryTimes)>,
    /// Bytes that the directories' names and times take.
    remembered: usize,
    extracted: Extracted,
}

/// What a directory gets when everything is in it.
struct DirectoryTimes {
    mtime: Time,
    atime: Option<Time>,
}

/// More than a million directories of ordinary names.
const MAX_REMEMBERED: usize = 128 << 20;

/// Where an entry goes.
struct Place<'n> {
    directory: Arc<OwnedFd>,
    name: &'n [u8],
    whole: &'n [u8],
}

/// Extracts a whole uncompressed archive.
///
/// # Errors
/// At the first entry that cannot be extracted; what was extracted before stays.
pub fn unpack<R: Read>(archive: R, root: BorrowedFd<'_>, options: Options) -> Result<Extracted, Error> {
    let mut reader = Reader::new(archive);
    let mut extractor = Extractor::new(root, options)?;
    while let Some(header) = reader.next_entry()? {
        extractor.entry(&header, reader.content())?;
    }
    extractor.finish()
}

impl Extractor {
    /// Extracts into an open directory.
    ///
    /// # Errors
    /// When it cannot be opened for reading.
    pub fn new(root: BorrowedFd<'_>, options: Options) -> Result<Self, Error> {
        Ok(Self {
            directories: Directories::new(root, options.ids.clone())?,
            options,
            times: Vec::new(),
            remembered: 0,
            extracted: Extracted::default(),
        })
    }

    /// Extracts one entry. `data` is what [`Reader::content`] gives: without the holes of a sparse file.
    ///
    /// # Errors
    /// When the entry leads outside, or the system refuses it.
    pub fn entry(&mut self, header: &Header, data: impl BufRead) -> Result<(), Error> {
        if header.kind == Kind::PaxGlobal {
            return Ok(());
        }
        let Some(whole) = entry_name(&header.name)? else { return Ok(()) };
        let (parent, name) = path::split(&whole);
        let place = Place { directory: self.directories.get(parent)?, name, whole: &whole };
        if self.options.whiteouts == Whiteouts::Overlay && self.whiteout(&place, header)? {
            return Ok(());
        }
        match header.kind {
            Kind::Directory => self.directory(&place, header),
            Kind::Regular => self.regular(&place, header, data),
            Kind::HardLink => self.hard_link(&place, header),
            Kind::Symlink => self.symlink(&place, header),
            Kind::Char | Kind::Block | Kind::Fifo => self.node(&place, header),
            Kind::PaxGlobal => Ok(()),
            Kind::Other(kind) => Err(Error::Kind { kind, path: lossy(&whole) }),
        }
    }

    /// Sets the directories' times.
    ///
    /// # Errors
    /// When the system refuses one.
    pub fn finish(mut self) -> Result<Extracted, Error> {
        for (whole, times) in std::mem::take(&mut self.times) {
            let (parent, name) = path::split(&whole);
            let header = Header { mtime: times.mtime, atime: times.atime, ..Header::default() };
            let result = self.directories.find(parent).and_then(|d| metadata::set_times(d, name, &header));
            match result {
                // A later entry replaced it.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(Error::file("utimensat", &whole)(error)),
            }
        }
        Ok(self.extracted)
    }

    /// Whether the entry was a deletion, which is done then.
    fn whiteout(&mut self, place: &Place<'_>, header: &Header) -> Result<bool, Error> {
        match whiteout::meaning(place.name)? {
            Meaning::Plain => Ok(false),
            Meaning::Metadata => Ok(true),
            Meaning::Opaque => {
                make_opaque(place.directory.as_fd(), place.whole)?;
                Ok(true)
            }
            Meaning::Deleted(name) => {
                let made = fs::mknodat(&*place.directory, name, FileType::CharacterDevice, Mode::empty(), 0);
                match made {
                    Ok(()) => own_whiteout(place, name, header, self.options.owners())?,
                    // The same layer has the name anew, which stands: a deletion is of the layers below
                    // (OCI image-spec, layer.md).
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(Error::file("mknod", place.whole)(error)),
                }
                Ok(true)
            }
        }
    }

    fn directory(&mut self, place: &Place<'_>, header: &Header) -> Result<(), Error> {
        let make = || fs::mkdirat(&*place.directory, place.name, Mode::from_raw_mode(0o700));
        let mut hides_below = false;
        match make() {
            Err(Errno::EXIST) => {
                let existing = place.stat()?;
                if FileType::from_raw_mode(existing.st_mode) != FileType::Directory {
                    hides_below = self.options.whiteouts == Whiteouts::Overlay && is_whiteout(&existing);
                    self.replace(place, header, &existing)?;
                    make().map_err(place.error("mkdir"))?;
                }
            }
            other => other.map_err(place.error("mkdir"))?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open =
            fs::openat(&*place.directory, place.name, flags, Mode::empty()).map_err(place.error("open"))?;
        if hides_below {
            make_opaque(open.as_fd(), place.whole)?;
        }
        metadata::apply(Inode::Open(open.as_fd()), header, self.options.owners(), place.whole)?;
        self.directories.put(place.whole, open);
        self.remembered += place.whole.len() + size_of::<(Vec<u8>, DirectoryTimes)>();
        if self.remembered > MAX_REMEMBERED {
            return Err(Error::TooManyDirectories);
        }
        self.times.push((place.whole.to_vec(), DirectoryTimes { mtime: header.mtime, atime: header.atime }));
        Ok(())
    }

    fn regular(&mut self, place: &Place<'_>, header: &Header, data: impl BufRead) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(first_mode(header));
        let fd =
            self.make(place, header, "open", || fs::openat(&*place.directory, place.name, flags, mode))?;
        let mut file = File::from(fd);
        write_data(&mut file, header, data, place.whole)?;
        self.extracted.bytes += header.size;
        metadata::apply(Inode::Open(file.as_fd()), header, self.options.owners(), place.whole)?;
        fs::futimens(&file, &metadata::timestamps(header)).map_err(place.error("futimens"))
    }

    fn hard_link(&mut self, place: &Place<'_>, header: &Header) -> Result<(), Error> {
        let start = header.link.iter().position(|&byte| byte != b'/').unwrap_or(header.link.len());
        let target = clean(&header.link[start..]);
        if target == b"." || !is_local(&target) {
            return Err(Error::LinkTarget(lossy(&header.link)));
        }
        let (parent, name) = path::split(&target);
        let source = self.directories.find(parent).map_err(Error::file("open", &target))?;
        self.make(place, header, "link", || {
            fs::linkat(&*source, name, &*place.directory, place.name, AtFlags::empty())
        })?;
        // The inode has its owner and mode already, unless the archive says otherwise here: then that
        // stands, as in Docker. Setting the same again would drop capabilities.
        let existing = place.stat()?;
        let is_link = FileType::from_raw_mode(existing.st_mode) == FileType::Symlink;
        let (uid, gid) = self.options.owners().of(header, place.whole)?;
        let same = (existing.st_uid, existing.st_gid) == (uid, gid)
            && (is_link || existing.st_mode & 0o7777 == header.mode);
        if same || self.options.owner != Owner::Archive {
            return Ok(());
        }
        let header = Header { kind: if is_link { Kind::Symlink } else { Kind::Regular }, ..header.clone() };
        self.apply_by_name(place, &header)
    }

    fn symlink(&mut self, place: &Place<'_>, header: &Header) -> Result<(), Error> {
        if self.options.links == Links::Inside && !is_inside(place, &header.link) {
            return Err(Error::Symlink { path: lossy(place.whole), target: lossy(&header.link) });
        }
        self.make(place, header, "symlink", || {
            fs::symlinkat(header.link.as_slice(), &*place.directory, place.name)
        })?;
        self.extracted.bytes += header.link.len() as u64;
        self.apply_by_name(place, header)
    }

    fn node(&mut self, place: &Place<'_>, header: &Header) -> Result<(), Error> {
        let (kind, device) = match header.kind {
            Kind::Char => (FileType::CharacterDevice, device_number(header, place.whole)?),
            Kind::Block => (FileType::BlockDevice, device_number(header, place.whole)?),
            _ => (FileType::Fifo, 0),
        };
        self.make(place, header, "mknod", || {
            fs::mknodat(&*place.directory, place.name, kind, Mode::from_raw_mode(0o600), device)
        })?;
        self.apply_by_name(place, header)
    }

    fn apply_by_name(&self, place: &Place<'_>, header: &Header) -> Result<(), Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inode =
            fs::openat(&*place.directory, place.name, flags, Mode::empty()).map_err(place.error("open"))?;
        metadata::apply(Inode::Path(inode.as_fd()), header, self.options.owners(), place.whole)?;
        metadata::set_times(&place.directory, place.name, header).map_err(place.error("utimensat"))
    }

    /// Makes something; what is in its place is removed first.
    fn make<T>(
        &mut self,
        place: &Place<'_>,
        header: &Header,
        operation: &'static str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Error> {
        match make() {
            Err(Errno::EXIST) => {
                let existing = place.stat()?;
                self.replace(place, header, &existing)?;
                make().map_err(place.error(operation))
            }
            other => other.map_err(place.error(operation)),
        }
    }

    fn replace(&mut self, place: &Place<'_>, header: &Header, existing: &Stat) -> Result<(), Error> {
        let was_directory = FileType::from_raw_mode(existing.st_mode) == FileType::Directory;
        if self.options.overwrite == Overwrite::KeepKind && was_directory != (header.kind == Kind::Directory)
        {
            let names = ("directory", "non-directory");
            let (existing, new) = if was_directory { names } else { (names.1, names.0) };
            return Err(Error::Overwrite { existing, new, path: lossy(place.whole) });
        }
        self.extracted.replaced = true;
        self.directories.forget();
        remove_existing(place, was_directory)
    }
}

/// Whether a link, taken as relative, stays below what is extracted to.
fn is_inside(place: &Place<'_>, link: &[u8]) -> bool {
    let (parent, _) = path::split(place.whole);
    let parent = if parent.is_empty() { b"." } else { parent };
    is_local(&clean(&[parent, b"/", link].concat()))
}

fn remove_existing(place: &Place<'_>, is_directory: bool) -> Result<(), Error> {
    if !is_directory {
        return fs::unlinkat(&*place.directory, place.name, AtFlags::empty()).map_err(place.error("unlink"));
    }
    crate::remove::remove_tree(place.directory.as_fd(), place.name).map_err(place.error("remove"))
}

impl Place<'_> {
    fn stat(&self) -> Result<Stat, Error> {
        fs::statat(&*self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW).map_err(self.error("stat"))
    }

    fn error<E: Into<io::Error>>(&self, operation: &'static str) -> impl FnOnce(E) -> Error {
        Error::file(operation, self.whole)
    }
}

/// The mode that a file is made with: its own, unless whoever extracts could lend his power by it.
fn first_mode(header: &Header) -> u32 {
    if header.mode & 0o7000 == 0 { header.mode & 0o777 } else { 0o600 }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn make_opaque(directory: BorrowedFd<'_>, path: &[u8]) -> Result<(), Error> {
    fs::fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty()).map_err(Error::file("setxattr", path))
}

/// Docker keeps the owner of a deletion.
fn own_whiteout(place: &Place<'_>, name: &[u8], header: &Header, owners: Owners<'_>) -> Result<(), Error> {
    if header.uid == 0 && header.gid == 0 && owners.ids.is_none() {
        return Ok(());
    }
    let archive = Owners { owner: Owner::Archive, ..owners };
    let (uid, gid) = archive.of(header, place.whole)?;
    let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
    fs::chownat(&*place.directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(place.error("chown"))
}

fn device_number(header: &Header, path: &[u8]) -> Result<u64, Error> {
    let part = |value: i64| {
        u32::try_from(value).map_err(|_| Error::Range { what: "device number", value, path: lossy(path) })
    };
    Ok(fs::makedev(part(header.major)?, part(header.minor)?))
}

/// Writes a file's data, seeking over holes.
fn write_data(file: &mut File, header: &Header, mut data: impl BufRead, path: &[u8]) -> Result<(), Error> {
    let Some(extents) = &header.sparse else {
        return copy_exactly(&mut data, file, header.size, path);
    };
    for extent in extents {
        file.seek(SeekFrom::Start(extent.offset)).map_err(Error::file("seek", path))?;
        copy_exactly(&mut data, file, extent.length, path)?;
    }
    file.set_len(header.size).map_err(Error::file("truncate", path))
}

fn copy_exactly(data: &mut impl BufRead, file: &mut File, mut left: u64, path: &[u8]) -> Result<(), Error> {
    while left > 0 {
        let piece = data.fill_buf().map_err(Error::read)?;
        if piece.is_empty() {
            return Err(Error::Truncated);
        }
        let take = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&piece[..take]).map_err(Error::file("write", path))?;
        data.consume(take);
        left -= take as u64;
    }
    Ok(())
}
