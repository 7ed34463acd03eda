//! Making an archive of files (source: moby `go-archive/archive.go`, `Tarballer` and `addTarFile`): names
//! sorted in each directory, times in whole seconds, no names of owners, `security.capability` as the only
//! attribute, hard links as such.

use crate::{Error, Header, Kind, OPAQUE_MARKER, OPAQUE_XATTR, Time, WHITEOUT_PREFIX, Writer, error::lossy};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, Stat},
    io::Errno,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    sync::Arc,
};
use wharf_spec::plan::IdMaps;

/// Deeper trees are refused: each level holds a descriptor.
const MAX_DEPTH: usize = 900;

/// File capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// What is read of a file at once.
const BUFFER: usize = 256 << 10;

/// What is read of a directory at once.
const NAMES: usize = 32 << 10;

/// What becomes of overlayfs's deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteWhiteouts {
    /// They are devices like others.
    #[default]
    Keep,
    /// They become `.wh.` files, as layers have them.
    Convert,
}

/// What of a file is packed besides name, owner, mode and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attributes {
    /// As Docker's archives: times in whole seconds, `security.capability`.
    #[default]
    Docker,
    /// All there is: times to the nanosecond, every extended attribute but overlayfs's own. Those of links and special
    /// files are left out.
    All,
}

/// Whether opening a file in the tree may open a device of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// Yes: what a name stands for is looked at before it is opened, whatever it was a moment ago.
    #[default]
    Open,
    /// No, it is a mount that refuses devices (`nodev`): files are opened straight, with half the system calls.
    Refused,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is packed.
    Yes,
    /// It is left out, and what is below it too.
    No,
    /// It is left out; what is below it is asked for.
    Below,
}

/// Says of a name in the archive what becomes of it.
#[derive(Clone)]
pub struct Filter(Arc<Ask>);

type Ask = dyn Fn(&[u8]) -> Keep + Send + Sync;

impl Filter {
    /// From a function.
    pub fn new(keep: impl Fn(&[u8]) -> Keep + Send + Sync + 'static) -> Self {
        Self(Arc::new(keep))
    }

    /// What becomes of a name.
    pub(crate) fn ask(&self, name: &[u8]) -> Keep {
        (self.0)(name)
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filter")
    }
}

/// How files are packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Deletions.
    pub whiteouts: WriteWhiteouts,
    /// Everything belongs to this user and group.
    pub owner: Option<(u32, u32)>,
    /// Devices in the tree.
    pub devices: Devices,
    /// Files have the host's ids, the archive gets the container's. An id of the host that the container does not
    /// have stays as it is: it is that of a container outside of the user namespace.
    pub ids: Option<Arc<IdMaps>>,
    /// What is left out below a directory that is packed.
    pub filter: Option<Filter>,
    /// Times and extended attributes.
    pub attributes: Attributes,
}

/// Adds files to an archive.
pub struct Packer<W> {
    writer: Writer<W>,
    options: PackOptions,
    /// First name of each inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// For the bytes of files on their way.
    buffer: Vec<u8>,
    /// For the names of directories on theirs.
    names: Box<[MaybeUninit<u8>]>,
}

/// Something in the tree.
struct Found {
    stat: Stat,
    /// A directory or regular file that had to be opened to look at it.
    open: Option<OwnedFd>,
}

/// Packs what is in a directory, not the directory itself.
///
/// # Errors
/// When something cannot be read or the stream fails. Files that vanish meanwhile are left out.
pub fn pack<W: Write>(root: BorrowedFd<'_>, options: PackOptions, out: W) -> Result<W, Error> {
    let mut packer = Packer::new(out, options);
    packer.children(root, b"")?;
    packer.finish()
}

impl<W: Write> Packer<W> {
    /// Packs to a stream.
    pub fn new(out: W, options: PackOptions) -> Self {
        let names = vec![MaybeUninit::uninit(); NAMES].into_boxed_slice();
        Self { writer: Writer::new(out), options, links: HashMap::new(), buffer: vec![0; BUFFER], names }
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn finish(self) -> Result<W, Error> {
        self.writer.finish()
    }

    /// Adds a file, or a directory with all that is below it, under a name of its own.
    ///
    /// # Errors
    /// As [`pack`].
    pub fn tree(&mut self, parent: BorrowedFd<'_>, name: &[u8], archive_name: &[u8]) -> Result<(), Error> {
        match self.one(parent, name, FileType::Unknown, archive_name)? {
            None => Ok(()),
            Some(directory) => self.below(directory, archive_name),
        }
    }

    /// Adds a file that is not on disk.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn content(&mut self, archive_name: &[u8], mode: u32, content: &[u8]) -> Result<(), Error> {
        let (uid, gid) = self.options.owner.unwrap_or_default();
        self.writer.header(&Header {
            name: archive_name.to_vec(),
            kind: Kind::Regular,
            size: content.len() as u64,
            mode,
            uid: uid.into(),
            gid: gid.into(),
            ..Header::default()
        })?;
        self.writer.write_all(content).map_err(Error::Write)
    }

    /// Adds what is in a directory; `archive_name` is put before the names, with a slash unless it is empty or has
    /// one.
    ///
    /// # Errors
    /// As [`pack`].
    pub fn children(&mut self, directory: BorrowedFd<'_>, archive_name: &[u8]) -> Result<(), Error> {
        // Where a directory that others hold stands in its reading is not changed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = fs::openat(directory, ".", flags, Mode::empty());
        self.below(own.map_err(Error::file("open", archive_name))?, archive_name)
    }

    fn below(&mut self, directory: OwnedFd, archive_name: &[u8]) -> Result<(), Error> {
        let mut stack = vec![Level::read(directory, archive_name.to_vec(), &mut self.names)?];
        while let Some(level) = stack.last_mut() {
            let Some((name, kind)) = level.names.pop() else {
                stack.pop();
                continue;
            };
            let mut archive_name = level.archive_name.clone();
            if !archive_name.is_empty() && !archive_name.ends_with(b"/") {
                archive_name.push(b'/');
            }
            archive_name.extend_from_slice(&name);
            let directory = level.directory.as_fd();
            let keep = self.options.filter.as_ref().map_or(Keep::Yes, |filter| filter.ask(&archive_name));
            let child = match keep {
                Keep::Yes => self.one(directory, &name, kind, &archive_name)?,
                Keep::No => None,
                Keep::Below => subdirectory(directory, &name, &archive_name)?,
            };
            if let Some(child) = child {
                if stack.len() >= MAX_DEPTH {
                    return Err(Error::TooLong);
                }
                stack.push(Level::read(child, archive_name, &mut self.names)?);
            }
        }
        Ok(())
    }

    /// Adds one file, `kind` being what its directory says of it. Gives a directory back, open.
    fn one(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
        archive_name: &[u8],
    ) -> Result<Option<OwnedFd>, Error> {
        let found = self.look(parent, name, kind).map_err(Error::file("stat", archive_name))?;
        let Some(Found { stat, open }) = found else { return Ok(None) };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::Regular,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            // Tar has no sockets.
            _ => return Ok(None),
        };
        let mut header = self.describe(&stat, kind, archive_name);
        if self.is_whiteout(&stat, kind) {
            return self.deletion(header).map(|()| None);
        }
        if self.is_known_link(&stat, &mut header) {
            return self.writer.header(&header).map(|()| None);
        }
        match kind {
            Kind::Directory => self.directory(parent, name, open, header),
            Kind::Regular => self.regular(parent, name, open, header).map(|()| None),
            Kind::Symlink => {
                let target = fs::readlinkat(parent, name, Vec::new());
                header.link = target.map_err(Error::file("readlink", archive_name))?.into_bytes();
                self.writer.header(&header).map(|()| None)
            }
            _ => self.writer.header(&header).map(|()| None),
        }
    }

    /// What a name stands for, if it is still there.
    fn look(&self, parent: BorrowedFd<'_>, name: &[u8], kind: FileType) -> Result<Option<Found>, Errno> {
        // A pipe's writer would notice that it is opened.
        let is_opened = matches!(kind, FileType::RegularFile | FileType::Directory);
        if is_opened && self.options.devices == Devices::Refused {
            let flags =
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            if let Ok(open) = fs::openat(parent, name, flags, Mode::empty()) {
                return Ok(Some(Found { stat: fs::fstat(&open)?, open: Some(open) }));
            }
            // It is something else by now.
        }
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found { stat, open: None })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn describe(&self, stat: &Stat, kind: Kind, archive_name: &[u8]) -> Header {
        let (uid, gid) = self.options.owner.unwrap_or_else(|| {
            let host = (stat.st_uid, stat.st_gid);
            self.options.ids.as_ref().map_or(host, |ids| ids.to_container(host.0, host.1).unwrap_or(host))
        });
        let is_device = matches!(kind, Kind::Char | Kind::Block);
        let mut name = archive_name.to_vec();
        if kind == Kind::Directory && !name.ends_with(b"/") {
            name.push(b'/');
        }
        Header {
            name,
            kind,
            size: if kind == Kind::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            mode: stat.st_mode & 0o7777,
            uid: uid.into(),
            gid: gid.into(),
            mtime: Time { seconds: stat.st_mtime, nanos: self.nanos(stat) },
            major: if is_device { fs::major(stat.st_rdev).into() } else { 0 },
            minor: if is_device { fs::minor(stat.st_rdev).into() } else { 0 },
            ..Header::default()
        }
    }

    fn nanos(&self, stat: &Stat) -> u32 {
        match self.options.attributes {
            Attributes::Docker => 0,
            Attributes::All => u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }

    /// What an open file or directory has of extended attributes.
    fn extended(&self, file: BorrowedFd<'_>, header: &mut Header) -> Result<(), Error> {
        if self.options.attributes == Attributes::All {
            return all_extended(file, header);
        }
        if header.kind == Kind::Regular
            && let Some(capability) = capability(file, &header.name)?
        {
            header.set_xattr(CAPABILITY, &capability);
        }
        Ok(())
    }

    fn is_whiteout(&self, stat: &Stat, kind: Kind) -> bool {
        self.options.whiteouts == WriteWhiteouts::Convert && kind == Kind::Char && stat.st_rdev == 0
    }

    /// Writes `.wh.<name>`. Whiteouts are hard links of each other on recent kernels, which says nothing.
    fn deletion(&mut self, header: Header) -> Result<(), Error> {
        let (parent, name) = crate::path::split(&header.name);
        let mut whiteout = parent.to_vec();
        if !parent.is_empty() {
            whiteout.push(b'/');
        }
        whiteout.extend_from_slice(WHITEOUT_PREFIX);
        whiteout.extend_from_slice(name);
        self.writer.header(&Header { name: whiteout, kind: Kind::Regular, mode: 0o600, ..header })
    }

    /// Whether the inode is in the archive already; the header is then a link to it.
    fn is_known_link(&mut self, stat: &Stat, header: &mut Header) -> bool {
        if header.kind == Kind::Directory || stat.st_nlink < 2 {
            return false;
        }
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&inode) {
            header.kind = Kind::HardLink;
            header.link.clone_from(first);
            header.size = 0;
            return true;
        }
        self.links.insert(inode, header.name.clone());
        false
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        open: Option<OwnedFd>,
        mut header: Header,
    ) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = match open.map_or_else(|| fs::openat(parent, name, flags, Mode::empty()), Ok) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(Error::file("open", &header.name))?,
        };
        self.extended(open.as_fd(), &mut header)?;
        self.writer.header(&header)?;
        if self.options.whiteouts == WriteWhiteouts::Convert && is_opaque(open.as_fd(), &header.name)? {
            let name = [header.name.as_slice(), OPAQUE_MARKER].concat();
            let mtime = Time::default();
            self.writer.header(&Header {
                name,
                kind: Kind::Regular,
                mode: header.mode & 0o777,
                mtime,
                ..header
            })?;
        }
        Ok(Some(open))
    }

    fn regular(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        open: Option<OwnedFd>,
        mut header: Header,
    ) -> Result<(), Error> {
        let file = match open.map_or_else(|| crate::open_regular(parent, name, OFlags::NOFOLLOW), Ok) {
            // What was a file may be something else by now.
            Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
            other => other.map_err(Error::file("open", &header.name))?,
        };
        self.extended(file.as_fd(), &mut header)?;
        self.writer.header(&header)?;
        copy(File::from(file), &mut self.writer, header.size, &mut self.buffer, &header.name)
    }
}

/// A directory being packed.
struct Level {
    directory: OwnedFd,
    archive_name: Vec<u8>,
    /// Last first.
    names: Vec<(Vec<u8>, FileType)>,
}

impl Level {
    fn read(
        directory: OwnedFd,
        archive_name: Vec<u8>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<Self, Error> {
        let mut names = Vec::new();
        let mut entries = RawDir::new(&directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(Error::file("readdir", &archive_name))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        Ok(Self { directory, archive_name, names })
    }
}

/// Writes exactly as many bytes as were announced: a file that shrank meanwhile is filled with zeros.
fn copy<W: Write>(
    mut file: File,
    writer: &mut Writer<W>,
    size: u64,
    buffer: &mut [u8],
    name: &[u8],
) -> Result<(), Error> {
    let mut left = size;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut read = file.read(&mut buffer[..wanted]).map_err(Error::file("read", name))?;
        if read == 0 {
            buffer[..wanted].fill(0);
            read = wanted;
        }
        writer.write_all(&buffer[..read]).map_err(Error::Write)?;
        left -= read as u64;
    }
    Ok(())
}

/// A directory that is not packed itself; nothing when it is none.
fn subdirectory(parent: BorrowedFd<'_>, name: &[u8], archive_name: &[u8]) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(error) => Err(Error::file("open", archive_name)(error)),
    }
}

fn is_opaque(directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Error> {
    let mut value = [0u8; 2];
    match fs::fgetxattr(directory, OPAQUE_XATTR, &mut value[..]) {
        Ok(length) => Ok(value.get(..length) == Some(b"y")),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(Error::file("getxattr", name)(error)),
    }
}

fn all_extended(file: BorrowedFd<'_>, header: &mut Header) -> Result<(), Error> {
    let failed =
        |error: wharf_sys::Error| Error::file("getxattr", &header.name)(error.errno().unwrap_or(Errno::IO));
    let mut all = Vec::new();
    for name in wharf_sys::fs::list_xattrs(file).map_err(failed)? {
        let is_own = !crate::whiteout::steers_overlayfs(name.as_bytes());
        // One that is gone by now is none.
        if is_own && let Some(value) = wharf_sys::fs::get_xattr(file, &name).map_err(failed)? {
            all.push((name, value));
        }
    }
    for (name, value) in all {
        let value = if name.as_bytes() == CAPABILITY { without_namespace(value) } else { value };
        header.set_xattr(name.as_bytes(), &value);
    }
    Ok(())
}

/// File capabilities.
fn capability(file: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let mut value = [0u8; 64];
    let length = match fs::fgetxattr(file, CAPABILITY, &mut value[..]) {
        Ok(length) => length,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => {
            tracing::debug!(path = lossy(name), %error, "could not read file capabilities");
            return Ok(None);
        }
    };
    Ok(Some(without_namespace(value[..length.min(64)].to_vec())))
}

/// The form of a user namespace (revision 3) makes no sense outside it and is turned into revision 2 (source:
/// linux/capability.h).
fn without_namespace(mut value: Vec<u8>) -> Vec<u8> {
    if value.get(3) == Some(&3) && value.len() >= 20 {
        value[3] = 2;
        value.truncate(20);
    }
    value
}
