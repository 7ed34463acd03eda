//! A tar writer for test images: ustar headers made by hand, so that tests can also make broken ones.

/// One member of an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path, without a leading slash.
    pub name: String,
    /// The type flag of the header: `0` file, `1` hard link, `2` symlink, `3` char device, `5` directory, `6` fifo.
    pub kind: u8,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Where a link points.
    pub link: String,
    /// A file's content.
    pub content: Vec<u8>,
    /// Device number.
    pub device: (u32, u32),
}

impl Entry {
    fn new(name: &str, kind: u8, mode: u32) -> Self {
        let (link, content) = (String::new(), Vec::new());
        Self { name: name.into(), kind, mode, owner: (0, 0), link, content, device: (0, 0) }
    }

    /// A regular file.
    pub fn file(name: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { content: content.into(), ..Self::new(name, b'0', mode) }
    }

    /// A directory.
    pub fn dir(name: &str, mode: u32) -> Self {
        Self::new(&format!("{}/", name.trim_end_matches('/')), b'5', mode)
    }

    /// A symbolic link.
    pub fn symlink(name: &str, target: &str) -> Self {
        Self { link: target.into(), ..Self::new(name, b'2', 0o777) }
    }

    /// A hard link to an earlier program: extractors set the link's mode on what it links to, as Docker does.
    pub fn hardlink(name: &str, target: &str) -> Self {
        Self { link: target.into(), ..Self::new(name, b'1', 0o755) }
    }

    /// The same with another owner and group.
    #[must_use]
    pub fn owned(self, uid: u32, gid: u32) -> Self {
        Self { owner: (uid, gid), ..self }
    }
}

/// An archive in memory.
#[derive(Debug, Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// An archive of these members.
    pub fn of(entries: &[Entry]) -> Self {
        let mut tar = Self::default();
        for entry in entries {
            tar.push(entry);
        }
        tar
    }

    /// Adds a member.
    pub fn push(&mut self, entry: &Entry) {
        self.0.extend_from_slice(&header(entry));
        self.0.extend_from_slice(&entry.content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// The archive with its two closing blocks.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// A ustar header block (source: POSIX pax(1), "ustar Interchange Format").
fn header(entry: &Entry) -> [u8; 512] {
    let mut block = [0; 512];
    put(&mut block, 0, entry.name.as_bytes());
    octal(&mut block, 100, 8, u64::from(entry.mode));
    octal(&mut block, 108, 8, u64::from(entry.owner.0));
    octal(&mut block, 116, 8, u64::from(entry.owner.1));
    octal(&mut block, 124, 12, entry.content.len() as u64);
    octal(&mut block, 136, 12, 1_700_000_000);
    block[156] = entry.kind;
    put(&mut block, 157, entry.link.as_bytes());
    put(&mut block, 257, b"ustar\x0000");
    octal(&mut block, 329, 8, u64::from(entry.device.0));
    octal(&mut block, 337, 8, u64::from(entry.device.1));
    put(&mut block, 148, b"        ");
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    octal(&mut block, 148, 7, sum);
    block
}

fn put(block: &mut [u8; 512], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

fn octal(block: &mut [u8; 512], at: usize, width: usize, value: u64) {
    let text = format!("{value:0digits$o}\0", digits = width - 1);
    put(block, at, text.as_bytes());
}
