//! Maps of sparse files: old GNU, PAX 0.0, 0.1 and 1.0 (source: GNU tar manual, "Storing Sparse Files";
//! limits as Go's `archive/tar`).

use crate::{
    BLOCK, Error, Extent, Header, MAX_SPECIAL,
    header::Block,
    numeric,
    pax::{self, Records},
};
use std::io::{self, Read};

const MAX_EXTENTS: usize = 1 << 20;

/// Where a PAX sparse map stands.
pub(crate) enum Form {
    /// Not a sparse file, or a version unknown.
    None,
    /// In the records (0.0, 0.1).
    Records,
    /// At the start of the data (1.0).
    Data,
}

/// Recognises the form and takes over real name and size.
pub(crate) fn pax_form(header: &mut Header) -> Result<Form, Error> {
    let get = |key: &str| header.pax.get(key.as_bytes()).filter(|value| !value.is_empty());
    let version = (get("GNU.sparse.major").map(Vec::as_slice), get("GNU.sparse.minor").map(Vec::as_slice));
    let form = match version {
        (Some(b"0"), Some(b"0" | b"1")) => Form::Records,
        (Some(b"1"), Some(b"0")) => Form::Data,
        (None, None) if get("GNU.sparse.map").is_some() => Form::Records,
        _ => return Ok(Form::None),
    };
    let name = get("GNU.sparse.name").cloned();
    let size = match get("GNU.sparse.size").or_else(|| get("GNU.sparse.realsize")) {
        None => None,
        Some(text) => Some(u64::try_from(pax::parse_decimal(text)?).map_err(|_| Error::Header)?),
    };
    if let Some(name) = name {
        header.name = name;
    }
    if let Some(size) = size {
        header.size = size;
    }
    Ok(form)
}

/// The size of an old GNU sparse file.
pub(crate) fn real_size(block: &Block) -> Result<u64, Error> {
    u64::try_from(numeric::parse(&block[483..495])?).map_err(|_| Error::Header)
}

/// Four entries in the header, 21 in each extension block.
pub(crate) fn read_old_gnu(
    block: &Block,
    mut next: impl FnMut() -> Result<Block, Error>,
) -> Result<Vec<Extent>, Error> {
    let mut extents = Vec::new();
    let mut read = append_old_gnu(&block[386..386 + 24 * 4 + 1], &mut extents)?;
    let mut total = 0;
    while read {
        total += BLOCK;
        if total > MAX_SPECIAL {
            return Err(Error::TooLong);
        }
        let extension = next()?;
        read = append_old_gnu(&extension[..24 * 21 + 1], &mut extents)?;
    }
    Ok(extents)
}

/// Whether an extension follows.
fn append_old_gnu(array: &[u8], extents: &mut Vec<Extent>) -> Result<bool, Error> {
    let (entries, extended) = array.split_at(array.len() - 1);
    for entry in entries.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        push(extents, numeric::parse(&entry[..12])?, numeric::parse(&entry[12..])?)?;
    }
    Ok(extended[0] > 0)
}

/// `offset,length,offset,length...`
pub(crate) fn read_0_1(records: &Records) -> Result<Vec<Extent>, Error> {
    let count = pax::parse_decimal(records.get(pax::SPARSE_BLOCKS).map_or(&[][..], Vec::as_slice))?;
    let map = records.get(pax::SPARSE_MAP).map_or(&[][..], Vec::as_slice);
    let mut extents = Vec::new();
    if !map.is_empty() {
        let mut numbers = map.split(|&byte| byte == b',');
        while let Some(offset) = numbers.next() {
            let length = numbers.next().ok_or(Error::Header)?;
            push(&mut extents, pax::parse_decimal(offset)?, pax::parse_decimal(length)?)?;
        }
    }
    if usize::try_from(count) == Ok(extents.len()) { Ok(extents) } else { Err(Error::Header) }
}

/// Lines of decimal numbers in whole blocks before the data: the count, then offset and length by turns.
pub(crate) fn read_1_0(mut next: impl FnMut() -> Result<Block, Error>) -> Result<Vec<Extent>, Error> {
    let mut text: Vec<u8> = Vec::new();
    let mut total = 0;
    let mut number = || -> Result<i64, Error> {
        loop {
            if let Some(newline) = text.iter().position(|&byte| byte == b'\n') {
                let value = pax::parse_decimal(&text[..newline])?;
                text.drain(..=newline);
                return Ok(value);
            }
            total += BLOCK;
            if total > MAX_SPECIAL {
                return Err(Error::TooLong);
            }
            text.extend_from_slice(&next()?);
        }
    };
    let count = usize::try_from(number()?).map_err(|_| Error::Header)?;
    let mut extents = Vec::new();
    for _ in 0..count {
        let offset = number()?;
        push(&mut extents, offset, number()?)?;
    }
    Ok(extents)
}

fn push(extents: &mut Vec<Extent>, offset: i64, length: i64) -> Result<(), Error> {
    if extents.len() >= MAX_EXTENTS {
        return Err(Error::TooLong);
    }
    let offset = u64::try_from(offset).map_err(|_| Error::Header)?;
    let length = u64::try_from(length).map_err(|_| Error::Header)?;
    extents.push(Extent { offset, length });
    Ok(())
}

/// In order, without overlap, inside the file; empty ones dropped.
pub(crate) fn validate(extents: Vec<Extent>, size: u64) -> Result<Vec<Extent>, Error> {
    let mut end = 0;
    for extent in &extents {
        let extent_end = extent.offset.checked_add(extent.length).ok_or(Error::Header)?;
        if extent.offset < end || extent_end > size {
            return Err(Error::Header);
        }
        end = extent_end;
    }
    Ok(extents.into_iter().filter(|extent| extent.length > 0).collect())
}

/// Data with its holes read as zeros.
pub(crate) struct Logical<R> {
    data: R,
    extents: std::vec::IntoIter<Extent>,
    current: Option<Extent>,
    position: u64,
    size: u64,
}

impl<R: Read> Logical<R> {
    pub(crate) fn new(data: R, header: &Header) -> Self {
        let size = if header.kind.is_header_only() { 0 } else { header.size };
        let whole = || vec![Extent { offset: 0, length: size }];
        let mut extents = header.sparse.clone().unwrap_or_else(whole).into_iter();
        Self { data, current: extents.next(), extents, position: 0, size }
    }
}

impl<R: Read> Read for Logical<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_some_and(|extent| extent.offset + extent.length <= self.position) {
            self.current = self.extents.next();
        }
        let wanted = into.len() as u64;
        let in_data = self.current.filter(|extent| extent.offset <= self.position);
        let piece = match (in_data, self.current) {
            (Some(extent), _) => extent.offset + extent.length - self.position,
            (None, Some(next)) => next.offset - self.position,
            (None, None) => self.size.saturating_sub(self.position),
        };
        let piece = usize::try_from(piece.min(wanted)).unwrap_or(into.len());
        let read = match in_data {
            Some(_) => match self.data.read(&mut into[..piece])? {
                0 if piece > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            },
            None => {
                into[..piece].fill(0);
                piece
            }
        };
        self.position += read as u64;
        Ok(read)
    }
}
