//! Writing entries, in the formats that Go's `archive/tar` would choose: ustar where it suffices, PAX
//! otherwise (source: Go `archive/tar/writer.go`, `common.go` `allowedFormats`).

use crate::{
    BLOCK, Error, Header, MAX_SPECIAL, Time,
    error::lossy,
    header::{Block, XATTR},
    numeric::{fits_octal, format_octal},
    pax::{self, Records},
};
use std::io::{self, Write};

const NAME: usize = 100;
const PREFIX: usize = 155;

/// Writes a tar stream. After each [`Writer::header`] come exactly the announced bytes through `Write`.
pub struct Writer<W> {
    out: W,
    remaining: u64,
    padding: usize,
    current: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, unbuffered.
    pub fn new(out: W) -> Self {
        Self { out, remaining: 0, padding: 0, current: Vec::new() }
    }

    /// Starts an entry.
    ///
    /// # Errors
    /// When the last one is not complete, no format holds the header, or the stream fails.
    pub fn header(&mut self, header: &Header) -> Result<(), Error> {
        self.complete()?;
        self.current.clone_from(&header.name);
        let records = extension(header)?;
        if !records.is_empty() {
            self.extension_header(&header.name, &records)?;
        }
        let block = main_block(header, records.is_empty());
        self.write(&block)?;
        if !header.kind.is_header_only() {
            self.announce(header.size);
        }
        Ok(())
    }

    /// Ends the archive with two zero blocks and gives the stream back.
    ///
    /// # Errors
    /// When the last entry is not complete or the stream fails.
    pub fn finish(mut self) -> Result<W, Error> {
        self.complete()?;
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(Error::Write)?;
        Ok(self.out)
    }

    fn extension_header(&mut self, name: &[u8], records: &Records) -> Result<(), Error> {
        let mut data = Vec::new();
        for (key, value) in records {
            let record = pax::format_record(key, value);
            data.extend_from_slice(&record.ok_or_else(|| cannot("a PAX record", name))?);
        }
        if data.len() > MAX_SPECIAL {
            return Err(Error::TooLong);
        }
        self.write(&extension_block(name, data.len()))?;
        self.write(&data)?;
        let padding = data.len().wrapping_neg() % BLOCK;
        self.write(&[0; BLOCK][..padding])
    }

    fn announce(&mut self, size: u64) {
        self.remaining = size;
        self.padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
    }

    fn complete(&mut self) -> Result<(), Error> {
        if self.remaining > 0 {
            return Err(Error::WrongSize(lossy(&self.current)));
        }
        let padding = std::mem::take(&mut self.padding);
        self.write(&[0; BLOCK][..padding])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(Error::Write)
    }
}

/// The current entry's data; more than announced is an error.
impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.remaining {
            return Err(io::Error::other(Error::WrongSize(lossy(&self.current))));
        }
        let written = self.out.write(bytes)?;
        self.remaining -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The records needed because ustar cannot hold something; empty when it can.
fn extension(header: &Header) -> Result<Records, Error> {
    let mut records = Records::new();
    let mut string = |value: &[u8], width: usize, key: &str, splits: bool| {
        let fits = value.is_ascii() && (value.len() <= width || (splits && split_name(value).is_some()));
        if !fits {
            records.insert(key.as_bytes().to_vec(), value.to_vec());
        }
    };
    string(&header.name, NAME, "path", true);
    string(&header.link, NAME, "linkpath", false);
    string(&header.uname, 32, "uname", false);
    string(&header.gname, 32, "gname", false);
    let mut number = |value: i64, width: usize, key: &str| {
        if !fits_octal(width, value) {
            records.insert(key.as_bytes().to_vec(), value.to_string().into_bytes());
        }
    };
    number(header.uid, 8, "uid");
    number(header.gid, 8, "gid");
    number(i64::try_from(header.size).map_err(|_| cannot("size", &header.name))?, 12, "size");
    let mut time = |time: Time, key: &str, fits: bool| {
        if !fits {
            records.insert(key.as_bytes().to_vec(), pax::format_time(time).into_bytes());
        }
    };
    time(header.mtime, "mtime", header.mtime.nanos == 0 && fits_octal(12, header.mtime.seconds));
    header.atime.into_iter().for_each(|atime| time(atime, "atime", false));
    header.ctime.into_iter().for_each(|ctime| time(ctime, "ctime", false));
    if !fits_octal(8, header.major) || !fits_octal(8, header.minor) {
        return Err(cannot("device number", &header.name));
    }
    if header.name.contains(&0) || header.link.contains(&0) {
        return Err(cannot("NUL", &header.name));
    }
    records.extend(header.pax.iter().filter(|(key, _)| is_free(key)).map(|(k, v)| (k.clone(), v.clone())));
    Ok(records)
}

/// Records that no field of the header says already, and that do not describe the form it was read in.
fn is_free(key: &[u8]) -> bool {
    const FIELDS: [&[u8]; 10] =
        [b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime", b"atime", b"ctime"];
    key.starts_with(XATTR) || !(FIELDS.contains(&key) || key.starts_with(b"GNU.sparse."))
}

fn cannot(what: &'static str, name: &[u8]) -> Error {
    Error::Encode { what, path: lossy(name) }
}

/// The entry's own block; without `ustar` what does not fit is cut, the records have it.
fn main_block(header: &Header, ustar: bool) -> Block {
    let mut block = [0; BLOCK];
    let mut name = header.name.as_slice();
    if let Some((prefix, suffix)) = split_name(name).filter(|_| ustar) {
        put_text(&mut block[345..500], prefix);
        name = suffix;
    }
    put_text(&mut block[..100], name);
    put_number(&mut block[100..108], i64::from(header.mode));
    put_number(&mut block[108..116], header.uid);
    put_number(&mut block[116..124], header.gid);
    put_number(&mut block[124..136], i64::try_from(header.size).unwrap_or(0));
    put_number(&mut block[136..148], header.mtime.seconds);
    block[156] = header.kind.flag();
    put_text(&mut block[157..257], &header.link);
    put_text(&mut block[265..297], &header.uname);
    put_text(&mut block[297..329], &header.gname);
    put_number(&mut block[329..337], header.major);
    put_number(&mut block[337..345], header.minor);
    seal(block)
}

/// The block before the records.
fn extension_block(name: &[u8], size: usize) -> Block {
    let slash = name.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    let (directory, file) = name.split_at(slash);
    let name = crate::clean(&[directory, b"/PaxHeaders.0/", file].concat());
    // Joining a relative directory must not make it absolute.
    let name = if directory.is_empty() { &name[1..] } else { &name[..] };
    let ascii: Vec<u8> = name.iter().copied().filter(u8::is_ascii).take(NAME).collect();
    let end = ascii.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    let mut block = [0; BLOCK];
    put_text(&mut block[..100], &ascii[..end]);
    for field in [100..108, 108..116, 116..124, 136..148] {
        format_octal(&mut block[field], 0);
    }
    put_number(&mut block[124..136], i64::try_from(size).unwrap_or(0));
    block[156] = b'x';
    seal(block)
}

/// Magic and checksum.
fn seal(mut block: Block) -> Block {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum = block.iter().map(|&byte| i64::from(byte)).sum();
    format_octal(&mut block[148..155], sum);
    block
}

/// Copies what is ASCII and fits. A directory's slash at the cut would make a file look like a directory.
fn put_text(field: &mut [u8], text: &[u8]) {
    let ascii: Vec<u8> = text.iter().copied().filter(|byte| byte.is_ascii() && *byte != 0).collect();
    let cut = ascii.len().min(field.len());
    field[..cut].copy_from_slice(&ascii[..cut]);
    if ascii.len() > field.len() && field.ends_with(b"/") {
        let end = field.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
        field[end] = 0;
    }
}

fn put_number(field: &mut [u8], value: i64) {
    let value = if fits_octal(field.len(), value) { value } else { 0 };
    format_octal(field, value);
}

/// Splits a long name at a slash so that both parts fit ustar's fields.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME || !name.is_ascii() {
        return None;
    }
    let length = match name.len() {
        long if long > PREFIX + 1 => PREFIX + 1,
        length if name.ends_with(b"/") => length - 1,
        length => length,
    };
    let slash = name[..length].iter().rposition(|&byte| byte == b'/')?;
    let suffix = &name[slash + 1..];
    (slash > 0 && slash <= PREFIX && !suffix.is_empty() && suffix.len() <= NAME)
        .then(|| (&name[..slash], suffix))
}
