//! Reading. The bytes may be hostile: each page is read once, and keys and values together may not be larger
//! than the file, so that work and memory are bounded by its size.

use super::{
    Bucket, Entry,
    layout::{
        BRANCH, BUCKET, ELEMENT, HEADER, IS_BUCKET, LEAF, MAGIC, META, META_PAGE, VERSION, checksum, u16_at,
        u32_at, u64_at,
    },
};
use std::collections::BTreeSet;

/// Buckets in buckets, and branches above a leaf. bbolt's own files have a handful.
const DEEPEST: usize = 64;
/// bbolt looks for its second meta page behind a damaged first one at these distances.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 10..=24;

/// The root bucket of a file.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(file: &[u8]) -> Result<Bucket, String> {
    let meta = newest_meta(file).ok_or("no valid meta page")?;
    let mut reader = Reader { file, page_size: meta.page_size, seen: BTreeSet::new(), left: file.len() };
    let mut root = Bucket { sequence: meta.sequence, ..Bucket::default() };
    reader.tree(meta.root, DEEPEST, &mut root)?;
    Ok(root)
}

struct Meta {
    page_size: usize,
    root: u64,
    sequence: u64,
    transaction: u64,
}

fn newest_meta(file: &[u8]) -> Option<Meta> {
    let first = meta_at(file, 0);
    let second = match &first {
        Some(meta) => meta_at(file, meta.page_size),
        None => {
            let sizes = PAGE_SIZES.map(|bits| 1 << bits);
            sizes.filter_map(|size| meta_at(file, size).filter(|meta| meta.page_size == size)).next()
        }
    };
    [first, second].into_iter().flatten().max_by_key(|meta| meta.transaction)
}

fn meta_at(file: &[u8], page: usize) -> Option<Meta> {
    let header = file.get(page..page.checked_add(HEADER + META)?)?;
    let meta = &header[HEADER..];
    let valid = u16_at(header, 8)? & META_PAGE != 0
        && u32_at(meta, 0)? == MAGIC
        && u32_at(meta, 4)? == VERSION
        && u64_at(meta, 56)? == checksum(&meta[..56]);
    let page_size = usize::try_from(u32_at(meta, 8)?).ok()?;
    if !valid || !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size.trailing_zeros()) {
        return None;
    }
    Some(Meta {
        page_size,
        root: u64_at(meta, 16)?,
        sequence: u64_at(meta, 24)?,
        transaction: u64_at(meta, 48)?,
    })
}

struct Reader<'a> {
    file: &'a [u8],
    page_size: usize,
    seen: BTreeSet<u64>,
    /// Bytes that keys and values may still have.
    left: usize,
}

impl<'a> Reader<'a> {
    /// Everything below a page, into a bucket.
    fn tree(&mut self, number: u64, depth: usize, bucket: &mut Bucket) -> Result<(), String> {
        let page = self.page(number)?;
        self.elements(page, depth, bucket).map_err(|what| format!("page {number}: {what}"))
    }

    /// A page with those that it goes on in.
    fn page(&mut self, number: u64) -> Result<&'a [u8], String> {
        if !self.seen.insert(number) {
            return Err(format!("page {number} is used twice"));
        }
        let start = usize::try_from(number).ok().and_then(|number| number.checked_mul(self.page_size));
        let bytes = start.and_then(|start| self.file.get(start..)).unwrap_or_default();
        let end = (|| {
            let further = usize::try_from(u32_at(bytes, 12)?).ok()?;
            further.checked_add(1)?.checked_mul(self.page_size)
        })();
        let page = end.and_then(|end| bytes.get(..end));
        let page = page.ok_or_else(|| format!("page {number} is beyond the end of the file"))?;
        match u64_at(page, 0) {
            Some(own) if own == number => Ok(page),
            _ => Err(format!("page {number} has another number")),
        }
    }

    fn elements(&mut self, page: &[u8], depth: usize, bucket: &mut Bucket) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
        let (flags, count) = u16_at(page, 8).zip(u16_at(page, 10)).ok_or("truncated")?;
        for index in 0..usize::from(count) {
            let at = HEADER + index * ELEMENT;
            match flags {
                BRANCH => {
                    let child = u64_at(page, at + 8).ok_or("an element beyond the end")?;
                    self.tree(child, depth, bucket)?;
                }
                LEAF => self.leaf(page, at, depth, bucket)?,
                other => return Err(format!("unexpected flags {other:#x}")),
            }
        }
        Ok(())
    }

    fn leaf(&mut self, page: &[u8], at: usize, depth: usize, bucket: &mut Bucket) -> Result<(), String> {
        let field = |offset| usize::try_from(u32_at(page, at + offset)?).ok();
        let element = (|| {
            let (flags, position) = (u32_at(page, at)?, at.checked_add(field(4)?)?);
            let middle = position.checked_add(field(8)?)?;
            let end = middle.checked_add(field(12)?)?;
            Some((flags, page.get(position..middle)?, page.get(middle..end)?))
        })();
        let (flags, key, value) = element.ok_or("an element beyond the end")?;
        let used = key.len() + value.len();
        self.left = self.left.checked_sub(used).ok_or("more data than the file has")?;
        if key.is_empty() || bucket.entries.contains_key(key) {
            return Err("an empty key or one that is there twice".into());
        }
        let entry = match flags & IS_BUCKET {
            0 => Entry::Value(value.to_vec()),
            _ => Entry::Bucket(self.nested(value, depth)?),
        };
        bucket.entries.insert(key.to_vec(), entry);
        Ok(())
    }

    fn nested(&mut self, value: &[u8], depth: usize) -> Result<Bucket, String> {
        let (root, sequence) = u64_at(value, 0).zip(u64_at(value, 8)).ok_or("a truncated bucket")?;
        let mut bucket = Bucket { sequence, ..Bucket::default() };
        match root {
            0 => self.elements(&value[BUCKET..], depth, &mut bucket)?,
            root => self.tree(root, depth, &mut bucket)?,
        }
        Ok(bucket)
    }
}
