//! Records from which a layer's archive can be rebuilt bit by bit (source: vbatts/tar-split
//! `tar/asm/disassemble.go`, `tar/storage/{entry,packer}.go`).
//!
//! File: `tar-split.json.gz`, lines of JSON: raw bytes of the archive (`type` 2), or the name, size and
//! CRC-64 of a file whose contents are in the extracted layer (`type` 1).
//!
//! Where tar-split's own record cannot rebuild the archive (sparse files, data of entries that become no
//! file), ours has the data as raw bytes: Docker reads such a record well.

use crate::{Error, Result, crc64::Crc64};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::fs::OFlags;
use serde::Deserialize;
use std::{
    collections::{HashSet, hash_map::RandomState},
    fs::File,
    hash::BuildHasher,
    io::{BufRead, Read, Write},
    os::fd::BorrowedFd,
};

/// Raw bytes come in lines of at most so many.
pub(crate) const CHUNK: usize = 1 << 20;

/// A longer line is no record. The longest has an extension header of 1 MiB for each of path, link and
/// attributes, in base64.
const LINE_LIMIT: u64 = 16 << 20;

/// More files than any image has. What is remembered of each takes memory.
pub(crate) const MAX_ENTRIES: usize = 7_000_000;

/// Writes a record.
pub(crate) struct Recorder<W> {
    out: W,
    position: u64,
    /// Hashes of cleaned names: the names of millions of entries would not fit.
    seen: HashSet<u64>,
    hasher: RandomState,
    line: Vec<u8>,
}

impl<W: Write> Recorder<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, position: 0, seen: HashSet::new(), hasher: RandomState::new(), line: Vec::new() }
    }

    /// Raw bytes; none are no line.
    pub(crate) fn segment(&mut self, raw: &[u8]) -> Result<()> {
        if raw.is_empty() {
            return Ok(());
        }
        self.line.extend_from_slice(br#"{"type":2,"payload":""#);
        append_base64(&mut self.line, raw);
        self.line.push(b'"');
        self.finish_line()
    }

    /// A file. Size 0 has no checksum.
    pub(crate) fn file(&mut self, name: &[u8], size: u64, crc: Crc64) -> Result<()> {
        if self.seen.len() >= MAX_ENTRIES {
            return Err(Error::TooManyEntries);
        }
        // Keyed at random, so that an archive cannot be made to collide; by chance a million names do once in
        // forty million archives.
        if !self.seen.insert(self.hasher.hash_one(wharf_archive::clean(name))) {
            return Err(Error::DuplicatePath(String::from_utf8_lossy(name).chars().take(300).collect()));
        }
        self.line.extend_from_slice(br#"{"type":1"#);
        match std::str::from_utf8(name) {
            Ok("") => {}
            Ok(name) => {
                self.line.extend_from_slice(br#","name":"#);
                self.line.append(&mut wharf_spec::to_go_json(name));
            }
            Err(_) => {
                self.line.extend_from_slice(br#","name_raw":""#);
                append_base64(&mut self.line, name);
                self.line.push(b'"');
            }
        }
        if size == 0 {
            self.line.extend_from_slice(br#","payload":null"#);
        } else {
            self.line.extend_from_slice(format!(r#","size":{size},"payload":""#).as_bytes());
            append_base64(&mut self.line, &crc.to_bytes());
            self.line.push(b'"');
        }
        self.finish_line()
    }

    pub(crate) fn into_inner(self) -> W {
        self.out
    }

    fn finish_line(&mut self) -> Result<()> {
        self.line.extend_from_slice(format!(r#","position":{}}}"#, self.position).as_bytes());
        self.line.push(b'\n');
        self.position += 1;
        let written = self.out.write_all(&self.line);
        self.line.clear();
        written.map_err(|source| Error::Write { what: "tar-split record".into(), source })
    }
}

fn append_base64(line: &mut Vec<u8>, raw: &[u8]) {
    let start = line.len();
    let length = raw.len().div_ceil(3) * 4;
    line.resize(start + length, 0);
    STANDARD.encode_slice(raw, &mut line[start..]).expect("four bytes for each three");
}

/// One line.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    name_raw: Option<String>,
    #[serde(default)]
    size: u64,
    payload: Option<String>,
}

/// Rebuilds an archive: `record` is the unzipped record, `files` the extracted layer, `layer` its name in
/// errors. Gives the number of bytes written.
///
/// # Errors
/// When the record is damaged, a file is not what it was, or `out` fails.
pub fn assemble(
    record: impl BufRead,
    files: BorrowedFd<'_>,
    layer: &str,
    out: &mut impl Write,
) -> Result<u64> {
    let lines = Lines { record, layer };
    let mut assembly = Assembly { lines, files, out, buffer: vec![0; 128 << 10], written: 0 };
    while let Some(line) = assembly.lines.next_line()? {
        match line.kind {
            2 => {
                let raw = assembly.lines.decode(line.payload.as_deref().unwrap_or_default())?;
                assembly.write(&raw)?;
            }
            1 if line.size > 0 => assembly.copy_file(&line)?,
            1 => {}
            other => return Err(assembly.lines.damaged(format!("type {other}"))),
        }
    }
    Ok(assembly.written)
}

/// The length of the archive that a record stands for, without reading files.
///
/// # Errors
/// When the record is damaged.
pub fn archive_size(record: impl BufRead, layer: &str) -> Result<u64> {
    let mut lines = Lines { record, layer };
    let mut size = 0u64;
    while let Some(line) = lines.next_line()? {
        let payload = line.payload.as_deref().unwrap_or_default();
        size += match line.kind {
            2 => lines.decode(payload)?.len() as u64,
            _ if line.size > 0 && lines.decode(payload)?.iter().all(|&byte| byte == 0) => 0,
            _ => line.size,
        };
    }
    Ok(size)
}

/// The lines of a record.
struct Lines<'a, R> {
    record: R,
    layer: &'a str,
}

impl<R: BufRead> Lines<'_, R> {
    fn next_line(&mut self) -> Result<Option<Line>> {
        let mut text = Vec::new();
        let read = (&mut self.record).take(LINE_LIMIT).read_until(b'\n', &mut text);
        read.map_err(|error| self.damaged(error.to_string()))?;
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| self.damaged(error.to_string()))
    }

    fn decode(&self, text: &str) -> Result<Vec<u8>> {
        STANDARD.decode(text).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, what: String) -> Error {
        Error::TarSplit { layer: self.layer.into(), what }
    }
}

struct Assembly<'a, R, W> {
    lines: Lines<'a, R>,
    files: BorrowedFd<'a>,
    out: &'a mut W,
    buffer: Vec<u8>,
    written: u64,
}

impl<R: BufRead, W: Write> Assembly<'_, R, W> {
    fn copy_file(&mut self, line: &Line) -> Result<()> {
        let checksum = self.lines.decode(line.payload.as_deref().unwrap_or_default())?;
        if checksum.iter().all(|&byte| byte == 0) {
            // The checksum of nothing: a link whose header claims a size, as tar-split records it.
            return Ok(());
        }
        let name = match (&line.name, &line.name_raw) {
            (_, Some(raw)) => self.lines.decode(raw)?,
            (Some(name), None) => name.clone().into_bytes(),
            (None, None) => return Err(self.lines.damaged("a file without a name".into())),
        };
        let mut file = self.open(&name)?;
        let mut crc = Crc64::default();
        let mut left = line.size;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read =
                file.read(&mut self.buffer[..wanted]).map_err(|source| self.unreadable(&name, source))?;
            if read == 0 {
                return Err(self.changed(&name));
            }
            crc.update(&self.buffer[..read]);
            let buffer = std::mem::take(&mut self.buffer);
            let written = self.write(&buffer[..read]);
            self.buffer = buffer;
            written?;
            left -= read as u64;
        }
        if crc.to_bytes() == checksum.as_slice() { Ok(()) } else { Err(self.changed(&name)) }
    }

    fn open(&self, name: &[u8]) -> Result<File> {
        let cleaned = wharf_archive::clean(name);
        let fd = wharf_archive::open_regular(self.files, &cleaned, OFlags::empty());
        Ok(File::from(fd.map_err(|error| self.unreadable(name, error.into()))?))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|source| Error::Write { what: "a layer's archive".into(), source })
    }

    fn changed(&self, name: &[u8]) -> Error {
        Error::FileChanged {
            layer: self.lines.layer.into(),
            name: String::from_utf8_lossy(name).into_owned(),
        }
    }

    fn unreadable(&self, name: &[u8], source: std::io::Error) -> Error {
        let what = format!("{} of layer {}", String::from_utf8_lossy(name), self.lines.layer);
        Error::Read { what, source }
    }
}
