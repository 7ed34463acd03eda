//! One entry's header, format-independent, and how it is read from a block.

use crate::{BLOCK, Error, numeric};
use std::collections::BTreeMap;

/// A point in time. Seconds may be negative; nanos count upwards from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time {
    /// Since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "self-evident")]
pub enum Kind {
    #[default]
    Regular,
    HardLink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
    /// Records for all entries that follow; ignored as Docker does.
    PaxGlobal,
    /// A type flag that is none of these.
    Other(u8),
}

impl Kind {
    pub(crate) fn from_flag(flag: u8) -> Self {
        match flag {
            0 | b'0' | b'7' | b'S' => Self::Regular,
            b'1' => Self::HardLink,
            b'2' => Self::Symlink,
            b'3' => Self::Char,
            b'4' => Self::Block,
            b'5' => Self::Directory,
            b'6' => Self::Fifo,
            b'g' => Self::PaxGlobal,
            other => Self::Other(other),
        }
    }

    pub(crate) fn flag(self) -> u8 {
        match self {
            Self::Regular => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::Char => b'3',
            Self::Block => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
            Self::PaxGlobal => b'g',
            Self::Other(flag) => flag,
        }
    }

    /// Kinds that have no data whatever their size says.
    pub(crate) fn is_header_only(self) -> bool {
        matches!(
            self,
            Self::HardLink | Self::Symlink | Self::Char | Self::Block | Self::Directory | Self::Fifo
        )
    }
}

/// A piece of a sparse file that holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// In the file.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
}

/// An entry, extensions merged in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// As in the archive, not cleaned.
    pub name: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Size of the file's contents in bytes (holes included); as in the header for other kinds.
    pub size: u64,
    /// Permission bits, as in chmod(2).
    pub mode: u32,
    /// Owner; may be out of the system's range.
    pub uid: i64,
    /// Group; may be out of the system's range.
    pub gid: i64,
    /// Owner's name.
    pub uname: Vec<u8>,
    /// Group's name.
    pub gname: Vec<u8>,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last access, if given.
    pub atime: Option<Time>,
    /// Last change of the inode, if given.
    pub ctime: Option<Time>,
    /// Device number.
    pub major: i64,
    /// Device number.
    pub minor: i64,
    /// PAX records, those that became fields above included.
    pub pax: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The pieces that hold data, when it is a sparse file.
    pub sparse: Option<Vec<Extent>>,
}

/// Key prefix of extended attributes in PAX records.
pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";

impl Header {
    /// Extended attributes: name and value.
    pub fn xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pax.iter().filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?, value.as_slice())))
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&mut self, name: &[u8], value: &[u8]) {
        self.pax.insert([XATTR, name].concat(), value.to_vec());
    }

    /// Bytes of contents that are no holes.
    pub(crate) fn physical_size(&self) -> u64 {
        match &self.sparse {
            None if self.kind.is_header_only() => 0,
            None => self.size,
            Some(extents) => extents.iter().map(|extent| extent.length).sum(),
        }
    }
}

/// Which family a block belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    V7,
    Ustar,
    Gnu,
    Star,
}

pub(crate) type Block = [u8; BLOCK];

/// Recognises a header block by checksum and magic (source: Go `archive/tar/format.go` `getFormat`).
pub(crate) fn format(block: &Block) -> Result<Format, Error> {
    let declared = numeric::parse_octal(&block[148..156])?;
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (at, &byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if declared != unsigned && declared != signed {
        return Err(Error::Header);
    }
    Ok(match (&block[257..263], &block[263..265], &block[508..512]) {
        (b"ustar\0", _, b"tar\0") => Format::Star,
        (b"ustar\0", _, _) => Format::Ustar,
        (b"ustar ", b" \0", _) => Format::Gnu,
        _ => Format::V7,
    })
}

/// Reads the fields of a block (source: Go `archive/tar/reader.go` `readHeader`). `size` is checked by the
/// caller, after extensions.
pub(crate) fn parse(block: &Block, format: Format) -> Result<(Header, i64), Error> {
    let mut header = Header {
        name: text(&block[..100]).to_vec(),
        link: text(&block[157..257]).to_vec(),
        kind: Kind::from_flag(block[156]),
        mode: mode(numeric::parse(&block[100..108])?),
        uid: numeric::parse(&block[108..116])?,
        gid: numeric::parse(&block[116..124])?,
        mtime: Time { seconds: numeric::parse(&block[136..148])?, nanos: 0 },
        ..Header::default()
    };
    let size = numeric::parse(&block[124..136])?;
    if format == Format::V7 {
        return Ok((header, size));
    }
    header.uname = text(&block[265..297]).to_vec();
    header.gname = text(&block[297..329]).to_vec();
    header.major = numeric::parse(&block[329..337])?;
    header.minor = numeric::parse(&block[337..345])?;
    let prefix = match format {
        Format::V7 => &[],
        Format::Ustar => text(&block[345..500]),
        Format::Star => {
            header.atime = Some(Time { seconds: numeric::parse(&block[476..488])?, nanos: 0 });
            header.ctime = Some(Time { seconds: numeric::parse(&block[488..500])?, nanos: 0 });
            text(&block[345..476])
        }
        Format::Gnu => gnu_times(block, &mut header),
    };
    if !prefix.is_empty() {
        header.name = [prefix, b"/", &header.name].concat();
    }
    Ok((header, size))
}

/// GNU keeps times where ustar has the prefix; Go before 1.8 wrote a prefix nevertheless, which is
/// recognised by not being times (golang.org/issue/21005).
fn gnu_times<'b>(block: &'b Block, header: &mut Header) -> &'b [u8] {
    let time = |field: &[u8]| -> Result<Option<Time>, Error> {
        if field[0] == 0 { Ok(None) } else { Ok(Some(Time { seconds: numeric::parse(field)?, nanos: 0 })) }
    };
    match (time(&block[345..357]), time(&block[357..369])) {
        (Ok(atime), Ok(ctime)) => {
            header.atime = atime;
            header.ctime = ctime;
            &[]
        }
        _ => {
            let prefix = text(&block[345..500]);
            if prefix.is_ascii() { prefix } else { &[] }
        }
    }
}

fn mode(value: i64) -> u32 {
    // Old tars put the file type above the permission bits.
    u32::try_from(value & 0o7777).unwrap_or(0)
}

/// A C string in a field that it may fill.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or(field)
}
