//! Reading entries, and every byte around them.
//!
//! Follows Go's `archive/tar` (and vbatts/tar-split's copy of it) where archives are ambiguous, since that
//! is what Docker reads layers with.

use crate::{
    BLOCK, Error, Header, Kind, MAX_SPECIAL,
    header::{self, Block, Format},
    pax, sparse,
};
use std::io::{self, BufRead, Read};

const BUFFER: usize = 128 << 10;

/// Limit of all extension headers before one entry: one of each kind, and then some.
const MAX_EXTENSIONS: usize = 4 * MAX_SPECIAL;

/// Reads an uncompressed tar stream.
pub struct Reader<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the current entry's data not yet read.
    remaining: u64,
    /// Padding after them.
    padding: usize,
    /// Bytes of extension headers before the current entry.
    special: usize,
    /// Everything that is not data, when asked for.
    raw: Option<Vec<u8>>,
    finished: bool,
}

/// What the extension headers before an entry said.
#[derive(Default)]
struct Extensions {
    pax: pax::Records,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads entries only.
    pub fn new(source: R) -> Self {
        Self {
            source,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            remaining: 0,
            padding: 0,
            special: 0,
            raw: None,
            finished: false,
        }
    }

    /// Keeps headers and padding for [`Reader::take_raw`].
    pub fn with_raw(source: R) -> Self {
        Self { raw: Some(Vec::with_capacity(4 * BLOCK)), ..Self::new(source) }
    }

    /// The bytes between the last entry's data and the current one's: padding, extension headers, header.
    /// At the end of the archive: padding and the zero blocks.
    pub fn take_raw(&mut self) -> Vec<u8> {
        self.raw.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Gives the source back.
    pub fn into_source(self) -> R {
        self.source
    }

    /// Goes to the next entry, over what is left of the current one's data. `None` at the end.
    ///
    /// # Errors
    /// When the archive is damaged or cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Header>, Error> {
        if self.finished {
            return Ok(None);
        }
        if let Some(raw) = &mut self.raw {
            raw.clear();
        }
        let mut extensions = Extensions::default();
        self.special = 0;
        loop {
            let Some((block, format)) = self.next_header()? else {
                self.finished = true;
                return Ok(None);
            };
            let (header, size) = header::parse(&block, format)?;
            match block[156] {
                b'x' => extensions.pax = pax::parse(&self.special(size)?)?,
                b'g' => {
                    let pax = pax::parse(&self.special(size)?)?;
                    return Ok(Some(Header {
                        name: header.name,
                        kind: Kind::PaxGlobal,
                        pax,
                        ..Header::default()
                    }));
                }
                b'L' => extensions.name = Some(header::text(&self.special(size)?).to_vec()),
                b'K' => extensions.link = Some(header::text(&self.special(size)?).to_vec()),
                _ => return self.complete(header, size, &block, format, extensions).map(Some),
            }
        }
    }

    /// The current entry's data as it stands in the archive: of a sparse file, without the holes.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    /// The current entry's data as the file has it, holes read as zeros.
    pub fn logical<'r>(&'r mut self, header: &Header) -> impl Read + 'r {
        sparse::Logical::new(self.content(), header)
    }

    /// After the end: what follows the archive's end mark, in pieces of at most `chunk` bytes.
    ///
    /// # Errors
    /// When the source cannot be read, or the consumer fails.
    pub fn drain_tail<E: From<Error>>(
        &mut self,
        chunk: usize,
        mut consume: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut piece = Vec::new();
        loop {
            if self.start == self.end && self.refill().map_err(|e| E::from(Error::read(e)))? == 0 {
                break;
            }
            let take = (self.end - self.start).min(chunk - piece.len());
            piece.extend_from_slice(&self.buffer[self.start..self.start + take]);
            self.start += take;
            if piece.len() == chunk {
                consume(&piece)?;
                piece.clear();
            }
        }
        if piece.is_empty() { Ok(()) } else { consume(&piece) }
    }

    /// The next header block that is one. `None` at the end of the archive.
    fn next_header(&mut self) -> Result<Option<(Block, Format)>, Error> {
        self.skip_data()?;
        if !self.skip_padding()? {
            return Ok(None);
        }
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some((block, header::format(&block)?)));
        }
        match self.block()? {
            None => Ok(None),
            Some(block) if block == [0; BLOCK] => Ok(None),
            Some(_) => Err(Error::Header),
        }
    }

    /// Merges extensions, and finds out about the data.
    fn complete(
        &mut self,
        mut header: Header,
        size: i64,
        block: &Block,
        format: Format,
        extensions: Extensions,
    ) -> Result<Header, Error> {
        let size = pax::merge(&mut header, extensions.pax)?.unwrap_or(size);
        if let Some(name) = extensions.name.filter(|name| !name.is_empty()) {
            header.name = name;
        }
        if let Some(link) = extensions.link.filter(|link| !link.is_empty()) {
            header.link = link;
        }
        if block[156] == 0 && header.name.ends_with(b"/") {
            header.kind = Kind::Directory;
        }
        if header.kind.is_header_only() {
            header.size = u64::try_from(size).unwrap_or(0);
            self.set_data(0);
        } else {
            header.size = u64::try_from(size).map_err(|_| Error::Header)?;
            self.set_data(header.size);
        }
        self.read_sparse_map(&mut header, block, format)?;
        Ok(header)
    }

    fn read_sparse_map(&mut self, header: &mut Header, block: &Block, format: Format) -> Result<(), Error> {
        let extents = if block[156] == b'S' {
            if format != Format::Gnu {
                return Err(Error::Header);
            }
            header.size = sparse::real_size(block)?;
            Some(sparse::read_old_gnu(block, || self.block()?.ok_or(Error::Truncated))?)
        } else {
            match sparse::pax_form(header)? {
                sparse::Form::None => None,
                sparse::Form::Records => Some(sparse::read_0_1(&header.pax)?),
                sparse::Form::Data => Some(sparse::read_1_0(|| self.data_block())?),
            }
        };
        let Some(extents) = extents else { return Ok(()) };
        if header.kind.is_header_only() {
            return Err(Error::Header);
        }
        header.sparse = Some(sparse::validate(extents, header.size)?);
        if header.physical_size() == self.remaining { Ok(()) } else { Err(Error::Sparse) }
    }

    fn set_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
    }

    /// The data of an extension header.
    fn special(&mut self, size: i64) -> Result<Vec<u8>, Error> {
        let size = usize::try_from(size).map_err(|_| Error::Header)?;
        self.special = self.special.saturating_add(size).saturating_add(BLOCK);
        if size > MAX_SPECIAL || self.special > MAX_EXTENSIONS {
            return Err(Error::TooLong);
        }
        self.set_data(size as u64);
        let mut data = Vec::new();
        Content { reader: self }.read_to_end(&mut data).map_err(Error::read)?;
        self.keep(&data);
        Ok(data)
    }

    /// A block of the current entry's data that is not file content (the map of a sparse file).
    fn data_block(&mut self) -> Result<Block, Error> {
        let mut block = [0; BLOCK];
        Content { reader: self }.read_exact(&mut block).map_err(Error::read)?;
        self.keep(&block);
        Ok(block)
    }

    fn skip_data(&mut self) -> Result<(), Error> {
        while self.remaining > 0 {
            let piece = Content { reader: self }.fill_buf().map_err(Error::read)?.len();
            if let Some(raw) = &mut self.raw {
                raw.extend_from_slice(&self.buffer[self.start..self.start + piece]);
            }
            self.advance(piece);
        }
        Ok(())
    }

    /// Whether it was there in full; an archive may end in it.
    fn skip_padding(&mut self) -> Result<bool, Error> {
        let mut padding = [0; BLOCK];
        let wanted = std::mem::take(&mut self.padding);
        let got = self.read_up_to(&mut padding[..wanted])?;
        self.keep(&padding[..got]);
        Ok(got == wanted)
    }

    /// A whole block, or `None` at the source's end.
    fn block(&mut self) -> Result<Option<Block>, Error> {
        let mut block = [0; BLOCK];
        match self.read_up_to(&mut block)? {
            0 => Ok(None),
            BLOCK => {
                self.keep(&block);
                Ok(Some(block))
            }
            _ => Err(Error::Truncated),
        }
    }

    fn read_up_to(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < into.len() {
            if self.start == self.end && self.refill().map_err(Error::read)? == 0 {
                break;
            }
            let take = (self.end - self.start).min(into.len() - done);
            into[done..done + take].copy_from_slice(&self.buffer[self.start..self.start + take]);
            self.start += take;
            done += take;
        }
        Ok(done)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(bytes);
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.start += bytes;
        self.remaining -= bytes as u64;
    }

    /// Fills the empty buffer.
    fn refill(&mut self) -> io::Result<usize> {
        loop {
            match self.source.read(&mut self.buffer) {
                Ok(read) => {
                    self.start = 0;
                    self.end = read;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The data of one entry. An archive that ends inside it is an `UnexpectedEof` error.
pub struct Content<'r, R> {
    reader: &'r mut Reader<R>,
}

impl<R: Read> Content<'_, R> {
    /// Bytes left.
    pub fn remaining(&self) -> u64 {
        self.reader.remaining
    }
}

impl<R: Read> BufRead for Content<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let reader = &mut *self.reader;
        if reader.remaining == 0 {
            return Ok(&[]);
        }
        if reader.start == reader.end && reader.refill()? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = usize::try_from(reader.remaining).unwrap_or(usize::MAX);
        let end = reader.end.min(reader.start.saturating_add(left));
        Ok(&reader.buffer[reader.start..end])
    }

    fn consume(&mut self, bytes: usize) {
        self.reader.advance(bytes);
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let take = available.len().min(into.len());
        into[..take].copy_from_slice(&available[..take]);
        self.consume(take);
        Ok(take)
    }
}
