//! Writing a whole file.

use super::{
    Bucket, Entry,
    layout::{
        BRANCH, BUCKET, ELEMENT, FREELIST, HEADER, IS_BUCKET, LEAF, MAGIC, META_PAGE, VERSION, checksum,
    },
};

/// bbolt takes the size from the file; it makes its own files with that of the machine.
const PAGE_SIZE: usize = 4096;
/// Meta pages and the list of free pages come first.
const FREELIST_PAGE: u64 = 2;
const FIRST_PAGE: u64 = 3;

/// The bytes of a file with this root bucket. In the root itself bbolt expects buckets only.
pub fn encode(root: &Bucket) -> Vec<u8> {
    let mut writer = Writer { pages: vec![0; 3 * PAGE_SIZE] };
    let root_page = writer.bucket(root);
    let pages = (writer.pages.len() / PAGE_SIZE) as u64;
    for number in 0..FREELIST_PAGE {
        let mut meta = Vec::with_capacity(64);
        meta.extend(MAGIC.to_le_bytes());
        meta.extend(VERSION.to_le_bytes());
        meta.extend((PAGE_SIZE as u32).to_le_bytes());
        meta.extend(0_u32.to_le_bytes());
        // The last but one is the transaction: those of a file that bbolt has just made.
        for field in [root_page, root.sequence, FREELIST_PAGE, pages, number] {
            meta.extend(field.to_le_bytes());
        }
        meta.extend(checksum(&meta).to_le_bytes());
        writer.put(number, META_PAGE, 0, &meta);
    }
    writer.put(FREELIST_PAGE, FREELIST, 0, &[]);
    writer.pages
}

/// One element of a page: of a leaf, or of a branch with a child's first key and number.
struct Element<'a> {
    key: &'a [u8],
    flags: u32,
    value: std::borrow::Cow<'a, [u8]>,
    child: u64,
}

struct Writer {
    pages: Vec<u8>,
}

impl Writer {
    /// Writes a bucket below its root page, whose number it returns.
    fn bucket(&mut self, bucket: &Bucket) -> u64 {
        let mut level: Vec<Element<'_>> = Vec::with_capacity(bucket.entries.len());
        for (key, entry) in &bucket.entries {
            let (flags, value) = match entry {
                Entry::Value(value) => (0, value.as_slice().into()),
                Entry::Bucket(nested) => {
                    let mut value = Vec::with_capacity(BUCKET);
                    value.extend(self.bucket(nested).to_le_bytes());
                    value.extend(nested.sequence.to_le_bytes());
                    (IS_BUCKET, value.into())
                }
            };
            level.push(Element { key, flags, value, child: 0 });
        }
        let mut kind = LEAF;
        loop {
            let parents = self.level(kind, &level);
            if let [only] = parents.as_slice() {
                return only.child;
            }
            (kind, level) = (BRANCH, parents);
        }
    }

    /// Writes one level of a tree; returns what the level above is made of.
    fn level<'a>(&mut self, kind: u16, level: &[Element<'a>]) -> Vec<Element<'a>> {
        // A branch with a single child would make the tree higher without end.
        let least = if kind == BRANCH { 2 } else { 1 };
        let mut parents = Vec::new();
        let mut rest = level;
        loop {
            let mut size = HEADER;
            let mut count = 0;
            for element in rest {
                size += ELEMENT + element.key.len() + element.value.len();
                if size > PAGE_SIZE && count >= least {
                    break;
                }
                count += 1;
            }
            // Not one left over for a page of its own.
            if rest.len() - count < least {
                count = rest.len();
            }
            let (page, others) = rest.split_at(count);
            let child = self.page(kind, page);
            let key = page.first().map_or(&[][..], |element| element.key);
            parents.push(Element { key, flags: 0, value: (&[][..]).into(), child });
            if others.is_empty() {
                return parents;
            }
            rest = others;
        }
    }

    fn page(&mut self, kind: u16, elements: &[Element<'_>]) -> u64 {
        let mut table = Vec::with_capacity(elements.len() * ELEMENT);
        let mut data = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            // From the element's own description on.
            let position = (elements.len() - index) * ELEMENT + data.len();
            let (position, key) = (position as u32, element.key.len() as u32);
            if kind == BRANCH {
                table.extend([position.to_le_bytes(), key.to_le_bytes()].concat());
                table.extend(element.child.to_le_bytes());
            } else {
                for field in [element.flags, position, key, element.value.len() as u32] {
                    table.extend(field.to_le_bytes());
                }
            }
            data.extend_from_slice(element.key);
            data.extend_from_slice(&element.value);
        }
        table.append(&mut data);
        let number = (self.pages.len() / PAGE_SIZE) as u64;
        let length = (HEADER + table.len()).next_multiple_of(PAGE_SIZE);
        self.pages.resize(self.pages.len() + length, 0);
        self.put(number, kind, elements.len() as u16, &table);
        debug_assert!(number >= FIRST_PAGE);
        number
    }

    /// Writes a page over the zeros that are there.
    fn put(&mut self, number: u64, kind: u16, count: u16, body: &[u8]) {
        let start = number as usize * PAGE_SIZE;
        let further = ((HEADER + body.len() - 1) / PAGE_SIZE) as u32;
        let mut page = Vec::with_capacity(HEADER + body.len());
        page.extend(number.to_le_bytes());
        page.extend(kind.to_le_bytes());
        page.extend(count.to_le_bytes());
        page.extend(further.to_le_bytes());
        page.extend_from_slice(body);
        self.pages[start..start + page.len()].copy_from_slice(&page);
    }
}
